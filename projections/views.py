"""`views.db`, the file that holds the views: how it is found, opened and read.

The name `views.db` is a symbolic link to the file of the present generation (`views.db.1`, `views.db.2`, …). A rebuild
writes the next one beside it and then moves the link, so readers change over between two reads and never wait.
The file is disposable: everything in it comes from the log.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from engine.errors import StoreUnavailable
from engine.ledger import Ledger

BUSY_SECONDS: Final = 10.0
WRITER_CACHE_KIB: Final = 8_000
READER_CACHE_KIB: Final = 4_000
MOST_IDLE: Final = 8

TRACKING: Final = """
CREATE TABLE IF NOT EXISTS tracking (
    name     TEXT PRIMARY KEY,
    version  INTEGER NOT NULL,
    position INTEGER NOT NULL,      -- the last event that is in the view
    store    TEXT,                  -- of which log
    digest   BLOB                   -- SHA-256 of that event's canonical bytes
) WITHOUT ROWID
"""

Values = Mapping[str, Any] | Sequence[Any]


def connect(path: Path, *, create: bool, cache_kib: int) -> sqlite3.Connection:
    """Open one generation's file.

    Raises:
        sqlite3.OperationalError: it is not there (and not to be made).
    """
    mode = "rwc" if create else "rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
    if create:
        path.chmod(0o600)  # names and texts of people stand in it
    connection.execute("PRAGMA journal_mode = WAL")
    # A crash of the machine may lose the last commits, which are in the log, but never breaks the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    # Rows that change again and again are written back to the file less often.
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    return connection


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

    def iterate(self, sql: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
        """Rows one by one, for what may stop early."""
        cursor = self._connection.execute(sql, values)
        try:
            yield from cursor
        finally:
            cursor.close()


class Views:
    """The reading side, for any thread: each read has a snapshot of its own."""

    def __init__(self, ledger: Ledger, path: Path) -> None:
        self.ledger, self.path = ledger, path
        self._lock = threading.Lock()
        self._idle: list[tuple[str, sqlite3.Connection]] = []

    def generation(self) -> str:
        """The file name behind the link; empty where nothing was built yet."""
        try:
            return os.readlink(self.path)
        except OSError:
            return ""

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A snapshot for the length of a `with` block.

        Raises:
            StoreUnavailable: the views are not built yet.
        """
        generation, connection = self._take()
        try:
            connection.execute("BEGIN")
            row = connection.execute("SELECT min(position) FROM tracking").fetchone()
            yield Reader(connection, self.ledger, row[0] or 0)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._give(generation, connection)

    def _take(self) -> tuple[str, sqlite3.Connection]:
        # Twice: a generation may be cleared away between looking at the link and opening the file.
        for _ in range(2):
            generation = self.generation()
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
            try:
                connection = connect(self.path.parent / generation, create=False, cache_kib=READER_CACHE_KIB)
                connection.execute("PRAGMA query_only = ON")
            except sqlite3.OperationalError:
                continue
            return generation, connection
        raise StoreUnavailable("the views are not built yet")

    def _give(self, generation: str, connection: sqlite3.Connection) -> None:
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
