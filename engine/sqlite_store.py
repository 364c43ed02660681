"""The ledger's database on SQLite: `log.db`, write-ahead log, every commit synced to disk.

The append lock is SQLite's write lock (BEGIN IMMEDIATE); `PRAGMA data_version` tells of commits by other processes.
"""

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from engine.errors import StoreUnavailable
from engine.store import (
    SCHEMA_VERSION,
    Account,
    AlreadyStored,
    Answer,
    Credential,
    DueTimer,
    Head,
    KeptBody,
    Lease,
    Row,
)

T = TypeVar("T")

BUSY_SECONDS: Final = 10.0
WRITER_CACHE_KIB: Final = 4_000  # what a batch touches of the indexes should stay in memory
READER_CACHE_KIB: Final = 1_000   # one a thread; the operating system caches the file anyway
# The write-ahead log is moved into the file when so many rows wait in it; a commit counts as some, for what else it wrote.
CHECKPOINT_ROWS: Final = 16_000
COMMIT_WEIGHT: Final = 16
_ASK_AGAIN: Final = -2  # never a data_version: the next `begin` reads the head and the others' streams anew

COLUMNS: Final = "position, stream, version, type, state, recorded_at, actor, correlation, cause"

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    stream      BLOB    NOT NULL,
    version     INTEGER NOT NULL,
    type        TEXT    NOT NULL,
    state       BLOB    NOT NULL,
    recorded_at INTEGER NOT NULL,                 -- µs since 1970, never decreasing along positions
    actor       TEXT    NOT NULL,
    correlation BLOB    NOT NULL,
    cause       TEXT,
    UNIQUE (stream, version)                      -- reading a stream; and the backstop against a lost update
);
CREATE TRIGGER IF NOT EXISTS events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER IF NOT EXISTS events_are_not_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TABLE IF NOT EXISTS counters (kind TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bodies (
    digest      BLOB PRIMARY KEY,
    length      INTEGER NOT NULL,
    key         BLOB    NOT NULL,
    sealed      BLOB    NOT NULL,
    recorded_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS rejected_bytes (
    source TEXT NOT NULL, day TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (source, day)
) WITHOUT ROWID;
-- An index of what the log says is still to happen; the scheduler reads it by due time.
CREATE TABLE IF NOT EXISTS timers (
    timer BLOB PRIMARY KEY, owner BLOB NOT NULL, purpose TEXT NOT NULL, due_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS timers_by_due ON timers (due_at);
CREATE TABLE IF NOT EXISTS answers (
    principal TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL,
    request BLOB NOT NULL, status INTEGER NOT NULL, headers TEXT NOT NULL, sealed BLOB NOT NULL, recorded_at INTEGER NOT NULL,
    PRIMARY KEY (principal, route, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_by_age ON answers (recorded_at);   -- forgetting the old ones
-- States of long streams, so that reading one does not take longer as it grows. Can be deleted at any time.
CREATE TABLE IF NOT EXISTS snapshots (stream BLOB PRIMARY KEY, version INTEGER NOT NULL, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS handles (handle BLOB PRIMARY KEY, person BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (
    person BLOB PRIMARY KEY, login TEXT NOT NULL UNIQUE, password TEXT, role TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS credentials (
    digest BLOB PRIMARY KEY, principal BLOB NOT NULL, role TEXT NOT NULL, source TEXT, expires_at INTEGER, csrf TEXT
) WITHOUT ROWID;
-- How far something outside was read (a topic's partition) or told; and who may do what only one process may.
CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, token INTEGER NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class SqliteStore:
    """`engine.store.Store` on one SQLite file. One thread writes; any number read."""

    NEAR: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._data_version = -1
        self._head = self._committed = Head(0, 0)
        self._last: Row | None = None
        try:
            self._writer = self._connect(WRITER_CACHE_KIB)
            path.chmod(0o600)
            self._writer.executescript(SCHEMA)
            sql = "UPDATE meta SET value = ? WHERE key = 'schema_version' AND CAST(value AS INTEGER) < ?"
            self._writer.execute(sql, (SCHEMA_VERSION, int(SCHEMA_VERSION)))
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path} cannot be opened as a store: {error}") from error
        self._unmoved = 0
        self._enough = threading.Event()
        self._stopping = False
        self._checkpointer = threading.Thread(target=self._checkpoint, name="checkpointer", daemon=True)
        self._checkpointer.start()

    def _connect(self, cache_kib: int = READER_CACHE_KIB) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL, said explicitly: a build's default may be NORMAL, which loses acknowledged commits on power loss.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        # Moving the write-ahead log into the file is the checkpointer's work, beside the commits and not inside them.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    @property
    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            with self._readers_lock:
                self._readers.append(connection)
        return connection

    def _checkpoint(self) -> None:
        """Move committed pages from the write-ahead log into the file, whenever enough has been written."""
        connection = self._connect()
        while not self._stopping:
            self._enough.wait()
            self._enough.clear()
            with contextlib.suppress(sqlite3.Error):  # busy or out of space: it is tried again after the next commits
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        connection.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def head(self) -> Head:
        return self._head_of(self._reader)

    @staticmethod
    def _head_of(connection: sqlite3.Connection) -> Head:
        row = connection.execute("SELECT position, recorded_at FROM events ORDER BY position DESC LIMIT 1").fetchone()
        return Head(*row) if row else Head(0, 0)

    def log(self, after: int, limit: int, *, upto: int | None = None, types: Sequence[str] = ()) -> list[Row]:
        where, values = "position > ?", [after]
        if upto is not None:
            where, values = f"{where} AND position <= ?", [*values, upto]
        chosen: list[str] = list(types)
        if chosen:
            where = f"{where} AND type IN ({', '.join('?' * len(chosen))})"
        sql = f"SELECT {COLUMNS} FROM events WHERE {where} ORDER BY position LIMIT ?"
        return [Row(*row) for row in self._reader.execute(sql, [*values, *chosen, limit])]

    def stream(
        self, stream: bytes, *, after: int = 0, upto: int | None = None, newest_first: bool = False, limit: int | None = None
    ) -> list[Row]:
        return self._stream(self._reader, stream, after, upto, newest_first, limit)

    @staticmethod
    def _stream(
        connection: sqlite3.Connection, stream: bytes, after: int, upto: int | None, newest_first: bool, limit: int | None
    ) -> list[Row]:
        sql = f"SELECT {COLUMNS} FROM events WHERE stream = ? AND version > ? AND version <= ? ORDER BY version "
        sql += "DESC LIMIT ?" if newest_first else "LIMIT ?"
        values = (stream, after, 2**62 if upto is None else upto, -1 if limit is None else limit)
        return [Row(*row) for row in connection.execute(sql, values)]

    def position_at(self, instant: int) -> int:
        """By bisection: recorded_at never decreases along positions, so no index on it is needed."""
        low, high = 0, self.head().position
        while low < high:
            middle = (low + high + 1) // 2
            row = self._reader.execute(
                "SELECT position, recorded_at FROM events WHERE position <= ? ORDER BY position DESC LIMIT 1", (middle,)
            ).fetchone()
            if row is None or row[1] <= instant:
                low = middle
            else:
                high = middle - 1
        return low

    def at(self, position: int) -> Row | None:
        row = self._reader.execute(f"SELECT {COLUMNS} FROM events WHERE position = ?", (position,)).fetchone()
        return Row(*row) if row else None

    def body(self, digest: bytes) -> KeptBody | None:
        sql = "SELECT digest, length, key, sealed, recorded_at FROM bodies WHERE digest = ?"
        row = self._reader.execute(sql, (digest,)).fetchone()
        return KeptBody(*row) if row else None

    def due_timers(self, now: int, limit: int) -> list[DueTimer]:
        sql = "SELECT timer, owner, purpose, due_at FROM timers WHERE due_at <= ? ORDER BY due_at LIMIT ?"
        return [DueTimer(*row) for row in self._reader.execute(sql, (now, limit))]

    def next_due(self) -> int | None:
        row = self._reader.execute("SELECT min(due_at) FROM timers").fetchone()
        return None if row[0] is None else int(row[0])

    def credential(self, digest: bytes) -> Credential | None:
        sql = "SELECT principal, role, source, expires_at, csrf FROM credentials WHERE digest = ?"
        row = self._reader.execute(sql, (digest,)).fetchone()
        return Credential(*row) if row else None

    def account(self, handle: bytes) -> Account | None:
        sql = (
            "SELECT a.person, a.login, a.password, a.role FROM handles AS h JOIN accounts AS a ON a.person = h.person "
            "WHERE h.handle = ?"
        )
        row = self._reader.execute(sql, (handle,)).fetchone()
        return Account(*row) if row else None

    def account_of(self, person: bytes) -> Account | None:
        sql = "SELECT person, login, password, role FROM accounts WHERE person = ?"
        row = self._reader.execute(sql, (person,)).fetchone()
        return Account(*row) if row else None

    def accounts(self) -> list[Account]:
        sql = "SELECT person, login, password, role FROM accounts ORDER BY login"
        return [Account(*row) for row in self._reader.execute(sql)]

    def person(self, handle: bytes) -> bytes | None:
        return self._person(self._reader, handle)

    @staticmethod
    def _person(connection: sqlite3.Connection, handle: bytes) -> bytes | None:
        row = connection.execute("SELECT person FROM handles WHERE handle = ?", (handle,)).fetchone()
        return bytes(row[0]) if row else None

    def meta(self, key: str) -> str | None:
        row = self._reader.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def cursor(self, name: str) -> int | None:
        row = self._reader.execute("SELECT position FROM cursors WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else None

    # -- writing ---------------------------------------------------------------------------------------------------

    def _inside(self, action: Callable[[], T]) -> T:
        """Do something within the open transaction.

        A full disk or an I/O error makes SQLite roll the whole transaction back by itself; whatever followed would then be
        a transaction of its own each, and a part of the batch would pass for the whole.
        """
        if not self._writer.in_transaction:
            raise StoreUnavailable("the store cannot be written: it gave the transaction up")
        return self._guarded(action)

    @staticmethod
    def _guarded(action: Callable[[], T]) -> T:
        try:
            return action()
        except sqlite3.IntegrityError as error:
            raise AlreadyStored(str(error)) from error
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be written: {error}") from error

    def begin(self) -> tuple[Head, Sequence[tuple[int, bytes]] | None]:
        def take() -> tuple[Head, Sequence[tuple[int, bytes]] | None]:
            self._writer.execute("BEGIN IMMEDIATE")
            self._last = None
            version = self._writer.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                self._committed = self._head
                return self._head, None
            sql = "SELECT position, stream FROM events WHERE position > ? ORDER BY position"
            others = self._writer.execute(sql, (self._head.position,)).fetchall() if self._data_version != -1 else None
            self._data_version, self._head = version, self._head_of(self._writer)
            self._committed = self._head
            return self._head, others

        return self._guarded(take)

    def insert(self, rows: Sequence[Row]) -> None:
        sql = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._inside(lambda: self._writer.executemany(sql, rows))
        if rows:
            self._unmoved += len(rows)
            self._last = rows[-1]
            self._head = Head(self._last.position, self._last.recorded_at)

    def count(self, kind: str) -> int:
        row = self._one("SELECT last FROM counters WHERE kind = ?", (kind,))
        return int(row[0]) if row else 0

    def set_count(self, kind: str, last: int) -> None:
        sql = "INSERT INTO counters (kind, last) VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET last = excluded.last"
        self._execute(sql, (kind, last))

    def _execute(self, sql: str, values: Sequence[object]) -> None:
        self._inside(lambda: self._writer.execute(sql, values))

    def _one(self, sql: str, values: Sequence[object]) -> Sequence[Any] | None:
        """The first row, as the open transaction sees it."""
        row: Sequence[Any] | None = self._inside(lambda: self._writer.execute(sql, values).fetchone())
        return row

    def pending_stream(self, stream: bytes, *, after: int = 0, limit: int | None = None) -> list[Row]:
        return self._inside(lambda: self._stream(self._writer, stream, after, None, False, limit))

    def snapshot(self, stream: bytes) -> tuple[int, bytes] | None:
        row = self._one("SELECT version, state FROM snapshots WHERE stream = ?", (stream,))
        return (int(row[0]), row[1]) if row else None

    def keep_snapshot(self, stream: bytes, version: int, state: bytes) -> None:
        sql = (
            "INSERT INTO snapshots (stream, version, state) VALUES (?, ?, ?) "
            "ON CONFLICT (stream) DO UPDATE SET version = excluded.version, state = excluded.state"
        )
        self._execute(sql, (stream, version, state))

    def pending_at(self, positions: Sequence[int]) -> list[Row]:
        sql = f"SELECT {COLUMNS} FROM events WHERE position IN ({', '.join('?' * len(positions))}) ORDER BY position"
        return self._inside(lambda: [Row(*row) for row in self._writer.execute(sql, positions)])

    def pending_streams(self, streams: Sequence[bytes], limit: int) -> list[Row]:
        marks = ", ".join("?" * len(streams))
        sql = f"SELECT {COLUMNS} FROM events WHERE stream IN ({marks}) ORDER BY stream, version LIMIT ?"
        return self._inside(lambda: [Row(*row) for row in self._writer.execute(sql, [*streams, limit])])

    def known_bodies(self, digests: Sequence[bytes]) -> set[bytes]:
        sql = f"SELECT digest FROM bodies WHERE digest IN ({', '.join('?' * len(digests))})"
        return self._inside(lambda: {digest for (digest,) in self._writer.execute(sql, digests)})

    def keep_bodies(self, bodies: Sequence[KeptBody]) -> None:
        sql = "INSERT OR IGNORE INTO bodies (digest, length, key, sealed, recorded_at) VALUES (?, ?, ?, ?, ?)"
        self._inside(lambda: self._writer.executemany(sql, bodies))

    def rejected_bytes(self, source: str, day: str) -> int:
        sql = "SELECT bytes FROM rejected_bytes WHERE source = ? AND day = ?"
        row = self._one(sql, (source, day))
        return int(row[0]) if row else 0

    def add_rejected_bytes(self, source: str, day: str, length: int) -> None:
        sql = (
            "INSERT INTO rejected_bytes (source, day, bytes) VALUES (?, ?, ?) "
            "ON CONFLICT (source, day) DO UPDATE SET bytes = bytes + excluded.bytes"
        )
        self._execute(sql, (source, day, length))

    def set_timers(self, timers: Sequence[DueTimer]) -> None:
        sql = (
            "INSERT INTO timers (timer, owner, purpose, due_at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (timer) DO UPDATE SET purpose = excluded.purpose, due_at = excluded.due_at"
        )
        self._inside(lambda: self._writer.executemany(sql, timers))

    def clear_timers(self, timers: Sequence[bytes]) -> None:
        self._inside(lambda: self._writer.executemany("DELETE FROM timers WHERE timer = ?", [(timer,) for timer in timers]))

    def timer(self, timer: bytes) -> DueTimer | None:
        sql = "SELECT timer, owner, purpose, due_at FROM timers WHERE timer = ?"
        row = self._one(sql, (timer,))
        return DueTimer(*row) if row else None

    def answer(self, principal: str, route: str, key: str) -> Answer | None:
        sql = "SELECT request, status, headers, sealed FROM answers WHERE principal = ? AND route = ? AND key = ?"
        row = self._one(sql, (principal, route, key))
        return Answer(*row) if row else None

    def remember_answer(self, principal: str, route: str, key: str, answer: Answer, recorded_at: int) -> None:
        sql = (
            "INSERT INTO answers (principal, route, key, request, status, headers, sealed, recorded_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        self._execute(sql, (principal, route, key, *answer, recorded_at))

    def forget_answers(self, before: int) -> None:
        self._execute("DELETE FROM answers WHERE recorded_at < ?", (before,))

    def set_handle(self, handle: bytes, person: bytes) -> None:
        self._execute("INSERT INTO handles (handle, person) VALUES (?, ?)", (handle, person))

    def drop_handle(self, handle: bytes) -> None:
        self._execute("DELETE FROM handles WHERE handle = ?", (handle,))

    def pending_person(self, handle: bytes) -> bytes | None:
        return self._inside(lambda: self._person(self._writer, handle))

    def set_account(self, account: Account) -> None:
        sql = (
            "INSERT INTO accounts (person, login, password, role) VALUES (?, ?, ?, ?) ON CONFLICT (person) "
            "DO UPDATE SET login = excluded.login, password = excluded.password, role = excluded.role"
        )
        self._execute(sql, account)

    def set_credential(self, digest: bytes, credential: Credential) -> None:
        sql = "INSERT INTO credentials (digest, principal, role, source, expires_at, csrf) VALUES (?, ?, ?, ?, ?, ?)"
        self._execute(sql, (digest, *credential))

    def drop_credential(self, digest: bytes) -> None:
        self._execute("DELETE FROM credentials WHERE digest = ?", (digest,))

    def drop_expired(self, now: int) -> None:
        self._execute("DELETE FROM credentials WHERE expires_at < ?", (now,))

    def drop_sessions(self) -> None:
        self._execute("DELETE FROM credentials WHERE csrf IS NOT NULL", ())

    def set_meta(self, key: str, value: str) -> None:
        sql = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        self._execute(sql, (key, value))

    def drop_meta(self, key: str) -> None:
        self._execute("DELETE FROM meta WHERE key = ?", (key,))

    def try_room(self, size: int) -> None:
        self.set_meta("room", secrets.token_hex(size // 2))  # one file holds everything
        self.drop_meta("room")

    def set_cursor(self, name: str, position: int) -> None:
        sql = "INSERT INTO cursors (name, position) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET position = excluded.position"
        self._execute(sql, (name, position))

    def pending_cursor(self, name: str) -> int | None:
        row = self._one("SELECT position FROM cursors WHERE name = ?", (name,))
        return int(row[0]) if row else None

    def lease(self, name: str) -> Lease | None:
        row = self._one("SELECT holder, token, until FROM leases WHERE name = ?", (name,))
        return Lease(*row) if row else None

    def set_lease(self, name: str, lease: Lease) -> None:
        sql = (
            "INSERT INTO leases (name, holder, token, until) VALUES (?, ?, ?, ?) ON CONFLICT (name) "
            "DO UPDATE SET holder = excluded.holder, token = excluded.token, until = excluded.until"
        )
        self._execute(sql, (name, *lease))

    def commit(self) -> None:
        """Returns after the commit is on disk.

        Raises:
            StoreUnavailable: it is certain that nothing was stored.
        """
        if not self._writer.in_transaction:
            raise StoreUnavailable("the store cannot be written: it gave the transaction up")
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            if not self._landed():
                raise StoreUnavailable(f"the store cannot be written: {error}") from error
        self._unmoved += COMMIT_WEIGHT
        if self._unmoved >= CHECKPOINT_ROWS:
            self._unmoved = 0
            self._enough.set()

    def _landed(self) -> bool:
        """After a COMMIT that failed: did it happen all the same? Its last row is asked for, through a fresh connection.

        Not the head: another process may have written since, or have taken the position.
        """
        last = self._last
        with contextlib.suppress(sqlite3.Error):
            self._writer.execute("ROLLBACK")
        self._data_version = _ASK_AGAIN
        if last is None:
            return False
        try:
            fresh = self._connect()
            try:
                found = fresh.execute(f"SELECT {COLUMNS} FROM events WHERE position = ?", (last.position,)).fetchone()
            finally:
                fresh.close()
        except sqlite3.Error:
            return False
        return found is not None and Row(*found) == last

    def rollback(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        # The next `begin` tells what others wrote since the last commit; nothing of this transaction was.
        self._head, self._data_version = self._committed, _ASK_AGAIN

    def watch(self, told: Callable[[int], None]) -> None:
        """Nothing to be told by: a file says nothing."""

    def close(self) -> None:
        self._stopping = True
        self._enough.set()
        self._checkpointer.join()
        with self._readers_lock:
            for connection in self._readers:
                connection.close()
            self._readers.clear()
        self._writer.close()
