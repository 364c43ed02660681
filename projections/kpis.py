"""The measures' tables: facts about tickets, each with the position at which it was known.

A fact is never changed: that a ticket was reopened is another fact, and the resolution before it stays one. So what was
counted stays counted, and `as_of` is a bound on the position. Their sums are kept by `projections/kpi_sums.py`. docs/measures.md
defines each measure; the questions are in `projections/kpi_page.py`.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from functools import partial
from operator import attrgetter
from typing import Any, Final

from engine.clock import micros
from engine.delivery import DeliveryReceived
from engine.event import Event, Fact
from engine.incident import Incident, IncidentImpactSet, IncidentImported, IncidentOpened, IncidentResolved
from engine.priority import Priority
from engine.request import RequestDeclined, RequestFulfilled, RequestImported, RequestSubmitted, ServiceRequest
from engine.target import TargetsSet
from engine.ticket import (
    MEANINGS,
    OPEN,
    Meaning,
    TicketAcknowledged,
    TicketAssigned,
    TicketCancelled,
    TicketClosed,
    TicketCommentImported,
    TicketEscalated,
    TicketFileAttached,
    TicketLinked,
    TicketPrioritySet,
    TicketReopened,
    TicketReported,
    TicketTriaged,
)
from projections import target_editions
from projections.kpi_sums import DDL, SIZES, Keeper
from projections.projection import Projection, rows_in
from projections.projection import Table as ViewTable
from projections.response import agent_of, responds
from projections.target_editions import Editions, Table, kept_editions
from projections.ticket_fold import OPENINGS, TICKET_EVENTS
from projections.work_queue import add_counts

HOUR: Final = 3_600_000_000  # µs


class Metric(IntEnum):
    """What a fact says; the numbers are stored."""

    OPENED = 1
    ACKNOWLEDGED = 2
    RESPONDED = 3
    RESOLVED = 4
    REOPENED = 5
    CANCELLED = 6


# What a person does without acknowledging the ticket by it.
_NO_WORK: Final[frozenset[type[Event]]] = frozenset({
    IncidentOpened, RequestSubmitted, TicketCommentImported, TicketCancelled, TicketClosed, TicketLinked, TicketReopened,
    TicketReported, TicketFileAttached,
})

_DDL: Final = """
CREATE TABLE kpi_tickets (
    id           BLOB PRIMARY KEY,
    ticket       INTEGER NOT NULL,         -- position of its opening, as in tickets
    kind         TEXT    NOT NULL,
    priority     INTEGER NOT NULL,
    service      TEXT,
    team         TEXT,
    channel      TEXT    NOT NULL,
    requester    BLOB,
    opened_at    INTEGER NOT NULL,
    began_at     INTEGER NOT NULL,         -- of the present episode: opened, or last reopened
    acknowledged INTEGER NOT NULL,
    responded    INTEGER NOT NULL,
    response     INTEGER,                  -- promised, in µs; NULL: of an imported ticket nothing was
    resolution   INTEGER,
    resolved     INTEGER,                  -- position of the last fact of this metric
    reopened     INTEGER,
    cancelled    INTEGER
) WITHOUT ROWID;
CREATE TABLE kpi_facts (
    metric      INTEGER NOT NULL,
    position    INTEGER NOT NULL,          -- since when it is known
    ticket      INTEGER NOT NULL,
    occurred_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    duration    INTEGER,                   -- µs
    kind        TEXT    NOT NULL,
    priority    INTEGER NOT NULL,
    service     TEXT,
    team        TEXT,
    agent       BLOB,                      -- the person who did it
    channel     TEXT    NOT NULL,
    alert       BLOB,                      -- that an incident was opened for
    open_after  INTEGER,                   -- how many tickets were in the queue then, imported facts left out
    target      INTEGER,                   -- the duration that was promised, in µs
    imported    INTEGER NOT NULL,          -- told by an import: it counts when it happened, whatever the basis
    earlier     INTEGER,                   -- position of the ticket's fact of this metric before
    PRIMARY KEY (metric, imported, position)    -- a window of recorded time is a range of positions
) WITHOUT ROWID;
CREATE INDEX kpi_facts_by_occurrence ON kpi_facts (metric, occurred_at, position);    -- a window of claimed time
CREATE INDEX kpi_facts_imported ON kpi_facts (metric, occurred_at, position) WHERE imported = 1;    -- those in any window
-- How many tickets they are is how many facts they are without these.
CREATE INDEX kpi_facts_again ON kpi_facts (metric, recorded_at) WHERE earlier IS NOT NULL;
CREATE INDEX kpi_facts_again_by_occurrence ON kpi_facts (metric, occurred_at) WHERE earlier IS NOT NULL;
-- What incidents were opened for, and how many by rules.
CREATE INDEX kpi_facts_alerted ON kpi_facts (position, alert) WHERE alert IS NOT NULL;
CREATE TABLE kpi_hours (
    hour   INTEGER NOT NULL,               -- of recorded_at, counted from 1970
    alert  BLOB    NOT NULL,               -- empty: monitoring events of no alert
    source TEXT    NOT NULL,
    number INTEGER NOT NULL,               -- monitoring events
    PRIMARY KEY (hour, alert, source)
) WITHOUT ROWID;
CREATE TABLE kpi_heard (
    hour   INTEGER NOT NULL,               -- the same without the alerts: there may be many in an hour
    source TEXT    NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (hour, source)
) WITHOUT ROWID;
CREATE TABLE kpi_totals (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;    -- open
"""

FACT_COLUMNS: Final = (
    "metric", "position", "ticket", "occurred_at", "recorded_at", "duration", "kind", "priority", "service", "team", "agent",
    "channel", "alert", "open_after", "target", "imported", "earlier",
)
_STATE_COLUMNS: Final = (
    "id", "ticket", "kind", "priority", "service", "team", "channel", "requester", "opened_at", "began_at", "acknowledged",
    "responded", "response", "resolution", "resolved", "reopened", "cancelled",
)

_PRIORITIES: Final = {int(priority[1]): priority for priority in Priority}
_STATE_ROW: Final = attrgetter(*_STATE_COLUMNS)


class _State:
    """What the measures must remember of a ticket."""

    __slots__ = _STATE_COLUMNS

    def __init__(self, row: Sequence[Any]) -> None:
        self.id: bytes
        (
            self.id, self.ticket, self.kind, self.priority, self.service, self.team, self.channel, self.requester,
            self.opened_at, self.began_at, self.acknowledged, self.responded, self.response, self.resolution,
            self.resolved, self.reopened, self.cancelled,
        ) = row

    @classmethod
    def opened(cls, fact: Fact) -> "_State":
        event = fact.event
        assert isinstance(event, IncidentOpened | IncidentImported | RequestSubmitted | RequestImported)
        kind = Incident.KIND if isinstance(event, IncidentOpened | IncidentImported) else ServiceRequest.KIND
        opened_at = micros(event.opened_at)
        requester = None if event.requester is None else event.requester.bytes
        return cls((
            fact.stream_id.bytes, fact.position, kind, int(event.priority[1]), event.service, event.team, event.channel,
            requester, opened_at, opened_at, False, False, None, None, None, None, None,
        ))

    def promise(self, table: Table) -> None:
        """What a table of targets promises for its priority."""
        target = table[_PRIORITIES[self.priority]]
        self.response, self.resolution = round(target.response_seconds * 1e6), round(target.resolution_seconds * 1e6)

    def row(self) -> tuple[Any, ...]:
        return _STATE_ROW(self)


class _Batch:
    """Facts gathered from a batch of events."""

    def __init__(self, connection: sqlite3.Connection, editions: Editions, keeper: Keeper) -> None:
        self._editions, self._keeper = editions, keeper
        row = connection.execute("SELECT number FROM kpi_totals WHERE name = 'open'").fetchone()
        self.open: int = row[0] if row else 0
        self.facts: list[tuple[Any, ...]] = []
        self._stored: dict[bytes, tuple[Any, ...]] = {}
        self._now = 0  # of the fact at hand, µs
        self._connection = connection

    def take(self, facts: Sequence[Fact]) -> None:
        states = self._states(facts)
        for fact in facts:
            event = fact.event
            self._now = micros(fact.recorded_at)
            if isinstance(event, IncidentImported | RequestImported):
                state = states[fact.stream_id.bytes] = _State.opened(fact)
                self._take_over(state, fact, event)
            elif isinstance(event, IncidentOpened | RequestSubmitted):
                state = states[fact.stream_id.bytes] = _State.opened(fact)
                self._open(state, fact)
            else:
                self._go_on(states[fact.stream_id.bytes], fact)
        self._write(states)

    def _open(self, state: _State, fact: Fact) -> None:
        self.open += 1
        state.promise(self._editions.at(fact.position))
        alert = fact.event.alert if isinstance(fact.event, IncidentOpened) else None
        self._add(Metric.OPENED, state, fact, occurred_at=state.opened_at, alert=None if alert is None else alert.bytes, moves=True)

    def _take_over(self, state: _State, fact: Fact, event: IncidentImported | RequestImported) -> None:
        """What the tool before says of a ticket: its facts, as far as it knows when they happened.

        Whatever was done there without a time is not measured here when somebody goes on with it.
        """
        agent = None if event.assignee is None else event.assignee.bytes
        meaning = MEANINGS[event.state]
        state.acknowledged = state.responded = meaning is not Meaning.NEW
        self._add(Metric.OPENED, state, fact, occurred_at=state.opened_at, imported=True)
        for metric, instant in ((Metric.ACKNOWLEDGED, event.acknowledged_at), (Metric.RESPONDED, event.first_responded_at)):
            if instant is not None:
                self._add(metric, state, fact, occurred_at=micros(instant), since=state.opened_at, agent=agent, imported=True)
        state.acknowledged = state.acknowledged or event.acknowledged_at is not None
        state.responded = state.responded or event.first_responded_at is not None
        if meaning not in OPEN:
            assert event.resolved_at is not None
            ended, done = micros(event.resolved_at), meaning is not Meaning.CANCELLED
            self._add(
                Metric.RESOLVED if done else Metric.CANCELLED, state, fact, occurred_at=ended,
                since=state.opened_at if done else None, agent=agent, imported=True,
            )
            if done:
                state.resolved = fact.position
            else:
                state.cancelled = fact.position

    def _go_on(self, state: _State, fact: Fact) -> None:
        event, agent = fact.event, _agent(fact)
        by_agent = agent is not None and agent != state.requester
        if not state.acknowledged and (type(event) is TicketAcknowledged or (by_agent and type(event) not in _NO_WORK)):
            state.acknowledged = True
            self._add(Metric.ACKNOWLEDGED, state, fact, since=state.opened_at, agent=agent)
        if not state.responded and responds(event, by_agent=by_agent):
            state.responded = True
            self._add(Metric.RESPONDED, state, fact, since=state.opened_at, agent=agent, target=state.response)
        match event:
            case IncidentResolved():
                self.open -= 1
                self._add(
                    Metric.RESOLVED, state, fact, occurred_at=micros(event.resolved_at), since=state.began_at, agent=agent, moves=True,
                    target=state.resolution, earlier=state.resolved,
                )
                state.resolved = fact.position
            case RequestFulfilled():
                self.open -= 1
                self._add(
                    Metric.RESOLVED, state, fact, occurred_at=micros(event.fulfilled_at), since=state.began_at, agent=agent, moves=True,
                    target=state.resolution, earlier=state.resolved,
                )
                state.resolved = fact.position
            case TicketCancelled() | RequestDeclined():
                self.open -= 1
                self._add(Metric.CANCELLED, state, fact, agent=agent, moves=True, earlier=state.cancelled)
                state.cancelled = fact.position
            case TicketReopened():
                self.open += 1
                state.began_at = self._now
                state.promise(self._editions.at(fact.position))
                self._add(Metric.REOPENED, state, fact, agent=agent, moves=True, earlier=state.reopened)
                state.reopened = fact.position
            case TicketAssigned():
                state.team = event.team
            case TicketEscalated():
                state.team = event.team if event.team is not None else state.team
            case TicketPrioritySet() | IncidentImpactSet():
                self._prioritise(state, event.priority, fact.position)
            case TicketTriaged():
                state.team = event.team or state.team
                if event.priority is not None:
                    self._prioritise(state, event.priority, fact.position)

    def _prioritise(self, state: _State, priority: Priority, position: int) -> None:
        """Another priority is another promise; the same one keeps it."""
        if state.priority != int(priority[1]):
            state.priority = int(priority[1])
            state.promise(self._editions.at(position))

    def _states(self, facts: Sequence[Fact]) -> dict[bytes, _State]:
        opened = {fact.stream_id for fact in facts if type(fact.event) in OPENINGS}
        known = sorted({fact.stream_id.bytes for fact in facts if fact.stream_id not in opened})
        sql = f"SELECT {', '.join(_STATE_COLUMNS)} FROM kpi_tickets WHERE id IN ({{keys}})"
        self._stored = {row[0]: row for row in rows_in(self._connection, sql, known)}
        return {key: _State(row) for key, row in self._stored.items()}

    def _add(
        self,
        metric: Metric,
        state: _State,
        fact: Fact,
        *,
        occurred_at: int | None = None,
        since: int | None = None,
        agent: bytes | None = None,
        alert: bytes | None = None,
        moves: bool = False,
        target: int | None = None,
        imported: bool = False,
        earlier: int | None = None,
    ) -> None:
        """`moves`: it changes how many tickets are in the queue; `earlier`: where the ticket's fact of this metric before is."""
        recorded_at = self._now
        occurred_at = recorded_at if occurred_at is None else occurred_at
        duration = None if since is None else max(0, occurred_at - since)
        self.facts.append((
            metric.value, fact.position, state.ticket, occurred_at, recorded_at, duration, state.kind, state.priority,
            state.service, state.team, agent, state.channel, alert, self.open if moves else None, target,
            imported, earlier,
        ))

    def _write(self, states: dict[bytes, _State]) -> None:
        marks = ", ".join("?" * len(_STATE_COLUMNS))
        self._connection.executemany(
            f"INSERT INTO kpi_tickets ({', '.join(_STATE_COLUMNS)}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET "
            "priority = excluded.priority, team = excluded.team, began_at = excluded.began_at, "
            "acknowledged = excluded.acknowledged, responded = excluded.responded, response = excluded.response, "
            "resolution = excluded.resolution, resolved = excluded.resolved, reopened = excluded.reopened, "
            "cancelled = excluded.cancelled",
            [row for key, state in states.items() if (row := state.row()) != self._stored.get(key)],
        )
        self._connection.executemany(
            f"INSERT INTO kpi_facts ({', '.join(FACT_COLUMNS)}) VALUES ({', '.join('?' * len(FACT_COLUMNS))})", self.facts
        )
        self._connection.execute(
            "INSERT INTO kpi_totals (name, number) VALUES ('open', ?) ON CONFLICT (name) DO UPDATE SET number = excluded.number",
            (self.open,),
        )
        self._keeper.keep(self._connection, self.facts)


def _agent(fact: Fact) -> bytes | None:
    agent = agent_of(fact)
    return None if agent is None else agent.bytes


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact], keeper: Keeper) -> None:
    editions = kept_editions(connection, "kpi_target_editions", facts)
    tickets = [fact for fact in facts if type(fact.event) not in (DeliveryReceived, TargetsSet)]
    if tickets:
        _Batch(connection, editions, keeper).take(tickets)
    hours: Counter[tuple[int, bytes, str]] = Counter()
    heard: Counter[tuple[int, str]] = Counter()
    for fact in facts:
        event = fact.event
        if isinstance(event, DeliveryReceived):
            hour = micros(fact.recorded_at) // HOUR
            heard[hour, event.source] += len(event.monitoring_events)
            for said in event.monitoring_events:
                hours[hour, b"" if said.alert is None else said.alert.bytes, event.source] += 1
    add_counts(connection, "kpi_hours", ("hour", "alert", "source"), hours)
    add_counts(connection, "kpi_heard", ("hour", "source"), heard)


def kept(sizes: tuple[int, int] = SIZES) -> Projection:
    """The view, with blocks of these sizes (`kpi_sums.py`)."""
    return Projection(
        name="kpis",
        version=5,
        tables=(
            ViewTable("kpi_tickets", "id"),
            ViewTable("kpi_facts", "metric, position"),
            ViewTable("kpi_hours", "hour, alert, source"),
            ViewTable("kpi_heard", "hour, source"),
            ViewTable("kpi_totals", "name"),
            ViewTable("kpi_lines", "metric, imported"),
            ViewTable("kpi_blocks", "metric, imported, level, first"),
            ViewTable("kpi_sums", "metric, imported, level, dimension, first, value"),
            ViewTable("kpi_target_editions", target_editions.KEY),
        ),
        ddl=_DDL + DDL + target_editions.DDL.format(table="kpi_target_editions"),
        events=TICKET_EVENTS | {DeliveryReceived, TargetsSet},
        apply=partial(_apply, keeper=Keeper(FACT_COLUMNS, sizes)),
    )


PROJECTION: Final = kept()
