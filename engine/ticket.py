"""What incidents and service requests share: assignment, conversation, waiting, links, closing.

A ticket's state is the organisation's word; its meaning is one of a closed set, and guards test the meaning.
`engine/incident.py` and `engine/request.py` add what is their own.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Protocol
from uuid import UUID

import msgspec

from engine.aggregate import Aggregate, Journal, applies
from engine.errors import IllegalTransition, InvalidInput, Phrase
from engine.event import Event, Fact, Personal
from engine.priority import Level, Priority


class Meaning(StrEnum):
    """What a state means for queues, clocks and measures, whatever an organisation calls it."""

    NEW = "new"
    ACTIVE = "active"
    WAITING = "waiting"
    RESOLVED = "resolved"
    CLOSED = "closed"
    CANCELLED = "cancelled"


OPEN: Final = frozenset({Meaning.NEW, Meaning.ACTIVE, Meaning.WAITING})

# ITIL's default states and what each one means.
MEANINGS: Final[Mapping[str, Meaning]] = {
    "new": Meaning.NEW,
    "submitted": Meaning.NEW,
    "approved": Meaning.ACTIVE,
    "assigned": Meaning.ACTIVE,
    "in_progress": Meaning.ACTIVE,
    "pending": Meaning.WAITING,
    "resolved": Meaning.RESOLVED,
    "fulfilled": Meaning.RESOLVED,
    "closed": Meaning.CLOSED,
    "cancelled": Meaning.CANCELLED,
    "declined": Meaning.CANCELLED,
}


class Visibility(StrEnum):
    """Who reads a comment: the requester too, or the people working on it."""

    PUBLIC = "public"
    INTERNAL = "internal"


class Relation(StrEnum):
    """How one ticket stands to another. `successor_of` is set by correlation when a condition comes back."""

    RELATED = "related"
    DUPLICATE_OF = "duplicate_of"
    CAUSED_BY = "caused_by"
    PARENT_OF = "parent_of"
    CHILD_OF = "child_of"
    SUCCESSOR_OF = "successor_of"


class TicketAcknowledged(Event, frozen=True):
    """Somebody has seen it and is on it."""

    TOPIC: ClassVar[str] = "ticket.acknowledged.v1"
    by: UUID | None = None


class TicketAssigned(Event, frozen=True):
    """Given to a team, a person or both; None leaves nobody."""

    TOPIC: ClassVar[str] = "ticket.assigned.v1"
    team: str | None = None
    assignee: UUID | None = None


class TicketCommented(Event, frozen=True):
    """Something was said on it. `text` belongs to `subject`: the requester's if there is one, else the author's.

    Attributes:
        template: the text that was sent by itself; None: somebody wrote it.
    """

    TOPIC: ClassVar[str] = "ticket.commented.v1"
    text: Annotated[str, Personal("subject")]
    visibility: Visibility
    author: UUID | None = None
    subject: UUID | None = None
    template: str | None = None


class TicketReported(Event, frozen=True):
    """What a person's report said besides its title and description, and what its form had shown before.

    Attributes:
        answers: the form's questions that were answered with yes (`talk_needed`, `task_needed`, `work_affected`, …).
        document: the document that answered it, or was said to.
        page: where the form was opened from.
        seconds: from opening the form to sending it.
        suggestions: titles that the form had offered while it was filled in.
        language: the reporter's.
    """

    TOPIC: ClassVar[str] = "ticket.reported.v1"
    requester: UUID | None = None
    answers: tuple[str, ...] = ()
    document: Annotated[str, Personal("requester")] = ""
    page: Annotated[str, Personal("requester")] = ""
    seconds: float = 0.0
    suggestions: Annotated[tuple[str, ...], Personal("requester")] = ()
    language: str = "en"


class Applied(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of the rulebook that decided something: its name, its condition, and what it decided."""

    name: str
    when: str
    decided: dict[str, str]


class TicketTriaged(Event, frozen=True):
    """The rulebook filled in what nobody had said; None is left as it was.

    Attributes:
        decisions: the rows that decided it, in the order of the rulebook.
    """

    TOPIC: ClassVar[str] = "ticket.triaged.v1"
    rulebook_version: int
    decisions: tuple[Applied, ...]
    category: str | None = None
    team: str | None = None
    level: int | None = None
    priority: Priority | None = None
    impact: Level | None = None
    urgency: Level | None = None


