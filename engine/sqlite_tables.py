"""A store's tables in the files of SQLite, read and filled for `engine/transfer.py`."""

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from engine.errors import StoreUnavailable
from engine.keyring import KEYS
from engine.sqlite_store import BUSY_SECONDS, COLUMNS, SCHEMA
from engine.store import SCHEMA_VERSION, Row
from engine.tables import FILLING, TABLES, Table
from engine.transfer import CannotTransfer

_CHUNK: Final = 1_000


class SqliteTables:
    """`engine.tables.Target` on `log.db` and `keys.db`."""

    def __init__(self, log: sqlite3.Connection, keys: sqlite3.Connection, where: str) -> None:
        self.where = where
        self._log, self._keys = log, keys

    def _of(self, table: Table) -> sqlite3.Connection:
        return self._keys if table.keys else self._log

    def meta(self, key: str) -> str | None:
        row = self._log.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def last(self) -> Row | None:
        row = self._log.execute(f"SELECT {COLUMNS} FROM events ORDER BY position DESC LIMIT 1").fetchone()
        return Row(*row) if row else None

    def at(self, position: int) -> Row | None:
        row = self._log.execute(f"SELECT {COLUMNS} FROM events WHERE position = ?", (position,)).fetchone()
        return Row(*row) if row else None

    def count(self, table: Table) -> int:
        return int(self._of(table).execute(f"SELECT count(*) FROM {table.name} WHERE {table.but}").fetchone()[0])

    def rows(self, table: Table, *, after: int = 0) -> Iterator[Sequence[Any]]:
        where = f"position > {after:d}" if table.name == "events" else table.but
        sql = f"SELECT {', '.join(table.names)} FROM {table.name} WHERE {where} ORDER BY {', '.join(table.key)}"
        cursor = self._of(table).execute(sql)
        while rows := cursor.fetchmany(_CHUNK):
            yield from rows

    def absent(self, table: Table, keys: Sequence[bytes]) -> set[bytes]:
        sql = f"SELECT {table.key[0]} FROM {table.name} WHERE {table.key[0]} IN ({', '.join('?' * len(keys))})"
        return set(keys) - {row[0] for row in self._of(table).execute(sql, keys)}

    def put(self, table: Table, rows: Collection[Sequence[Any]]) -> None:
        with _committed(self._of(table)) as connection:
            connection.executemany(_insert(table), rows)

    def replace(self, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        with _committed(self._of(table)) as connection:
            connection.execute(f"DELETE FROM {table.name} WHERE {table.but}")
            connection.executemany(_insert(table), rows)

    def remove(self, table: Table, keys: Sequence[bytes]) -> None:
        with _committed(self._of(table)) as connection:
            connection.executemany(f"DELETE FROM {table.name} WHERE {table.key[0]} = ?", [(key,) for key in keys])

    def begin(self, text: str) -> None:
        with _committed(self._log) as connection:
            connection.execute("INSERT INTO meta (key, value) VALUES (?, ?)", (FILLING, text))

    def finish(self) -> None:
        # All of it is on disk before the mark goes.
        for connection in (self._keys, self._log):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._log.execute("PRAGMA synchronous = FULL")
        with _committed(self._log) as connection:
            connection.execute("DELETE FROM meta WHERE key = ?", (FILLING,))


def _insert(table: Table) -> str:
    return f"INSERT INTO {table.name} ({', '.join(table.names)}) VALUES ({', '.join('?' * len(table.names))})"


@contextlib.contextmanager
def _committed(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def held(log_file: Path, key_file: Path) -> Iterator[SqliteTables]:
    """The store of these files, in which nobody writes meanwhile.

    Raises:
        CannotTransfer: another process has it open.
        StoreUnavailable: it cannot be read.
    """
    must_be_closed(log_file)
    with _told(log_file), contextlib.closing(_connect(log_file)) as log, contextlib.closing(_connect(key_file)) as keys:
        for connection in (log, keys):
            connection.execute("BEGIN IMMEDIATE")
        if missing := {table.name for table in TABLES} - {row[0] for one in (log, keys) for row in one.execute("SELECT name FROM sqlite_schema")}:
            raise CannotTransfer(f"{log_file} lacks {', '.join(sorted(missing))}: run tocsin migrate on it")
        yield SqliteTables(log, keys, str(log_file))


def must_be_closed(log_file: Path) -> None:
    """See that no other process has the store open.

    Raises:
        CannotTransfer: one has.
    """
    with _told(log_file), contextlib.closing(_connect(log_file)) as log:
        # Each connection of a process to a file with a write-ahead log holds a shared lock on it as long as it is open; working
        # on it without shared memory needs the exclusive one.
        log.execute("PRAGMA busy_timeout = 0")
        log.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            log.execute("BEGIN IMMEDIATE")
            log.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise CannotTransfer(f"another process has {log_file} open; stop it first (a server, a worker, a command)") from None


@contextlib.contextmanager
def filled(log_file: Path, key_file: Path) -> Iterator[SqliteTables]:
    """The tables of these files, made where they are not there.

    Raises:
        CannotTransfer: another process has them open.
        StoreUnavailable: they cannot be written.
    """
    if log_file.exists():
        must_be_closed(log_file)
    with _told(log_file), contextlib.closing(_made(log_file, SCHEMA)) as log, contextlib.closing(_made(key_file, KEYS)) as keys:
        for connection in (log, keys):
            connection.execute("PRAGMA journal_mode = WAL")
            # NORMAL loses no more than the last pages when the power is cut, and those are taken again.
            connection.execute("PRAGMA synchronous = NORMAL")
        _say_version(log)
        yield SqliteTables(log, keys, str(log_file))


@contextlib.contextmanager
def draft(file: Path, tables: Sequence[Table]) -> Iterator[SqliteTables]:
    """A new file for these tables, all of the log or all of the keys; worthless when it is interrupted, and not synced."""
    of_keys = tables[0].keys
    with _told(file), contextlib.closing(_made(file, KEYS if of_keys else SCHEMA)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        if not of_keys:
            _say_version(connection)
        yield SqliteTables(connection, connection, str(file))


def _made(file: Path, schema: str) -> sqlite3.Connection:
    file.touch(mode=0o600)
    connection = _connect(file)
    connection.executescript(schema)
    return connection


def _say_version(log: sqlite3.Connection) -> None:
    log.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('schema_version', ?)", (SCHEMA_VERSION,))


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_SECONDS)


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{file} cannot be used: {error}") from error
