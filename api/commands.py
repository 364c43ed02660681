"""Commands on tickets: what a body may say, what it does, and the one way in which every write is run.

Every write goes through `execute`: idempotency key, expected version, decision, answer; all in one commit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from uuid import UUID

import msgspec
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Principal
from api.door import house_of
from engine.aggregate import Aggregate
from engine.clock import from_micros, micros, rfc3339
from engine.errors import InvalidInput, NotFound, StaleVersion
from engine.incident import Incident
from engine.ledger import Unit, Work
from engine.person import Person
from engine.priority import Level, Priority
from engine.request import ServiceRequest
from engine.store import Answer, Store
from engine.ticket import Relation, Ticket, Visibility
from engine.vault import Vault

LONGEST_TITLE: Final = 300
LONGEST_TEXT: Final = 100_000
LONGEST_NAME: Final = 200
LONGEST_KEY: Final = 255

KINDS: Final[dict[str, type[Ticket]]] = {"incident": Incident, "request": ServiceRequest}


class Body(BaseModel):
    """A JSON body; a member that it does not know is refused, so that a misspelt one is not lost silently."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Nothing(Body):
    """No members."""


class Assign(Body):
    team: str | None = Field(None, max_length=LONGEST_NAME)
    assignee: str | None = Field(None, max_length=LONGEST_NAME, description="login or e-mail address of an account; null: nobody")


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
    requester: str | None = Field(None, max_length=LONGEST_NAME, description="login, or name or e-mail address of the person")
    description: str = Field("", max_length=LONGEST_TEXT)
    channel: str = Field("api", max_length=LONGEST_NAME)


class SubmitRequest(Body):
    title: str = Field(min_length=1, max_length=LONGEST_TITLE)
    requester: str = Field(min_length=1, max_length=LONGEST_NAME, description="login, or name or e-mail address of the person")
    item: str | None = Field(None, max_length=LONGEST_NAME)
    service: str | None = Field(None, max_length=LONGEST_NAME)
    team: str | None = Field(None, max_length=LONGEST_NAME)
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
            raise InvalidInput(name, f"the number of a ticket; there is no {number}")
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
            raise InvalidInput(field, f"the login or address of an account; {handle} is none")
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


def _link(ticket: Ticket, body: Link, context: Context) -> object:
    return ticket.link(to=context.ticket("to", body.to), relation=body.relation)