class TicketCategorised(Event, frozen=True):
    """A person put it into a category; None takes it out of any."""

    TOPIC: ClassVar[str] = "ticket.categorised.v1"
    category: str | None = None


class TicketCommentImported(Event, frozen=True):
    """Something was said on it in the tool that was used before (`said_at`).

    Attributes:
        author: who said it, where that person is known here; otherwise `author_name` says it.
        subject: whose data text and name are: the requester's if there is one, else the author's.
    """

    TOPIC: ClassVar[str] = "ticket.comment_imported.v1"
    text: Annotated[str, Personal("subject")]
    visibility: Visibility
    said_at: datetime
    author: UUID | None = None
    author_name: Annotated[str | None, Personal("subject")] = None
    subject: UUID | None = None


class TicketFileAttached(Event, frozen=True):
    """A file was attached; its bytes lie in a table of their own (`engine/attachment.py`).

    Attributes:
        name: without folders; it belongs to `subject`: the requester if there is one, else who attached it.
        media_type: what its content was found to be.
        length: in bytes.
        digest: names the kept bytes (hexadecimal), and no other file's.
    """

    TOPIC: ClassVar[str] = "ticket.file_attached.v1"
    file: UUID
    name: Annotated[str, Personal("subject")]
    media_type: str
    length: int
    digest: str
    visibility: Visibility
    by: UUID | None = None
    subject: UUID | None = None


class TicketEscalated(Event, frozen=True):
    """Handed to a higher support level or to another team."""

    TOPIC: ClassVar[str] = "ticket.escalated.v1"
    reason: str
    level: int | None = None
    team: str | None = None


class TicketHeld(Event, frozen=True):
    """Waits for somebody or something outside; clocks that pause, pause."""

    TOPIC: ClassVar[str] = "ticket.held.v1"
    reason: str


class TicketResumed(Event, frozen=True):
    """The waiting is over."""

    TOPIC: ClassVar[str] = "ticket.resumed.v1"


class TicketPrioritySet(Event, frozen=True):
    """The priority was set by hand, against the matrix."""

    TOPIC: ClassVar[str] = "ticket.priority_set.v1"
    priority: Priority
    reason: str


class TicketReopened(Event, frozen=True):
    """What was taken for done was not."""

    TOPIC: ClassVar[str] = "ticket.reopened.v1"
    reason: str
    automatic: bool = False  # by a rule, because its condition came back within the reopen window


class TicketClosed(Event, frozen=True):
    """The end: confirmed or no longer of interest."""

    TOPIC: ClassVar[str] = "ticket.closed.v1"


class TicketCancelled(Event, frozen=True):
    """Not to be worked on after all."""

    TOPIC: ClassVar[str] = "ticket.cancelled.v1"
    reason: str


class TicketLinked(Event, frozen=True):
    """Stands in a relation to another ticket. `by_hand`: a person said so."""

    TOPIC: ClassVar[str] = "ticket.linked.v1"
    to: UUID
    relation: Relation
    by_hand: bool = True


class TicketLinkRenewed(Event, frozen=True):
    """The requester's private link is another one from here on; the one before is void."""

    TOPIC: ClassVar[str] = "ticket.link_renewed.v1"


LONGEST_NAME: Final = 200


def required(field: str, value: str | None, expected: str) -> str:
    """`value` without outer blanks.

    Raises:
        InvalidInput: nothing is left.
    """
    text = (value or "").strip()
    if not text:
        raise InvalidInput(field, expected)
    return text


