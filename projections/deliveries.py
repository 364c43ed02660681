"""The deliveries' tables: what arrived from whom, what became of it, and one compact row for each monitoring event.

Texts are not copied: a page reads them from the delivery's event in the log. Bodies are the vault's.
`projections/delivery_page.py` reads these tables.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Final

from engine.clock import micros
from engine.delivery import DeliveryReceived, DeliveryRejected, Disposition
from engine.event import Fact
from projections.projection import Projection, Table

# As stored; new ones are added at the end.
DISPOSITIONS: Final = (
    Disposition.OPENED, Disposition.REPEATED, Disposition.RESOLVED, Disposition.ACKNOWLEDGED, Disposition.SUPPRESSED,
    Disposition.INHIBITED, Disposition.HELD, Disposition.LATE, Disposition.UNMATCHED, Disposition.IGNORED, Disposition.REJECTED,
)
CODES: Final = {disposition: code for code, disposition in enumerate(DISPOSITIONS)}

_DDL: Final = """
CREATE TABLE deliveries (
    position    INTEGER PRIMARY KEY,
    id          BLOB    NOT NULL UNIQUE,
    source      TEXT    NOT NULL,
    adapter     TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    length      INTEGER NOT NULL,
    events      INTEGER NOT NULL,          -- how many monitoring events
    lost        INTEGER NOT NULL,
    status      INTEGER,                   -- answered to a rejected one; NULL: received
    path        TEXT,
    reason      TEXT
);
CREATE INDEX deliveries_by_source ON deliveries (source, position);                       -- the list of a source
CREATE INDEX deliveries_rejected ON deliveries (position) WHERE status IS NOT NULL;       -- the list of rejected ones
CREATE TABLE monitoring_events (
    position    INTEGER NOT NULL,          -- of the delivery
    place       INTEGER NOT NULL,          -- in it, from 0
    disposition INTEGER NOT NULL,
    alert       BLOB,
    PRIMARY KEY (position, place)
) WITHOUT ROWID;
-- What was said of an alert; and how often by some position.
CREATE INDEX monitoring_events_by_alert ON monitoring_events (alert, disposition, position, place) WHERE alert IS NOT NULL;
-- Lists of what is rare: most monitoring events are repeats.
CREATE INDEX monitoring_events_not_repeated ON monitoring_events (disposition, position, place) WHERE disposition <> 1;
CREATE TABLE disposition_counts (disposition INTEGER PRIMARY KEY, number INTEGER NOT NULL);
"""


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    deliveries: list[tuple[object, ...]] = []
    rows: list[tuple[int, int, int, bytes | None]] = []
    for fact in facts:
        event = fact.event
        if isinstance(event, DeliveryReceived):
            deliveries.append((
                fact.position, fact.stream_id.bytes, event.source, event.adapter, micros(event.received_at), event.length,
                len(event.monitoring_events), event.lost, None, None, None,
            ))
            position = fact.position
            rows += [
                (position, place, CODES[said.disposition], None if said.alert is None else said.alert.bytes)
                for place, said in enumerate(event.monitoring_events)
            ]
        elif isinstance(event, DeliveryRejected):
            deliveries.append((
                fact.position, fact.stream_id.bytes, event.source, event.adapter, micros(event.received_at), event.length,
                0, 0, event.status, event.path, event.reason,
            ))
    connection.executemany(
        "INSERT INTO deliveries (position, id, source, adapter, received_at, length, events, lost, status, path, reason) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        deliveries,
    )
    connection.executemany("INSERT INTO monitoring_events (position, place, disposition, alert) VALUES (?, ?, ?, ?)", rows)
    counts = Counter(row[2] for row in rows)
    connection.executemany(
        "INSERT INTO disposition_counts (disposition, number) VALUES (?, ?) "
        "ON CONFLICT (disposition) DO UPDATE SET number = number + excluded.number",
        list(counts.items()),
    )


PROJECTION: Final = Projection(
    name="deliveries",
    version=1,
    tables=(
        Table("deliveries", "position"),
        Table("monitoring_events", "position, place"),
        Table("disposition_counts", "disposition"),
    ),
    ddl=_DDL,
    events=frozenset({DeliveryReceived, DeliveryRejected}),
    apply=_apply,
)