# Command -> (its body, what it does). The ticket's own guards say when it may be done.
COMMANDS: Final[dict[str, tuple[type[Body], Command]]] = {
    "acknowledge": (Nothing, lambda ticket, body, context: ticket.acknowledge(by=context.person)),
    "assign": (
        Assign,
        lambda ticket, body, context: ticket.assign(team=body.team, assignee=context.account("assignee", body.assignee)),
    ),
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
    "link": (Link, _link),
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
    """Open an incident that a person or program reports."""
    work = context.work
    requester = context.requester(body.requester)
    incident = Incident.open(
        work.new_id(), work.journal, number=work.number("INC"), title=body.title, impact=body.impact, urgency=body.urgency,
        now=work.now, channel=body.channel, description=body.description, service=body.service, team=body.team,
        requester=requester,
    )
    work.adopt(incident)
    return incident


def submit_request(body: SubmitRequest, context: Context) -> ServiceRequest:
    """Submit a service request on behalf of its requester."""
    work = context.work
    requester = context.requester(body.requester)
    assert requester is not None
    request = ServiceRequest.submit(
        work.new_id(), work.journal, number=work.number("REQ"), title=body.title, requester=requester, now=work.now,
        channel=body.channel, item=body.item, service=body.service, team=body.team, description=body.description,
        fields=body.fields, needs_approval=body.needs_approval,
    )
    work.adopt(request)
    return request


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it was, or will be, sent."""

    status: int
    body: bytes
    headers: dict[str, str]

    def response(self) -> Response:
        return Response(self.body, self.status, media_type="application/json", headers=self.headers)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A sender's key for one write: principal, route and key name it, `request` is the digest of what was asked."""

    principal: str
    route: str
    key: str
    request: bytes

    CONTEXT: ClassVar[bytes] = b"answers"

    @classmethod
    def of(cls, request: Request, principal: Principal, body: bytes, vault: Vault) -> "IdempotencyKey | None":
        """The key of a request; None where it has none.

        Raises:
            InvalidInput: empty or too long.
        """
        key = request.headers.get("idempotency-key")
        if key is None:
            return None
        if not 0 < len(key) <= LONGEST_KEY:
            raise InvalidInput("Idempotency-Key", f"1 to {LONGEST_KEY} characters")
        asked = request.headers.get("if-match", "").encode() + b"\n" + body
        return cls(principal.actor, f"{request.method} {request.url.path}", key, vault.digest(asked))

    def remembered(self, work: Work) -> Stored | None:
        """The answer of the first time.

        Raises:
            InvalidInput: the key was used for something else.
        """
        found = work.store.answer(self.principal, self.route, self.key)
        if found is None:
            return None
        if found.request != self.request:
            raise InvalidInput("Idempotency-Key", "a key that was not used for another request")
        body = work.vault.unseal(self._vault_key(), self.CONTEXT, found.sealed)
        if body is None:
            raise NotFound("remembered answer", self.key)
        return Stored(found.status, body, msgspec.json.decode(found.headers, type=dict[str, str]))

    def remember(self, work: Work, stored: Stored) -> None:
        """Keep the answer, in the commit of what it answers."""
        sealed = work.vault.seal(self._vault_key(), self.CONTEXT, stored.body)
        answer = Answer(self.request, stored.status, msgspec.json.encode(stored.headers).decode(), sealed)
        recorded_at = micros(work.now)

        def keep(store: Store) -> None:
            store.remember_answer(self.principal, self.route, self.key, answer, recorded_at)
            store.forget_answers(recorded_at - KEPT_SECONDS * 1_000_000)

        work.after.append(keep)

    def _vault_key(self) -> bytes:
        return b"store:answers"


KEPT_SECONDS: Final = 48 * 3600


async def execute(
    request: Request,
    principal: Principal,
    decide: Callable[[Work], tuple[int, Aggregate, dict[str, Any]]],
) -> Stored:
    """Run one write: `decide` gives status, the record that changed and its JSON; once per idempotency key."""
    house = house_of(request)
    key = IdempotencyKey.of(request, principal, await request.body(), house.vault)

    def run(work: Work) -> Stored:
        if key is not None and (known := key.remembered(work)) is not None:
            return known
        status, record, shown = decide(work)
        position = work.stamp()
        headers = {"ETag": f'"{record.version}"', "Tocsin-Position": str(position)}
        if status == 201:
            headers["Location"] = f"{request.url.path.rstrip('/')}/{shown['number']}"
        stored = Stored(status, msgspec.json.encode(shown), headers)
        if key is not None:
            key.remember(work, stored)
        return stored

    return await house.ledger.commit(Unit(run, actor=principal.actor))


def expect_version(request: Request, work: Work, ticket: Ticket) -> None:
    """Check `If-Match` against the ticket's version.

    Raises:
        InvalidInput: not an ETag of ours.
        StaleVersion: the sender saw an older version.
    """
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return
    text = header.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput("If-Match", f'an ETag as it was sent, such as "{ticket.version}"')
    check_version(work, ticket, int(text))


def check_version(work: Work, ticket: Ticket, seen: int) -> None:
    """Raises: StaleVersion: the writer saw an older version; says what changed since."""
    if seen == ticket.version:
        return
    rows = work.store.pending_stream(ticket.id.bytes)
    changes = [(row.type, rfc3339(from_micros(row.recorded_at))) for row in rows if row.version > seen]
    raise StaleVersion(ticket.number, seen=seen, current=ticket.version, changes=changes)


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
        "legal": list(ticket.legal_commands()),
    }
    if isinstance(ticket, Incident):
        answer |= {
            "impact": ticket.impact, "urgency": ticket.urgency, "recovered": ticket.recovered, "alerts": alerts,
        }
    elif isinstance(ticket, ServiceRequest):
        answer |= {"item": ticket.item, "approved": ticket.approved}
    return answer