class ImportedTicket(Protocol):
    """What `incident.imported` and `request.imported` have in common."""

    @property
    def number(self) -> str: ...
    @property
    def system(self) -> str: ...
    @property
    def old_number(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def state(self) -> str: ...
    @property
    def opened_at(self) -> datetime: ...
    @property
    def channel(self) -> str: ...
    @property
    def service(self) -> str | None: ...
    @property
    def team(self) -> str | None: ...
    @property
    def category(self) -> str | None: ...
    @property
    def requester(self) -> UUID | None: ...
    @property
    def assignee(self) -> UUID | None: ...
    @property
    def acknowledged_at(self) -> datetime | None: ...
    @property
    def first_responded_at(self) -> datetime | None: ...
    @property
    def resolved_at(self) -> datetime | None: ...
    @property
    def closed_at(self) -> datetime | None: ...


def check_imported(event: ImportedTicket, states: Sequence[str], now: datetime) -> None:
    """See that what another tool says of a ticket can be.

    Raises:
        InvalidInput: names the field of the event.
    """
    for field in ("system", "old_number", "title"):
        required(field, getattr(event, field), "a text")
    if event.state not in states:
        raise InvalidInput("state", Phrase("one of %s", ', '.join(states)))
    if event.opened_at > now:
        raise InvalidInput("opened_at", "a time that is not in the future")
    for field in ("acknowledged_at", "first_responded_at", "resolved_at", "closed_at"):
        instant = getattr(event, field)
        if instant is not None and instant < event.opened_at:
            raise InvalidInput(field, "a time that is not before the opening")
        if instant is not None and instant > now:
            raise InvalidInput(field, "a time that is not in the future")
    meaning = MEANINGS[event.state]
    if meaning in OPEN and event.resolved_at is not None:
        raise InvalidInput("resolved_at", Phrase("none: it is %s", event.state.replace('_', ' ')))
    if meaning not in OPEN and event.resolved_at is None:
        raise InvalidInput("resolved_at", Phrase("a time: it is %s", event.state))


def plain_name(field: str, value: str | None, expected: str) -> str:
    """A name that people read: `value` without outer blanks.

    Raises:
        InvalidInput: empty, longer than 200 characters, or with characters that can't be seen.
    """
    text = required(field, value, expected)
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise InvalidInput(field, Phrase("%s: at most %s characters, all of them visible", Phrase(expected), LONGEST_NAME))
    return text


class Ticket(Aggregate):
    """The part of a ticket's life that does not depend on its kind.

    Attributes:
        touched: a person has taken it in hand (assigned, held, set its priority, resolved, linked it), so that automation proposes
            and no longer acts. Acknowledging and commenting do not count.
    """

    # The first state in which somebody works on it, by kind.
    WORKING: ClassVar[str] = "in_progress"
    # The states that end when it is given to somebody.
    UNASSIGNED: ClassVar[frozenset[str]] = frozenset({"new"})
    # Command -> meanings in which it makes sense; the order is that in which a refusal lists them.
    LEGAL: ClassVar[Mapping[str, frozenset[Meaning]]] = {
        "acknowledge": frozenset({Meaning.NEW, Meaning.ACTIVE}),
        "assign": OPEN,
        "comment": OPEN | {Meaning.RESOLVED},
        "attach": OPEN | {Meaning.RESOLVED},
        "escalate": OPEN,
        "hold": frozenset({Meaning.NEW, Meaning.ACTIVE}),
        "resume": frozenset({Meaning.WAITING}),
        "set-priority": OPEN,
        "categorise": OPEN,
        "reopen": frozenset({Meaning.RESOLVED}),
        "close": frozenset({Meaning.RESOLVED}),
        "cancel": OPEN,
        "link": frozenset(Meaning),
        "renew-link": frozenset(Meaning),
    }

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.number = ""
        self.state_name = ""
        self.title = ""
        self.channel = ""
        self.service: str | None = None
        self.category: str | None = None
        self.priority = Priority.P3
        self.team: str | None = None
        self.assignee: UUID | None = None
        self.level = 1
        self.requester: UUID | None = None
        self.opened_at: datetime | None = None
        self.resolved_at: datetime | None = None
        self.acknowledged = False
        self.touched = False
        self.before_hold = ""
        self.links: tuple[tuple[UUID, str], ...] = ()
        # How often the requester's private link was renewed: only the latest is good.
        self.link_generation = 0
        # (the tool that it came from, its number there)
        self.imported: tuple[str, str] | None = None

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[self.state_name]

    @property
    def is_open(self) -> bool:
        return self.exists and self.meaning in OPEN

    def legal_commands(self) -> tuple[str, ...]:
        """The commands that the present state allows."""
        return tuple(name for name, meanings in self.LEGAL.items() if self.meaning in meanings and not self.refusal(name))

    def refusal(self, command: str) -> str:
        """Why `command` makes no sense although the meaning allows it; empty if it does."""
        if command == "renew-link" and self.requester is None:
            return "it has no requester"
        return "it is acknowledged already" if command == "acknowledge" and self.acknowledged else ""

    def guard(self, command: str) -> None:
        """Raises: IllegalTransition: the state does not allow `command`."""
        why = self.refusal(command)
        if self.meaning not in self.LEGAL[command] or why:
            raise IllegalTransition(
                number=self.number, state=self.state_name, command=command, legal=self.legal_commands(),
                why=why if self.meaning in self.LEGAL[command] else "",
            )

    # -- commands ---------------------------------------------------------------------------------------------

    def acknowledge(self, *, by: UUID | None) -> Fact:
        """Somebody is on it; who has nobody's name on it yet moves to work in progress."""
        self.guard("acknowledge")
        return self.record(TicketAcknowledged(by=by))

    def assign(self, *, team: str | None, assignee: UUID | None) -> Fact:
        """Give it to a team, a person or both."""
        self.guard("assign")
        return self.record(TicketAssigned(team=team, assignee=assignee))

    def comment(self, *, text: str, visibility: Visibility, author: UUID | None) -> Fact:
        """Say something on it."""
        self.guard("comment")
        text = required("text", text, "what to say")
        return self.record(
            TicketCommented(text=text, visibility=visibility, author=author, subject=self.requester or author)
        )

    def attach(
        self, *, file: UUID, name: str, media_type: str, length: int, digest: str, visibility: Visibility, by: UUID | None
    ) -> Fact:
        """Put a file beside the conversation; `attach_file` in `engine/attachment.py` keeps its bytes too."""
        self.guard("attach")
        name = plain_name("name", name, "a file's name")
        return self.record(
            TicketFileAttached(
                file=file, name=name, media_type=media_type, length=length, digest=digest, visibility=visibility, by=by,
                subject=self.requester or by,
            )
        )

    def import_comment(
        self, *, text: str, visibility: Visibility, said_at: datetime, author: UUID | None, author_name: str | None = None
    ) -> Fact:
        """Take over what was said in the tool before; part of an import, so in whatever state the ticket arrived."""
        return self.record(
            TicketCommentImported(
                text=required("text", text, "what was said"), visibility=visibility, said_at=said_at, author=author,
                author_name=None if author else author_name, subject=self.requester or author,
            )
        )

    def say(self, *, text: str, visibility: Visibility, template: str) -> Fact:
        """Send a text by itself; also on a ticket that was closed at once."""
        event = TicketCommented(text=text, visibility=visibility, subject=self.requester, template=template)
        return self.record(event)

    def categorise(self, *, category: str | None) -> Fact:
        """Put it into a category, or take it out of any."""
        self.guard("categorise")
        return self.record(TicketCategorised(category=(category or "").strip() or None))

    def escalate(self, *, level: int | None, team: str | None, reason: str) -> Fact:
        """Hand it up (level 1 to 3) or over to another team; without either, one level up."""
        self.guard("escalate")
        reason = required("reason", reason, "why it is escalated")
        if level is None and team is None:
            if self.level >= 3:
                raise InvalidInput("team", "a team: it is at support level 3 already")
            level = self.level + 1
        if level is not None and not 1 <= level <= 3:
            raise InvalidInput("level", "a support level: 1, 2 or 3")
        return self.record(TicketEscalated(level=level, team=team, reason=reason))

    def hold(self, *, reason: str) -> Fact:
        """Wait for something outside."""
        self.guard("hold")
        return self.record(TicketHeld(reason=required("reason", reason, "what it waits for")))

    def resume(self) -> Fact:
        """Go on after a hold, in the state before it."""
        self.guard("resume")
        return self.record(TicketResumed())

    def set_priority(self, *, priority: Priority, reason: str) -> Fact:
        """Override the matrix."""
        self.guard("set-priority")
        return self.record(TicketPrioritySet(priority=priority, reason=required("reason", reason, "why this priority")))

    def reopen(self, *, reason: str, automatic: bool = False) -> Fact:
        """Take up again what was taken for done."""
        self.guard("reopen")
        return self.record(TicketReopened(reason=required("reason", reason, "why it is not done"), automatic=automatic))

    def close(self) -> Fact:
        """End it for good."""
        self.guard("close")
        return self.record(TicketClosed())

    def cancel(self, *, reason: str) -> Fact:
        """Drop it without doing it."""
        self.guard("cancel")
        return self.record(TicketCancelled(reason=required("reason", reason, "why it is dropped")))

    def link(self, *, to: UUID, relation: Relation, by_hand: bool = True) -> Fact:
        """Relate it to another ticket. The same link twice records nothing new.

        Raises:
            InvalidInput: to itself.
        """
        if to == self.id:
            raise InvalidInput("to", "another ticket than itself")
        if (to, relation.value) in self.links:
            raise InvalidInput("to", Phrase("a ticket that is not linked as %s already", relation.value.replace('_', ' ')))
        return self.record(TicketLinked(to=to, relation=relation, by_hand=by_hand))

    def renew_link(self) -> Fact:
        """Make the requester's private link void; a new one is good from here on."""
        self.guard("renew-link")
        return self.record(TicketLinkRenewed())

    # -- what each fact means for the state ---------------------------------------------------------------------

    def _take_over(self, event: ImportedTicket) -> None:
        """The state of a ticket right after its import."""
        self.number, self.title, self.service, self.channel = event.number, event.title, event.service, event.channel
        self.priority, self.team, self.assignee, self.requester = event.priority, event.team, event.assignee, event.requester
        self.opened_at, self.state_name, self.category = event.opened_at, event.state, event.category
        self.resolved_at = None if self.meaning is Meaning.CANCELLED else event.resolved_at
        self.acknowledged, self.touched = event.acknowledged_at is not None, True
        self.before_hold = self.WORKING if event.state == "pending" else ""
        self.imported = (event.system, event.old_number)

    @applies(TicketAcknowledged)
    def _acknowledged(self, _: TicketAcknowledged) -> None:
        self.acknowledged = True
        self.state_name = self.WORKING

    @applies(TicketAssigned)
    def _assigned(self, event: TicketAssigned) -> None:
        self.team, self.assignee, self.touched = event.team, event.assignee, True
        if self.state_name in self.UNASSIGNED and (event.team or event.assignee):
            self.state_name = "assigned"

    @applies(TicketCommented)
    def _commented(self, event: TicketCommented) -> None:
        """Nothing but the version changes; the conversation is a projection."""

    @applies(TicketFileAttached)
    def _file_attached(self, event: TicketFileAttached) -> None:
        """Nothing but the version changes."""

    @applies(TicketCommentImported)
    def _comment_imported(self, event: TicketCommentImported) -> None:
        """Nothing but the version changes."""

    @applies(TicketReported)
    def _reported(self, event: TicketReported) -> None:
        """What the form had shown; the state is the opening's."""

    @applies(TicketTriaged)
    def _triaged(self, event: TicketTriaged) -> None:
        self.category = event.category or self.category
        self.team = event.team or self.team
        self.level = event.level or self.level
        self.priority = event.priority or self.priority

    @applies(TicketCategorised)
    def _categorised(self, event: TicketCategorised) -> None:
        self.category = event.category

    @applies(TicketEscalated)
    def _escalated(self, event: TicketEscalated) -> None:
        self.touched = True
        if event.level is not None:
            self.level, self.assignee = event.level, None
        if event.team is not None:
            self.team, self.assignee = event.team, None

    @applies(TicketHeld)
    def _held(self, _: TicketHeld) -> None:
        self.before_hold, self.state_name, self.touched = self.state_name, "pending", True

    @applies(TicketResumed)
    def _resumed(self, _: TicketResumed) -> None:
        self.state_name = self.before_hold

    @applies(TicketPrioritySet)
    def _priority_set(self, event: TicketPrioritySet) -> None:
        self.priority, self.touched = event.priority, True

    @applies(TicketReopened)
    def _reopened(self, event: TicketReopened) -> None:
        self.state_name, self.resolved_at = self.WORKING, None
        self.touched = self.touched or not event.automatic

    @applies(TicketClosed)
    def _closed(self, _: TicketClosed) -> None:
        self.state_name = "closed"

    @applies(TicketCancelled)
    def _cancelled(self, _: TicketCancelled) -> None:
        self.state_name = "cancelled"

    @applies(TicketLinkRenewed)
    def _link_renewed(self, _: TicketLinkRenewed) -> None:
        self.link_generation += 1

    @applies(TicketLinked)
    def _linked(self, event: TicketLinked) -> None:
        self.links = (*self.links, (event.to, event.relation.value))
        self.touched = self.touched or event.by_hand
