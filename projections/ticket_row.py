"""Tickets as pages and the interface show them: DESIGN's ticket, and the reason why each row is there.

A fold says what the ticket's own stream says; names, alerts and links are put beside it for a whole page at once.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from engine.incident import Incident, IncidentImported, IncidentOpened
from engine.request import RequestImported, RequestSubmitted, ServiceRequest
from engine.target import AT_RISK
from projections.people import names
from projections.projection import batched
from projections.ticket_fold import TicketFold
from projections.views import Reader

MOST_ALERTS_IN_A_LIST: Final = 20
MOST_ALERTS: Final = 200


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a link between tickets.

    Attributes:
        incoming: the other ticket says it of this one (`relation` reads from the other to this).
    """

    number: str
    relation: str
    title: str
    state: str
    incoming: bool = False


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a ticket is where it is; None and 0 where there is nothing to say.

    Attributes:
        alert: the number of the alert that it was opened for.
        occurrences: monitoring events of its alerts; None as of the past.
        resolve_proposed: its alerts ended, but a person has it in hand.
    """

    rule: str | None
    rule_version: int | None
    alert: str | None
    alerts: int
    alerts_firing: int
    occurrences: int | None
    waiting_for: str | None
    resolve_proposed: bool


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """Where a ticket comes from: the tool before, and its number there."""

    system: str
    old_number: str


class TicketRow(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket. Instants are aware and UTC.

    Attributes:
        assignee, requester: names; who was erased has none.
        alerts: numbers, in the order in which they joined; at most 20 in a list and 200 on its own (`alerts_total`).
        version: of its own stream, for `If-Match`.
        updated_at: when its stream last changed.
        responded_at: when the requester first heard of it from a person.
        response_due_at, resolution_due_at: what was promised.
        next_due_at: of the two, the one that is next; None where it is done. `at_risk_at` begins the last quarter of its time.
        description: only where one ticket was asked for.
        fields: what a request's form was filled in with, or what else was told of an imported ticket; likewise.
        imported: None: it was opened here.
        impact, urgency, recovered: None on a service request.
    """

    id: UUID
    number: str
    kind: str
    title: str
    state: str
    meaning: str
    priority: str
    service: str | None
    category: str | None
    team: str | None
    assignee: str | None
    assignee_id: UUID | None
    level: int
    channel: str
    requester: str | None
    requester_id: UUID | None
    opened_at: datetime
    acknowledged_at: datetime | None
    responded_at: datetime | None
    response_due_at: datetime
    resolution_due_at: datetime
    next_due_at: datetime | None
    at_risk_at: datetime | None
    resolved_at: datetime | None
    updated_at: datetime
    version: int
    impact: str | None
    urgency: str | None
    recovered: bool | None
    approved: bool | None
    item: str | None
    alerts: list[str]
    alerts_total: int
    alerts_firing: int
    links: list[Link]
    why: Why
    imported: Imported | None = None
    description: str = ""
    fields: dict[str, str] = {}


def dress(reader: Reader, folds: Sequence[TicketFold], at: int, *, past: bool, most_alerts: int = MOST_ALERTS_IN_A_LIST) -> list[TicketRow]:
    """Rows for these tickets, in the same order, with what was known at position `at`.

    Args:
        past: whether `at` is not the present of this snapshot.
    """
    people = names(reader, _people(folds))
    numbers = _alert_numbers(reader, folds, at, most_alerts)
    links = _links(reader, folds, at)
    occurrences = {} if past else _occurrences(reader, folds)
    rows = []
    for fold in folds:
        aggregate = fold.aggregate
        incident = aggregate if isinstance(aggregate, Incident) else None
        request = aggregate if isinstance(aggregate, ServiceRequest) else None
        total, firing = _alert_counts(reader, fold, at)
        assert aggregate.opened_at is not None
        assert fold.updated_at is not None
        assert fold.response_due is not None
        assert fold.resolution_due is not None
        rows.append(
            TicketRow(
                id=aggregate.id, number=aggregate.number, kind=fold.kind, title=aggregate.title, state=aggregate.state_name,
                meaning=fold.meaning, priority=aggregate.priority.value, service=aggregate.service,
                category=aggregate.category, team=aggregate.team,
                assignee=_name(people, aggregate.assignee), assignee_id=aggregate.assignee, level=aggregate.level,
                channel=fold.channel, requester=_name(people, aggregate.requester), requester_id=aggregate.requester,
                opened_at=aggregate.opened_at, acknowledged_at=fold.acknowledged_at, responded_at=fold.responded_at,
                response_due_at=fold.response_due, resolution_due_at=fold.resolution_due, next_due_at=fold.next_due,
                at_risk_at=_at_risk(fold), resolved_at=aggregate.resolved_at,
                updated_at=fold.updated_at, version=aggregate.version,
                impact=incident.impact.value if incident else None, urgency=incident.urgency.value if incident else None,
                recovered=incident.recovered if incident else None, approved=request.approved if request else None,
                item=request.item if request else None, alerts=numbers.members.get(aggregate.id, []), alerts_total=total,
                alerts_firing=firing, links=links.get(aggregate.id, []),
                imported=None if aggregate.imported is None else Imported(system=aggregate.imported[0], old_number=aggregate.imported[1]),
                why=Why(
                    rule=fold.rule, rule_version=fold.rule_version, alert=numbers.openers.get(fold.alert),
                    alerts=total, alerts_firing=firing, occurrences=None if past else occurrences.get(aggregate.id, 0),
                    waiting_for=fold.waiting_for,
                    resolve_proposed=bool(incident and incident.recovered and incident.touched and incident.is_open),
                ),
            )
        )
    return rows


