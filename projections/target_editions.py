"""Which table of targets was in force when: a promise is made by the edition of its moment, and stays."""

import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from engine.event import Fact
from engine.ledger import Ledger
from engine.priority import Priority
from engine.target import DEFAULT_TARGETS, TARGETS, Target, TargetsSet

Table = Mapping[Priority, Target]


class Editions:
    """The tables, by the log position from which on each is in force."""

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._tables: list[Table] = []

    def add(self, position: int, table: Mapping[str, Target]) -> None:
        """The next one; positions increase."""
        self._positions.append(position)
        self._tables.append({Priority(name): target for name, target in table.items()})

    def at(self, position: int) -> Table:
        place = bisect_right(self._positions, position)
        return self._tables[place - 1] if place else DEFAULT_TARGETS


def editions_in(ledger: Ledger) -> Editions:
    """All of them, from the log."""
    found = Editions()
    for fact in ledger.stream(TARGETS):
        if isinstance(fact.event, TargetsSet):
            found.add(fact.position, fact.event.table)
    return found


# A view that makes promises keeps the editions among its own tables; each names its table.
DDL: Final = """
CREATE TABLE {table} (
    position   INTEGER NOT NULL,           -- from here on
    priority   TEXT    NOT NULL,
    response   REAL    NOT NULL,           -- seconds
    resolution REAL    NOT NULL,
    PRIMARY KEY (position, priority)
) WITHOUT ROWID;
"""
KEY: Final = "position, priority"


def kept_editions(connection: sqlite3.Connection, table: str, facts: Sequence[Fact]) -> Editions:
    """The editions so far; those of this batch are kept in `table`."""
    connection.executemany(
        f"INSERT INTO {table} (position, priority, response, resolution) VALUES (?, ?, ?, ?)",
        [
            (fact.position, priority, target.response_seconds, target.resolution_seconds)
            for fact in facts
            if isinstance(fact.event, TargetsSet)
            for priority, target in sorted(fact.event.table.items())
        ],
    )
    tables: dict[int, dict[str, Target]] = {}
    for position, priority, response, resolution in connection.execute(
        f"SELECT position, priority, response, resolution FROM {table} ORDER BY position, priority"
    ):
        tables.setdefault(position, {})[priority] = Target(response_seconds=response, resolution_seconds=resolution)
    editions = Editions()
    for position, entries in tables.items():
        editions.add(position, entries)
    return editions
