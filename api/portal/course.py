"""The course of a ticket as its requester may know it: what was said to them, and the plain facts of its life.

Only the ticket's own stream is read, and of it only what is listed here: whatever else happens to a ticket (internal notes,
alerts, notices, assignments, links, decisions) is not known to this module and so cannot appear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from api.console.language import gettext as _
from api.console.language import mark
from engine.event import Fact
from engine.incident import Incident, IncidentImported, IncidentOpened, IncidentResolved
from engine.request import (
    RequestApproved,
    RequestDeclined,
    RequestFulfilled,
    RequestImported,
    RequestSubmitted,
    ServiceRequest,
)
from engine.ticket import (
    TicketAcknowledged,
    TicketCancelled,
    TicketClosed,
    TicketCommented,
    TicketCommentImported,
    TicketFileAttached,
    TicketHeld,
    TicketReopened,
    TicketResumed,
    Visibility,
)
from projections.words import size_of

STATES: Final = {
    "new": mark("We have it. Nobody has taken it up yet."),
    "submitted": mark("We have it. It waits for somebody to approve it."),
    "approved": mark("It is approved. Nobody has taken it up yet."),
    "assigned": mark("It is with the people who will take care of it."),
    "in_progress": mark("Somebody is working on it."),
    "pending": mark("It waits."),
    "resolved": mark("It is solved."),
    "fulfilled": mark("It is done."),
    "closed": mark("It is closed."),
    "cancelled": mark("It was dropped."),
    "declined": mark("It was declined."),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened.

    Attributes:
        title: a few words.
        text: what was said with it; empty: nothing.
        by: `you`, `us`, `automatic`, or empty for a fact.
        file: that was attached, and `size` in words; the text is its name.
        key: the state of affairs is another one afterwards.
    """

    at: datetime
    title: str
    text: str = ""
    by: str = ""
    key: bool = False
    file: UUID | None = None
    size: str = ""


def course(facts: Sequence[Fact], requester: UUID) -> list[Step]:
    """What its requester may know, oldest first."""
    return [step for fact in facts if (step := _step(fact, requester)) is not None]


def automatic_answer(facts: Sequence[Fact]) -> str:
    """The text that was sent by itself; empty: none."""
    return next((fact.event.text for fact in facts if isinstance(fact.event, TicketCommented) and fact.event.template), "")


def waiting_for(facts: Sequence[Fact]) -> str:
    """Why it was last put on hold."""
    return next((fact.event.reason for fact in reversed(facts) if isinstance(fact.event, TicketHeld)), "")


def solution(facts: Sequence[Fact]) -> str:
    """How it was last solved, or why it was declined; empty: that is not said."""
    for fact in reversed(facts):
        text = _outcome(fact)
        if text is not None:
            return text
    return ""


def _outcome(fact: Fact) -> str | None:
    match fact.event:
        case IncidentResolved() as event:
            return event.solution
        case RequestFulfilled() as event:
            return event.note
        case RequestDeclined() as event:
            return event.reason
    return None


def written(facts: Sequence[Fact]) -> str:
    """What the requester wrote when it was opened."""
    event = facts[0].event
    return event.description if isinstance(event, IncidentOpened | RequestSubmitted | IncidentImported | RequestImported) else ""


def _step(fact: Fact, requester: UUID) -> Step | None:
    event, at = fact.event, fact.recorded_at
    outcome = _outcome(fact)
    match event:
        case IncidentOpened() | RequestSubmitted() | IncidentImported() | RequestImported():
            return Step(event.opened_at, _("Opened"), key=True)
        case TicketCommented() | TicketCommentImported():
            return _said(fact, requester)
        case TicketFileAttached():
            return _attached(event, at, requester)
        case TicketAcknowledged():
            return Step(at, _("Somebody has taken it up"))
        case RequestApproved():
            return Step(at, _("Approved"), key=True)
        case TicketHeld():
            return Step(at, _("On hold"), event.reason)
        case TicketResumed():
            return Step(at, _("It goes on"))
        case IncidentResolved():
            return Step(at, _("Solved"), outcome or "", key=True)
        case RequestFulfilled():
            return Step(at, _("Done"), outcome or "", key=True)
        case RequestDeclined():
            return Step(at, _("Declined"), outcome or "", key=True)
        case TicketReopened():
            mine = fact.actor in ("portal", f"user:{requester}")
            return Step(at, _("You opened it again") if mine else _("Opened again"), event.reason if mine else "", key=True)
        case TicketClosed():
            return Step(at, _("Closed"), key=True)
        case TicketCancelled():
            return Step(at, _("Dropped"), key=True)
    return None


def _said(fact: Fact, requester: UUID) -> Step | None:
    event = fact.event
    assert isinstance(event, TicketCommented | TicketCommentImported)
    if event.visibility is not Visibility.PUBLIC:
        return None
    at = event.said_at if isinstance(event, TicketCommentImported) else fact.recorded_at
    if event.author == requester:
        return Step(at, _("You wrote"), event.text, "you")
    if isinstance(event, TicketCommented) and event.template:
        return Step(at, _("Automatic answer"), event.text, "automatic")
    return Step(at, _("Answer"), event.text, "us")


def _attached(event: TicketFileAttached, at: datetime, requester: UUID) -> Step | None:
    if event.visibility is not Visibility.PUBLIC:
        return None
    title = _("You attached a file") if event.by == requester else _("A file from us")
    return Step(at, title, event.name, file=event.file, size=size_of(event.length, _))


def next_steps(ticket: Incident | ServiceRequest) -> str:
    """Who looks at it next, in one sentence; empty: nobody, it is over."""
    if not ticket.is_open:
        return ""
    if ticket.state_name == "submitted":
        return _("Before anything else, somebody who may has to approve it.")
    if ticket.team:
        return _("%s looks at it.") % ticket.team
    return _("Somebody looks at it.")
