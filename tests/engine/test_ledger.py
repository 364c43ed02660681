"""The ledger: what was acknowledged is stored, what was refused left no trace, whatever else was decided in the same breath."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine import ledger as ledger_module
from engine.clock import SimulatedClock
from engine.correlation import Correlation
from engine.delivery import Delivery
from engine.errors import InvalidInput, Overloaded, StoreUnavailable
from engine.event import Fact
from engine.identity import delivery_id
from engine.ledger import Ledger
from engine.person import Person
from engine.source import Source, SourceAdded
from engine.sqlite_store import SqliteStore
from engine.store import AlreadyStored, Head, Lease, Row
from engine.vault import Vault
from engine.work import Expected, Unit, Work
from tests.conftest import NOON, Bell
from tests.stores import AnyStore, keyring_at, place_of, store_at

PATIENCE = 30  # seconds until a test that hangs is given up; no test waits for it


class WatchedStore(AnyStore):
    """A real store that counts, and breaks on demand.

    Attributes:
        commits: how many there were.
        break_commit: `before` the real commit or `after` it, told as StoreUnavailable; once.
        break_insert: refuse the next insert; once.
    """

    commits = 0
    break_commit = ""
    break_insert = False

    def commit(self) -> None:
        how, self.break_commit = self.break_commit, ""
        if how == "before":
            raise StoreUnavailable("no space left on device")
        super().commit()
        self.commits += 1
        if how == "after":
            raise StoreUnavailable("the connection was lost")

    def insert(self, rows: Any) -> None:
        if self.break_insert:
            self.break_insert = False
            raise StoreUnavailable("disk I/O error")
        super().insert(rows)


@contextmanager
def opened(folder: Path, clock: SimulatedClock) -> Iterator[tuple[Ledger, WatchedStore]]:
    """Another process's view of the store in `folder`."""
    store, vault = WatchedStore(place_of(folder)), Vault(keyring_at(folder), b"k" * 32)
    ledger = Ledger(store, vault, clock)
    yield ledger, store
    ledger.close()
    store.close()
    vault.close()


@pytest.fixture
def watched(tmp_path: Path, clock: SimulatedClock) -> Iterator[tuple[Ledger, WatchedStore]]:
    with opened(tmp_path, clock) as pair:
        yield pair


@contextmanager
def one_batch(ledger: Ledger) -> Iterator[Callable[[Callable[[Work], Any]], "Future[Any]"]]:
    """What is submitted inside is decided in one batch: the committer is held until the block ends."""
    busy, go = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        busy.set()
        go.wait(PATIENCE)

    ledger.listen(hold)
    holding = ledger.submit(Unit(lambda _: None, actor="tocsin"))
    assert busy.wait(PATIENCE)
    try:
        yield lambda decide: ledger.submit(Unit(decide, actor="tocsin"))
    finally:
        go.set()
    holding.result(PATIENCE)


def opens(stream_id: UUID) -> Callable[[Work], str]:
    """A decision that records one fact and takes one number."""

    def decide(work: Work) -> str:
        number = work.number("INC")
        work.load(Correlation, stream_id).open_incident(
            rule="r", rule_version=1, field="service", value="shop", incident=uuid4(), alert=uuid4()
        )
        return number

    return decide


def joins(stream_id: UUID, alert: UUID | None = None) -> Callable[[Work], Fact]:
    return lambda work: work.load(Correlation, stream_id).join(alert or uuid4())


def refused_after(decide: Callable[[Work], Any]) -> Callable[[Work], None]:
    """It records, then fails."""

    def fails(work: Work) -> None:
        decide(work)
        raise InvalidInput("title", "another one")

    return fails


def run(ledger: Ledger, decide: Callable[[Work], Any]) -> Any:
    return ledger.run(Unit(decide, actor="tocsin"))


def positions(ledger: Ledger) -> list[int]:
    return [fact.position for fact in ledger.read(0, 100_000)]


# -- batches -----------------------------------------------------------------------------------------------------------------


def test_what_waits_is_committed_together_and_each_gets_its_own_answer(watched: tuple[Ledger, WatchedStore]) -> None:
    ledger, store = watched
    with one_batch(ledger) as submit:
        futures = [submit(opens(uuid4())) for _ in range(100)]
    assert [future.result(PATIENCE) for future in futures] == [f"INC-{number}" for number in range(1, 101)]
    assert store.commits == 2  # the held one, and all that waited meanwhile
    assert positions(ledger) == list(range(1, 101))


