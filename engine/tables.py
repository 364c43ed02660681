"""The tables of a store by name, the same on every database: what a copy of a store is made of, and its digest.

Each database's own statements make them (`engine/sqlite_store.py`, `engine/postgres_schema.py`); a test holds the three together.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from engine.canonical import digest_of
from engine.store import Row

# In `meta` of a store that is being filled: nothing opens it then (`engine/transfer.py`).
FILLING: Final = "filling"


class Kind(StrEnum):
    """How a table changes, which says how an interrupted copy of it goes on."""

    LOG = "log"            # by position, only ever longer
    GROWING = "growing"    # a row never changes as long as it is there
    CHANGING = "changing"


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        columns: "name type, …", types in PostgreSQL's words.
        key: columns that tell a row from the others; rows are compared in their order, bytes and text by bytes.
        keys: it is of the vault, not of the log.
        but: rows that belong to the database and not to the store, as a condition that leaves them out.
    """

    name: str
    columns: str
    key: tuple[str, ...]
    kind: Kind = Kind.CHANGING
    keys: bool = False
    but: str = "TRUE"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.split()[0] for column in self.columns.split(", "))

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(column.split()[1] for column in self.columns.split(", "))


TABLES: Final = (
    # Before the log, as they were made: no event is there without its key.
    Table("keys", "id bytea, wrapped bytea", ("id",), Kind.GROWING, keys=True),
    Table("bodies", "digest bytea, length int8, key bytea, sealed bytea, recorded_at int8", ("digest",), Kind.GROWING),
    Table(
        "events",
        "position int8, stream bytea, version int4, type text, state bytea, recorded_at int8, actor text, correlation bytea, cause text",
        ("position",), Kind.LOG,
    ),
    Table("counters", "kind text, last int8", ("kind",)),
    Table("rejected_bytes", "source text, day text, bytes int8", ("source", "day")),
    Table("timers", "timer bytea, owner bytea, purpose text, due_at int8", ("timer",)),
    Table(
        "answers", "principal text, route text, key text, request bytea, status int4, headers text, sealed bytea, recorded_at int8",
        ("principal", "route", "key"),
    ),
    Table("snapshots", "stream bytea, version int4, state bytea", ("stream",)),
    Table("handles", "handle bytea, person bytea", ("handle",)),
    Table("accounts", "person bytea, login text, password text, role text", ("person",)),
    Table("credentials", "digest bytea, principal bytea, role text, source text, expires_at int8, csrf text", ("digest",)),
    Table("cursors", "name text, position int8", ("name",)),
    Table("meta", "key text, value text", ("key",), but=f"key NOT IN ('schema_version', '{FILLING}')"),
)
LOG_TABLES: Final = tuple(table for table in TABLES if not table.keys)
KEY_TABLES: Final = tuple(table for table in TABLES if table.keys)
# Who does what at this moment: means nothing in a copy.
LEFT_OUT: Final = ("leases",)

# (what is being done, done, in all)
Tell = Callable[[str, int, int], None]


class Source(Protocol):
    """A store's tables, read as they stood at one moment. `where` names it in messages."""

    where: str

    def meta(self, key: str) -> str | None: ...

    def last(self) -> Row | None:
        """The last event."""
        ...

    def at(self, position: int) -> Row | None: ...

    def count(self, table: Table) -> int: ...

    def rows(self, table: Table, *, after: int = 0) -> Iterator[Sequence[Any]]:
        """All of it in the order of its key; of the log, what comes after a position."""
        ...


class Target(Source, Protocol):
    """A store's tables while they are filled; everything is committed when a call returns."""

    def absent(self, table: Table, keys: Sequence[bytes]) -> set[bytes]:
        """Those of these keys that have no row."""
        ...

    def put(self, table: Table, rows: Collection[Sequence[Any]]) -> None: ...

    def replace(self, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        """Let these be all its rows, in one commit."""
        ...

    def remove(self, table: Table, keys: Sequence[bytes]) -> None: ...

    def begin(self, text: str) -> None:
        """Mark it as being filled, unless somebody else has made a store of it."""
        ...

    def finish(self) -> None:
        """Take the mark away: it is a store."""
        ...


@dataclass(frozen=True, slots=True)
class Sum:
    """What one table holds: how many rows, and SHA-256 over them in the order of the key, in hexadecimal."""

    table: str
    rows: int
    digest: str


def sum_of(source: Source, table: Table, tell: Tell) -> Sum:
    """Count and digest of a table; of the log over the canonical bytes of each event."""
    digest, rows, total = hashlib.sha256(), 0, source.count(table)
    pack = msgspec.msgpack.Encoder().encode
    for row in source.rows(table):
        digest.update(digest_of(Row(*row)) if table.kind is Kind.LOG else pack(list(row)))
        rows += 1
        if rows % PAGE == 0:
            tell(f"digest of {table.name}", rows, total)
    tell(f"digest of {table.name}", rows, rows)
    return Sum(table.name, rows, digest.hexdigest())


# Rows that are read, put and committed together.
PAGE: Final = 5_000
