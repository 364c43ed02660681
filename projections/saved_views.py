"""The saved views, for the navigation: whose they are, in their order. Always those of now: the past is not saved."""

import sqlite3
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from engine.event import Fact
from engine.saved_view import SavedView, ViewChanged, ViewRemoved, ViewSaved, moved
from projections.projection import Projection, Table
from projections.views import Reader

_DDL: Final = """
CREATE TABLE saved_views (
    view  BLOB    PRIMARY KEY,
    owner BLOB    NOT NULL,             -- a person; empty: everybody
    place INTEGER NOT NULL,             -- on its shelf, from 0
    name  TEXT    NOT NULL,
    query TEXT    NOT NULL
) WITHOUT ROWID;
CREATE INDEX saved_views_by_owner ON saved_views (owner, place);    -- each page's navigation
"""
_SHARED: Final = b""


class SavedViewRow(msgspec.Struct, frozen=True, kw_only=True):
    """An address of the queue under a name.

    Attributes:
        query: the address's parameters, encoded.
        shared: everybody sees it.
    """

    id: UUID
    name: str
    query: str
    shared: bool


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    for fact in facts:
        event = fact.event
        if not isinstance(event, ViewSaved | ViewChanged | ViewRemoved):
            continue
        owner = event.owner.bytes if event.owner else _SHARED
        before = _shelf(connection, owner)
        if isinstance(event, ViewRemoved):
            after = [one for one in before if one.view != event.view]
        else:
            place = event.place if isinstance(event, ViewChanged) else len(before)
            after = moved(before, SavedView(view=event.view, name=event.name, query=event.query), place)
        # A shelf is short and seldom changed: it is written anew.
        connection.execute("DELETE FROM saved_views WHERE owner = ?", (owner,))
        connection.executemany(
            "INSERT INTO saved_views (view, owner, place, name, query) VALUES (?, ?, ?, ?, ?)",
            [(one.view.bytes, owner, place, one.name, one.query) for place, one in enumerate(after)],
        )


def _shelf(connection: sqlite3.Connection, owner: bytes) -> list[SavedView]:
    rows = connection.execute("SELECT view, name, query FROM saved_views WHERE owner = ? ORDER BY place", (owner,))
    return [SavedView(view=UUID(bytes=row[0]), name=row[1], query=row[2]) for row in rows]


PROJECTION: Final = Projection(
    name="saved_views",
    version=1,
    tables=(Table("saved_views", "view"),),
    ddl=_DDL,
    events=frozenset({ViewSaved, ViewChanged, ViewRemoved}),
    apply=_apply,
)


def saved_views(reader: Reader, person: UUID | None) -> list[SavedViewRow]:
    """What this person has saved, then what is shared; each in its order."""
    own = [] if person is None else _of(reader, person.bytes)
    return own + _of(reader, _SHARED)


def _of(reader: Reader, owner: bytes) -> list[SavedViewRow]:
    rows = reader.rows("SELECT view, name, query FROM saved_views WHERE owner = :owner ORDER BY place", {"owner": owner})
    return [SavedViewRow(id=UUID(bytes=row[0]), name=row[1], query=row[2], shared=owner == _SHARED) for row in rows]
