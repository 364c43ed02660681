"""Why a value is what it is: the fact that set it, and the chain of facts and rules that led to that one.

Nothing is stored for it: every fact names its cause, and the chain ends in one that came from outside.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.aggregate import Aggregate
from engine.alert import Alert
from engine.errors import InvalidInput, NotFound, Phrase
from engine.event import Fact, shown_fields
from engine.incident import Incident
from engine.ledger import Ledger
from engine.request import ServiceRequest
from engine.ticket import Ticket, TicketTriaged
from projections.views import Reader

LONGEST_CHAIN: Final = 50
# Field as people know it -> attribute of the aggregate that holds it.
TICKET_FIELDS: Final = {
    "state": "state_name", "priority": "priority", "impact": "impact", "urgency": "urgency", "team": "team",
    "assignee": "assignee", "level": "level", "category": "category", "service": "service", "title": "title", "resolved_at": "resolved_at",
    "recovered": "recovered", "links": "links", "requester": "requester", "opened_at": "opened_at", "number": "number",
}
ALERT_FIELDS: Final = {
    "firing": "firing", "severity": "severity", "acknowledged": "acknowledged", "started_at": "started_at",
    "ended_at": "ended_at", "incident": "incident", "service": "service", "number": "number",
}


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a chain.

    Attributes:
        rule, rule_version: where a rule decided it.
        data: the event's fields.
    """

    position: int
    recorded_at: datetime
    type: str
    actor: str
    stream: str
    version: int
    rule: str | None
    rule_version: int | None
    data: dict[str, Any]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A value and its chain, from the fact that set it back to what came from outside."""

    field: str
    value: Any
    chain: list[Reason]


def why(reader: Reader, number: str, field: str | None = None, *, as_of: int | None = None) -> list[Explanation]:
    """The chain behind one field of a ticket or alert, or behind each that was ever set.

    Raises:
        NotFound: no record of that number.
        InvalidInput: no such field; lists those that there are.
    """
    stream, blank, fields = _record(reader, number)
    if field is not None and field not in fields:
        raise InvalidInput("field", Phrase("one of %s", ', '.join(fields)))
    at = reader.at(as_of)
    facts = [fact for fact in reader.ledger.stream(stream) if fact.position <= at]
    explained = []
    for name in fields if field is None else (field,):
        setter, value = _setter(blank(stream), fields[name], facts)
        if setter is not None:
            explained.append(Explanation(field=name, value=_told(value), chain=_chain(reader.ledger, setter)))
    return explained


def _record(reader: Reader, number: str) -> tuple[UUID, type[Aggregate], dict[str, str]]:
    row = reader.row("SELECT kind, id FROM tickets WHERE number = :number", {"number": number})
    if row is not None:
        kind: type[Ticket] = Incident if row[0] == "incident" else ServiceRequest
        held = vars(kind(UUID(int=0)))
        return UUID(bytes=row[1]), kind, {name: place for name, place in TICKET_FIELDS.items() if place in held}
    row = reader.row("SELECT id FROM alerts WHERE number = :number", {"number": number})
    if row is None:
        raise NotFound("ticket or alert", number)
    return UUID(bytes=row[0]), Alert, ALERT_FIELDS


def _setter(aggregate: Aggregate, attribute: str, facts: list[Fact]) -> tuple[Fact | None, Any]:
    """The last fact that changed the attribute, and the value that it has."""
    setter, value = None, getattr(aggregate, attribute)
    for fact in facts:
        aggregate.apply(fact)
        now = getattr(aggregate, attribute)
        if now != value or (setter is None and fact.version == 1):
            setter, value = fact, now
    return setter, value


def _chain(ledger: Ledger, fact: Fact) -> list[Reason]:
    chain: list[Reason] = []
    found: Fact | None = fact
    while found is not None and len(chain) < LONGEST_CHAIN:
        chain.append(_reason(found))
        found = _cause(ledger, found.cause)
    return chain


def _cause(ledger: Ledger, reference: str | None) -> Fact | None:
    if reference is None:
        return None
    stream, _, version = reference.rpartition(":")
    rows = ledger.store.stream(UUID(stream).bytes, after=int(version) - 1, upto=int(version))
    return ledger.fact(rows[0]) if rows else None


def _reason(fact: Fact) -> Reason:
    event = fact.event
    rule, version = getattr(event, "rule", None), getattr(event, "rule_version", None)
    if isinstance(event, TicketTriaged):
        rule, version = ", ".join(row.name for row in event.decisions), event.rulebook_version
    named = isinstance(rule, str)
    return Reason(
        position=fact.position, recorded_at=fact.recorded_at, type=fact.type, actor=fact.actor, stream=str(fact.stream_id),
        version=fact.version, rule=rule if named else None,
        rule_version=version if named else None, data=msgspec.to_builtins(shown_fields(fact.event)),
    )


def _told(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=(datetime,))
