"""A record is decided once, in its turn, and one that cannot be taken stands in nobody's way."""

import json
import threading
from uuid import UUID

import pytest
from kafka.consumer.fetcher import ConsumerRecord

from engine.delivery import DeliveryReceived, DeliveryRejected
from engine.errors import InvalidInput, StoreUnavailable
from engine.work import Unit
from monitors.intake import ProfileChanged, Receipt
from monitors.kafka_decision import MOST_TRIES, Decisions
from monitors.kafka_position import OutOfStep, Place, Taken, at, cursor_name
from monitors.kafka_record import envelope, mark_of
from tests.conftest import Bell

CURSOR = cursor_name("deliveries", 0, None)
TITLE = b'{"title":"disk full","key":"d"}'


def record(offset: int, value: bytes | None, *, timestamp: int = 1_000) -> ConsumerRecord:
    return ConsumerRecord("deliveries", 0, 0, offset, timestamp, 0, b"k", value, [], None, 1, 0, 0)


def said(body: bytes = TITLE, *, source: str = "generic", key: str | None = None, delivery: UUID | None = None, mark: str | None = None) -> bytes:
    return envelope(source, body, "application/json", key=key, delivery=delivery, mark=mark)


@pytest.fixture
def decisions(bell: Bell) -> Decisions:
    return Decisions(bell.intake, bell.ledger.vault, max_body_bytes=1_000)


def take(bell: Bell, decisions: Decisions, found: ConsumerRecord, believed: int | None) -> Taken[Receipt | None]:
    return bell.ledger.run(at(Place(CURSOR, believed, found.offset), decisions.about(found).unit))


def received(bell: Bell) -> list[str | None]:
    return [event.identity for event in bell.events(DeliveryReceived) if isinstance(event, DeliveryReceived)]


def test_a_record_moves_the_position_with_what_it_led_to(bell: Bell, decisions: Decisions) -> None:
    taken = take(bell, decisions, record(4, said()), None)
    assert taken.fresh
    assert taken.result is not None
    assert taken.result.monitoring_events[0].alert_number == "ALT-1"
    assert bell.ledger.store.cursor(CURSOR) == 5
    assert received(bell) == ["kafka:deliveries/0/4@1000"]


def test_a_record_that_another_process_has_taken_is_skipped(bell: Bell, decisions: Decisions) -> None:
    take(bell, decisions, record(4, said()), None)
    assert not take(bell, decisions, record(4, said()), None).fresh
    assert len(received(bell)) == 1


def test_a_record_whose_predecessor_was_not_taken_is_not_taken_either(bell: Bell, decisions: Decisions) -> None:
    take(bell, decisions, record(4, said()), None)
    with pytest.raises(OutOfStep):
        take(bell, decisions, record(6, said()), 6)
    assert bell.ledger.store.cursor(CURSOR) == 5
    take(bell, decisions, record(6, said()), 5)  # offset 5 was never a record: a topic may have holes


def test_a_failed_decision_leaves_the_position_where_it_was(bell: Bell, decisions: Decisions) -> None:
    take(bell, decisions, record(0, said(key="one")), None)
    with pytest.raises(Exception, match="a key that was not used for another body"):
        take(bell, decisions, record(1, said(b'{"title":"other"}', key="one")), 1)
    assert bell.ledger.store.cursor(CURSOR) == 1


def test_of_records_that_are_handed_in_together_those_after_a_failed_one_wait(bell: Bell, decisions: Decisions) -> None:
    bell.ring("generic", TITLE, identity="used")
    gate = threading.Event()
    bell.ledger.submit(Unit(lambda _: gate.wait(), actor="tocsin"))  # meanwhile the others wait, and make one batch
    values = [said(), said(), said(b'{"title":"other"}', key="used"), said(), said()]
    steps = [(record(offset, value), offset or None) for offset, value in enumerate(values)]
    futures = [bell.ledger.submit(at(Place(CURSOR, believed, found.offset), decisions.about(found).unit)) for found, believed in steps]
    gate.set()
    errors = [future.exception() for future in futures]
    assert [type(error) for error in errors] == [type(None), type(None), InvalidInput, OutOfStep, OutOfStep]
    assert bell.ledger.store.cursor(CURSOR) == 2
    assert len(received(bell)) == 3


