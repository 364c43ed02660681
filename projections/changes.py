"""The changes view: what was altered on purpose, to be held against the incidents that followed. CHG-"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.change import ChangeRecorded
from engine.clock import from_micros, micros
from engine.errors import InvalidInput
from engine.event import Fact
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.projection import Projection, Table
from projections.views import Reader

MOST_BEFORE: Final = 100

_DDL: Final = """
CREATE TABLE changes (
    position    INTEGER PRIMARY KEY,
    id          BLOB    NOT NULL,
    number      TEXT    NOT NULL UNIQUE,
    title       TEXT    NOT NULL,
    source      TEXT    NOT NULL,
    service     TEXT,
    resource    TEXT,
    occurred_at INTEGER NOT NULL
);
CREATE INDEX changes_by_time ON changes (occurred_at);                                   -- what changed before an incident
CREATE INDEX changes_by_service ON changes (service, position) WHERE service IS NOT NULL; -- the list of a service
"""

_COLUMNS: Final = "position, id, number, title, source, service, resource, occurred_at"


class ChangeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One change; `details` and `link` only where one was asked for."""

    id: UUID
    number: str
    title: str
    source: str
    service: str | None
    resource: str | None
    occurred_at: datetime
    recorded_position: int
    details: dict[str, str] = {}
    link: str | None = None


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    rows = []
    for fact in facts:
        event = fact.event
        assert isinstance(event, ChangeRecorded)
        rows.append((
            fact.position, fact.stream_id.bytes, event.number, event.title, event.source, event.service, event.resource,
            micros(event.occurred_at),
        ))
    connection.executemany(f"INSERT INTO changes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


PROJECTION: Final = Projection(
    name="changes",
    version=1,
    tables=(Table("changes", "position"),),
    ddl=_DDL,
    events=frozenset({ChangeRecorded}),
    apply=_apply,
)


def changes(
    reader: Reader, *, service: str | None = None, as_of: int | None = None, cursor: str | None = None, limit: int = 50
) -> Page[ChangeRow]:
    """Changes, the latest recorded first.

    Raises:
        InvalidInput: bad cursor or limit.
    """
    limit = checked_limit(limit)
    key, at = from_cursor(cursor, "newest", (int,)), reader.at(as_of)
    where = "" if service is None else " AND service = :service"
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM changes WHERE position < :before{where} ORDER BY position DESC LIMIT :count",
        {"before": min(key[0], at + 1) if key else at + 1, "service": service, "count": limit + 1},
    )
    more = to_cursor("newest", [rows[limit - 1][0]]) if len(rows) > limit else None
    return Page(items=[_row(row) for row in rows[:limit]], next=more, position=at)


def change(reader: Reader, number: str, *, as_of: int | None = None) -> ChangeRow | None:
    """One change with its details, by its number."""
    row = reader.row(
        f"SELECT {_COLUMNS} FROM changes WHERE number = :number AND position <= :at",
        {"number": number, "at": reader.at(as_of)},
    )
    if row is None:
        return None
    stored = reader.ledger.store.at(row[0])
    event = reader.ledger.fact(stored).event if stored is not None else None
    found = _row(row)
    if isinstance(event, ChangeRecorded):
        found = msgspec.structs.replace(found, details=event.details, link=event.link)
    return found


def changes_before(
    reader: Reader, instant: datetime, *, hours: float = 24.0, service: str | None = None, as_of: int | None = None
) -> list[ChangeRow]:
    """Changes that happened in the hours before an instant (an incident's opening), the nearest first, at most 100.

    Args:
        service: only its changes and those of no service in particular; None: all.

    Raises:
        InvalidInput: not a positive number of hours.
    """
    if not 0 < hours <= 24 * 366:
        raise InvalidInput("hours", "more than 0 and at most a year")
    end = micros(instant)
    where = "" if service is None else " AND (service = :service OR service IS NULL)"
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM changes WHERE occurred_at <= :end AND occurred_at >= :start AND position <= :at{where} "
        "ORDER BY occurred_at DESC, position DESC LIMIT :most",
        {
            "start": end - int(hours * 3_600_000_000), "end": end, "at": reader.at(as_of), "service": service,
            "most": MOST_BEFORE,
        },
    )
    return [_row(row) for row in rows]


def _row(row: tuple[Any, ...]) -> ChangeRow:
    return ChangeRow(
        id=UUID(bytes=row[1]), number=row[2], title=row[3], source=row[4], service=row[5], resource=row[6],
        occurred_at=from_micros(row[7]), recorded_position=row[0],
    )
