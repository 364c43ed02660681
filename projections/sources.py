"""The sources view: who may report, as configured, and when each was last heard."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.clock import from_micros, micros
from engine.delivery import DeliveryReceived, DeliveryRejected
from engine.event import Fact
from engine.source import SourceAdded
from projections.projection import Projection, Table
from projections.views import Reader

_DDL: Final = """
CREATE TABLE sources (
    name                    TEXT PRIMARY KEY,
    id                      BLOB    NOT NULL,
    adapter                 TEXT    NOT NULL,
    zone                    TEXT    NOT NULL,
    severity                TEXT    NOT NULL,
    rule                    TEXT    NOT NULL,
    repeat_interval_seconds REAL,
    identity                TEXT,                   -- the source whose alerts it reports too
    added                   INTEGER NOT NULL        -- position
) WITHOUT ROWID;
CREATE TABLE source_activity (
    name              TEXT PRIMARY KEY,
    heard_at          INTEGER,                      -- the latest delivery that could be read
    deliveries        INTEGER NOT NULL,
    monitoring_events INTEGER NOT NULL,
    rejected          INTEGER NOT NULL,
    rejected_at       INTEGER
) WITHOUT ROWID;
"""


class SourceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One configured sender.

    Attributes:
        identity: the source whose alerts it reports too; None: its own.
        heard_at: its latest delivery that could be read; None: never.
        rejected_at: its latest one that could not.
    """

    id: UUID
    name: str
    adapter: str
    zone: str
    severity: str
    rule: str
    repeat_interval_seconds: float | None
    identity: str | None
    heard_at: datetime | None
    deliveries: int
    monitoring_events: int
    rejected: int
    rejected_at: datetime | None


class _Heard:
    __slots__ = ("deliveries", "heard_at", "monitoring_events", "rejected", "rejected_at")

    def __init__(self) -> None:
        self.deliveries = self.monitoring_events = self.rejected = 0
        self.heard_at: int | None = None
        self.rejected_at: int | None = None


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    heard: dict[str, _Heard] = {}
    for fact in facts:
        event = fact.event
        if isinstance(event, DeliveryReceived):
            activity = heard.setdefault(event.source, _Heard())
            activity.deliveries += 1
            activity.monitoring_events += len(event.monitoring_events)
            activity.heard_at = micros(event.received_at)
        elif isinstance(event, DeliveryRejected):
            activity = heard.setdefault(event.source, _Heard())
            activity.rejected += 1
            activity.rejected_at = micros(event.received_at)
        elif isinstance(event, SourceAdded):
            connection.execute(
                "INSERT INTO sources (name, id, adapter, zone, severity, rule, repeat_interval_seconds, identity, added) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET adapter = excluded.adapter, "
                "zone = excluded.zone, severity = excluded.severity, rule = excluded.rule, "
                "repeat_interval_seconds = excluded.repeat_interval_seconds, identity = excluded.identity",
                (
                    event.name, fact.stream_id.bytes, event.adapter, event.zone, event.severity.value, event.rule,
                    event.repeat_interval_seconds, event.identity, fact.position,
                ),
            )
    connection.executemany(
        "INSERT INTO source_activity (name, heard_at, deliveries, monitoring_events, rejected, rejected_at) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET heard_at = coalesce(excluded.heard_at, heard_at), "
        "deliveries = deliveries + excluded.deliveries, monitoring_events = monitoring_events + excluded.monitoring_events, "
        "rejected = rejected + excluded.rejected, rejected_at = coalesce(excluded.rejected_at, rejected_at)",
        [
            (name, one.heard_at, one.deliveries, one.monitoring_events, one.rejected, one.rejected_at)
            for name, one in heard.items()
        ],
    )


PROJECTION: Final = Projection(
    name="sources",
    version=2,
    tables=(Table("sources", "name"), Table("source_activity", "name")),
    ddl=_DDL,
    events=frozenset({SourceAdded, DeliveryReceived, DeliveryRejected}),
    apply=_apply,
)

_SELECT: Final = (
    "SELECT s.id, s.name, s.adapter, s.zone, s.severity, s.rule, s.repeat_interval_seconds, s.identity, a.heard_at, "
    "coalesce(a.deliveries, 0), coalesce(a.monitoring_events, 0), coalesce(a.rejected, 0), a.rejected_at "
    "FROM sources AS s LEFT JOIN source_activity AS a ON a.name = s.name"
)


def sources(reader: Reader) -> list[SourceRow]:
    """All of them, by name: an organisation has dozens, not thousands."""
    return [_row(row) for row in reader.rows(f"{_SELECT} ORDER BY s.name")]


def source(reader: Reader, name: str) -> SourceRow | None:
    row = reader.row(f"{_SELECT} WHERE s.name = :name", {"name": name})
    return None if row is None else _row(row)


def never_heard(reader: Reader) -> bool:
    """Whether nothing has ever arrived, from anybody."""
    return reader.row("SELECT 1 FROM source_activity LIMIT 1") is None


def _row(row: tuple[Any, ...]) -> SourceRow:
    return SourceRow(
        id=UUID(bytes=row[0]), name=row[1], adapter=row[2], zone=row[3], severity=row[4], rule=row[5],
        repeat_interval_seconds=row[6], identity=row[7], heard_at=_instant(row[8]), deliveries=row[9], monitoring_events=row[10],
        rejected=row[11], rejected_at=_instant(row[12]),
    )


def _instant(value: int | None) -> datetime | None:
    return None if value is None else from_micros(value)