def test_records_of_several_senders_in_one_partition_keep_their_order(bell: Bell, decisions: Decisions) -> None:
    gate = threading.Event()
    bell.ledger.submit(Unit(lambda _: gate.wait(), actor="tocsin"))
    # The last one's turn among the senders would come before that of the others.
    values = [said(), said(), said(), said(b'{"version":"4","alerts":[]}', source="alertmanager"), said()]
    steps = [(record(offset, value), offset or None) for offset, value in enumerate(values)]
    futures = [bell.ledger.submit(at(Place(CURSOR, believed, found.offset), decisions.about(found).unit)) for found, believed in steps]
    gate.set()
    assert [future.exception() for future in futures] == [None] * len(values)
    actors = {fact.actor for fact in bell.ledger.read(0, 1_000) if isinstance(fact.event, DeliveryReceived)}
    assert actors == {"source:generic", "source:alertmanager"}


def test_a_key_has_the_same_meaning_as_over_http(bell: Bell, decisions: Decisions) -> None:
    over_http = bell.ring("generic", TITLE, identity="one")
    taken = take(bell, decisions, record(0, said(key="one")), None)
    assert taken.result is not None
    assert (taken.result.delivery, taken.result.again) == (over_http.delivery, True)


def test_a_topic_made_anew_does_not_repeat_the_old_ones_identities(bell: Bell, decisions: Decisions) -> None:
    take(bell, decisions, record(0, said(), timestamp=1), None)
    bell.ledger.run(at(Place("another", None, 0), decisions.about(record(0, said(), timestamp=2)).unit))
    assert len(received(bell)) == 2


def test_an_accepted_delivery_keeps_its_id(bell: Bell, decisions: Decisions) -> None:
    given = UUID(int=7 << 76 | 2 << 62)
    taken = take(bell, decisions, record(0, said(delivery=given, mark=mark_of(bell.ledger.vault, given))), None)
    assert taken.result is not None
    assert taken.result.delivery == given
    again = take(bell, decisions, record(1, said(delivery=given, mark=mark_of(bell.ledger.vault, given))), 1)
    assert again.result is not None
    assert again.result.again


def test_an_id_that_nobody_here_gave_is_refused(bell: Bell, decisions: Decisions) -> None:
    decision = decisions.about(record(0, said(delivery=UUID(int=7), mark="x" * 16)))
    assert decision.fault is not None
    assert decision.fault.path == "delivery"


@pytest.mark.parametrize(
    ("value", "kept"),
    [(None, False), (b"{", False), (said(source="nobody"), False), (said(b"no json"), True), (said(b"x" * 1_001), True), (b'{"source":"generic"}', True)],
)
def test_what_cannot_be_taken_is_kept_where_its_source_is_known(bell: Bell, decisions: Decisions, value: bytes | None, kept: bool) -> None:
    decision = decisions.about(record(0, value))
    assert decision.fault is not None
    assert decision.kept is kept
    assert bell.ledger.run(at(Place(CURSOR, None, 0), decision.unit)).result is None
    assert bell.ledger.store.cursor(CURSOR) == 1
    rejected = [event for event in bell.events(DeliveryRejected) if isinstance(event, DeliveryRejected)]
    assert [(event.path, event.reason) for event in rejected] == ([(decision.fault.path, decision.fault.expected)] if kept else [])


def test_a_record_that_fails_again_and_again_is_given_up(bell: Bell, decisions: Decisions) -> None:
    found = record(0, said())
    for _ in range(MOST_TRIES):
        assert decisions.about(found).fault is None
        assert not decisions.failed(found, RuntimeError("ours"))
    fault = decisions.about(found).fault
    assert fault is not None
    assert "our side" in fault.expected
    decisions.done(found)
    assert decisions.about(found).fault is None


def test_a_source_that_changes_meanwhile_is_read_anew(bell: Bell, decisions: Decisions) -> None:
    found = record(0, said())
    decision = decisions.about(found)
    assert decisions.failed(found, ProfileChanged())
    assert decision.fault is None
    assert take(bell, decisions, found, None).fresh


def test_a_full_ledger_is_no_fault_of_the_record(bell: Bell, decisions: Decisions) -> None:
    found = record(0, said())
    unit = at(Place(CURSOR, None, 0), decisions.about(found).unit)
    bell.ledger.close()
    with pytest.raises(StoreUnavailable):
        bell.ledger.run(unit)


def test_the_envelope_is_plain_json() -> None:
    assert json.loads(said()) == {"source": "generic", "content_type": "application/json", "body": TITLE.decode()}
