"""The alerts' tables: each condition with its present episode, all its episodes, and how often it was reported.

Transitions come from the alert's stream; occurrences are counted from the monitoring events of deliveries, gathered per
batch before SQL is touched, so that a storm of repeats costs a few rows. An alert's n-th *opened* monitoring event belongs
to its n-th episode that was seen opening, in whatever order a commit holds the two. `projections/alert_page.py` reads them.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from engine.alert import (
    AlertAcknowledged,
    AlertEpisodeEnded,
    AlertEpisodeMissed,
    AlertEpisodeOpened,
    AlertHeardAgain,
    AlertListed,
    AlertSeverityChanged,
    AlertWentStale,
)
from engine.clock import micros
from engine.delivery import DeliveryReceived, Disposition
from engine.event import Event, Fact
from projections.projection import Projection, Table, rows_in
from projections.work_queue import add_counts

TRANSITIONS: Final[frozenset[type[Event]]] = frozenset({
    AlertEpisodeOpened, AlertEpisodeEnded, AlertEpisodeMissed, AlertListed, AlertAcknowledged, AlertSeverityChanged,
    AlertWentStale, AlertHeardAgain,
})
# Worst first, as it is sorted.
SEVERITIES: Final = ("critical", "high", "warning", "info")

_DDL: Final = """
CREATE TABLE alerts (
    alert        INTEGER PRIMARY KEY,      -- position of its first event
    id           BLOB    NOT NULL UNIQUE,
    number       TEXT    UNIQUE,           -- NULL: only a resolve was seen, not listed
    listed       INTEGER,                  -- position since which it has a number
    source       TEXT    NOT NULL,
    dedup_key    TEXT    NOT NULL,
    title        TEXT    NOT NULL,         -- of the present episode's opening; later texts are in alert_reports
    severity     TEXT    NOT NULL,
    service      TEXT,
    resource     TEXT,
    firing       INTEGER NOT NULL,
    stale        INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    started_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    incident     BLOB,
    episode      INTEGER NOT NULL,         -- the present (or last) one
    opened       INTEGER NOT NULL          -- how many episodes were seen opening
);
CREATE INDEX alerts_firing ON alerts (alert) WHERE firing = 1 AND number IS NOT NULL;        -- what fires
CREATE INDEX alerts_by_service ON alerts (service, alert) WHERE number IS NOT NULL;          -- the list of a service
CREATE INDEX alerts_by_incident ON alerts (incident, alert) WHERE incident IS NOT NULL;      -- the list of an incident
CREATE TABLE episodes (
    alert        INTEGER NOT NULL,
    episode      INTEGER NOT NULL,         -- counted from 1 in the order of the log
    began        INTEGER NOT NULL,         -- position of the event that opened it
    opening      INTEGER,                  -- the how-maniest that was seen opening; NULL: missed
    started_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    ended        INTEGER,                  -- position of the event that ended it
    cause        TEXT,
    severity     TEXT    NOT NULL,
    acknowledged INTEGER NOT NULL,
    incident     BLOB,
    PRIMARY KEY (alert, episode)
) WITHOUT ROWID;
CREATE TABLE alert_reports (
    alert    BLOB    NOT NULL,
    opening  INTEGER NOT NULL,             -- as in episodes
    number   INTEGER NOT NULL,             -- monitoring events: one opened it, the others repeated it
    position INTEGER NOT NULL,             -- of the delivery with the latest one,
    place    INTEGER NOT NULL,             -- and where in it: its text is read from there
    title    TEXT    NOT NULL,             -- of the latest one
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (alert, opening)
) WITHOUT ROWID;
CREATE TABLE incident_occurrences (incident BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE alert_totals (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;    -- firing
"""

COLUMNS: Final = (
    "alert", "id", "number", "listed", "source", "dedup_key", "title", "severity", "service", "resource", "firing", "stale",
    "acknowledged", "started_at", "ended_at", "incident", "episode", "opened",
)
EPISODE_COLUMNS: Final = (
    "alert", "episode", "began", "opening", "started_at", "ended_at", "ended", "cause", "severity", "acknowledged", "incident",
)


class Episode:
    """One firing of an alert, as far as its stream tells."""

    __slots__ = ("acknowledged", "began", "cause", "ended", "ended_at", "episode", "incident", "opening", "severity", "started_at")

    def __init__(self, episode: int, began: int, opening: int | None, started_at: int, severity: str) -> None:
        self.episode, self.began, self.opening, self.started_at, self.severity = episode, began, opening, started_at, severity
        self.ended_at: int | None = None
        self.ended: int | None = None
        self.cause: str | None = None
        self.acknowledged = False
        self.incident: bytes | None = None

    def row(self, alert: int) -> tuple[Any, ...]:
        return (
            alert, self.episode, self.began, self.opening, self.started_at, self.ended_at, self.ended, self.cause, self.severity,
            self.acknowledged, self.incident,
        )

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Episode":
        """From `EPISODE_COLUMNS`."""
        _, number, began, opening, started_at, ended_at, ended, cause, severity, acknowledged, incident = row
        episode = cls(number, began, opening, started_at, severity)
        episode.ended_at, episode.ended, episode.cause = ended_at, ended, cause
        episode.acknowledged, episode.incident = bool(acknowledged), incident
        return episode


class AlertFold:
    """One alert's facts so far; the list folds it event by event, a page as of a position from the log.

    Attributes:
        episodes: those that were added or changed since it was loaded, by number.
        severity, acknowledged, started_at, ended_at, incident: of the present (or last) episode.
    """

    __slots__ = (
        "acknowledged", "alert", "dedup_key", "ended_at", "episode", "episodes", "firing", "id", "incident", "listed", "number",
        "opened", "resource", "service", "severity", "source", "stale", "started_at", "title",
    )

    def __init__(self, stream_id: UUID, position: int) -> None:
        self.alert, self.id = position, stream_id
        self.number: str | None = None
        self.listed: int | None = None
        self.source = self.dedup_key = self.title = self.severity = ""
        self.service: str | None = None
        self.resource: str | None = None
        self.firing = self.stale = self.acknowledged = False
        self.started_at = 0
        self.ended_at: int | None = None
        self.incident: bytes | None = None
        self.episode = self.opened = 0
        self.episodes: dict[int, Episode] = {}

    def apply(self, fact: Fact) -> None:
        match fact.event:
            case AlertEpisodeOpened() as event:
                self._open(event, fact.position)
            case AlertEpisodeEnded() as event:
                self.firing, self.stale, self.ended_at = False, False, micros(event.ended_at)
                self._present.ended_at, self._present.ended, self._present.cause = self.ended_at, fact.position, event.cause
            case AlertEpisodeMissed() as event:
                self._miss(event, fact.position)
            case AlertListed() as event:
                self.number, self.listed = event.number, fact.position
            case AlertAcknowledged():
                self.acknowledged = self._present.acknowledged = True
            case AlertSeverityChanged() as event:
                self.severity = self._present.severity = event.severity.value
                if event.incident is not None:
                    self.incident = self._present.incident = event.incident.bytes
            case AlertWentStale():
                self.stale = True
            case AlertHeardAgain():
                self.stale = False

    @property
    def _present(self) -> Episode:
        return self.episodes[self.episode]

    def _open(self, event: AlertEpisodeOpened, position: int) -> None:
        self.number, self.listed = event.number, self.listed or position
        self.source, self.dedup_key, self.title = event.source, event.dedup_key, event.title
        self.service, self.resource = event.service, event.resource
        self.firing, self.stale, self.acknowledged = True, False, False
        self.severity, self.started_at, self.ended_at = event.severity.value, micros(event.started_at), None
        self.incident = None if event.incident is None else event.incident.bytes
        self.opened += 1
        self.episode += 1
        episode = Episode(self.episode, position, self.opened, self.started_at, self.severity)
        episode.incident = self.incident
        self.episodes[self.episode] = episode

    def _miss(self, event: AlertEpisodeMissed, position: int) -> None:
        if self.episode == 0:
            self.source, self.dedup_key, self.title = event.source, event.dedup_key, event.title
        self.severity, self.started_at, self.ended_at = event.severity.value, micros(event.started_at), micros(event.ended_at)
        self.acknowledged = False
        self.episode += 1
        episode = Episode(self.episode, position, None, self.started_at, self.severity)
        episode.ended_at, episode.ended, episode.cause = self.ended_at, position, "resolved"
        self.episodes[self.episode] = episode

    def row(self) -> tuple[Any, ...]:
        return (
            self.alert, self.id.bytes, self.number, self.listed, self.source, self.dedup_key, self.title, self.severity,
            self.service, self.resource, self.firing, self.stale, self.acknowledged, self.started_at, self.ended_at,
            self.incident, self.episode, self.opened,
        )

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "AlertFold":
        """From `COLUMNS`; the present episode is to be added."""
        fold = cls(UUID(bytes=row[1]), row[0])
        (
            fold.number, fold.listed, fold.source, fold.dedup_key, fold.title, fold.severity, fold.service, fold.resource,
        ) = row[2:10]
        fold.firing, fold.stale, fold.acknowledged = bool(row[10]), bool(row[11]), bool(row[12])
        fold.started_at, fold.ended_at, fold.incident, fold.episode, fold.opened = row[13:]
        return fold


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    streams: dict[UUID, list[Fact]] = {}
    deliveries: list[Fact] = []
    for fact in facts:
        if type(fact.event) is DeliveryReceived:
            deliveries.append(fact)
        else:
            streams.setdefault(fact.stream_id, []).append(fact)
    if streams:
        _transitions(connection, streams)
    if deliveries:
        _count(connection, deliveries)


_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM alerts WHERE id IN ({{keys}})"
_SELECT_EPISODE: Final = f"SELECT {', '.join(EPISODE_COLUMNS)} FROM episodes WHERE alert = ? AND episode = ?"
_INSERT: Final = f"INSERT INTO alerts ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_UPDATE: Final = f"UPDATE alerts SET {', '.join(f'{column} = ?' for column in COLUMNS[2:])} WHERE alert = ?"
_PUT_EPISODE: Final = (
    f"INSERT INTO episodes ({', '.join(EPISODE_COLUMNS)}) VALUES ({', '.join('?' * len(EPISODE_COLUMNS))}) "
    "ON CONFLICT (alert, episode) DO UPDATE SET ended_at = excluded.ended_at, ended = excluded.ended, cause = excluded.cause, "
    "severity = excluded.severity, acknowledged = excluded.acknowledged, incident = excluded.incident"
)


def _transitions(connection: sqlite3.Connection, streams: dict[UUID, list[Fact]]) -> None:
    known = [stream for stream, facts in streams.items() if facts[0].version > 1]
    folds: dict[UUID, AlertFold] = {}
    for row in rows_in(connection, _SELECT, [stream.bytes for stream in known]):
        fold = AlertFold.from_row(row)
        episode = connection.execute(_SELECT_EPISODE, (row[0], fold.episode)).fetchone()
        if episode is not None:
            fold.episodes[fold.episode] = Episode.from_row(episode)
        folds[fold.id] = fold
    new, changed, episodes = [], [], []
    totals: Counter[tuple[str]] = Counter()
    for stream, facts in streams.items():
        stored = folds.get(stream)
        was_firing = stored is not None and stored.firing
        fold = stored or AlertFold(stream, facts[0].position)
        for fact in facts:
            fold.apply(fact)
        row = fold.row()
        if stored is None:
            new.append(row)
        else:
            changed.append((*row[2:], row[0]))
        episodes += [episode.row(fold.alert) for episode in fold.episodes.values()]
        totals["firing",] += fold.firing - was_firing
    connection.executemany(_INSERT, new)
    connection.executemany(_UPDATE, changed)
    connection.executemany(_PUT_EPISODE, episodes)
    add_counts(connection, "alert_totals", ("name",), totals)


class _Report:
    """What a batch says of one episode: how often, and where its latest text stands."""

    __slots__ = ("latest", "number", "title")

    def __init__(self) -> None:
        self.number = 0
        self.latest = (0, 0)
        self.title = ""


def _count(connection: sqlite3.Connection, deliveries: Sequence[Fact]) -> None:
    """Count opened and repeated monitoring events, by alert and episode."""
    opened, repeated = Disposition.OPENED, Disposition.REPEATED
    # By alert: reports of the episode that was open before this batch, then of each that is opened in it.
    reports: dict[UUID, list[_Report]] = {}
    incidents: Counter[UUID] = Counter()
    for fact in deliveries:
        event = fact.event
        assert isinstance(event, DeliveryReceived)
        for place, said in enumerate(event.monitoring_events):
            disposition = said.disposition
            if said.alert is None or (disposition is not repeated and disposition is not opened):
                continue
            found = reports.get(said.alert)
            if found is None:
                found = reports[said.alert] = [_Report()]
            if disposition is opened:
                found.append(_Report())
            report = found[-1]
            report.number += 1
            report.latest = (fact.position, place)
            report.title = said.observation.title
            if said.incident is not None:
                incidents[said.incident] += 1
    _write_reports(connection, reports, {fact.position: micros(fact.recorded_at) for fact in deliveries})
    connection.executemany(
        "INSERT INTO incident_occurrences (incident, number) VALUES (?, ?) "
        "ON CONFLICT (incident) DO UPDATE SET number = number + excluded.number",
        [(incident.bytes, number) for incident, number in incidents.items()],
    )


def _write_reports(connection: sqlite3.Connection, reports: dict[UUID, list[_Report]], recorded: dict[int, int]) -> None:
    sql = "SELECT alert, max(opening) FROM alert_reports WHERE alert IN ({keys}) GROUP BY alert"
    last = dict(rows_in(connection, sql, [alert.bytes for alert in reports]))
    rows = []
    for alert, found in reports.items():
        before = last.get(alert.bytes, 0)
        for opening, report in enumerate(found, start=before):
            if report.number:
                position, place = report.latest
                rows.append((alert.bytes, opening, report.number, position, place, report.title, recorded[position]))
    connection.executemany(
        "INSERT INTO alert_reports (alert, opening, number, position, place, title, last_at) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (alert, opening) DO UPDATE SET number = number + excluded.number, position = excluded.position, "
        "place = excluded.place, title = excluded.title, last_at = excluded.last_at",
        rows,
    )


PROJECTION: Final = Projection(
    name="alerts",
    version=2,
    tables=(
        Table("alerts", "alert"),
        Table("episodes", "alert, episode"),
        Table("alert_reports", "alert, opening"),
        Table("incident_occurrences", "incident"),
        Table("alert_totals", "name"),
    ),
    ddl=_DDL,
    events=TRANSITIONS | {DeliveryReceived},
    apply=_apply,
)
