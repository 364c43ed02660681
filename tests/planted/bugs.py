"""Bugs that were planted, each a small one that somebody could make; the checks must fail on every one of them.

They are put in from here, into this process or into a server's (`python -m tests.planted.launcher BUG serve …`); the product knows
nothing of them.
"""

import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final
from unittest import mock

from engine import ledger as ledger_module
from engine import postgres_store
from engine.clock import SystemClock
from engine.lease import Leadership
from engine.ledger import Ledger
from engine.sqlite_store import SqliteStore
from engine.store import Answer, Head
from engine.turns import Turns
from engine.work import Work
from tests.faults.cuts import Mortal
from tests.stores import AnyStore

Bug = Callable[[], AbstractContextManager[Any]]


class AnswersAfterwards(Mortal):
    """The remembered answer of a request is written in a transaction of its own, after that of its effect."""

    def __init__(self, *place: Any) -> None:
        super().__init__(*place)
        self._later: list[Callable[[], None]] = []

    def remember_answer(self, principal: str, route: str, key: str, answer: Answer, recorded_at: int) -> None:
        self._later.append(lambda: super(AnswersAfterwards, self).remember_answer(principal, route, key, answer, recorded_at))

    def commit(self) -> None:
        super().commit()
        later, self._later = self._later, []
        if later:
            super().begin()
            for write in later:
                write()
            super().commit()


class CountsAfterwards(Mortal):
    """The counter of numbers is written in a transaction of its own, after that of the rows."""

    def __init__(self, *place: Any) -> None:
        super().__init__(*place)
        self._later: list[tuple[str, int]] = []

    def set_count(self, kind: str, last: int) -> None:
        self._later.append((kind, last))

    def commit(self) -> None:
        super().commit()
        later, self._later = self._later, []
        if later:
            super().begin()
            for kind, last in later:
                super().set_count(kind, last)
            super().commit()


class CursorFirst(Mortal):
    """The position in a topic is committed before what the record led to."""

    def set_cursor(self, name: str, position: int) -> None:
        super().set_cursor(name, position)
        super().commit()
        super().begin()


class RowsFirst(Mortal):
    """The rows are committed before the position in the topic, and all else that belongs to them."""

    def __init__(self, *place: Any) -> None:
        super().__init__(*place)
        self._later: list[tuple[str, int]] = []

    def set_cursor(self, name: str, position: int) -> None:
        self._later.append((name, position))

    def commit(self) -> None:
        super().commit()
        later, self._later = self._later, []
        if later:
            super().begin()
            for name, position in later:
                super().set_cursor(name, position)
            super().commit()


class AnswersAtOnce(Ledger):
    """Who waits is answered when their unit is decided, and not when it is committed."""

    def _decide(self, waiting: Any) -> Any:
        outcome = super()._decide(waiting)
        ledger_module._answer([outcome])
        waiting.future, waiting.loop = Future(), None  # nobody waits for that
        return outcome


def _no_lock() -> AbstractContextManager[Any]:
    """On PostgreSQL nobody waits for the append lock."""
    lock = f"SELECT pg_advisory_xact_lock({postgres_store.APPEND_LOCK}); "
    assert lock in postgres_store._BEGIN
    return mock.patch.object(postgres_store, "_BEGIN", postgres_store._BEGIN.replace(lock, ""))


def _keeps_state(self: Ledger) -> None:
    self.vault.forget_unsaved()
    self.store.rollback()


def _state_is_kept() -> AbstractContextManager[Any]:
    """After a failed commit the states in memory stay as they would have become."""
    return mock.patch.object(Ledger, "_abandon", _keeps_state)


def _others_are_not_read() -> AbstractContextManager[Any]:
    """What other processes wrote is not dropped from memory."""
    real = AnyStore.begin

    def begin(self: Any) -> tuple[Head, Iterable[bytes] | None]:
        return real(self)[0], None

    return mock.patch.object(AnyStore, "begin", begin)


def _no_fence() -> AbstractContextManager[Any]:
    """What a leader does is not checked against the lease."""
    return mock.patch.object(Leadership, "fenced", lambda _, unit: unit)


def _follows_steps() -> AbstractContextManager[Any]:
    """The clock is the wall clock, wherever it is stepped."""

    def now(self: SystemClock) -> Any:
        self.accept()
        return real(self)

    real = SystemClock.now
    return mock.patch.object(SystemClock, "now", now)


class Parted(sqlite3.Connection):
    """The rows of a page of a view are committed before its position."""

    def execute(self, sql: str, *values: Any) -> Any:
        if sql.startswith("UPDATE tracking SET position"):
            super().execute("COMMIT")
            super().execute("BEGIN IMMEDIATE")
        return super().execute(sql, *values)


def _not_synced() -> AbstractContextManager[Any]:
    """SQLite does not wait for the disk."""
    real = SqliteStore._connect

    def connect(self: SqliteStore, *cache: int) -> sqlite3.Connection:
        connection = real(self, *cache)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    return mock.patch.object(SqliteStore, "_connect", connect)


def _version_not_checked() -> AbstractContextManager[Any]:
    """`If-Match` is read and believed."""
    return mock.patch("api.records.expect_version", return_value=None)


def _one_lane() -> AbstractContextManager[Any]:
    """Whoever comes first is served first, from whichever source."""
    real = Turns.put

    def put(self: Turns[Any], lane: str, thing: Any) -> None:
        real(self, "all", thing)

    return mock.patch.object(Turns, "put", put)


def _goes_on_by_halves() -> AbstractContextManager[Any]:
    """When SQLite has given a transaction up, what follows is written all the same."""

    def commit(self: SqliteStore) -> None:
        if self._writer.in_transaction:
            self._writer.execute("COMMIT")

    stack = ExitStack()
    stack.enter_context(mock.patch.object(SqliteStore, "_inside", lambda self, action: self._guarded(action)))
    stack.enter_context(mock.patch.object(SqliteStore, "commit", commit))
    return stack


def _key_not_looked_up() -> AbstractContextManager[Any]:
    """A request's key is remembered, and not asked for."""
    return mock.patch("api.writing.IdempotencyKey.remembered", return_value=None)


def _room_not_tried() -> AbstractContextManager[Any]:
    """Whether there is room again is asked by a commit of nothing, for which there always is."""
    return mock.patch.object(Work, "try_room", lambda work, _size: setattr(work, "probes", True))


IN_A_SERVER: Final[dict[str, Bug]] = {
    "room-not-tried": _room_not_tried, "not-synced": _not_synced, "version-not-checked": _version_not_checked, "one-lane": _one_lane, "key-not-looked-up": _key_not_looked_up,
}
