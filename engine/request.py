"""Service requests: something standard that is asked for (access, a password reset). REQ-

Submitted, then approved or declined, then fulfilled and closed. A request that needs no approval starts approved.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Final, Self
from uuid import UUID

from engine.aggregate import Journal, applies
from engine.errors import NotAllowed, Phrase
from engine.event import Event, Fact, Personal
from engine.priority import Priority
from engine.ticket import OPEN, Meaning, Ticket, check_imported, required

REQUEST_STATES: Final = (
    "submitted", "approved", "assigned", "in_progress", "pending", "fulfilled", "closed", "declined", "cancelled",
)


class RequestSubmitted(Event, frozen=True):
    """A request was made for `requester`; title and fields are that person's data."""

    TOPIC: ClassVar[str] = "request.submitted.v1"
    number: str
    title: Annotated[str, Personal("requester")]
    requester: UUID
    opened_at: datetime
    channel: str
    item: str | None = None
    service: str | None = None
    team: str | None = None
    description: Annotated[str, Personal("requester")] = ""
    fields: Annotated[dict[str, str], Personal("requester")] = {}
    needs_approval: bool = True
    priority: Priority = Priority.P4


class RequestImported(Event, frozen=True):
    """A service request came from the tool that was used before.

    Attributes:
        system, old_number: the tool that it came from, and its number there.
        state: one of our own.
        opened_at, acknowledged_at, first_responded_at, resolved_at, closed_at: as the tool before says; it may not know them all.
        code, solution: how it was fulfilled, where that is told.
        fields: what else was told of it.
    """

    TOPIC: ClassVar[str] = "request.imported.v1"
    number: str
    system: str
    old_number: str
    title: Annotated[str, Personal("requester")]
    priority: Priority
    state: str
    opened_at: datetime
    channel: str
    description: Annotated[str, Personal("requester")] = ""
    service: str | None = None
    team: str | None = None
    category: str | None = None
    requester: UUID | None = None
    assignee: UUID | None = None
    acknowledged_at: datetime | None = None
    first_responded_at: datetime | None = None
    resolved_at: datetime | None = None
    closed_at: datetime | None = None
    code: str | None = None
    solution: Annotated[str, Personal("requester")] = ""
    fields: Annotated[dict[str, str], Personal("requester")] = {}


class RequestApproved(Event, frozen=True):
    """Somebody who may said yes."""

    TOPIC: ClassVar[str] = "request.approved.v1"
    by: UUID | None = None


class RequestDeclined(Event, frozen=True):
    """Somebody who may said no, and why."""

    TOPIC: ClassVar[str] = "request.declined.v1"
    reason: str
    by: UUID | None = None


class RequestFulfilled(Event, frozen=True):
    """What was asked for is there."""

    TOPIC: ClassVar[str] = "request.fulfilled.v1"
    fulfilled_at: datetime
    note: Annotated[str, Personal("requester")] = ""
    requester: UUID | None = None
    code: str | None = None  # where a rule closed it at once


class ServiceRequest(Ticket):
    """One service request and the rules about what may happen to it next."""

    KIND: ClassVar[str] = "request"
    # An unapproved request stays submitted: having a team is no approval.
    UNASSIGNED: ClassVar[frozenset[str]] = frozenset({"approved"})
    LEGAL: ClassVar[Mapping[str, frozenset[Meaning]]] = {
        **Ticket.LEGAL,
        "approve": OPEN,
        "decline": OPEN,
        "fulfil": OPEN,
    }

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.item: str | None = None
        self.approved = False

    @classmethod
    def submit(
        cls,
        stream_id: UUID,
        journal: Journal,
        *,
        number: str,
        title: str,
        requester: UUID,
        now: datetime,
        channel: str,
        item: str | None = None,
        service: str | None = None,
        team: str | None = None,
        description: str = "",
        fields: dict[str, str] | None = None,
        needs_approval: bool = True,
        priority: Priority = Priority.P4,
    ) -> Self:
        """Submit a request on behalf of `requester`."""
        request = cls(stream_id, journal)
        request.record(
            RequestSubmitted(
                number=number, title=required("title", title, "one line that says what is asked for"), requester=requester,
                opened_at=now, channel=channel, item=item, service=service, team=team, description=description,
                fields=fields or {}, needs_approval=needs_approval, priority=priority,
            )
        )
        return request

    @classmethod
    def imported_from(cls, stream_id: UUID, journal: Journal, event: RequestImported, *, now: datetime) -> Self:
        """A request of the tool before, in the state that it had there; it lives on as any other.

        Raises:
            InvalidInput: names the field of the event that cannot be.
        """
        check_imported(event, REQUEST_STATES, now)
        request = cls(stream_id, journal)
        request.record(event)
        return request

    def refusal(self, command: str) -> str:
        if command in ("approve", "decline") and self.approved:
            return "it is approved already"
        if command == "fulfil" and not self.approved:
            return "it is not approved"
        return super().refusal(command)

    def approve(self, *, by: UUID | None) -> Fact:
        """Say yes to it.

        Raises:
            NotAllowed: by the requester: nobody approves their own request.
        """
        self.guard("approve")
        if by is not None and by == self.requester:
            raise NotAllowed(Phrase("cannot approve %s: nobody approves their own request", self.number))
        return self.record(RequestApproved(by=by))

    def decline(self, *, reason: str, by: UUID | None) -> Fact:
        """Say no to it."""
        self.guard("decline")
        return self.record(RequestDeclined(reason=required("reason", reason, "why it is declined"), by=by))

    def fulfil(self, *, note: str, now: datetime) -> Fact:
        """What was asked for is there."""
        self.guard("fulfil")
        return self.record(RequestFulfilled(fulfilled_at=now, note=note.strip(), requester=self.requester))

    @applies(RequestSubmitted)
    def _submitted(self, event: RequestSubmitted) -> None:
        self.number, self.title, self.service, self.item = event.number, event.title, event.service, event.item
        self.channel = event.channel
        self.requester, self.team, self.opened_at, self.priority = event.requester, event.team, event.opened_at, event.priority
        self.approved = not event.needs_approval
        self.state_name = "approved" if self.approved else "submitted"

    @applies(RequestImported)
    def _imported(self, event: RequestImported) -> None:
        self._take_over(event)
        self.approved = event.state not in ("submitted", "declined")

    @applies(RequestApproved)
    def _approved(self, _: RequestApproved) -> None:
        self.approved = True
        if self.state_name == "pending":
            self.before_hold = self._when_approved(self.before_hold)
        else:
            self.state_name = self._when_approved(self.state_name)

    def _when_approved(self, state: str) -> str:
        if state != "submitted":
            return state
        return "assigned" if self.team or self.assignee else "approved"

    @applies(RequestDeclined)
    def _declined(self, _: RequestDeclined) -> None:
        self.state_name = "declined"

    @applies(RequestFulfilled)
    def _fulfilled(self, event: RequestFulfilled) -> None:
        self.state_name, self.resolved_at = "fulfilled", event.fulfilled_at
