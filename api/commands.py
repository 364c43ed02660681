"""Commands on tickets: what a body may say, and what it does. `api/writing.py` runs them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from engine.clock import rfc3339
from engine.errors import InvalidInput, Phrase
from engine.incident import Incident
from engine.person import Person
from engine.priority import Level, Priority
from engine.report import Report
from engine.report import open_incident as report_incident
from engine.report import submit_request as report_request
from engine.request import ServiceRequest
from engine.ticket import Relation, Ticket, Visibility
from engine.work import Work

LONGEST_TITLE: Final = 300
LONGEST_TEXT: Final = 100_000
LONGEST_NAME: Final = 200

KINDS: Final[dict[str, type[Ticket]]] = {"incident": Incident, "request": ServiceRequest}


class Body(BaseModel):
    """A JSON body; a member that it does not know is refused, so that a misspelt one is not lost silently."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Nothing(Body):
    """No members."""


class Assign(Body):
    team: str | None = Field(None, max_length=LONGEST_NAME, description="left out: as it is; null: none")
    assignee: str | None = Field(
        None, max_length=LONGEST_NAME, description="login or e-mail address of an account; left out: as it is; null: nobody"
    )


class Comment(Body):
    text: str = Field(min_length=1, max_length=LONGEST_TEXT)
    visibility: Visibility = Visibility.INTERNAL


class Escalate(Body):
    reason: str = Field(min_length=1, max_length=LONGEST_TEXT)
    level: int | None = Field(None, ge=1, le=3)
    team: str | None = Field(None, max_length=LONGEST_NAME)


class Reason(Body):
    reason: str = Field(min_length=1, max_length=LONGEST_TEXT)


class SetPriority(Body):
    priority: Priority
    reason: str = Field(min_length=1, max_length=LONGEST_TEXT)


class SetImpact(Body):
    impact: Level
    urgency: Level


class Resolve(Body):
    code: str = Field(max_length=LONGEST_NAME)
    solution: str = Field(min_length=1, max_length=LONGEST_TEXT)


class Categorise(Body):
    category: str | None = Field(None, max_length=LONGEST_NAME, description="null or left out: none")


class Link(Body):
    to: str = Field(max_length=LONGEST_NAME, description="number of the other ticket")
    relation: Relation = Relation.RELATED


class Fulfil(Body):
    note: str = Field("", max_length=LONGEST_TEXT)


class OpenIncident(Body):
    title: str = Field(min_length=1, max_length=LONGEST_TITLE)
    impact: Level = Level.MEDIUM
    urgency: Level = Level.MEDIUM
    service: str | None = Field(None, max_length=LONGEST_NAME)
    team: str | None = Field(None, max_length=LONGEST_NAME)
    category: str | None = Field(None, max_length=LONGEST_NAME)
    requester: str | None = Field(None, max_length=LONGEST_NAME, description="login, or name or e-mail address of the person")
    description: str = Field("", max_length=LONGEST_TEXT)
    channel: str = Field("api", max_length=LONGEST_NAME)


class SubmitRequest(Body):
    title: str = Field(min_length=1, max_length=LONGEST_TITLE)
    requester: str = Field(min_length=1, max_length=LONGEST_NAME, description="login, or name or e-mail address of the person")
    item: str | None = Field(None, max_length=LONGEST_NAME)
    service: str | None = Field(None, max_length=LONGEST_NAME)
    team: str | None = Field(None, max_length=LONGEST_NAME)
    category: str | None = Field(None, max_length=LONGEST_NAME)
    description: str = Field("", max_length=LONGEST_TEXT)
    fields: dict[str, str] = {}
    needs_approval: bool = True
    channel: str = Field("api", max_length=LONGEST_NAME)


@dataclass(frozen=True, slots=True)
class Context:
    """What a command needs besides its ticket and body.

    Attributes:
        person: who gives it, if it is a person.
        handle: text of a login or address to its keyed digest.
        linked: streams of the tickets that the body names, by number.
    """

    work: Work
    person: UUID | None
    handle: Callable[[str], bytes]
    linked: Mapping[str, UUID] = field(default_factory=dict)

    def ticket(self, name: str, number: str) -> UUID:
        """Raises: InvalidInput: there is no ticket of that number."""
        if number not in self.linked:
            raise InvalidInput(name, Phrase("the number of a ticket; there is no %s", number))
        return self.linked[number]

    def account(self, field: str, handle: str | None) -> UUID | None:
        """The person of an account.

        Raises:
            InvalidInput: nobody with an account is known as `handle`.
        """
        if handle is None:
            return None
        found = self.work.store.pending_person(self.handle(handle))
        if found is None or self.work.load(Person, UUID(bytes=found)).role is None:
            raise InvalidInput(field, Phrase("the login or address of an account; %s is none", handle))
        return UUID(bytes=found)

    def requester(self, text: str | None) -> UUID | None:
        """The person known by this login, address or name; a new one is registered."""
        if not text:
            return None
        digest = self.handle(text)
        found = self.work.store.pending_person(digest)
        if found is not None:
            return UUID(bytes=found)
        person = self.work.fresh(Person, self.work.new_id())
        person.register(name=text, email=text if "@" in text else None)
        self.work.after.append(lambda store: store.set_handle(digest, person.id.bytes))
        return person.id


Command = Callable[[Any, Any, Context], object]