def _at_risk(fold: TicketFold) -> datetime | None:
    """Since when the time that is left is the last quarter."""
    next_due = fold.next_due
    if next_due is None:
        return None
    began = fold.aggregate.opened_at if fold.responded_at is None else fold.began_at
    assert began is not None
    return next_due - (next_due - began) * AT_RISK


def with_text(reader: Reader, row: TicketRow, position: int) -> TicketRow:
    """`row` with what was written when it was opened, read from that event in the log (`position`)."""
    stored = reader.ledger.store.at(position)
    event = reader.ledger.fact(stored).event if stored is not None else None
    if isinstance(event, IncidentOpened):
        return msgspec.structs.replace(row, description=event.description)
    if isinstance(event, RequestSubmitted | IncidentImported | RequestImported):
        return msgspec.structs.replace(row, description=event.description, fields=event.fields)
    return row


def _people(folds: Iterable[TicketFold]) -> set[UUID | None]:
    return {person for fold in folds for person in (fold.aggregate.assignee, fold.aggregate.requester)}


def _name(people: dict[UUID, str], person: UUID | None) -> str | None:
    return None if person is None else people.get(person)


class _Numbers:
    """Numbers of alerts: by incident its members, and by alert those that tickets were opened for."""

    def __init__(self) -> None:
        self.members: dict[UUID, list[str]] = {}
        self.openers: dict[UUID | None, str] = {}


def _alert_numbers(reader: Reader, folds: Sequence[TicketFold], at: int, most: int) -> _Numbers:
    numbers = _Numbers()
    for fold in folds:
        if isinstance(fold.aggregate, Incident) and fold.aggregate.correlation is not None:
            rows = reader.rows(
                "SELECT a.number FROM ticket_alerts AS m JOIN alerts AS a ON a.id = m.alert "
                "WHERE m.incident = :incident AND m.joined <= :at AND a.listed <= :at ORDER BY m.joined LIMIT :most",
                {"incident": fold.aggregate.id.bytes, "at": at, "most": most},
            )
            numbers.members[fold.aggregate.id] = [row[0] for row in rows]
    openers = sorted({fold.alert.bytes for fold in folds if fold.alert is not None})
    for batch in batched(openers):
        marks = ", ".join("?" * len(batch))
        for alert, number in reader.rows(f"SELECT id, number FROM alerts WHERE id IN ({marks}) AND listed <= ?", [*batch, at]):
            numbers.openers[UUID(bytes=alert)] = number
    return numbers


def _alert_counts(reader: Reader, fold: TicketFold, at: int) -> tuple[int, int]:
    """(alerts, firing ones)."""
    if not isinstance(fold.aggregate, Incident) or fold.aggregate.correlation is None:
        return 0, 0
    row = reader.row(
        "SELECT total, firing FROM ticket_alert_counts WHERE incident = :incident AND position <= :at "
        "ORDER BY position DESC LIMIT 1",
        {"incident": fold.aggregate.id.bytes, "at": at},
    )
    return (row[0], row[1]) if row else (0, 0)


def _links(reader: Reader, folds: Sequence[TicketFold], at: int) -> dict[UUID, list[Link]]:
    found: dict[UUID, list[Link]] = {}
    for fold in folds:
        rows = reader.rows(
            "SELECT l.position AS position, t.number, l.relation, t.title, t.ticket, t.state, 0 FROM ticket_links AS l "
            "JOIN tickets AS t ON t.id = l.target WHERE l.source = :id AND l.position <= :at AND t.ticket <= :at "
            "UNION ALL "
            "SELECT l.position, t.number, l.relation, t.title, t.ticket, t.state, 1 FROM ticket_links AS l "
            "JOIN tickets AS t ON t.id = l.source WHERE l.target = :id AND l.position <= :at ORDER BY position",
            {"id": fold.aggregate.id.bytes, "at": at},
        )
        if rows:
            found[fold.aggregate.id] = [
                Link(number=number, relation=relation, title=title, state=_state(reader, ticket, at) or state, incoming=bool(incoming))
                for _, number, relation, title, ticket, state, incoming in rows
            ]
    return found


def _state(reader: Reader, ticket: int, at: int) -> str | None:
    """The state of a ticket at a position."""
    row = reader.row(
        "SELECT state FROM ticket_versions WHERE ticket = :ticket AND valid_from <= :at ORDER BY valid_from DESC LIMIT 1",
        {"ticket": ticket, "at": at},
    )
    return None if row is None else str(row[0])


def _occurrences(reader: Reader, folds: Sequence[TicketFold]) -> dict[UUID, int]:
    found: dict[UUID, int] = {}
    incidents = [fold.aggregate.id.bytes for fold in folds if isinstance(fold.aggregate, Incident) and fold.aggregate.correlation]
    for batch in batched(incidents):
        marks = ", ".join("?" * len(batch))
        sql = f"SELECT incident, number FROM incident_occurrences WHERE incident IN ({marks})"
        found |= {UUID(bytes=incident): number for incident, number in reader.rows(sql, batch)}
    return found
