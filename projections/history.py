"""The history's tables: which events of the log tell of a ticket or an alert, its own and those of its neighbours.

To a ticket belong, besides its own stream: its alerts joining and ending, their transitions while they belong to it, its
timers, its notices, and links from other tickets. Nothing is copied: `projections/history_page.py` reads the events themselves.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from engine.alert import (
    AlertAcknowledged,
    AlertEpisodeEnded,
    AlertEpisodeMissed,
    AlertEpisodeOpened,
    AlertHeardAgain,
    AlertListed,
    AlertSenderJoined,
    AlertSenderLeft,
    AlertSeverityChanged,
    AlertSourceJoined,
    AlertSourceLeft,
    AlertWentStale,
)
from engine.correlation import CorrelationAlertEnded, CorrelationAlertJoined, CorrelationIncidentOpened
from engine.event import Event, Fact
from engine.notice import (
    NoticeAbandoned,
    NoticeCourseBegun,
    NoticeFailed,
    NoticeOccasionEnded,
    NoticeRequested,
    NoticeRetried,
    NoticeSent,
)
from engine.ticket import TicketLinked
from engine.timer import TimerCancelled, TimerFired, TimerSet
from projections.projection import Projection, Table, rows_in
from projections.ticket_fold import TICKET_EVENTS

ALERT_EVENTS: Final[frozenset[type[Event]]] = frozenset({
    AlertEpisodeOpened, AlertEpisodeEnded, AlertEpisodeMissed, AlertListed, AlertAcknowledged, AlertSeverityChanged,
    AlertSenderJoined, AlertSenderLeft, AlertSourceJoined, AlertSourceLeft, AlertWentStale, AlertHeardAgain,
})
CORRELATION_EVENTS: Final[frozenset[type[Event]]] = frozenset({
    CorrelationIncidentOpened, CorrelationAlertJoined, CorrelationAlertEnded,
})
TIMER_EVENTS: Final[frozenset[type[Event]]] = frozenset({TimerSet, TimerCancelled, TimerFired})
NOTICE_EVENTS: Final[frozenset[type[Event]]] = frozenset({
    NoticeCourseBegun, NoticeOccasionEnded, NoticeRequested, NoticeSent, NoticeFailed, NoticeAbandoned, NoticeRetried,
})
# In streams of their own that only somebody else's history tells of.
_COMPANIONS: Final = TIMER_EVENTS | NOTICE_EVENTS

_DDL: Final = """
CREATE TABLE history (
    subject  BLOB    NOT NULL,             -- a ticket's or an alert's stream
    position INTEGER NOT NULL,
    PRIMARY KEY (subject, position)
) WITHOUT ROWID;
CREATE TABLE history_owners (
    stream BLOB PRIMARY KEY,               -- an alert, a timer or the notices of a ticket
    owner  BLOB NOT NULL                   -- the incident that the alert belongs to, or what the timer was set for, or the ticket
) WITHOUT ROWID;
"""


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    owners = _owners(connection, facts)
    changed: dict[bytes, bytes | None] = {}
    rows: list[tuple[bytes, int]] = []
    for fact in facts:
        rows += [(subject, fact.position) for subject in _subjects(fact, owners, changed)]
    connection.executemany("INSERT OR IGNORE INTO history (subject, position) VALUES (?, ?)", rows)
    connection.executemany(
        "INSERT INTO history_owners (stream, owner) VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET owner = excluded.owner",
        [(stream, owner) for stream, owner in changed.items() if owner is not None],
    )
    connection.executemany(
        "DELETE FROM history_owners WHERE stream = ?", [(stream,) for stream, owner in changed.items() if owner is None]
    )


def _owners(connection: sqlite3.Connection, facts: Iterable[Fact]) -> dict[bytes, bytes]:
    streams: dict[bytes, bool] = {}
    for fact in facts:
        kind = type(fact.event)
        if kind in ALERT_EVENTS or kind in _COMPANIONS:
            # What comes first may say itself whose it is.
            streams.setdefault(fact.stream_id.bytes, kind not in (AlertEpisodeOpened, TimerSet, NoticeCourseBegun))
    unknown = [stream for stream, asks in streams.items() if asks]
    return dict(rows_in(connection, "SELECT stream, owner FROM history_owners WHERE stream IN ({keys})", unknown))


def _subjects(fact: Fact, owners: dict[bytes, bytes], changed: dict[bytes, bytes | None]) -> list[bytes]:
    """Whose history tells of this fact; keeps `owners` up to date."""
    event, stream = fact.event, fact.stream_id.bytes
    if isinstance(event, CorrelationIncidentOpened | CorrelationAlertJoined | CorrelationAlertEnded):
        return [event.incident.bytes, event.alert.bytes]
    if isinstance(event, TicketLinked):
        return [stream, event.to.bytes]
    if type(event) in TICKET_EVENTS:
        return [stream]
    own = [] if type(event) in _COMPANIONS else [stream]
    if isinstance(event, AlertEpisodeOpened) or (isinstance(event, AlertSeverityChanged) and event.incident is not None):
        _belongs(stream, event.incident, owners, changed)
    elif isinstance(event, TimerSet):
        _belongs(stream, event.owner, owners, changed)
    elif isinstance(event, NoticeCourseBegun):
        _belongs(stream, event.ticket, owners, changed)
    owner = owners.get(stream)
    return own if owner is None else [*own, owner]


def _belongs(stream: bytes, owner: UUID | None, owners: dict[bytes, bytes], changed: dict[bytes, bytes | None]) -> None:
    if owner is None:
        owners.pop(stream, None)
        changed[stream] = None
    else:
        owners[stream] = changed[stream] = owner.bytes


PROJECTION: Final = Projection(
    name="history",
    version=2,
    tables=(Table("history", "subject, position"), Table("history_owners", "stream")),
    ddl=_DDL,
    events=TICKET_EVENTS | ALERT_EVENTS | CORRELATION_EVENTS | TIMER_EVENTS | NOTICE_EVENTS,
    apply=_apply,
)
