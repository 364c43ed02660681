"""A ticket as the views know it: the engine's aggregate, which alone knows what an event means for its state, and beside it
what only a reader wants (when it was acknowledged, what it waits for, which rule opened it).

The queue folds it event by event and keeps it as a row; a page as of a position folds it from the log. It is one fold,
so both say the same.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.aggregate import Journal
from engine.clock import from_micros, micros
from engine.event import Event, Fact
from engine.incident import Incident, IncidentImported, IncidentOpened
from engine.ledger import Ledger
from engine.priority import Level, Priority
from engine.request import RequestImported, RequestSubmitted, ServiceRequest
from engine.store import Row
from engine.target import due
from engine.ticket import (
    MEANINGS,
    OPEN,
    Meaning,
    TicketAcknowledged,
    TicketCommented,
    TicketCommentImported,
    TicketFileAttached,
    TicketHeld,
    TicketReopened,
    Visibility,
)
from projections.response import agent_of, person_of, responds
from projections.target_editions import Editions, Table

# Every event of a ticket's own stream.
TICKET_EVENTS: Final[frozenset[type[Event]]] = Incident.events() | ServiceRequest.events()
OPENINGS: Final[frozenset[type[Event]]] = frozenset({IncidentOpened, IncidentImported, RequestSubmitted, RequestImported})

# Columns that never change after the opening, then those that do; the order of `TicketFold.fixed` and `.changing`.
FIXED: Final = (
    "ticket", "id", "kind", "number", "title", "service", "channel", "requester", "opened_at", "correlation", "rule",
    "rule_version", "alert", "item", "system", "old_number",
)
CHANGING: Final = (
    "state", "meaning", "open", "priority", "category", "team", "assignee", "level", "impact", "urgency", "recovered", "approved",
    "before_hold", "touched", "waiting_for", "acknowledged_at", "responded_at", "began_at", "response_due", "resolution_due", "next_due", "resolved_at",
    "updated_at", "version", "span_from",
)
COLUMNS: Final = FIXED + CHANGING

# Plain values beside the enumerations: they are looked up for every event, and a member's hash and value cost a call each.
_MEANINGS: Final = {state: (meaning.value, meaning in OPEN) for state, meaning in MEANINGS.items()}
_RANKS: Final = {priority: int(priority[1]) for priority in Priority}
_PRIORITIES: Final = {number: priority for priority, number in _RANKS.items()}
_WAITING: Final = Meaning.WAITING.value
_LEVELS: Final = {level.value: level for level in Level}

_NOBODY: Final = Journal(actor="", correlation_id=UUID(int=0))  # folding records nothing
# They change nothing that is folded, and cost a decryption to read.
_UNSEEN: Final = frozenset({TicketCommented.TOPIC, TicketCommentImported.TOPIC, TicketFileAttached.TOPIC})


class TicketFold:
    """One ticket's facts so far.

    Attributes:
        ticket: the position of its opening, which identifies it in the views.
        span_from: since when it is in the queue with its present priority (a position).
        responded_at: when the requester first heard of it from a person.
        began_at: since when its time to resolve runs: its opening or its last reopening.
        response_due, resolution_due: by when it is to be answered and resolved, as promised when it opened or last changed its
            priority.
    """

    __slots__ = (
        "acknowledged_at", "aggregate", "alert", "began_at", "channel", "resolution_due", "responded_at", "response_due", "rule",
        "rule_version", "span_from", "ticket", "updated_at", "waiting_for",
    )

    def __init__(self, aggregate: Incident | ServiceRequest) -> None:
        self.aggregate = aggregate
        self.ticket = 0
        self.span_from = 0
        self.channel = ""
        self.rule: str | None = None
        self.rule_version: int | None = None
        self.alert: UUID | None = None
        self.acknowledged_at: datetime | None = None
        self.updated_at: datetime | None = None
        self.waiting_for: str | None = None
        self.responded_at: datetime | None = None
        self.began_at: datetime | None = None
        self.response_due: datetime | None = None
        self.resolution_due: datetime | None = None

    @classmethod
    def opened(cls, fact: Fact, table: Table) -> "TicketFold":
        """A ticket right after its first event; `table` is that of its moment."""
        event = fact.event
        fold = cls((Incident if isinstance(event, IncidentOpened | IncidentImported) else ServiceRequest)(fact.stream_id, _NOBODY))
        fold.ticket = fold.span_from = fact.position
        if isinstance(event, IncidentOpened):
            fold.rule, fold.rule_version, fold.alert = event.rule, event.rule_version, event.alert
        assert isinstance(event, IncidentOpened | IncidentImported | RequestSubmitted | RequestImported)
        fold.channel = event.channel
        fold.apply(fact, table)
        fold.began_at = fold.aggregate.opened_at
        fold._promise(table)
        return fold

    def apply(self, fact: Fact, table: Table) -> None:
        """Take in the next fact; `table` is the one of targets that is in force at its position."""
        event, priority = fact.event, self.aggregate.priority
        self.aggregate.apply(fact)
        self.updated_at = fact.recorded_at
        if self.responded_at is None:
            self._note_response(event, agent_of(fact), fact.recorded_at)
        if isinstance(event, TicketReopened):
            self.began_at = fact.recorded_at
            self._promise(table)
        elif priority is not self.aggregate.priority and self.began_at is not None:
            self._promise(table)
        if isinstance(event, TicketAcknowledged):
            self.acknowledged_at = fact.recorded_at
        elif isinstance(event, IncidentImported | RequestImported):
            self.acknowledged_at, self.responded_at = event.acknowledged_at, event.first_responded_at
        elif isinstance(event, TicketHeld):
            self.waiting_for = event.reason
        if self.waiting_for is not None and self.meaning != _WAITING:
            self.waiting_for = None

    def _note_response(self, event: Event, agent: UUID | None, at: datetime) -> None:
        if agent is not None and responds(event, by_agent=agent != self.aggregate.requester):
            self.responded_at = at

    def _promise(self, table: Table) -> None:
        assert self.aggregate.opened_at is not None
        assert self.began_at is not None
        if self.responded_at is None or self.response_due is None:
            self.response_due = due(table, self.aggregate.priority, self.aggregate.opened_at).response_at
        self.resolution_due = due(table, self.aggregate.priority, self.began_at).resolution_at

    @property
    def next_due(self) -> datetime | None:
        """What it is to be next, answered or resolved, is due then; None where it is done."""
        if not self.is_open:
            return None
        return self.response_due if self.responded_at is None else self.resolution_due

    @property
    def kind(self) -> str:
        return self.aggregate.KIND

    @property
    def meaning(self) -> str:
        return _MEANINGS[self.aggregate.state_name][0]

    @property
    def is_open(self) -> bool:
        return _MEANINGS[self.aggregate.state_name][1]

    @property
    def priority(self) -> int:
        """1 (first) to 5."""
        return _RANKS[self.aggregate.priority]

    # -- as a row --------------------------------------------------------------------------------------------------

    def fixed(self) -> tuple[Any, ...]:
        aggregate = self.aggregate
        incident = aggregate if isinstance(aggregate, Incident) else None
        return (
            self.ticket, aggregate.id.bytes, aggregate.KIND, aggregate.number, aggregate.title, aggregate.service, self.channel,
            _bytes(aggregate.requester), _micros(aggregate.opened_at), _bytes(incident.correlation) if incident else None,
            self.rule, self.rule_version, _bytes(self.alert), None if isinstance(aggregate, Incident) else aggregate.item,
            *(aggregate.imported or (None, None)),
        )

    def changing(self) -> tuple[Any, ...]:
        aggregate = self.aggregate
        meaning, is_open = _MEANINGS[aggregate.state_name]
        if isinstance(aggregate, Incident):
            own: tuple[Any, ...] = (aggregate.impact.value, aggregate.urgency.value, aggregate.recovered, None)
        else:
            own = (None, None, None, aggregate.approved)
        return (
            aggregate.state_name, meaning, is_open, self.priority, aggregate.category, aggregate.team, _bytes(aggregate.assignee),
            aggregate.level, *own, aggregate.before_hold, aggregate.touched, self.waiting_for, _micros(self.acknowledged_at),
            _micros(self.responded_at), _micros(self.began_at), _micros(self.response_due), _micros(self.resolution_due),
            _micros(self.next_due), _micros(aggregate.resolved_at), _micros(self.updated_at), aggregate.version, self.span_from,
        )

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "TicketFold":
        """The other way round; `row` holds `COLUMNS`."""
        (
            ticket, stream, kind, number, title, service, channel, requester, opened_at, correlation, rule, rule_version, alert,
            item, system, old_number, state, _, _, priority, category, team, assignee, level, impact, urgency, recovered, approved,
            before_hold, touched, waiting_for, acknowledged_at, responded_at, began_at, response_due, resolution_due, _, resolved_at,
            updated_at, version, span_from,
        ) = row
        stream_id = UUID(bytes=stream)
        aggregate: Incident | ServiceRequest
        if kind == Incident.KIND:
            aggregate = incident = Incident(stream_id, _NOBODY)
            incident.impact, incident.urgency, incident.recovered = _LEVELS[impact], _LEVELS[urgency], bool(recovered)
            incident.correlation = _uuid(correlation)
        else:
            aggregate = request = ServiceRequest(stream_id, _NOBODY)
            request.item, request.approved = item, bool(approved)
        aggregate.number, aggregate.title, aggregate.service, aggregate.state_name = number, title, service, state
        aggregate.priority, aggregate.team, aggregate.assignee = _PRIORITIES[priority], team, _uuid(assignee)
        aggregate.category = category
        aggregate.level, aggregate.requester, aggregate.version = level, _uuid(requester), version
        aggregate.opened_at, aggregate.resolved_at = _instant(opened_at), _instant(resolved_at)
        aggregate.acknowledged, aggregate.touched = acknowledged_at is not None, bool(touched)
        aggregate.before_hold, aggregate.imported = before_hold, None if system is None else (system, old_number)
        fold = cls(aggregate)
        fold.ticket, fold.span_from, fold.channel, fold.waiting_for = ticket, span_from, channel, waiting_for
        fold.rule, fold.rule_version, fold.alert = rule, rule_version, _uuid(alert)
        fold.acknowledged_at, fold.updated_at = _instant(acknowledged_at), _instant(updated_at)
        fold.responded_at, fold.began_at = _instant(responded_at), _instant(began_at)
        fold.response_due, fold.resolution_due = _instant(response_due), _instant(resolution_due)
        return fold

    @classmethod
    def from_log(cls, ledger: Ledger, stream_id: bytes, upto: int, editions: Editions) -> "TicketFold | None":
        """The ticket as it was known at a position; None where it was not opened by then."""
        fold: TicketFold | None = None
        for row in ledger.store.stream(stream_id):
            if row.position > upto:
                break
            if fold is None:
                fold = cls.opened(ledger.fact(row), editions.at(row.position))
            elif row.type in _UNSEEN:
                fold._comment(row)
            else:
                fold.apply(ledger.fact(row), editions.at(row.position))
        return fold


    def _comment(self, row: Row) -> None:
        """A comment, of which only who may read it matters here; or a file."""
        self.aggregate.version, self.updated_at = row.version, from_micros(row.recorded_at)
        agent = person_of(row.actor)
        if self.responded_at is not None or row.type != TicketCommented.TOPIC or agent in (None, self.aggregate.requester):
            return
        if _COMMENT.decode(row.state).visibility == Visibility.PUBLIC:
            self.responded_at = self.updated_at


class _Comment(msgspec.Struct):
    """The part of a stored comment that is not sealed."""

    visibility: str


_COMMENT: Final = msgspec.json.Decoder(_Comment)


def _bytes(value: UUID | None) -> bytes | None:
    return None if value is None else value.bytes


def _uuid(value: bytes | None) -> UUID | None:
    return None if value is None else UUID(bytes=value)


def _micros(value: datetime | None) -> int | None:
    return None if value is None else micros(value)


def _instant(value: int | None) -> datetime | None:
    return None if value is None else from_micros(value)