def test_a_refused_unit_leaves_what_was_decided_before_and_after_it_in_the_same_batch(ledger: Ledger) -> None:
    shared, own, first, last = uuid4(), uuid4(), uuid4(), uuid4()
    with one_batch(ledger) as submit:
        futures = [
            submit(opens(shared)), submit(joins(shared, first)), submit(refused_after(joins(shared))),
            submit(refused_after(opens(own))), submit(joins(shared, last)), submit(opens(own)),
        ]
    refusals = [future.exception(PATIENCE) for future in futures]
    assert [type(error) for error in refusals] == [type(None), type(None), InvalidInput, InvalidInput, type(None), type(None)]
    correlation = ledger.get(Correlation, shared)
    assert (correlation.version, len(correlation.firing)) == (3, 3)
    assert {first, last} < correlation.firing
    assert ledger.get(Correlation, own).ordinal == 1
    assert positions(ledger) == [1, 2, 3, 4]
    assert futures[0].result() == "INC-1"
    assert futures[5].result() == "INC-3"  # a refused unit's number stays unused


def test_a_refused_unit_leaves_the_cached_state_as_it_was(ledger: Ledger) -> None:
    shared = uuid4()
    run(ledger, opens(shared))
    for _ in range(3):
        with pytest.raises(InvalidInput):
            run(ledger, refused_after(joins(shared)))
        run(ledger, joins(shared))
    cached = run(ledger, lambda work: work.load(Correlation, shared).state())
    assert cached == ledger.get(Correlation, shared).state()
    assert cached["version"] == 4


def test_what_cannot_be_stored_fails_alone(ledger: Ledger) -> None:
    shared = uuid4()
    with one_batch(ledger) as submit:
        before = submit(opens(shared))
        lone_surrogate = submit(lambda work: work.load(Source, uuid4()).add(SourceAdded(name="\ud800", adapter="a")))
        after = submit(joins(shared))
    assert isinstance(lone_surrogate.exception(PATIENCE), UnicodeEncodeError)
    assert before.result() == "INC-1"
    assert after.result().version == 2
    assert positions(ledger) == [1, 2]


def test_one_unit_reads_what_an_earlier_one_of_its_batch_recorded_cached_or_not(ledger: Ledger) -> None:
    person, shared = uuid4(), uuid4()
    with one_batch(ledger) as submit:
        submit(lambda work: work.load(Person, person).register(name="Nora", email=None))  # persons are not cached
        submit(opens(shared))
        read = submit(lambda work: (work.load(Person, person).name, work.load(Correlation, shared).version))
    assert read.result(PATIENCE) == ("Nora", 1)


def test_the_head_that_others_see_is_that_of_the_last_commit(ledger: Ledger) -> None:
    seen: list[int] = []

    def decide(work: Work) -> int:
        work.load(Correlation, uuid4()).open_incident(rule="r", rule_version=1, field="f", value="v", incident=uuid4(), alert=uuid4())
        position = work.stamp()
        seen.append(ledger.last_position)
        return position

    assert [run(ledger, decide) for _ in range(3)] == [1, 2, 3]
    assert seen == [0, 1, 2]
    assert ledger.last_position == 3
    with pytest.raises(InvalidInput):
        run(ledger, refused_after(opens(uuid4())))
    assert ledger.last_position == 3


def test_every_fact_says_who_did_it_what_led_to_it_and_what_it_belongs_to(ledger: Ledger) -> None:
    first, second, third = uuid4(), uuid4(), uuid4()
    correlation = uuid4()

    def decide(work: Work) -> None:
        opened = work.load(Source, first).add(SourceAdded(name="a", adapter="a"))
        with work.caused_by(opened):
            work.journal.actor = "tocsin"
            work.load(Source, second).add(SourceAdded(name="b", adapter="b"))
        work.load(Source, third).add(SourceAdded(name="c", adapter="c"))

    ledger.run(Unit(decide, actor="user:nora", correlation_id=correlation))
    facts = ledger.read(0, 10)
    assert [fact.actor for fact in facts] == ["user:nora", "tocsin", "tocsin"]
    assert [fact.cause for fact in facts] == [None, f"{first}:1", None]
    assert {fact.correlation_id for fact in facts} == {correlation}
    assert {fact.recorded_at for fact in facts} == {NOON}


