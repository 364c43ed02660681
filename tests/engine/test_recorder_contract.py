"""The library's own contract tests, run against our recorder; and its repository reading what the ledger wrote."""

import tempfile
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from unittest import TestCase
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import AggregateNotFoundError, Repository
from eventsourcing.persistence import EventStore, IntegrityError, OperationalError, ProgrammingError, StoredEvent
from eventsourcing.tests import persistence as library

from engine.aggregate import Aggregate
from engine.alert import Alert
from engine.clock import SimulatedClock
from engine.correlation import Correlation
from engine.delivery import Delivery
from engine.event import Fact
from engine.identity import source_id
from engine.incident import Incident
from engine.ledger import Ledger
from engine.recorder import StoreRecorder
from engine.source import Source
from engine.sqlite_store import SqliteStore
from engine.ticket import Visibility
from engine.work import Unit
from tests.conftest import Bell
from tests.stores import store_at

A = TypeVar("A", bound=Aggregate)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class OnAFreshStore(TestCase):
    """Makes recorders on new embedded stores, and closes those after the test."""

    recorder_class: type[StoreRecorder] = StoreRecorder

    def create_recorder(self) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        store = store_at(Path(folder.name))
        self.addCleanup(store.close)
        return self.recorder_class(store, SimulatedClock(NOON, running=False))


class TestApplicationRecorder(OnAFreshStore, library.ApplicationRecorderTestCase[StoreRecorder]):
    """Positions, paging, topics, conflicts, concurrent writers and readers."""

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class _WithoutPositions(StoreRecorder):
    """As an aggregate recorder answers: it knows no application sequence."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        super().insert_events(stored_events, **kwargs)


class TestAggregateRecorder(OnAFreshStore, library.AggregateRecorderTestCase):
    """Streams: versions, order, limits, conflicts, atomicity."""

    recorder_class = _WithoutPositions


class TestPositionsOfConcurrentWriters(OnAFreshStore, library.NonInterleavingNotificationIDsBaseCase):
    """Two writers' batches never interleave."""


def stored(stream_id: UUID, version: int) -> StoredEvent:
    return StoredEvent(originator_id=stream_id, originator_version=version, topic="t", state=b"{}")


@pytest.fixture
def recorder(ledger: Ledger, clock: SimulatedClock) -> StoreRecorder:
    """Reads what the ledger wrote."""
    recorder = StoreRecorder(ledger.store, clock)
    ledger.listen(recorder.notify)
    return recorder


def project(kind: type[A]) -> Any:
    """The library's projector function for one of our aggregates."""

    def projector(aggregate: A | None, facts: Iterable[Fact]) -> A | None:
        for fact in facts:
            aggregate = (aggregate or kind(fact.originator_id)).apply(fact)
        return aggregate

    return projector


def test_the_librarys_repository_reads_every_stream_that_a_delivery_made(bell: Bell, recorder: StoreRecorder) -> None:
    receipt = bell.ring("alertmanager", "prometheus-alertmanager/grouped-many.json")
    (incident, *_) = bell.incidents
    bell.act(incident, "comment", text="the disk is full", visibility=Visibility.INTERNAL, author=uuid4())
    repository = Repository[UUID](EventStore[UUID](mapper=bell.ledger.codec, recorder=recorder))
    assert incident.correlation is not None
    streams: list[tuple[type[Aggregate], UUID]] = [
        (Delivery, receipt.delivery), (Incident, incident.id), (Correlation, incident.correlation),
        (Source, source_id("alertmanager")), *((Alert, alert.id) for alert in bell.alerts),
    ]
    for kind, stream_id in streams:
        read: Aggregate = repository.get(stream_id, projector_func=project(kind))
        assert read.state() == bell.ledger.get(kind, stream_id).state()
        assert read.version > 0
    delivery: Delivery = repository.get(receipt.delivery, projector_func=project(Delivery))
    assert delivery.received is not None
    assert delivery.received.monitoring_events == receipt.monitoring_events


