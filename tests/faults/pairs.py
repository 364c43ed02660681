"""What must hold between a ledger and its database, between two processes of one store, and between a view and its log."""

import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from unittest import mock
from uuid import UUID, uuid4

from engine.clock import SimulatedClock
from engine.correlation import Correlation
from engine.errors import StoreUnavailable
from engine.lease import LEASE_SECONDS, Leadership, NotLeading
from engine.person import Person
from engine.sqlite_store import SqliteStore
from engine.work import Unit, Work
from projections.runner import Runner
from tests.faults.cuts import Mortal
from tests.faults.promises import asks, is_consistent, names, process_on, takes
from tests.projections.world import World, fires

WRITERS: Final = 4
EACH: Final = 25
STATEMENTS: Final = 45  # more than there are that write, in a page of few events


def _opens(stream: UUID) -> Unit[None]:
    def decide(work: Work) -> None:
        work.load(Correlation, stream).open_incident(rule="r", rule_version=1, field="service", value="shop", incident=uuid4(), alert=uuid4())

    return Unit(decide, actor="tocsin")


def _joins(stream: UUID) -> Unit[int]:
    return Unit(lambda work: work.load(Correlation, stream).join(uuid4()).version, actor="tocsin")


def a_failed_commit_leaves_no_trace(folder: Path) -> None:
    """What was decided on in vain is not decided on again."""
    stream = uuid4()
    with process_on(folder, Mortal) as ledger:
        assert isinstance(ledger.store, Mortal)
        ledger.run(_opens(stream))
        with mock.patch.object(Mortal, "commit", side_effect=StoreUnavailable("the disk is full")):
            assert isinstance(ledger.submit(_joins(stream)).exception(60), StoreUnavailable)
        assert ledger.run(_joins(stream)) == 2, "it was decided on what is not stored"
        assert ledger.get(Correlation, stream).version == 2


def each_decides_on_what_the_other_wrote(folder: Path) -> None:
    stream = uuid4()
    with process_on(folder, Mortal) as one, process_on(folder, Mortal) as other:
        one.run(_opens(stream))
        assert [ledger.run(_joins(stream)) for ledger in (other, one, one, other, other, one)] == [2, 3, 4, 5, 6, 7]


def a_former_leader_does_nothing(folder: Path) -> None:
    with process_on(folder, Mortal) as one, process_on(folder, Mortal) as other:
        first, second = Leadership(one), Leadership(other)
        assert first.renew()
        asleep = first.fenced(asks(1))
        for ledger in (one, other):
            assert isinstance(ledger.clock, SimulatedClock)
            ledger.clock.advance(LEASE_SECONDS)
        assert second.renew()
        refused = one.submit(asleep).exception(60)
        assert isinstance(refused, NotLeading), "it was not refused"
        assert names(one) == []


def many_writers_make_one_log(folder: Path, store_class: Any = Mortal) -> None:
    """Each of what they write is taken, under a number and at a position of its own."""
    with ExitStack() as stack:
        ledgers = [stack.enter_context(process_on(folder, store_class)) for _ in range(WRITERS)]

        def write(who: int) -> list[str]:
            futures: list[Future[str]] = [ledgers[who].submit(asks(who * EACH + number)) for number in range(EACH)]
            return [future.result(60) for future in futures]

        with ThreadPoolExecutor(WRITERS) as pool:
            got = [name for mine in pool.map(write, range(WRITERS)) for name in mine]
        assert sorted(got) == sorted(names(ledgers[0]))
        assert len(set(got)) == WRITERS * EACH
        is_consistent(ledgers[0])


def _registers_and_looks(number: int, person: UUID) -> Unit[str]:
    """A person, and the same one read: they are not kept in memory, so what waits is written for that."""
    if number % 2:
        return Unit(lambda work: work.load(Person, person).name or "", actor="tocsin")
    return Unit(lambda work: f"Nora {work.fresh(Person, person).register(name=f'Nora {number}', email=None).version}", actor="tocsin")


def a_full_file_takes_nothing_by_halves(folder: Path) -> None:
    """Whatever of a batch finds no space, nothing of the batch is there, and nobody was told that it is."""
    with process_on(folder, SqliteStore) as ledger:
        store = ledger.store
        assert isinstance(store, SqliteStore)
        acknowledged = [ledger.run(asks(number)) for number in range(4)]
        for room in range(6):
            (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
            store._writer.execute(f"PRAGMA max_page_count = {pages + room}")
            futures: list[Future[str]] = [ledger.submit(asks(1_000 * (room + 1) + number)) for number in range(300)]
            persons = [uuid4() for _ in range(150)]
            beside = [ledger.submit(_registers_and_looks(number, persons[number // 2])) for number in range(300)]
            acknowledged += [future.result() for future in futures if future.exception(60) is None]
            for number, future in enumerate(beside):
                if number % 2 == 0 and future.exception(60) is None:
                    assert ledger.get(Person, persons[number // 2]).version == 1, "acknowledged, and not there"
            store._writer.execute("PRAGMA max_page_count = 1000000")
            assert set(acknowledged) <= set(names(ledger)), "acknowledged, and not there"
            is_consistent(ledger)
        ledger.run(takes(0))
        assert len(names(ledger)) > len(acknowledged)


class _Killed(sqlite3.OperationalError):
    """The process is gone; nobody hears this but the test."""


class _Cut(sqlite3.Connection):
    """A connection whose process is killed at one of its statements that write."""

    left: int | None = None

    def execute(self, sql: str, *values: Any) -> Any:
        self._count(sql)
        return super().execute(sql, *values)

    def executemany(self, sql: str, *values: Any) -> Any:
        self._count(sql)
        return super().executemany(sql, *values)

    def _count(self, sql: str) -> None:
        if self.left is not None and not sql.startswith(("SELECT", "PRAGMA", "ROLLBACK")):
            self.left -= 1
            if self.left < 0:
                self.left = 10**9
                raise _Killed("killed")


def a_view_has_each_event_once(folder: Path, kills: int, connection_class: type[sqlite3.Connection] = sqlite3.Connection) -> int:
    """Kill the process that folds at each of its statements in turn, and go on; how often it was killed.

    Args:
        kills: how often it is tried; where it was through before, it lives.
    """

    class Killed(_Cut, connection_class):  # type: ignore[misc,valid-type]  # the bug, if there is one, sees the statement first
        pass

    real, killed = sqlite3.connect, 0
    with process_on(folder, Mortal) as ledger:
        assert isinstance(ledger.clock, SimulatedClock)
        world = World(ledger, ledger.clock)
        world.source()
        for turn in range(kills):
            world.incident(f"incident {turn}")
            world.deliver(fires(f"host-{turn % 7}", service=f"service-{turn % 3}"))
            with mock.patch("projections.files.sqlite3.connect", lambda *args, **more: real(*args, factory=Killed, **more)):
                runner = Runner(ledger, folder / "views.db")
                generation = runner._present()
            connection = generation.connection
            assert isinstance(connection, Killed)
            connection.left = turn % STATEMENTS
            try:
                runner.catch_up()
            except _Killed:
                killed += 1
            finally:
                connection.left = None
                runner.close()
        runner = Runner(ledger, folder / "views.db")
        try:
            runner.catch_up()
            difference = runner.verify()
            assert difference is None, str(difference)
        finally:
            runner.close()
    return killed


