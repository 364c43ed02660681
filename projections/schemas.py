"""Views on PostgreSQL: a generation is a schema (`views_1`, `views_2`, …), and a row of `views.present` says which one is the present.

The projections write SQLite's SQL; what differs is put right here, statement by statement and once: names of types and of bound
values, and a few clauses. So there is one text of each question, and a test that answers are the same on both.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import psycopg
from psycopg import ClientCursor, sql
from psycopg.adapt import Dumper
from psycopg.pq import TransactionStatus

from engine.errors import StoreUnavailable
from projections.connection import Connection, Cursor, Values

T = TypeVar("T")

CONNECT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 60
PRESENT_SECONDS: Final = 1.0
_BUILD_LOCK: Final = 0x746F6373766273
_PRESENT: Final = "CREATE TABLE IF NOT EXISTS views.present (one boolean PRIMARY KEY DEFAULT true CHECK (one), generation integer NOT NULL)"

_TOKEN: Final = re.compile(r"('(?:[^']|'')*')|(::)|:([A-Za-z_]\w*)|(\?)|(%)|\b(INDEXED BY \w+)|\b(WITHOUT ROWID)|\b(BLOB|INTEGER|REAL|TEXT)\b|(--[^\n]*)")
_TYPES: Final = {"BLOB": "bytea", "INTEGER": "bigint", "REAL": "double precision", "TEXT": 'text COLLATE "C"'}


@cache
def translated(statement: str) -> str:
    """SQLite's statement as PostgreSQL takes it, with psycopg's marks for bound values."""
    defines = statement.lstrip().startswith("CREATE TABLE")

    def put(found: re.Match[str]) -> str:
        text, cast, name, mark, percent, indexed, rowid, type_, comment = found.groups()
        if text is not None:
            return str(text).replace("%", "%%")
        if cast is not None:
            return "::"
        if name is not None:
            return f"%({name})s"
        if mark is not None:
            return "%s"
        if percent is not None:
            return "%%"
        if indexed is not None or rowid is not None or comment is not None:
            return ""
        return _TYPES[type_] if defines else str(type_)

    result = _TOKEN.sub(put, statement)
    if "INSERT OR IGNORE" in result:
        result = result.replace("INSERT OR IGNORE", "INSERT") + " ON CONFLICT DO NOTHING"
    return result


class _Flag(Dumper):
    """SQLite has no booleans: they are 0 and 1 in every column."""

    def dump(self, obj: Any) -> bytes:
        return b"1" if obj else b"0"

    def quote(self, obj: Any) -> bytes:
        return self.dump(obj)


class _Text(Dumper):
    """PostgreSQL's text holds no NUL; SQLite's does, and pages show it as this symbol."""

    def dump(self, obj: Any) -> bytes:
        return str(obj).replace("\x00", "␀").encode("utf-8", "replace")


class Schema:
    """A connection that works in one generation; a `projections.connection.Connection`.

    Values are put into the statement by the client: the server could not tell the type of one that is only compared with NULL.
    """

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]", begin: str) -> None:
        self._connection, self._begin = connection, begin
        connection.adapters.register_dumper(bool, _Flag)

    @property
    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status is not TransactionStatus.IDLE

    def execute(self, statement: str, values: Values = (), /) -> Cursor:
        if statement.startswith("BEGIN"):
            return self._do(lambda: self._connection.execute(self._begin))
        if not values:
            # Sent as it stands, percent signs included.
            return self._do(lambda: self._connection.execute(translated(statement).replace("%%", "%")))
        return self._do(lambda: self._connection.execute(translated(statement), _bare(values)))

    def executemany(self, statement: str, rows: Iterable[Values], /) -> Cursor:
        # Bound on the server: prepared once, and all rows go in one stream.
        def put() -> Cursor:
            cursor = psycopg.Cursor(self._connection)
            cursor.executemany(translated(statement), [_bare(row) for row in rows])
            return cursor

        return self._do(put)

    @staticmethod
    def _do(action: Callable[[], T]) -> T:
        try:
            return action()
        except psycopg.OperationalError as error:
            raise StoreUnavailable(f"the views cannot be used: {str(error).partition(chr(10))[0]}") from error

    def close(self) -> None:
        self._connection.close()


def _bare(values: Values) -> Values:
    """Without the NULs of its texts."""
    if isinstance(values, Mapping):
        return {name: _without_nul(value) for name, value in values.items()}
    return [_without_nul(value) for value in values]


def _without_nul(value: Any) -> Any:
    return value.replace("\x00", "␀") if isinstance(value, str) and "\x00" in value else value


class Schemas:
    """`projections.place.Place` in one database."""

    def __init__(self, address: str, *, pooled: bool = False) -> None:
        self._address, self._pooled = address, pooled
        self._seen = (0, 0.0)
        with self._open() as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS views") if not _has_views(connection) else None
            connection.execute(_PRESENT)

    def _open(self) -> "psycopg.Connection[tuple[Any, ...]]":
        try:
            return psycopg.connect(
                self._address, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="tocsin views",
                cursor_factory=ClientCursor, prepare_threshold=None if self._pooled else 5,
            )
        except psycopg.Error as error:
            raise StoreUnavailable(f"the database cannot be reached: {str(error).partition(chr(10))[0]}") from error

    def present(self) -> int:
        # Asked for each page. A switch is seen a second late, and the generation before it is kept that long and longer.
        generation, until = self._seen
        if time.monotonic() < until:
            return generation
        with self._open() as connection:
            row = connection.execute("SELECT generation FROM views.present").fetchone()
        self._seen = (int(row[0]) if row else 0, time.monotonic() + PRESENT_SECONDS)
        return self._seen[0]

    def switch(self, generation: int) -> None:
        with self._open() as connection:
            connection.execute(
                "INSERT INTO views.present (generation) VALUES (%s) ON CONFLICT (one) DO UPDATE SET generation = excluded.generation",
                (generation,),
            )
        self._seen = (generation, time.monotonic() + PRESENT_SECONDS)

    def generations(self) -> list[int]:
        with self._open() as connection:
            rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^views_[0-9]+$'").fetchall()
        return sorted(int(name.removeprefix("views_")) for (name,) in rows)

    def writer(self, generation: int) -> Connection:
        connection = self._open()
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(f"views_{generation}")))
        begin = (
            f"BEGIN; SET LOCAL search_path = views_{generation}; SET LOCAL synchronous_commit = off; "
            f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'; SELECT pg_advisory_xact_lock(hashtext('views_{generation}'))"
        )
        return Schema(connection, begin)

    def reader(self, generation: int) -> Connection | None:
        connection = self._open()
        there = connection.execute("SELECT to_regnamespace(%s)", (f"views_{generation}",)).fetchone()
        if there is None or there[0] is None:
            connection.close()
            return None
        return Schema(connection, f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = views_{generation}")

    def copy(self, generation: int, target: int) -> None:
        with self._open() as connection, connection.transaction():
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(f"views_{target}")))
            connection.execute(f"SET LOCAL search_path = views_{generation}")
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (f"views_{generation}",)).fetchall()
            for (table,) in tables:
                here, there = sql.Identifier(f"views_{generation}", table), sql.Identifier(f"views_{target}", table)
                connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(there, here))
                connection.execute(sql.SQL("INSERT INTO {} SELECT * FROM {}").format(there, here))

    def remove(self, generation: int) -> None:
        with self._open() as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(f"views_{generation}")))

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        # Of a transaction, so that it is the same behind a pooler.
        with self._open() as connection, connection.transaction():
            row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_BUILD_LOCK,)).fetchone()
            yield bool(row and row[0])

    def columns(self, connection: Connection, table: str) -> list[str]:
        rows: Sequence[tuple[str]] = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            {"name": table},
        ).fetchall()
        return [name for (name,) in rows]


def _has_views(connection: "psycopg.Connection[tuple[Any, ...]]") -> bool:
    row = connection.execute("SELECT to_regnamespace('views')").fetchone()
    return row is not None and row[0] is not None
