"""The views from the reading side: each read has a snapshot of its own, in whatever generation is the present one."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from engine.errors import StoreUnavailable
from engine.ledger import Ledger
from projections.files import Files

MOST_IDLE: Final = 8

# Of what still goes on; of all where nothing does.
POSITION: Final = "SELECT coalesce(min(CASE WHEN stopped IS NULL THEN position END), min(position)) FROM tracking"

Values = Mapping[str, Any] | Sequence[Any]


class Reader:
    """One consistent snapshot of the views, and the log that they come from.

    Attributes:
        position: the last event that is in this snapshot.
    """

    def __init__(self, connection: sqlite3.Connection, ledger: Ledger, position: int) -> None:
        self._connection = connection
        self.ledger = ledger
        self.position = position

    def at(self, as_of: int | None) -> int:
        """The position that a question for `as_of` is answered for: never past this snapshot."""
        return self.position if as_of is None else min(as_of, self.position)

    def rows(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Values = ()) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        return found

    def columns(self, table: str) -> list[str]:
        """The columns of a table of these views, in its order."""
        return [row[1] for row in self.rows(f"PRAGMA table_info({table})")]

    def iterate(self, sql: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
        """Rows one by one, for what may stop early."""
        cursor = self._connection.execute(sql, values)
        try:
            yield from cursor
        finally:
            cursor.close()


class Views:
    """The reading side, for any thread: each read has a snapshot of its own."""

    def __init__(self, ledger: Ledger, place: Files) -> None:
        self.ledger, self.place = ledger, place
        self._lock = threading.Lock()
        self._idle: list[tuple[int, sqlite3.Connection]] = []

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A snapshot for the length of a `with` block.

        Raises:
            StoreUnavailable: the views are not built yet.
        """
        generation, connection = self._take()
        try:
            connection.execute("BEGIN")
            try:
                row = connection.execute(POSITION).fetchone()
            except sqlite3.OperationalError as error:
                raise StoreUnavailable(f"the views are not built yet, or by another version of Tocsin: {error}") from error
            yield Reader(connection, self.ledger, row[0] or 0)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._give(generation, connection)

    def _take(self) -> tuple[int, sqlite3.Connection]:
        # Twice: a generation may be cleared away between asking which one it is and opening it.
        for _ in range(2):
            generation = self.place.present()
            stale = []
            with self._lock:
                while self._idle:
                    name, connection = self._idle.pop()
                    if name == generation:
                        break
                    stale.append(connection)
                else:
                    connection = None
            for old in stale:
                old.close()
            if connection is not None:
                return generation, connection
            connection = self.place.reader(generation)
            if connection is not None:
                return generation, connection
        raise StoreUnavailable("the views are not built yet")

    def _give(self, generation: int, connection: sqlite3.Connection) -> None:
        with self._lock:
            if len(self._idle) < MOST_IDLE:
                self._idle.append((generation, connection))
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()