# -- time and numbers ----------------------------------------------------------------------------------------------------------


def test_recorded_at_never_decreases_whatever_the_clock_does(ledger: Ledger, clock: SimulatedClock) -> None:
    for step in (0, 5, -3_600, 0, 10, 3_600, -86_400, 1):
        clock.advance(step)
        run(ledger, opens(uuid4()))
    recorded = [fact.recorded_at for fact in ledger.read(0, 100)]
    assert recorded == sorted(recorded)
    assert recorded[2] == recorded[1] == NOON + timedelta(seconds=5)


def test_two_processes_number_and_place_their_facts_as_one(tmp_path: Path, clock: SimulatedClock) -> None:
    slow = SimulatedClock(NOON - timedelta(hours=1), running=False)
    with opened(tmp_path, clock) as (one, _), opened(tmp_path, slow) as (other, _):
        numbers = [run(ledger, opens(uuid4())) for ledger in (one, other, other, one, other, one)]
        assert numbers == [f"INC-{number}" for number in range(1, 7)]
        assert positions(one) == positions(other) == [1, 2, 3, 4, 5, 6]
        recorded: list[datetime] = [fact.recorded_at for fact in one.read(0, 10)]
        assert recorded == [NOON] * 6  # the slow process's clock is behind the log's head


def test_a_process_decides_on_what_another_one_has_written(tmp_path: Path, clock: SimulatedClock) -> None:
    shared, untouched = uuid4(), uuid4()
    with opened(tmp_path, clock) as (one, _), opened(tmp_path, clock) as (other, _):
        run(one, opens(shared))
        run(one, opens(untouched))
        alerts = [uuid4() for _ in range(6)]
        for ledger, alert in zip((other, one, one, other, other, one), alerts, strict=True):
            run(ledger, joins(shared, alert))
        for ledger in (one, other):
            assert set(alerts) < run(ledger, lambda work: work.load(Correlation, shared).firing)
            assert run(ledger, lambda work: work.load(Correlation, untouched).version) == 1
        assert one.get(Correlation, shared).version == 7


def test_a_failed_commit_does_not_hide_what_another_process_wrote(tmp_path: Path, clock: SimulatedClock) -> None:
    shared, alert = uuid4(), uuid4()
    with opened(tmp_path, clock) as (one, store), opened(tmp_path, clock) as (other, _):
        run(one, opens(shared))
        store.break_commit = "before"
        with pytest.raises(StoreUnavailable):
            run(one, joins(shared))
        run(other, joins(shared, alert))
        assert alert in run(one, lambda work: work.load(Correlation, shared).firing)


