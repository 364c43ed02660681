"""Notices: who is told of a ticket, decided in the ticket's own commit, so that no ticket is ever there without its notices.

The rulebook's table says who is told of which ticket. A rule that holds begins a course, by the rule as it stood then: its
recipients are told at once; while nobody has taken the ticket in hand the next ones are told, and everybody again; and at the end
whoever was told. After a reopening everything begins anew.

This module decides that a notice is due. `projections/outbox.py` lists what waits, `api/notices/` makes the text and sends it, and
what came of it is recorded here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.errors import Conflict, Phrase
from engine.event import Event, Fact
from engine.identity import stream_id as computed_id
from engine.identity import timer_id
from engine.incident import Incident, IncidentImpactSet, IncidentOpened, IncidentResolved
from engine.recipient import Recipient, recipient_id
from engine.request import RequestDeclined, RequestFulfilled, RequestSubmitted, ServiceRequest
from engine.rulebook import NoticeRule, Record, matches
from engine.ticket import (
    Ticket,
    TicketAcknowledged,
    TicketAssigned,
    TicketCancelled,
    TicketCategorised,
    TicketClosed,
    TicketEscalated,
    TicketHeld,
    TicketPrioritySet,
    TicketReopened,
)
from engine.timer import Timer
from engine.triage import record_of_ticket, rulebook_in
from engine.work import Work

# Tickets that were brought over from elsewhere: whoever had to know has long been told.
IMPORTED: Final = "import"

OPENINGS: Final[dict[type[Event], type[Ticket]]] = {IncidentOpened: Incident, RequestSubmitted: ServiceRequest}
# After these another rule may hold.
CHANGES: Final[frozenset[type[Event]]] = frozenset({
    *OPENINGS, TicketReopened, TicketPrioritySet, IncidentImpactSet, TicketAssigned, TicketEscalated, TicketCategorised,
})
ENDS: Final[frozenset[type[Event]]] = frozenset({
    IncidentResolved, RequestFulfilled, RequestDeclined, TicketCancelled, TicketClosed,
})
WATCHED: Final[frozenset[type[Event]]] = CHANGES | ENDS | {TicketAcknowledged, TicketHeld}

# Purposes of timers: `notice-then:STEP:RULE` and `notice-again:RULE`.
THEN: Final = "notice-then"
AGAIN: Final = "notice-again"


class Purpose(StrEnum):
    """Why somebody is told."""

    FIRING = "firing"
    REPEAT = "repeat"
    ESCALATION = "escalation"
    END = "end"


class NoticeCourseBegun(Event, frozen=True):
    """A rule of the rulebook holds for the ticket: from here on its recipients are told.

    Attributes:
        occasion: counts from 1; a ticket that ended and was reopened is at the next one.
        rule: as it stood; what follows goes by it, whatever the rulebook says later.
    """

    TOPIC: ClassVar[str] = "notice.course_begun.v1"
    ticket: UUID
    occasion: int
    rule: NoticeRule
    rulebook_version: int


class NoticeOccasionEnded(Event, frozen=True):
    """The ticket is done: all courses end, and whoever was told is told so."""

    TOPIC: ClassVar[str] = "notice.occasion_ended.v1"
    ticket: UUID
    occasion: int


class NoticeRequested(Event, frozen=True):
    """Somebody is to be told.

    Attributes:
        notice: UUIDv5 of ticket, rule, recipient and ordinal; the same in every attempt, so that a receiver can drop a second one.
        step: of a repeat or an escalation, from 1.
    """

    TOPIC: ClassVar[str] = "notice.requested.v1"
    notice: UUID
    ticket: UUID
    purpose: Purpose
    rule: str
    rulebook_version: int
    recipient: str
    step: int = 0


class NoticeSent(Event, frozen=True):
    """The receiver took it. `answer`: what it said."""

    TOPIC: ClassVar[str] = "notice.sent.v1"
    notice: UUID
    recipient: str
    attempt: int
    answer: str = ""


class NoticeFailed(Event, frozen=True):
    """An attempt came to nothing; the next is at `retry_at`."""

    TOPIC: ClassVar[str] = "notice.failed.v1"
    notice: UUID
    recipient: str
    attempt: int
    reason: str
    retry_at: datetime


class NoticeAbandoned(Event, frozen=True):
    """It could not be sent and will not be tried again, unless somebody says so: a dead letter."""

    TOPIC: ClassVar[str] = "notice.abandoned.v1"
    notice: UUID
    recipient: str
    attempt: int
    reason: str


class NoticeRetried(Event, frozen=True):
    """Somebody wants a dead letter to be tried again, at once and from the first attempt on."""

    TOPIC: ClassVar[str] = "notice.retried.v1"
    notice: UUID
    recipient: str


@dataclass(slots=True)
class Course:
    """How far one rule has come in the present occasion.

    Attributes:
        told: names, in the order in which they were told first.
        repeats: how often everybody was told again.
    """

    rule: NoticeRule
    rulebook_version: int
    told: list[str] = field(default_factory=list)
    repeats: int = 0


@dataclass(slots=True)
class Letter:
    """A notice that was not sent yet, or could not be.

    Attributes:
        version: of the fact that requested it, in this stream.
        attempts: that came to nothing.
    """

    recipient: str
    version: int
    attempts: int = 0


def notices_id(ticket: UUID) -> UUID:
    return computed_id("notices", str(ticket))


class Notices(Aggregate):
    """The notices about one ticket.

    Attributes:
        occasion: the present one; 0 before the first.
        courses: of the present occasion, by name of the rule; empty after its end.
        waiting, dead: by id of the notice.
    """

    KIND: ClassVar[str] = "notices"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.occasion = 0
        self.courses: dict[str, Course] = {}
        self.requested = 0
        self.waiting: dict[UUID, Letter] = {}
        self.dead: dict[UUID, Letter] = {}

    def begin(self, ticket: UUID, rule: NoticeRule, rulebook_version: int) -> Fact:
        """Begin the course of a rule; the first one after an end begins the next occasion."""
        occasion = self.occasion if self.courses else self.occasion + 1
        return self.record(NoticeCourseBegun(ticket=ticket, occasion=occasion, rule=rule, rulebook_version=rulebook_version))

    def end(self, ticket: UUID) -> Fact:
        """End all courses."""
        return self.record(NoticeOccasionEnded(ticket=ticket, occasion=self.occasion))

    def request(self, ticket: UUID, course: Course, purpose: Purpose, recipient: str, step: int = 0) -> Fact:
        """Let somebody be told."""
        notice = computed_id("notice", str(ticket), course.rule.name, recipient, str(self.requested + 1))
        return self.record(
            NoticeRequested(
                notice=notice, ticket=ticket, purpose=purpose, rule=course.rule.name, rulebook_version=course.rulebook_version,
                recipient=recipient, step=step,
            )
        )

    def sent(self, notice: UUID, *, answer: str) -> Fact | None:
        """It went out; None where that is known already."""
        letter = self.waiting.get(notice)
        if letter is None:
            return None
        return self.record(NoticeSent(notice=notice, recipient=letter.recipient, attempt=letter.attempts + 1, answer=answer))

    def failed(self, notice: UUID, *, reason: str, retry_at: datetime) -> Fact | None:
        """It did not go out this time."""
        letter = self.waiting.get(notice)
        if letter is None:
            return None
        attempt = letter.attempts + 1
        return self.record(NoticeFailed(notice=notice, recipient=letter.recipient, attempt=attempt, reason=reason, retry_at=retry_at))

    def abandoned(self, notice: UUID, *, reason: str) -> Fact | None:
        """It did not go out and is not tried again."""
        letter = self.waiting.get(notice)
        if letter is None:
            return None
        return self.record(NoticeAbandoned(notice=notice, recipient=letter.recipient, attempt=letter.attempts + 1, reason=reason))

    def retry(self, notice: UUID) -> Fact:
        """Try a dead letter again.

        Raises:
            Conflict: it is none.
        """
        if notice not in self.dead:
            raise Conflict(Phrase("notice %s is no dead letter: it is sent, or still waits", notice))
        return self.record(NoticeRetried(notice=notice, recipient=self.dead[notice].recipient))

    def reference(self, notice: UUID) -> str | None:
        """The fact that requested it, as causes name it."""
        letter = self.waiting.get(notice) or self.dead.get(notice)
        return f"{self.id}:{letter.version}" if letter else None

    @applies(NoticeCourseBegun)
    def _begun(self, event: NoticeCourseBegun) -> None:
        self.occasion = event.occasion
        self.courses[event.rule.name] = Course(event.rule, event.rulebook_version)

    @applies(NoticeOccasionEnded)
    def _ended(self, _: NoticeOccasionEnded) -> None:
        self.courses = {}

    @applies(NoticeRequested)
    def _requested(self, event: NoticeRequested) -> None:
        self.requested += 1
        self.waiting[event.notice] = Letter(event.recipient, self.version + 1)
        if event.purpose is Purpose.END:
            return
        course = self.courses[event.rule]
        if event.recipient not in course.told:
            course.told.append(event.recipient)
        if event.purpose is Purpose.REPEAT:
            course.repeats = event.step

    @applies(NoticeSent)
    def _sent(self, event: NoticeSent) -> None:
        del self.waiting[event.notice]

    @applies(NoticeFailed)
    def _failed(self, event: NoticeFailed) -> None:
        self.waiting[event.notice].attempts = event.attempt

    @applies(NoticeAbandoned)
    def _abandoned(self, event: NoticeAbandoned) -> None:
        self.dead[event.notice] = self.waiting.pop(event.notice)

    @applies(NoticeRetried)
    def _retried(self, event: NoticeRetried) -> None:
        letter = self.waiting[event.notice] = self.dead.pop(event.notice)
        letter.attempts = 0


# -- deciding ----------------------------------------------------------------------------------------------------------


def tell(work: Work, facts: Sequence[Fact]) -> None:
    """The policy: what these facts mean for the notices of the tickets that they belong to (`Ledger.react`)."""
    of_tickets: dict[UUID, list[Fact]] = {}
    for fact in facts:
        if type(fact.event) in WATCHED:
            of_tickets.setdefault(fact.stream_id, []).append(fact)
    actor, work.journal.actor = work.journal.actor, "tocsin"
    for stream_id, own in of_tickets.items():
        ticket = work.used[stream_id]
        assert isinstance(ticket, Ticket)
        if ticket.channel != IMPORTED:
            with work.caused_by(own[-1]):
                _follow(work, ticket, own)
    work.journal.actor = actor


def _follow(work: Work, ticket: Ticket, facts: Sequence[Fact]) -> None:
    kinds = {type(fact.event) for fact in facts}
    if not ticket.is_open:
        _end(work, ticket)
        return
    taken = any(_takes(fact) for fact in facts)
    if taken and not kinds & OPENINGS.keys():
        _stop(work, ticket.id, work.load(Notices, notices_id(ticket.id)))
    if kinds & CHANGES:
        _begin(work, ticket, new=bool(kinds & OPENINGS.keys()), taken=taken)


def _takes(fact: Fact) -> bool:
    """Whether somebody takes the ticket in hand: says so, takes it for themself, or puts it on hold. Being given it is not enough."""
    event = fact.event
    if isinstance(event, TicketAssigned):
        return event.assignee is not None and fact.actor == f"user:{event.assignee}"
    return isinstance(event, TicketAcknowledged | TicketHeld)


def _begin(work: Work, ticket: Ticket, *, new: bool, taken: bool) -> None:
    """Begin the courses of all rules that hold now and have none yet."""
    book = rulebook_in(work)
    if not book.notices:
        return
    stream = notices_id(ticket.id)
    notices = work.fresh(Notices, stream) if new else work.load(Notices, stream)
    first = notices.occasion == 0 or (notices.occasion == 1 and bool(notices.courses))
    # Who acknowledged it before a reopening has not seen what followed.
    calm = taken or (first and ticket.acknowledged)
    record: Record | None = None
    for rule in book.notices:
        if rule.name in notices.courses or not any(_known(work, _names(rule))):
            continue
        record = record or record_of_ticket(work, ticket)
        if matches(rule.when, record):
            with work.caused_by(notices.begin(ticket.id, rule, book.version)):
                _run(work, ticket.id, notices, notices.courses[rule.name], calm=calm)


def _run(work: Work, ticket: UUID, notices: Notices, course: Course, *, calm: bool) -> None:
    for name in _known(work, course.rule.to):
        notices.request(ticket, course, Purpose.FIRING, name)
    if calm:
        return
    for number, step in enumerate(course.rule.then, 1):
        _set(work, ticket, f"{THEN}:{number}:{course.rule.name}", work.now + timedelta(seconds=step.after_seconds))
    if course.rule.repeat_seconds is not None and course.rule.most_repeats:
        _set(work, ticket, f"{AGAIN}:{course.rule.name}", work.now + timedelta(seconds=course.rule.repeat_seconds))


def _end(work: Work, ticket: Ticket) -> None:
    """Whoever was told that it began is told that it is over."""
    notices = work.load(Notices, notices_id(ticket.id))
    if not notices.courses:
        return
    _stop(work, ticket.id, notices)
    # By name: who was told by two rules is told once, by the first of them.
    told = {name: course for course in reversed(notices.courses.values()) for name in course.told}
    with work.caused_by(notices.end(ticket.id)):
        for name in _known(work, sorted(told)):
            notices.request(ticket.id, told[name], Purpose.END, name)


def _stop(work: Work, ticket: UUID, notices: Notices) -> None:
    """Nobody further needs to be told, and nobody again."""
    for course in notices.courses.values():
        steps = range(1, len(course.rule.then) + 1)
        for purpose in (*(f"{THEN}:{step}:{course.rule.name}" for step in steps), f"{AGAIN}:{course.rule.name}"):
            work.load(Timer, timer_id(ticket, purpose)).cancel()


def fire(work: Work, ticket_id: UUID, purpose: str, due_at: datetime) -> None:
    """A timer of a course is due: the next ones are told, or everybody again, while the ticket is open and its rule holds."""
    kind, _, rest = purpose.partition(":")
    step, _, name = rest.partition(":") if kind == THEN else ("", "", rest)
    notices = work.load(Notices, notices_id(ticket_id))
    course = notices.courses.get(name)
    ticket = ticket_in(work, ticket_id)
    if course is None or not ticket.is_open or not matches(course.rule.when, record_of_ticket(work, ticket)):
        return
    if kind == THEN:
        for recipient in _known(work, course.rule.then[int(step) - 1].to):
            notices.request(ticket_id, course, Purpose.ESCALATION, recipient, int(step))
    else:
        _again(work, ticket_id, notices, course, due_at)


def _again(work: Work, ticket: UUID, notices: Notices, course: Course, due_at: datetime) -> None:
    """Tell everybody again who has received what was sent before; the others would only receive two at once."""
    late = {letter.recipient for letter in notices.waiting.values()}
    step = course.repeats + 1
    for name in [name for name in _known(work, course.told) if name not in late]:
        notices.request(ticket, course, Purpose.REPEAT, name, step)
    if step < course.rule.most_repeats and course.rule.repeat_seconds is not None:
        again = due_at + timedelta(seconds=course.rule.repeat_seconds)
        _set(work, ticket, f"{AGAIN}:{course.rule.name}", max(again, work.now))


def named(rules: Iterable[NoticeRule]) -> list[str]:
    """Every name that these rules would tell, in their order."""
    return list(dict.fromkeys(name for rule in rules for name in _names(rule)))


def ticket_in(work: Work, ticket: UUID) -> Ticket:
    """A ticket of whatever kind."""
    (first,) = work.store.pending_stream(ticket.bytes, limit=1)
    return work.load(next(kind for event, kind in OPENINGS.items() if first.type == event.TOPIC), ticket)


def _names(rule: NoticeRule) -> Iterator[str]:
    yield from rule.to
    for step in rule.then:
        yield from step.to


def _known(work: Work, names: Iterable[str]) -> Iterator[str]:
    """Those that there is a recipient for: a rule may name others before they are added."""
    return (name for name in dict.fromkeys(names) if work.load(Recipient, recipient_id(name)).active)


def _set(work: Work, ticket: UUID, purpose: str, due_at: datetime) -> None:
    work.load(Timer, timer_id(ticket, purpose)).set(owner=ticket, purpose=purpose, due_at=due_at)
