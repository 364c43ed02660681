"""A small world for the tests of the views: people, sources and tickets, moved by real units of work."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from engine.aggregate import Aggregate
from engine.clock import SimulatedClock
from engine.delivery import DeliveryReceived, DeliveryRejected, MonitoringEvent
from engine.identity import imported_id, source_id
from engine.incident import Incident, IncidentImported
from engine.judgement import Judgement
from engine.ledger import Ledger
from engine.observation import Observation, ObservationKind, Severity
from engine.person import Person
from engine.priority import Level, Priority
from engine.request import RequestImported, ServiceRequest
from engine.source import Source, SourceAdded
from engine.ticket import Visibility
from engine.work import Unit, Work

TICKETS: dict[str, type[Incident] | type[ServiceRequest]] = {"INC": Incident, "REQ": ServiceRequest}


class World:
    """Commands by number; everything goes through the ledger."""

    def __init__(self, ledger: Ledger, clock: SimulatedClock) -> None:
        self.ledger, self.clock = ledger, clock
        self.ids: dict[str, UUID] = {}

    def do(self, decide: Callable[[Work], Any], actor: str = "user:00000000-0000-0000-0000-0000000000aa") -> Any:
        return self.ledger.run(Unit(decide, actor=actor))

    @property
    def head(self) -> int:
        return self.ledger.store.head().position

    def person(self, name: str, team: str | None = None) -> UUID:
        person = uuid4()

        def decide(work: Work) -> None:
            work.fresh(Person, person).register(name=name, email=None, team=team)

        self.do(decide)
        return person

    def incident(
        self, title: str = "The shop is slow", *, impact: Level = Level.MEDIUM, urgency: Level = Level.MEDIUM,
        service: str | None = None, requester: UUID | None = None, team: str | None = None, actor: str | None = None,
    ) -> str:
        def decide(work: Work) -> str:
            incident = Incident.open(
                uuid4(), work.journal, number=work.number("INC"), title=title, impact=impact, urgency=urgency, now=work.now,
                channel="console", service=service, requester=requester, team=team, description="It was quick yesterday.",
            )
            work.adopt(incident)
            self.ids[incident.number] = incident.id
            return incident.number

        number: str = self.do(decide, actor or "user:00000000-0000-0000-0000-0000000000aa")
        return number

    def request(self, title: str = "A new chair", *, requester: UUID | None = None, needs_approval: bool = True) -> str:
        def decide(work: Work) -> str:
            request = ServiceRequest.submit(
                uuid4(), work.journal, number=work.number("REQ"), title=title, requester=requester or uuid4(), now=work.now,
                channel="portal", item="chair", needs_approval=needs_approval, fields={"colour": "blue"},
            )
            work.adopt(request)
            self.ids[request.number] = request.id
            return request.number

        number: str = self.do(decide)
        return number

    def imported(
        self, old_number: str, *, state: str = "closed", opened_at: datetime, resolved_at: datetime | None = None, request: bool = False,
        **values: Any,
    ) -> str:
        """A ticket of another tool, with a comment."""
        stream = imported_id("zammad", old_number)

        def decide(work: Work) -> str:
            common: dict[str, Any] = {
                "number": work.number("REQ" if request else "INC"), "system": "zammad", "old_number": old_number, "title": "Old",
                "state": state, "priority": Priority.P3, "opened_at": opened_at, "resolved_at": resolved_at, "channel": "mail", **values,
            }
            ticket: Incident | ServiceRequest
            if request:
                ticket = ServiceRequest.imported_from(stream, work.journal, RequestImported(**common), now=work.now)
            else:
                event = IncidentImported(impact=Level.MEDIUM, urgency=Level.MEDIUM, **common)
                ticket = Incident.imported_from(stream, work.journal, event, now=work.now)
            work.adopt(ticket)
            ticket.import_comment(text="Hm.", visibility=Visibility.PUBLIC, said_at=opened_at, author=None, author_name="Ann")
            self.ids[ticket.number] = stream
            return ticket.number

        number: str = self.do(decide)
        return number

    def act(self, number: str, command: str, actor: str = "user:00000000-0000-0000-0000-0000000000aa", **values: Any) -> None:
        """A command of the ticket's aggregate; `resolve` and `fulfil` get the present instant."""
        kind = TICKETS[number[:3]]

        def decide(work: Work) -> None:
            if command in ("resolve", "fulfil"):
                values.setdefault("now", work.now)
            getattr(self._load(work, kind, number), command)(**values)

        self.do(decide, actor)

    def _load(self, work: Work, kind: type[Aggregate], number: str) -> Aggregate:
        return work.load(kind, self.ids[number])

    def source(self, name: str = "alertmanager") -> str:
        def decide(work: Work) -> None:
            work.load(Source, source_id(name)).add(SourceAdded(name=name, adapter="alertmanager"))

        self.do(decide)
        return name

    def deliver(self, *observations: Observation, source: str = "alertmanager") -> tuple[MonitoringEvent, ...]:
        """One delivery with these observations, judged as intake does."""

        def decide(work: Work) -> tuple[MonitoringEvent, ...]:
            judgement = Judgement.for_source(work, source)
            fact = work.journal.add(
                uuid4(), 1, DeliveryReceived(source=source, adapter="alertmanager", received_at=work.now, length=120)
            )
            work.journal.cause = fact.reference
            said = tuple(judgement.judge(observation) for observation in observations)
            fact.event = DeliveryReceived(
                source=source, adapter="alertmanager", received_at=work.now, length=120, monitoring_events=said
            )
            for event in said:
                if event.incident_number and event.incident:
                    self.ids[event.incident_number] = event.incident
            return said

        result: tuple[MonitoringEvent, ...] = self.do(decide, f"source:{source}")
        return result

    def reject(self, source: str = "alertmanager", *, path: str = "$", reason: str = "a JSON object") -> UUID:
        delivery = uuid4()

        def decide(work: Work) -> None:
            work.journal.add(
                delivery, 1,
                DeliveryRejected(
                    source=source, adapter="alertmanager", received_at=work.now, length=4, path=path, reason=reason, status=422
                ),
            )

        self.do(decide, f"source:{source}")
        return delivery


def fires(
    key: str, *, title: str = "", severity: Severity = Severity.CRITICAL, service: str | None = "shop",
    start: datetime | None = None, labels: dict[str, str] | None = None,
) -> Observation:
    return Observation(
        kind=ObservationKind.TRIGGER, dedup_key=key, title=title or f"{key} is down", severity=severity, service=service,
        episode_start=start, labels=labels or {},
    )


def ends(key: str, *, start: datetime | None = None, ended_at: datetime | None = None) -> Observation:
    return Observation(
        kind=ObservationKind.RESOLVE, dedup_key=key, title=f"{key} is down", episode_start=start, ended_at=ended_at
    )


def numbers(rows: Sequence[Any]) -> list[str]:
    return [row.number for row in rows]