def _assign(ticket: Ticket, body: Assign, context: Context) -> object:
    """What the body leaves out stays as it is; null takes it away."""
    given = body.model_fields_set
    if not given:
        raise InvalidInput("team", "a team, an assignee, or both")
    return ticket.assign(
        team=body.team if "team" in given else ticket.team,
        assignee=context.account("assignee", body.assignee) if "assignee" in given else ticket.assignee,
    )


def _link(ticket: Ticket, body: Link, context: Context) -> object:
    return ticket.link(to=context.ticket("to", body.to), relation=body.relation)


# Command -> (its body, what it does). The ticket's own guards say when it may be done.
COMMANDS: Final[dict[str, tuple[type[Body], Command]]] = {
    "acknowledge": (Nothing, lambda ticket, body, context: ticket.acknowledge(by=context.person)),
    "assign": (Assign, _assign),
    "comment": (
        Comment,
        lambda ticket, body, context: ticket.comment(text=body.text, visibility=body.visibility, author=context.person),
    ),
    "escalate": (
        Escalate,
        lambda ticket, body, context: ticket.escalate(level=body.level, team=body.team, reason=body.reason),
    ),
    "hold": (Reason, lambda ticket, body, context: ticket.hold(reason=body.reason)),
    "resume": (Nothing, lambda ticket, body, context: ticket.resume()),
    "set-priority": (
        SetPriority,
        lambda ticket, body, context: ticket.set_priority(priority=body.priority, reason=body.reason),
    ),
    "reopen": (Reason, lambda ticket, body, context: ticket.reopen(reason=body.reason)),
    "close": (Nothing, lambda ticket, body, context: ticket.close()),
    "cancel": (Reason, lambda ticket, body, context: ticket.cancel(reason=body.reason)),
    "categorise": (Categorise, lambda ticket, body, context: ticket.categorise(category=body.category)),
    "link": (Link, _link),
    "renew-link": (Nothing, lambda ticket, body, context: ticket.renew_link()),
}
INCIDENT_COMMANDS: Final[dict[str, tuple[type[Body], Command]]] = {
    **COMMANDS,
    "set-impact": (SetImpact, lambda ticket, body, context: ticket.set_impact(impact=body.impact, urgency=body.urgency)),
    "resolve": (
        Resolve,
        lambda ticket, body, context: ticket.resolve(code=body.code, solution=body.solution, now=context.work.now),
    ),
}
REQUEST_COMMANDS: Final[dict[str, tuple[type[Body], Command]]] = {
    **COMMANDS,
    "approve": (Nothing, lambda ticket, body, context: ticket.approve(by=context.person)),
    "decline": (Reason, lambda ticket, body, context: ticket.decline(reason=body.reason, by=context.person)),
    "fulfil": (Fulfil, lambda ticket, body, context: ticket.fulfil(note=body.note, now=context.work.now)),
}
COMMANDS_OF: Final = {"incident": INCIDENT_COMMANDS, "request": REQUEST_COMMANDS}


def open_incident(body: OpenIncident, context: Context) -> Incident:
    """Open an incident that a person or program reports; what the body leaves out, the rulebook may fill in."""
    given = body.model_fields_set
    report = Report(
        title=body.title, channel=body.channel, requester=context.requester(body.requester), description=body.description,
        service=body.service, team=body.team, category=body.category,
        impact=body.impact if "impact" in given else None, urgency=body.urgency if "urgency" in given else None,
    )
    return report_incident(context.work, report)


def submit_request(body: SubmitRequest, context: Context) -> ServiceRequest:
    """Submit a service request on behalf of its requester."""
    report = Report(
        title=body.title, channel=body.channel, requester=context.requester(body.requester), description=body.description,
        service=body.service, team=body.team, category=body.category, item=body.item, fields=body.fields,
        needs_approval=body.needs_approval,
    )
    return report_request(context.work, report)


def shown(work: Work, ticket: Ticket, *, alerts: list[str], links: list[dict[str, str]]) -> dict[str, Any]:
    """A ticket as its API shows it, from the state of this moment.

    Args:
        alerts, links: as the views know them; commands do not change the alerts.
    """

    def name(person: UUID | None) -> str | None:
        return work.load(Person, person).name if person else None

    answer: dict[str, Any] = {
        "number": ticket.number,
        "kind": ticket.KIND,
        "title": ticket.title,
        "state": ticket.state_name,
        "meaning": ticket.meaning,
        "priority": ticket.priority,
        "service": ticket.service,
        "category": ticket.category,
        "team": ticket.team,
        "assignee": name(ticket.assignee),
        "assignee_id": ticket.assignee,
        "channel": ticket.channel,
        "requester": name(ticket.requester),
        "requester_id": ticket.requester,
        "opened_at": ticket.opened_at and rfc3339(ticket.opened_at),
        "resolved_at": ticket.resolved_at and rfc3339(ticket.resolved_at),
        "level": ticket.level,
        "version": ticket.version,
        "links": links,
        "imported": ticket.imported and {"system": ticket.imported[0], "old_number": ticket.imported[1]},
        "legal": list(ticket.legal_commands()),
    }
    if isinstance(ticket, Incident):
        answer |= {
            "impact": ticket.impact, "urgency": ticket.urgency, "recovered": ticket.recovered, "alerts": alerts,
        }
    elif isinstance(ticket, ServiceRequest):
        answer |= {"item": ticket.item, "approved": ticket.approved}
    return answer