def test_more_streams_than_the_cache_holds_change_no_decision(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MOST_CACHED", 2)
    streams = [uuid4() for _ in range(5)]
    for stream_id in streams:
        run(ledger, opens(stream_id))
    for stream_id in (*streams, *reversed(streams)):
        run(ledger, joins(stream_id))
    assert [ledger.get(Correlation, stream_id).version for stream_id in streams] == [3] * 5


# -- failure -------------------------------------------------------------------------------------------------------------------


def test_a_failed_commit_is_told_to_all_and_leaves_nothing(watched: tuple[Ledger, WatchedStore]) -> None:
    ledger, store = watched
    shared = uuid4()
    run(ledger, opens(shared))
    with one_batch(ledger) as submit:
        futures = [submit(joins(shared)), submit(lambda _: setattr(store, "break_commit", "before")), submit(opens(uuid4()))]
    assert {str(future.exception(PATIENCE)) for future in futures} == {"no space left on device"}
    assert {type(future.exception()) for future in futures} == {StoreUnavailable}
    assert ledger.failure == "no space left on device"
    assert ledger.last_position == 1
    assert run(ledger, joins(shared)).version == 2
    assert run(ledger, opens(uuid4())) == "INC-2"
    assert ledger.failure is None
    assert positions(ledger) == [1, 2, 3]


def test_after_a_failure_only_a_commit_that_needed_room_says_that_there_is_some(watched: tuple[Ledger, WatchedStore]) -> None:
    ledger, store = watched
    store.break_commit = "before"
    assert isinstance(ledger.submit(Unit(lambda work: work.try_room(10_000), actor="tocsin")).exception(PATIENCE), StoreUnavailable)
    run(ledger, lambda work: work.after.append(lambda store: store.set_lease("leader", Lease("one", 1, 2))))
    assert ledger.failure == "no space left on device"
    before = store.meta("room"), ledger.store.head()
    run(ledger, lambda work: work.try_room(10_000))
    assert ledger.failure is None
    assert (store.meta("room"), ledger.store.head()) == before == (None, Head(0, 0))


def test_a_commit_that_happened_although_it_was_told_as_failed_is_known_afterwards(
    tmp_path: Path, clock: SimulatedClock
) -> None:
    with opened(tmp_path, clock) as (ledger, store):
        bell = Bell(ledger, clock)
        store.break_commit = "after"
        with pytest.raises(StoreUnavailable):
            bell.ring("alertmanager", "prometheus-alertmanager/firing.json", identity="retry-me")
        again = bell.ring("alertmanager", "prometheus-alertmanager/firing.json", identity="retry-me")
        assert again.again
        assert ledger.get(Delivery, delivery_id("alertmanager", "key:retry-me")).version == 1
        assert [alert.number for alert in bell.alerts] == ["ALT-1"]
        assert bell.ring("alertmanager", "prometheus-alertmanager/resolved.json").monitoring_events[0].disposition == "resolved"


class _FaultyConnection:
    """A connection whose next COMMIT reports an I/O error, before or after the real one."""

    def __init__(self, real: sqlite3.Connection, when: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._real, self._when, self._meanwhile = real, when, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql != "COMMIT" or not self._when:
            return self._real.execute(sql, *values)
        when, self._when = self._when, ""
        if when == "after":
            self._real.execute("COMMIT")
            self._meanwhile()
        raise sqlite3.OperationalError("disk I/O error")


def break_next_commit(store: SqliteStore, when: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    store._writer = _FaultyConnection(store._writer, when, meanwhile)  # type: ignore[assignment]  # stands in for one


@pytest.mark.files
def test_an_io_error_at_commit_that_stored_everything_is_a_success(tmp_path: Path, clock: SimulatedClock) -> None:
    shared, alert = uuid4(), uuid4()
    with opened(tmp_path, clock) as (ledger, store), opened(tmp_path, clock) as (other, _):
        run(ledger, opens(shared))
        # Even where another process has appended before we can look.
        break_next_commit(store, "after", lambda: run(other, joins(shared, alert)))
        run(ledger, joins(shared))
        assert alert in run(ledger, lambda work: work.load(Correlation, shared).firing)
        assert ledger.get(Correlation, shared).version == 3


@pytest.mark.files
def test_an_io_error_at_commit_that_stored_nothing_is_a_failure(tmp_path: Path, clock: SimulatedClock) -> None:
    shared = uuid4()
    with opened(tmp_path, clock) as (ledger, store):
        run(ledger, opens(shared))
        break_next_commit(store, "before")
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            run(ledger, joins(shared))
        assert run(ledger, joins(shared)).version == 2
        break_next_commit(store, "before")
        with pytest.raises(StoreUnavailable):  # it holds no event: nothing tells that it happened
            run(ledger, lambda work: work.after.append(lambda inside: inside.set_meta("k", "v")))
        assert store.meta("k") is None


@pytest.mark.files
def test_a_transaction_that_the_database_gave_up_fails_as_a_whole(tmp_path: Path, clock: SimulatedClock) -> None:
    """A full disk makes SQLite roll back by itself; what followed in the batch must not be stored on its own."""
    with opened(tmp_path, clock) as (ledger, store):

        def gives_up(_: Work) -> None:
            store._writer.execute("ROLLBACK")
            raise StoreUnavailable("database or disk is full")

        person = uuid4()
        with one_batch(ledger) as submit:
            futures = [
                submit(lambda work: work.load(Person, person).register(name="Nora", email=None)),
                submit(lambda work: work.load(Person, person).name),  # inserts the row before it
                submit(gives_up), submit(opens(uuid4())), submit(opens(uuid4())),
            ]
        assert {type(future.exception(PATIENCE)) for future in futures} == {StoreUnavailable}
        assert positions(ledger) == []
        assert run(ledger, opens(uuid4())) == "INC-1"


def test_an_insert_that_fails_while_one_unit_reads_loses_nothing_of_those_before_it(
    watched: tuple[Ledger, WatchedStore]
) -> None:
    ledger, store = watched
    person = uuid4()

    def reads(work: Work) -> str:
        store.break_insert = True  # its reading inserts what was decided before
        return work.load(Person, person).name

    with one_batch(ledger) as submit:
        wrote = submit(lambda work: work.load(Person, person).register(name="Nora", email=None))
        read = submit(reads)
        opened_one = submit(opens(uuid4()))
    assert isinstance(read.exception(PATIENCE), StoreUnavailable)
    assert wrote.result(PATIENCE).version == 1
    assert opened_one.result(PATIENCE) == "INC-1"
    assert ledger.get(Person, person).name == "Nora"
    assert positions(ledger) == [1, 2]


def test_keys_of_a_failed_commit_are_not_used_after_another_process_has_made_its_own(
    tmp_path: Path, clock: SimulatedClock
) -> None:
    person = uuid4()

    def registers(name: str) -> Callable[[Work], Any]:
        return lambda work: work.load(Person, person).register(name=name, email=None)

    with opened(tmp_path, clock) as (one, store), opened(tmp_path, clock) as (other, _):
        store.break_insert = True
        with pytest.raises(StoreUnavailable):
            run(one, registers("Nora"))
        run(other, registers("Nora"))
        run(one, registers("Nora Berg"))
    with opened(tmp_path, clock) as (ledger, _):
        assert [fact.event.name for fact in ledger.stream(person)] == ["Nora", "Nora Berg"]  # type: ignore[attr-defined]  # PersonRegistered


# -- waiting -------------------------------------------------------------------------------------------------------------------


def test_too_much_waiting_is_refused_at_once_and_what_waits_is_done(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger._turns, "_most", 4)
    with one_batch(ledger) as submit:
        taken = [submit(opens(uuid4())) for _ in range(4)]
        assert ledger.waiting == 4
        with pytest.raises(Overloaded):
            submit(opens(uuid4()))
    assert [future.result(PATIENCE) for future in taken] == ["INC-1", "INC-2", "INC-3", "INC-4"]
    assert run(ledger, opens(uuid4())) == "INC-5"


def test_closing_finishes_what_waits_and_takes_nothing_more(watched: tuple[Ledger, WatchedStore]) -> None:
    ledger, _ = watched
    with one_batch(ledger) as submit:
        waits = submit(opens(uuid4()))
    ledger.close()
    ledger.close()
    assert waits.result(PATIENCE) == "INC-1"
    with pytest.raises(StoreUnavailable, match="shutting down"):
        ledger.submit(Unit(opens(uuid4()), actor="tocsin"))


def test_a_listener_hears_each_new_head_and_its_fault_stops_nobody(ledger: Ledger) -> None:
    heard: list[int] = []

    def faulty(_: int) -> None:
        raise RuntimeError("the loop is closed")

    ledger.listen(faulty)
    ledger.listen(heard.append)
    for _ in range(3):
        run(ledger, opens(uuid4()))
    run(ledger, lambda _: None)  # answered after what was told before it
    assert list(dict.fromkeys(heard)) == [1, 2, 3]  # PostgreSQL may tell of a head again, as it does of other processes' heads


def test_a_caller_who_gave_up_stops_nobody(ledger: Ledger) -> None:
    with one_batch(ledger) as submit:
        given_up = submit(opens(uuid4()))
        assert given_up.cancel()
        after = submit(opens(uuid4()))
    assert after.result(PATIENCE) == "INC-2"
    assert run(ledger, opens(uuid4())) == "INC-3"


# -- the log -------------------------------------------------------------------------------------------------------------------


@pytest.mark.files
@pytest.mark.parametrize("statement", ["UPDATE events SET actor = 'nobody'", "DELETE FROM events WHERE position = 1"])
def test_an_event_can_be_neither_changed_nor_deleted(ledger: Ledger, tmp_path: Path, statement: str) -> None:
    run(ledger, opens(uuid4()))
    connection = sqlite3.connect(tmp_path / "log.db")
    with pytest.raises(sqlite3.IntegrityError, match="events are never"):
        connection.execute(statement)
    connection.close()


def test_a_version_is_stored_once_even_if_a_writer_would_not_ask(ledger: Ledger, tmp_path: Path) -> None:
    shared = uuid4()
    run(ledger, opens(shared))
    (row,) = ledger.store.log(0, 10)
    beside = store_at(tmp_path)
    beside.begin()
    with pytest.raises(AlreadyStored):
        beside.insert([row._replace(position=2)])
        beside.commit()  # PostgreSQL is told of both at once
    beside.rollback()
    beside.close()


def test_positions_are_found_by_time_and_streams_by_version(ledger: Ledger, clock: SimulatedClock) -> None:
    shared = uuid4()
    run(ledger, opens(shared))
    for _ in range(4):
        clock.advance(10)
        run(ledger, joins(shared))
    store = ledger.store
    first: Row = store.log(0, 1)[0]
    assert [store.position_at(first.recorded_at + offset) for offset in (-1, 0, 1, 10_000_000, 25_000_000, 10**12)] == [
        0, 1, 1, 2, 3, 5,
    ]
    assert [row.version for row in store.stream(shared.bytes, after=1, upto=4)] == [2, 3, 4]
    assert [row.version for row in store.stream(shared.bytes, newest_first=True, limit=2)] == [5, 4]
    assert [row.position for row in store.log(1, 2, upto=4)] == [2, 3]
    assert [row.position for row in store.log(0, 9, types=["correlation.incident_opened.v1"])] == [1]
    assert store.at(3) == store.log(2, 1)[0]
    assert store.at(99) is None


def test_what_is_expected_is_asked_for_in_one_question_and_changes_no_answer(watched: tuple[Ledger, WatchedStore]) -> None:
    ledger, store = watched
    streams = [uuid4() for _ in range(20)]
    for stream_id in streams[:10]:
        run(ledger, opens(stream_id))
    ledger._cache.clear()
    asked: list[int] = []
    answer = store.pending_streams

    def counted(wanted: Sequence[bytes], limit: int) -> list[Row]:
        asked.append(len(wanted))
        return answer(wanted, limit)

    store.pending_streams = counted  # type: ignore[method-assign,assignment]  # only looked at
    with one_batch(ledger):
        futures = [
            ledger.submit(Unit(lambda work, stream_id=stream_id: work.load(Correlation, stream_id).version, actor="tocsin", expected=Expected({Correlation: [stream_id]})))  # type: ignore[misc]  # mypy can't see through the default
            for stream_id in streams
        ]
    assert [future.result(PATIENCE) for future in futures] == [1] * 10 + [0] * 10
    assert asked == [20]


def test_a_stream_that_cannot_be_read_concerns_only_who_asks_for_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = uuid4(), uuid4()
    run(ledger, opens(good))
    run(ledger, opens(bad))
    ledger._cache.clear()
    ledger._fresh.clear()
    decode = ledger.codec.decode

    def broken(type_name: str, state: bytes, stream_id: UUID, version: int) -> Any:
        if stream_id == bad:
            raise ValueError("no such shape")
        return decode(type_name, state, stream_id, version)

    monkeypatch.setattr(ledger.codec, "decode", broken)
    with one_batch(ledger):
        futures = {
            stream_id: ledger.submit(Unit(lambda work, stream_id=stream_id: work.load(Correlation, stream_id).version, actor="tocsin", expected=Expected({Correlation: [stream_id]})))  # type: ignore[misc]  # mypy can't see through the default
            for stream_id in (bad, good)
        }
    assert futures[good].result(PATIENCE) == 1
    with pytest.raises(ValueError, match="no such shape"):
        futures[bad].result(PATIENCE)


def test_what_another_process_wrote_is_caught_up_with_and_not_read_anew(watched: tuple[Ledger, WatchedStore], tmp_path: Path, clock: SimulatedClock) -> None:
    ledger, store = watched
    stream_id = uuid4()
    run(ledger, opens(stream_id))
    read: list[bytes] = []
    answer = store.pending_stream

    def counted(stream: bytes, *, after: int = 0, limit: int | None = None) -> list[Row]:
        read.append(stream)
        return answer(stream, after=after, limit=limit)

    with opened(tmp_path, clock) as (other, _):
        for _round in range(5):
            for _join in range(3):
                run(other, joins(stream_id))
            store.pending_stream = counted  # type: ignore[method-assign]  # only looked at
            run(ledger, joins(stream_id))
    assert stream_id.bytes not in read
    versions = [fact.version for fact in ledger.stream(stream_id)]
    assert versions == list(range(1, 22))
    remembered = ledger._cache[stream_id]
    assert isinstance(remembered, Correlation)
    fresh = ledger.get(Correlation, stream_id)
    assert (remembered.version, remembered.firing) == (fresh.version, fresh.firing)