def test_the_librarys_repository_reads_an_older_version_of_a_stream(bell: Bell, recorder: StoreRecorder) -> None:
    bell.ring("alertmanager", "prometheus-alertmanager/firing.json")
    bell.ring("alertmanager", "prometheus-alertmanager/resolved.json")
    (alert,) = bell.alerts
    repository = Repository[UUID](EventStore[UUID](mapper=bell.ledger.codec, recorder=recorder))
    first: Alert = repository.get(alert.id, version=1, projector_func=project(Alert))
    assert first.firing
    assert not alert.firing
    with pytest.raises(AggregateNotFoundError):
        repository.get(uuid4(), projector_func=project(Alert))


def test_the_librarys_event_store_appends_what_our_aggregates_record(tmp_path: Path, ledger: Ledger, clock: SimulatedClock) -> None:
    store = store_at(tmp_path)  # a writing recorder has a connection of its own
    events = EventStore[UUID](mapper=ledger.codec, recorder=StoreRecorder(store, clock))
    correlation = Correlation(uuid4())
    correlation.open_incident(rule="r", rule_version=1, field="service", value="shop", incident=uuid4(), alert=uuid4())
    correlation.join(uuid4())
    recordings = events.put(correlation.collect_events())
    assert [recording.notification.id for recording in recordings] == [1, 2]
    assert ledger.get(Correlation, correlation.id).state() == correlation.state()
    assert [(row.actor, row.cause) for row in store.log(0, 10)] == [("tocsin", None)] * 2
    store.close()


def test_a_ledger_beside_a_recorder_sees_what_that_appended(tmp_path: Path, ledger: Ledger, clock: SimulatedClock) -> None:
    store = store_at(tmp_path)
    events = EventStore[UUID](mapper=ledger.codec, recorder=StoreRecorder(store, clock))
    first = Correlation(uuid4())
    first.open_incident(rule="r", rule_version=1, field="service", value="shop", incident=uuid4(), alert=uuid4())
    events.put(first.collect_events())
    ledger.run(Unit(lambda work: work.load(Correlation, first.id).join(uuid4()), actor="tocsin"))
    beside = ledger.get(Correlation, first.id)
    beside.join(uuid4())
    events.put(beside.collect_events())
    ledger.run(Unit(lambda work: work.load(Correlation, first.id).join(uuid4()), actor="tocsin"))
    assert [fact.version for fact in ledger.read(0, 10)] == [1, 2, 3, 4]
    assert len(ledger.get(Correlation, first.id).firing) == 4
    store.close()


def test_a_subscription_that_waits_is_woken_by_the_ledgers_commit_and_by_stop(bell: Bell, recorder: StoreRecorder) -> None:
    seen: list[int] = []
    arrived = threading.Event()
    subscription = recorder.subscribe(gt=recorder.max_notification_id(), topics=["delivery.received.v1"])

    def follow() -> None:
        for notification in subscription:
            seen.append(notification.id)
            arrived.set()

    follower = threading.Thread(target=follow)
    follower.start()
    bell.ring("alertmanager", "prometheus-alertmanager/firing.json")
    assert arrived.wait(30)
    subscription.stop()
    follower.join(30)
    assert not follower.is_alive()
    (row,) = bell.ledger.store.log(0, 10, types=["delivery.received.v1"])
    assert seen == [row.position]


def test_a_refused_append_leaves_nothing_behind(tmp_path: Path, clock: SimulatedClock) -> None:
    store = store_at(tmp_path)
    recorder = StoreRecorder(store, clock)
    stream_id = uuid4()
    recorder.insert_events([stored(stream_id, 1)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored(uuid4(), 1), stored(stream_id, 1)])
    with pytest.raises(ProgrammingError, match="UUID"):
        recorder.insert_events([StoredEvent(originator_id="a-name", originator_version=1, topic="t", state=b"")])
    assert recorder.max_notification_id() == 1
    assert recorder.insert_events([stored(stream_id, 2)]) == [2]
    store.close()


@pytest.mark.files
def test_a_store_that_cannot_be_written_is_the_librarys_operational_error(tmp_path: Path, clock: SimulatedClock) -> None:
    store = SqliteStore(tmp_path / "log.db")
    recorder = StoreRecorder(store, clock)
    store._writer.execute("PRAGMA query_only = ON")  # as a full or read-only disk: reading goes on
    with pytest.raises(OperationalError, match="cannot be written"):
        recorder.insert_events([stored(uuid4(), 1)])
    store._writer.execute("PRAGMA query_only = OFF")
    assert recorder.insert_events([stored(uuid4(), 1)]) == [1]
    store.close()
