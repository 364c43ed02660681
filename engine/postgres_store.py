"""The ledger's database on PostgreSQL: schema `ledger`, every commit synced to disk.

The append lock is an advisory lock of the transaction, so it ends with it whatever happens to its holder. Whoever takes it reads
the head, and where that has moved, the streams that others wrote: what is remembered of them is void (decision 0002).
Positions are given out by the holder of the lock and no sequence is asked, so the log has no holes from here.

The tables are made by `engine/postgres_schema.py`, and only by it.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from engine.errors import StoreUnavailable
from engine.postgres import STATEMENT_SECONDS, Connection, Pool, options, said
from engine.postgres_listener import CHANNEL, Listener
from engine.postgres_schema import NotMigrated, version_of
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

# What the append lock is called in this database; the number says nothing ("tocsin" in ASCII).
APPEND_LOCK: Final = 0x746F6373696E
READERS: Final = 8
# From so many rows on a COPY is faster than an INSERT, in spite of its three round trips.
LEAST_COPIED: Final = 24

COLUMNS: Final = "position, stream, version, type, state, recorded_at, actor, correlation, cause"
_TYPES: Final = ("int8", "bytea", "int4", "text", "bytea", "int8", "text", "bytea", "text")
_BEGIN: Final = (
    f"BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'; "
    f"SELECT pg_advisory_xact_lock({APPEND_LOCK}); "
    "SELECT position, recorded_at FROM ledger.events ORDER BY position DESC LIMIT 1"
)
_NEVER: Final = Head(-1, 0)
_COPY: Final = f"COPY ledger.events ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
_INSERT: Final = f"INSERT INTO ledger.events ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"

_KEEP: Final = "INSERT INTO ledger.bodies (digest, length, key, sealed, recorded_at) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
# What `try_room` writes stands where no log comes, in rows of which a page holds four: longer ones are kept apart.
_ROOM, _ROOM_STREAM, _INLINE = 2**62, b"room", 1_800


class PostgresStore:
    """`engine.store.Store` on a PostgreSQL database. One thread writes; any number read, over a pool of their own."""

    NEAR: ClassVar[bool] = False

    def __init__(self, address: str, *, pooled: bool = False) -> None:
        """
        Args:
            address: `postgresql://…`.
            pooled: a pooler in transaction mode stands between, so nothing may be kept in a session.
        """
        self._address, self._pooled = address, pooled
        self._known = _NEVER
        self._last: Row | None = None
        # Writes that nobody has told the database yet: (statement, values, or values of each row). They go with the next question, or the commit.
        self._untold: list[tuple[str, Sequence[Any], bool]] = []
        self._connection: Connection | None = None
        self._listener: Listener | None = None
        self._pool = Pool(address, name="tocsin readers", pooled=pooled, most=READERS)
        try:
            self._connection = self._connect()
            version = version_of(self._connection)
        except psycopg.Error as error:
            self._pool.close()
            raise StoreUnavailable(f"the database cannot be reached: {said(error)}") from error
        if version != SCHEMA_VERSION:
            self.close()
            raise NotMigrated(f"the database is at schema {version or 'none'}, this Tocsin needs {SCHEMA_VERSION}: run tocsin migrate")

    def _connect(self) -> Connection:
        return Connection.connect(self._address, **options(name="tocsin", pooled=self._pooled))

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read(self, question: Callable[[Connection], T]) -> T:
        return self._pool.ask(question, "the store cannot be read")

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._read(lambda connection: _ask(connection, sql, values).fetchall())

    def _row(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        return self._read(lambda connection: _ask(connection, sql, values).fetchone())

    def head(self) -> Head:
        row = self._row("SELECT position, recorded_at FROM ledger.events ORDER BY position DESC LIMIT 1")
        return Head(*row) if row else Head(0, 0)

    def log(self, after: int, limit: int, *, upto: int | None = None, types: Sequence[str] = ()) -> list[Row]:
        where, values = "position > %s", list[object]((after,))
        if upto is not None:
            where, values = f"{where} AND position <= %s", [*values, upto]
        if types:
            where, values = f"{where} AND type = ANY(%s)", [*values, list(types)]
        found = self._rows(f"SELECT {COLUMNS} FROM ledger.events WHERE {where} ORDER BY position LIMIT %s", [*values, limit])
        return [Row(*row) for row in found]

    def stream(
        self, stream: bytes, *, after: int = 0, upto: int | None = None, newest_first: bool = False, limit: int | None = None
    ) -> list[Row]:
        return [Row(*row) for row in self._rows(*_stream(stream, after, upto, newest_first, limit))]

    def position_at(self, instant: int) -> int:
        """By bisection: recorded_at never decreases along positions, so no index on it is needed."""

        def bisect(connection: Connection) -> int:
            top = _ask(connection, "SELECT max(position) FROM ledger.events").fetchone()
            low, high = 0, (top and top[0]) or 0
            sql = "SELECT recorded_at FROM ledger.events WHERE position <= %s ORDER BY position DESC LIMIT 1"
            while low < high:
                middle = (low + high + 1) // 2
                row = _ask(connection, sql, (middle,)).fetchone()
                if row is None or row[0] <= instant:
                    low = middle
                else:
                    high = middle - 1
            return low

        return self._read(bisect)

    def at(self, position: int) -> Row | None:
        row = self._row(f"SELECT {COLUMNS} FROM ledger.events WHERE position = %s", (position,))
        return Row(*row) if row else None

    def body(self, digest: bytes) -> KeptBody | None:
        row = self._row("SELECT digest, length, key, sealed, recorded_at FROM ledger.bodies WHERE digest = %s", (digest,))
        return KeptBody(*row) if row else None

    def due_timers(self, now: int, limit: int) -> list[DueTimer]:
        sql = "SELECT timer, owner, purpose, due_at FROM ledger.timers WHERE due_at <= %s ORDER BY due_at LIMIT %s"
        return [DueTimer(*row) for row in self._rows(sql, (now, limit))]

    def next_due(self) -> int | None:
        row = self._row("SELECT min(due_at) FROM ledger.timers")
        return row[0] if row else None

    def credential(self, digest: bytes) -> Credential | None:
        row = self._row("SELECT principal, role, source, expires_at, csrf FROM ledger.credentials WHERE digest = %s", (digest,))
        return Credential(*row) if row else None

    def account(self, handle: bytes) -> Account | None:
        sql = (
            "SELECT a.person, a.login, a.password, a.role FROM ledger.handles AS h JOIN ledger.accounts AS a ON a.person = h.person "
            "WHERE h.handle = %s"
        )
        row = self._row(sql, (handle,))
        return Account(*row) if row else None

    def account_of(self, person: bytes) -> Account | None:
        row = self._row("SELECT person, login, password, role FROM ledger.accounts WHERE person = %s", (person,))
        return Account(*row) if row else None

    def accounts(self) -> list[Account]:
        return [Account(*row) for row in self._rows("SELECT person, login, password, role FROM ledger.accounts ORDER BY login")]

    def person(self, handle: bytes) -> bytes | None:
        row = self._row("SELECT person FROM ledger.handles WHERE handle = %s", (handle,))
        return row[0] if row else None

    def meta(self, key: str) -> str | None:
        row = self._row("SELECT value FROM ledger.meta WHERE key = %s", (key,))
        return row[0] if row else None

    def cursor(self, name: str) -> int | None:
        row = self._row("SELECT position FROM ledger.cursors WHERE name = %s", (name,))
        return int(row[0]) if row else None

    # -- writing ---------------------------------------------------------------------------------------------------

    def begin(self) -> tuple[Head, Sequence[tuple[int, bytes]] | None]:
        def take() -> tuple[Head, Sequence[tuple[int, bytes]] | None]:
            self._untold.clear()
            connection = self._writer()
            cursor = connection.execute(_BEGIN)  # without values: all of it goes in one question
            while cursor.nextset():
                pass
            row = cursor.fetchone()
            head = Head(*row) if row else Head(0, 0)
            known, self._known, self._last = self._known, head, None
            if known in (head, _NEVER):
                return head, None
            others = _ask(connection, "SELECT position, stream FROM ledger.events WHERE position > %s ORDER BY position", (known.position,))
            return head, [(position, stream) for position, stream in others.fetchall()]

        return self._guarded(take)

    def _writer(self) -> Connection:
        connection = self._connection
        if connection is None or connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
            self._drop()
            connection = self._connection = self._connect()
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        """Where the open transaction is; after a fault in it there is none, and nothing of it may pass for the whole."""
        connection = self._connection
        if connection is None or connection.closed or connection.info.transaction_status is not TransactionStatus.INTRANS:
            raise StoreUnavailable("the store cannot be written: the transaction was given up")
        return connection

    def _inside(self, action: Callable[[Connection], T]) -> T:
        """Do something within the open transaction."""
        connection = self._open()
        return self._guarded(lambda: action(connection))

    @staticmethod
    def _guarded(action: Callable[[], T]) -> T:
        try:
            return action()
        except psycopg.IntegrityError as error:
            raise AlreadyStored(said(error)) from error
        except psycopg.Error as error:
            raise StoreUnavailable(f"the store cannot be written: {said(error)}") from error

    def insert(self, rows: Sequence[Row]) -> None:
        def copy(connection: Connection) -> None:
            with connection.cursor() as cursor, cursor.copy(_COPY) as target:
                target.set_types(_TYPES)
                for row in rows:
                    target.write_row(row)

        if len(rows) < LEAST_COPIED:
            self._execute_many(_INSERT, rows)
        else:
            self._inside(copy)
        if rows:
            self._last = rows[-1]

    def _execute(self, sql: str, values: Sequence[object]) -> None:
        self._untold.append((sql, values, False))

    def _execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        if rows:
            self._untold.append((sql, rows, True))

    @contextlib.contextmanager
    def _together(self, connection: Connection) -> Iterator[None]:
        """What nobody has told the database yet, and what is said inside, in one message; a fault of either is raised at its end."""
        untold, self._untold = self._untold, []
        with connection.pipeline(), connection.cursor() as cursor:
            for sql, values, many in untold:
                if many:
                    cursor.executemany(sql, values)
                else:
                    cursor.execute(sql, values)
            yield

    def _asked(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Rows, as the open transaction sees them."""

        def ask(connection: Connection) -> list[tuple[Any, ...]]:
            if not self._untold:
                return _ask(connection, sql, values).fetchall()
            with self._together(connection):
                cursor = _ask(connection, sql, values)
            return cursor.fetchall()

        return self._inside(ask)

    def _one(self, sql: str, values: Sequence[object]) -> tuple[Any, ...] | None:
        """The first row, as the open transaction sees it."""
        rows = self._asked(sql, values)
        return rows[0] if rows else None

    def count(self, kind: str) -> int:
        row = self._one("SELECT last FROM ledger.counters WHERE kind = %s", (kind,))
        return int(row[0]) if row else 0

    def set_count(self, kind: str, last: int) -> None:
        sql = "INSERT INTO ledger.counters (kind, last) VALUES (%s, %s) ON CONFLICT (kind) DO UPDATE SET last = excluded.last"
        self._execute(sql, (kind, last))

    def pending_stream(self, stream: bytes, *, after: int = 0, limit: int | None = None) -> list[Row]:
        return [Row(*row) for row in self._asked(*_stream(stream, after, None, False, limit))]

    def pending_at(self, positions: Sequence[int]) -> list[Row]:
        sql = f"SELECT {COLUMNS} FROM ledger.events WHERE position = ANY(%s) ORDER BY position"
        return [Row(*row) for row in self._asked(sql, (list(positions),))]

    def pending_streams(self, streams: Sequence[bytes], limit: int) -> list[Row]:
        sql = f"SELECT {COLUMNS} FROM ledger.events WHERE stream = ANY(%s) ORDER BY stream, version LIMIT %s"
        return [Row(*row) for row in self._asked(sql, (list(streams), limit))]

    def snapshot(self, stream: bytes) -> tuple[int, bytes] | None:
        row = self._one("SELECT version, state FROM ledger.snapshots WHERE stream = %s", (stream,))
        return (int(row[0]), row[1]) if row else None

    def keep_snapshot(self, stream: bytes, version: int, state: bytes) -> None:
        sql = (
            "INSERT INTO ledger.snapshots (stream, version, state) VALUES (%s, %s, %s) "
            "ON CONFLICT (stream) DO UPDATE SET version = excluded.version, state = excluded.state"
        )
        self._execute(sql, (stream, version, state))

    def known_bodies(self, digests: Sequence[bytes]) -> set[bytes]:
        sql = "SELECT digest FROM ledger.bodies WHERE digest = ANY(%s)"
        return {digest for (digest,) in self._asked(sql, (list(digests),))}

    def keep_bodies(self, bodies: Sequence[KeptBody]) -> None:
        self._execute_many(_KEEP, bodies)

    def rejected_bytes(self, source: str, day: str) -> int:
        row = self._one("SELECT bytes FROM ledger.rejected_bytes WHERE source = %s AND day = %s", (source, day))
        return int(row[0]) if row else 0

    def add_rejected_bytes(self, source: str, day: str, length: int) -> None:
        sql = (
            "INSERT INTO ledger.rejected_bytes AS kept (source, day, bytes) VALUES (%s, %s, %s) "
            "ON CONFLICT (source, day) DO UPDATE SET bytes = kept.bytes + excluded.bytes"
        )
        self._execute(sql, (source, day, length))

    def set_timers(self, timers: Sequence[DueTimer]) -> None:
        sql = (
            "INSERT INTO ledger.timers (timer, owner, purpose, due_at) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (timer) DO UPDATE SET purpose = excluded.purpose, due_at = excluded.due_at"
        )
        self._execute_many(sql, timers)

    def clear_timers(self, timers: Sequence[bytes]) -> None:
        if timers:
            self._execute("DELETE FROM ledger.timers WHERE timer = ANY(%s)", (list(timers),))

    def timer(self, timer: bytes) -> DueTimer | None:
        row = self._one("SELECT timer, owner, purpose, due_at FROM ledger.timers WHERE timer = %s", (timer,))
        return DueTimer(*row) if row else None

    def answer(self, principal: str, route: str, key: str) -> Answer | None:
        sql = "SELECT request, status, headers, sealed FROM ledger.answers WHERE principal = %s AND route = %s AND key = %s"
        row = self._one(sql, (principal, route, key))
        return Answer(*row) if row else None

    def remember_answer(self, principal: str, route: str, key: str, answer: Answer, recorded_at: int) -> None:
        sql = (
            "INSERT INTO ledger.answers (principal, route, key, request, status, headers, sealed, recorded_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
        )
        self._execute(sql, (principal, route, key, *answer, recorded_at))

    def forget_answers(self, before: int) -> None:
        self._execute("DELETE FROM ledger.answers WHERE recorded_at < %s", (before,))

    def set_handle(self, handle: bytes, person: bytes) -> None:
        self._execute("INSERT INTO ledger.handles (handle, person) VALUES (%s, %s)", (handle, person))

    def drop_handle(self, handle: bytes) -> None:
        self._execute("DELETE FROM ledger.handles WHERE handle = %s", (handle,))

    def pending_person(self, handle: bytes) -> bytes | None:
        row = self._one("SELECT person FROM ledger.handles WHERE handle = %s", (handle,))
        return row[0] if row else None

    def set_account(self, account: Account) -> None:
        sql = (
            "INSERT INTO ledger.accounts (person, login, password, role) VALUES (%s, %s, %s, %s) ON CONFLICT (person) "
            "DO UPDATE SET login = excluded.login, password = excluded.password, role = excluded.role"
        )
        self._execute(sql, account)

    def set_credential(self, digest: bytes, credential: Credential) -> None:
        sql = "INSERT INTO ledger.credentials (digest, principal, role, source, expires_at, csrf) VALUES (%s, %s, %s, %s, %s, %s)"
        self._execute(sql, (digest, *credential))

    def drop_credential(self, digest: bytes) -> None:
        self._execute("DELETE FROM ledger.credentials WHERE digest = %s", (digest,))

    def drop_expired(self, now: int) -> None:
        self._execute("DELETE FROM ledger.credentials WHERE expires_at < %s", (now,))

    def drop_sessions(self) -> None:
        self._execute("DELETE FROM ledger.credentials WHERE csrf IS NOT NULL", ())

    def set_meta(self, key: str, value: str) -> None:
        sql = "INSERT INTO ledger.meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        self._execute(sql, (key, value))

    def drop_meta(self, key: str) -> None:
        self._execute("DELETE FROM ledger.meta WHERE key = %s", (key,))

    def try_room(self, size: int) -> None:
        def put(connection: Connection) -> None:
            # Each table grows in files of its own, of which one may have no room while others do.
            with connection.transaction(force_rollback=True):
                for number, part in enumerate(range(0, size, _INLINE)):
                    row = Row(_ROOM + number, _ROOM_STREAM, number, "room", secrets.token_bytes(min(_INLINE, size - part)), 0, "", b"", None)
                    connection.execute(_INSERT, row)
                connection.execute(_INSERT, Row(_ROOM - 1, _ROOM_STREAM, -1, "room", secrets.token_bytes(size), 0, "", b"", None))
                connection.execute(_KEEP, KeptBody(_ROOM_STREAM, size, b"", secrets.token_bytes(size), 0))

        self._inside(put)

    def set_cursor(self, name: str, position: int) -> None:
        sql = "INSERT INTO ledger.cursors (name, position) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET position = excluded.position"
        self._execute(sql, (name, position))

    def pending_cursor(self, name: str) -> int | None:
        row = self._one("SELECT position FROM ledger.cursors WHERE name = %s", (name,))
        return int(row[0]) if row else None

    def lease(self, name: str) -> Lease | None:
        row = self._one("SELECT holder, token, until FROM ledger.leases WHERE name = %s", (name,))  # under the append lock, as all that writes it
        return Lease(*row) if row else None

    def set_lease(self, name: str, lease: Lease) -> None:
        sql = (
            "INSERT INTO ledger.leases (name, holder, token, until) VALUES (%s, %s, %s, %s) ON CONFLICT (name) "
            "DO UPDATE SET holder = excluded.holder, token = excluded.token, until = excluded.until"
        )
        self._execute(sql, (name, *lease))

    def commit(self) -> None:
        """Returns after the commit is on disk.

        Raises:
            StoreUnavailable: nothing was stored; or the database went away in between and cannot say.
        """
        connection, last = self._open(), self._last
        try:
            with self._together(connection):
                if last is not None:
                    connection.execute(f"SELECT pg_notify('{CHANNEL}', '{last.position}')")
                cursor = connection.execute("COMMIT")
            # A COMMIT after a fault is answered by ROLLBACK, and that is no error.
            if cursor.statusmessage != "COMMIT":
                raise StoreUnavailable("the store cannot be written: the database rolled it back")
        except psycopg.IntegrityError as error:
            raise AlreadyStored(said(error)) from error
        except psycopg.Error as error:
            # Where it stopped at a fault before its end, it did not happen.
            if connection.info.transaction_status is TransactionStatus.INERROR or not self._landed():
                raise StoreUnavailable(f"the store cannot be written: {said(error)}") from error
        if last is not None:
            self._known = Head(last.position, last.recorded_at)

    def _landed(self) -> bool:
        """After a COMMIT that failed: did it happen all the same?

        Asked under the append lock, which the lost transaction holds as long as it may still come true.
        """
        last = self._last
        self._drop()
        if last is None:
            return False
        try:
            with self._connect() as connection, connection.transaction():
                connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
                found = _ask(connection, f"SELECT {COLUMNS} FROM ledger.events WHERE position = %s", (last.position,)).fetchone()
        except psycopg.Error:
            return False
        return found is not None and Row(*found) == last

    def rollback(self) -> None:
        self._untold.clear()
        connection = self._connection
        if connection is not None and not connection.closed and connection.info.transaction_status is not TransactionStatus.IDLE:
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error:
                self._drop()

    def watch(self, told: Callable[[int], None]) -> None:
        if not self._pooled:
            self._listener = Listener(self._address, told)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.stop()
        self._drop()
        self._pool.close()


def _ask(connection: Connection, sql: str, values: Sequence[object] = ()) -> "psycopg.Cursor[tuple[Any, ...]]":
    return connection.execute(sql, values, binary=True)


def _stream(stream: bytes, after: int, upto: int | None, newest_first: bool, limit: int | None) -> tuple[str, Sequence[object]]:
    """The question for rows of a stream, and its values."""
    sql = f"SELECT {COLUMNS} FROM ledger.events WHERE stream = %s AND version > %s AND version <= %s ORDER BY version"
    sql += " DESC LIMIT %s" if newest_first else " LIMIT %s"
    return sql, (stream, after, 2**31 - 1 if upto is None else upto, limit)
