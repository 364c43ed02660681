"""A store's tables on PostgreSQL, read from one snapshot and filled by COPY, for `engine/transfer.py`.

Works on sessions of its own, so a pooler in transaction mode must not stand between where something is filled.
"""

import contextlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from engine.errors import StoreUnavailable
from engine.postgres import CONNECT_SECONDS
from engine.postgres_schema import NotMigrated, version_of
from engine.postgres_store import APPEND_LOCK, COLUMNS
from engine.store import SCHEMA_VERSION, Row
from engine.tables import FILLING, Table
from engine.transfer import CannotTransfer

Connection = psycopg.Connection[tuple[Any, ...]]

_NAME: Final = "tocsin copy"
# Two that fill the same database: the second one waits for so long, in case the first was killed just now.
_FILL_LOCK: Final = 0x746F63666C6C
_WAIT_SECONDS: Final = 10
_CHUNK: Final = 2_000
_ROUNDS: Final = 10  # of a fifth of a second, for the sessions of a server that was stopped just now


class PostgresTables:
    """`engine.tables.Target` on the schemas `ledger` and `keys`."""

    def __init__(self, connection: Connection, where: str) -> None:
        self.where = where
        self._connection = connection
        self._numbers = itertools.count(1)

    def _one(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        return self._connection.execute(sql, values, binary=True).fetchone()

    def meta(self, key: str) -> str | None:
        row = self._one("SELECT value FROM ledger.meta WHERE key = %s", (key,))
        return row[0] if row else None

    def last(self) -> Row | None:
        row = self._one(f"SELECT {COLUMNS} FROM ledger.events ORDER BY position DESC LIMIT 1")
        return Row(*row) if row else None

    def at(self, position: int) -> Row | None:
        row = self._one(f"SELECT {COLUMNS} FROM ledger.events WHERE position = %s", (position,))
        return Row(*row) if row else None

    def count(self, table: Table) -> int:
        row = self._one(f"SELECT count(*) FROM {_name(table)} WHERE {table.but}")
        return int(row[0]) if row else 0

    def rows(self, table: Table, *, after: int = 0) -> Iterator[Sequence[Any]]:
        where = f"position > {after:d}" if table.name == "events" else table.but
        types = dict(zip(table.names, table.types, strict=True))
        # By bytes, as SQLite does, whatever the database's own order of texts is.
        key = ", ".join(f'{name} COLLATE "C"' if types[name] == "text" else name for name in table.key)
        sql = f"SELECT {', '.join(table.names)} FROM {_name(table)} WHERE {where} ORDER BY {key}"
        with self._connection.transaction(), self._connection.cursor(f"rows{next(self._numbers)}", binary=True) as cursor:
            cursor.itersize = 200 if table.name == "bodies" else _CHUNK
            yield from cursor.execute(sql)

    def absent(self, table: Table, keys: Sequence[bytes]) -> set[bytes]:
        sql = f"SELECT {table.key[0]} FROM {_name(table)} WHERE {table.key[0]} = ANY(%s)"
        return set(keys) - {row[0] for row in self._connection.execute(sql, (list(keys),), binary=True)}

    def put(self, table: Table, rows: Collection[Sequence[Any]]) -> None:
        with self._committed():
            self._copy(table, rows)

    def replace(self, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        with self._committed():
            self._connection.execute(f"DELETE FROM {_name(table)} WHERE {table.but}")
            self._copy(table, rows)

    def remove(self, table: Table, keys: Sequence[bytes]) -> None:
        with self._committed():
            self._connection.execute(f"DELETE FROM {_name(table)} WHERE {table.key[0]} = ANY(%s)", (list(keys),))

    def _copy(self, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        sql = f"COPY {_name(table)} ({', '.join(table.names)}) FROM STDIN (FORMAT BINARY)"
        with self._connection.cursor() as cursor, cursor.copy(sql) as copy:
            copy.set_types(table.types)
            for row in rows:
                copy.write_row(row)

    @contextlib.contextmanager
    def _committed(self) -> Iterator[None]:
        with self._connection.transaction():
            self._connection.execute("SET LOCAL synchronous_commit = on")
            yield

    def begin(self, text: str) -> None:
        with self._committed():
            # A server that is making a store of it at this moment is either before us, and seen, or after us, and sees the mark.
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
            if self._one("SELECT 1 FROM ledger.meta WHERE key = 'store_id' UNION ALL (SELECT 1 FROM ledger.events LIMIT 1)") is not None:
                raise CannotTransfer(f"{self.where} has just become another store; give it an empty one")
            self._connection.execute("INSERT INTO ledger.meta (key, value) VALUES (%s, %s)", (FILLING, text))

    def finish(self) -> None:
        with self._committed():
            self._connection.execute("DELETE FROM ledger.meta WHERE key = %s", (FILLING,))


def _name(table: Table) -> str:
    return f"{'keys' if table.keys else 'ledger'}.{table.name}"


@contextlib.contextmanager
def snapshot(address: str) -> Iterator[PostgresTables]:
    """The tables as they stand at one moment, beside whoever works on them.

    Raises:
        NotMigrated: they are not there.
        StoreUnavailable: the database cannot be reached, or goes away.
    """
    with _told(), _connected(address) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            yield PostgresTables(connection, where(address))


@contextlib.contextmanager
def held(address: str) -> Iterator[PostgresTables]:
    """The tables of a store that no process has open; nobody can append to it meanwhile.

    Raises:
        CannotTransfer: a process has it open.
        NotMigrated, StoreUnavailable: as `snapshot`.
    """
    must_be_closed(address)
    with _told(), _connected(address) as keeper:
        keeper.autocommit = True
        _lock(keeper, APPEND_LOCK, f"another process is writing to {where(address)}; stop it first")
        with snapshot(address) as tables:
            yield tables


def must_be_closed(address: str) -> None:
    """See that no process has the store open.

    Raises:
        CannotTransfer: one has.
    """
    sql = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'tocsin%%' "
        "AND application_name <> %s"
    )
    with _told(), _connected(address) as connection:
        connection.autocommit = True
        for _ in range(_ROUNDS):
            if not (open_now := connection.execute(sql, (_NAME,)).fetchall()):
                return
            connection.execute("SELECT pg_sleep(0.2)")
    raise CannotTransfer(
        f"another process has {where(address)} open ({len(open_now)} sessions of Tocsin); stop it first (a server, a worker, a command)"
    )


@contextlib.contextmanager
def filled(address: str) -> Iterator[PostgresTables]:
    """The tables of a database that is being filled, by us alone.

    Raises:
        CannotTransfer: somebody else is filling it.
        NotMigrated, StoreUnavailable: as `snapshot`.
    """
    with _told(), _connected(address) as connection:
        connection.autocommit = True
        _lock(connection, _FILL_LOCK, f"{where(address)} is being filled by another process")
        yield PostgresTables(connection, where(address))


def _lock(connection: Connection, number: int, otherwise: str) -> None:
    """For the whole session; one that ends, however it ends, gives it back."""
    connection.execute(f"SET lock_timeout = '{_WAIT_SECONDS}s'")
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (number,))
    except psycopg.errors.LockNotAvailable:
        raise CannotTransfer(otherwise) from None
    connection.execute("SET lock_timeout = 0")


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Connection]:
    connection = psycopg.connect(address, connect_timeout=CONNECT_SECONDS, application_name=_NAME, prepare_threshold=None)
    with contextlib.closing(connection):
        version = version_of(connection)
        connection.rollback()
        if version != SCHEMA_VERSION:
            raise NotMigrated(f"the database is at schema {version or 'none'}, this Tocsin needs {SCHEMA_VERSION}: run tocsin migrate --tables")
        yield connection


def where(address: str) -> str:
    """What a database is called in messages: without the password."""
    return f"the database {conninfo_to_dict(address).get('dbname', '')}"


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise StoreUnavailable(f"the database cannot be used: {str(error).partition(chr(10))[0]}") from error
