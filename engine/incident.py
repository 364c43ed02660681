"""Incidents: unplanned interruption or loss of quality of a service. INC-

Opened by people, or by intake from alerts through a correlation stream (`engine/correlation.py`). Alerts that join later
are recorded there and not here, so they never make an agent's write stale.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Final, Self
from uuid import UUID

from engine.aggregate import Journal, applies
from engine.errors import InvalidInput, Phrase
from engine.event import Event, Fact, Personal
from engine.priority import Level, Priority, priority_of
from engine.ticket import OPEN, Meaning, Ticket, TicketReopened, TicketTriaged, check_imported, required

RESOLUTION_CODES: Final = ("solved", "workaround", "duplicate", "no_fault", "no_longer_reported", "answered_by_document", "restart")


INCIDENT_STATES: Final = ("new", "assigned", "in_progress", "pending", "resolved", "closed", "cancelled")


class IncidentOpened(Event, frozen=True):
    """An incident was opened by a person or by a rule.

    Attributes:
        title, description: personal data of the requester where there is one; an alert's text otherwise.
        correlation: the correlation stream of an incident that intake opened; None: opened by a person.
        rule, rule_version: the rule that opened it.
        alert: the alert that it was opened for.
        opened_at: the moment at which it was opened.
    """

    TOPIC: ClassVar[str] = "incident.opened.v1"
    number: str
    title: Annotated[str, Personal("requester")]
    impact: Level
    urgency: Level
    priority: Priority
    opened_at: datetime
    channel: str
    description: Annotated[str, Personal("requester")] = ""
    service: str | None = None
    team: str | None = None
    requester: UUID | None = None
    correlation: UUID | None = None
    rule: str | None = None
    rule_version: int | None = None
    alert: UUID | None = None


class IncidentImported(Event, frozen=True):
    """An incident came from the tool that was used before.

    Attributes:
        system, old_number: the tool that it came from, and its number there.
        state: one of our own.
        opened_at, acknowledged_at, first_responded_at, resolved_at, closed_at: as the tool before says; it may not know them all.
        code, solution: how it was resolved, where that is told.
        fields: what else was told of it.
    """

    TOPIC: ClassVar[str] = "incident.imported.v1"
    number: str
    system: str
    old_number: str
    title: Annotated[str, Personal("requester")]
    impact: Level
    urgency: Level
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


class IncidentImpactSet(Event, frozen=True):
    """Impact and urgency were judged anew; the matrix gave this priority."""

    TOPIC: ClassVar[str] = "incident.impact_set.v1"
    impact: Level
    urgency: Level
    priority: Priority


class IncidentRecovered(Event, frozen=True):
    """Its last firing alert ended: the service works again, the incident is not yet resolved."""

    TOPIC: ClassVar[str] = "incident.recovered.v1"
    recovered_at: datetime
    proposed: bool = False  # a person has it in hand, so resolving it is only proposed
    code: str = "solved"    # of the resolve that follows, if it stays recovered


class IncidentRelapsed(Event, frozen=True):
    """An alert of it fires again before it was resolved."""

    TOPIC: ClassVar[str] = "incident.relapsed.v1"
    alert: UUID


class IncidentResolved(Event, frozen=True):
    """The service is restored.

    Attributes:
        resolved_at: when; for an automatic resolve the latest end of its alerts, never before it was opened.
        automatic: by a rule, because its alerts ended.
    """

    TOPIC: ClassVar[str] = "incident.resolved.v1"
    code: str
    solution: Annotated[str, Personal("requester")]
    resolved_at: datetime
    requester: UUID | None = None
    automatic: bool = False
    rule: str | None = None
    rule_version: int | None = None


class Incident(Ticket):
    """One incident and the rules about what may happen to it next."""

    KIND: ClassVar[str] = "incident"
    LEGAL: ClassVar[Mapping[str, frozenset[Meaning]]] = {
        **Ticket.LEGAL,
        "set-impact": OPEN,
        "resolve": OPEN,
    }

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.impact = Level.MEDIUM
        self.urgency = Level.MEDIUM
        self.correlation: UUID | None = None
        self.recovered = False
        self.recovery_code = "solved"

    @classmethod
    def open(
        cls,
        stream_id: UUID,
        journal: Journal,
        *,
        number: str,
        title: str,
        impact: Level,
        urgency: Level,
        now: datetime,
        channel: str,
        description: str = "",
        service: str | None = None,
        team: str | None = None,
        requester: UUID | None = None,
        correlation: UUID | None = None,
        rule: str | None = None,
        rule_version: int | None = None,
        alert: UUID | None = None,
    ) -> Self:
        """Open an incident; its priority comes from the matrix."""
        incident = cls(stream_id, journal)
        incident.record(
            IncidentOpened(
                number=number, title=required("title", title, "one line that says what is wrong"), impact=impact,
                urgency=urgency, priority=priority_of(impact, urgency), opened_at=now, channel=channel,
                description=description, service=service, team=team, requester=requester, correlation=correlation,
                rule=rule, rule_version=rule_version, alert=alert,
            )
        )
        return incident

    @classmethod
    def imported_from(cls, stream_id: UUID, journal: Journal, event: IncidentImported, *, now: datetime) -> Self:
        """An incident of the tool before, in the state that it had there; it lives on as any other.

        Raises:
            InvalidInput: names the field of the event that cannot be.
        """
        check_imported(event, INCIDENT_STATES, now)
        if event.code is not None and event.code not in RESOLUTION_CODES:
            raise InvalidInput("code", Phrase("one of %s", ', '.join(RESOLUTION_CODES)))
        incident = cls(stream_id, journal)
        incident.record(event)
        return incident

    def set_impact(self, *, impact: Level, urgency: Level) -> Fact:
        """Judge impact and urgency anew; the priority follows the matrix."""
        self.guard("set-impact")
        return self.record(IncidentImpactSet(impact=impact, urgency=urgency, priority=priority_of(impact, urgency)))

    def resolve(self, *, code: str, solution: str, now: datetime) -> Fact:
        """Record that the service is restored.

        Raises:
            IllegalTransition: it is resolved, closed or cancelled: a second resolution would distort the time to restore.
            InvalidInput: unknown code, or no word about the solution.
        """
        self.guard("resolve")
        if code not in RESOLUTION_CODES:
            raise InvalidInput("code", Phrase("one of %s", ', '.join(RESOLUTION_CODES)))
        solution = required("solution", solution, "what restored the service")
        return self.record(IncidentResolved(code=code, solution=solution, resolved_at=now, requester=self.requester))

    def recover(self, *, ended_at: datetime, code: str = "solved") -> Fact | None:
        """Its last alert ended; nothing to say twice, and nothing on a ticket that is done."""
        if not self.is_open or self.recovered:
            return None
        event = IncidentRecovered(recovered_at=self._not_before_opened(ended_at), proposed=self.touched, code=code)
        return self.record(event)

    def relapse(self, *, alert: UUID) -> Fact | None:
        """An alert fires (again) while it was only recovered."""
        if not self.is_open or not self.recovered:
            return None
        return self.record(IncidentRelapsed(alert=alert))

    def settle(self, *, ended_at: datetime, rule: str, rule_version: int) -> Fact | None:
        """Resolve it because its alerts ended and stayed ended; only while no person has it in hand."""
        if not self.is_open or not self.recovered or self.touched:
            return None
        code = self.recovery_code
        return self.record(
            IncidentResolved(
                code=code,
                solution="No longer reported by its source." if code == "no_longer_reported" else "All of its alerts ended.",
                resolved_at=self._not_before_opened(ended_at), automatic=True, rule=rule, rule_version=rule_version,
            )
        )

    def _not_before_opened(self, instant: datetime) -> datetime:
        assert self.opened_at is not None
        return max(instant, self.opened_at)

    @applies(IncidentOpened)
    def _opened(self, event: IncidentOpened) -> None:
        self.number, self.title, self.service, self.channel = event.number, event.title, event.service, event.channel
        self.impact, self.urgency, self.priority = event.impact, event.urgency, event.priority
        self.team, self.requester, self.opened_at = event.team, event.requester, event.opened_at
        self.correlation, self.state_name = event.correlation, "new"

    @applies(IncidentImported)
    def _imported(self, event: IncidentImported) -> None:
        self._take_over(event)
        self.impact, self.urgency = event.impact, event.urgency

    @applies(IncidentImpactSet)
    def _impact_set(self, event: IncidentImpactSet) -> None:
        self.impact, self.urgency, self.priority = event.impact, event.urgency, event.priority
        self.touched = True

    @applies(IncidentRecovered)
    def _recovered(self, event: IncidentRecovered) -> None:
        self.recovered, self.recovery_code = True, event.code

    @applies(IncidentRelapsed)
    def _relapsed(self, _: IncidentRelapsed) -> None:
        self.recovered = False

    @applies(IncidentResolved)
    def _resolved(self, event: IncidentResolved) -> None:
        self.state_name, self.resolved_at = "resolved", event.resolved_at
        self.touched = self.touched or not event.automatic

    @applies(TicketTriaged)
    def _triaged(self, event: TicketTriaged) -> None:
        super()._triaged(event)
        self.impact, self.urgency = event.impact or self.impact, event.urgency or self.urgency

    @applies(TicketReopened)
    def _reopened(self, event: TicketReopened) -> None:
        super()._reopened(event)
        self.recovered = False
