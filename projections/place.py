"""Where views lie: generations of tables, of which one is the present one. `files.py` keeps them in files, `schemas.py` on PostgreSQL.

A rebuild makes the next generation beside the present one and then switches, so readers change over between two reads and never
wait. Everything in a generation comes from the log, so each is disposable.
"""

from contextlib import AbstractContextManager
from typing import Final, Protocol

from projections.connection import Connection

TRACKING: Final = """
CREATE TABLE IF NOT EXISTS tracking (
    name     TEXT PRIMARY KEY,
    version  INTEGER NOT NULL,
    position INTEGER NOT NULL,      -- the last event that is in the view
    store    TEXT,                  -- of which log
    digest   BLOB                   -- SHA-256 of that event's canonical bytes
) WITHOUT ROWID
"""


class Damaged(Exception):
    """A generation cannot be read any more; it is made again from the log."""


class Place(Protocol):
    """Generations are numbered from 1; 0 is none."""

    def present(self) -> int: ...

    def switch(self, generation: int) -> None:
        """Let this generation be the present one, in one step."""
        ...

    def generations(self) -> list[int]:
        """Those that are there, ascending."""
        ...

    def writer(self, generation: int) -> Connection:
        """A connection that changes a generation, made where there is none. Who is in its BEGIN IMMEDIATE is alone in it.

        Raises:
            Damaged: what is there is no generation of views.
            StoreUnavailable: it cannot be opened now.
        """
        ...

    def reader(self, generation: int) -> Connection | None:
        """A connection whose BEGIN takes a snapshot; None: the generation is gone."""
        ...

    def copy(self, generation: int, target: int) -> None:
        """Make `target` a copy of a generation."""
        ...

    def remove(self, generation: int) -> None: ...

    def alone(self) -> AbstractContextManager[bool]:
        """Whether nobody else builds a generation here, for as long as the block lasts."""
        ...

    def columns(self, connection: Connection, table: str) -> list[str]:
        """The columns of a table, in its order."""
        ...
