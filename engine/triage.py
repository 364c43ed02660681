"""Triage: what the rulebook makes of a ticket that opens. Which category, how urgent, whose it is, and whether it stays open.

What a person said beforehand is never overruled: a rule only fills in what was left open.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from engine.incident import Incident, IncidentResolved
from engine.observation import Observation, Severity
from engine.person import Person
from engine.priority import Level, Priority, priority_of
from engine.request import RequestFulfilled, ServiceRequest
from engine.rulebook import RULEBOOK, Decision, Origin, Outcome, Record, Rulebook, filled, matches, record_of
from engine.service import Service, service_id
from engine.team import Team, team_id
from engine.ticket import Applied, Ticket, TicketClosed, TicketTriaged, Visibility
from engine.work import Work

EFFECTS: Final = ("outcome", "service", "category", "impact", "urgency", "priority", "team", "level", "reply")


@dataclass(frozen=True, slots=True)
class Triage:
    """What was decided, and by which rows of the table.

    Attributes:
        version: of the rulebook.
        chosen: effect -> (the row that decided it, the value).
        applied: every row that decided something, with what it decided.
    """

    version: int = 0
    chosen: Mapping[str, tuple[Decision, Any]] = field(default_factory=dict)
    applied: tuple[Applied, ...] = ()

    def value(self, effect: str) -> Any:
        """What was decided of this effect; None: nothing."""
        found = self.chosen.get(effect)
        return None if found is None else found[1]

    def decided_by(self, effect: str) -> str | None:
        """The name of the row that decided it."""
        found = self.chosen.get(effect)
        return None if found is None else found[0].name

    @property
    def closing(self) -> Decision | None:
        """The row that closes it at once."""
        found = self.chosen.get("outcome")
        return found[0] if found is not None and found[1] is Outcome.CLOSE else None


NOTHING: Final = Triage()


def decide(decisions: Sequence[Decision], version: int, record: Record, given: Collection[str] = ()) -> Triage:
    """Ask every row; for each effect the first one whose condition holds decides.

    Args:
        given: effects that somebody settled beforehand.
    """
    chosen: dict[str, tuple[Decision, Any]] = {}
    applied: list[Applied] = []
    for decision in decisions:
        effects = {name: value for name, value in _effects(decision, record) if name not in chosen and name not in given}
        if effects and matches(decision.when, record):
            chosen |= {name: (decision, value) for name, value in effects.items()}
            said = {name: str(getattr(value, "value", value)) for name, value in effects.items()}
            applied.append(Applied(name=decision.name, when=decision.when, decided=said))
    return Triage(version, chosen, tuple(applied))


def _effects(decision: Decision, record: Record) -> Iterator[tuple[str, Any]]:
    for name in EFFECTS:
        value = getattr(decision, name)
        if value is None and name == "team" and decision.to_owner:
            value = record.values["service"]["owner_team"] or None
        if value is not None:
            yield name, value


def rulebook_in(work: Work) -> Rulebook:
    """The rulebook in force."""
    return work.load(Rulebook, RULEBOOK)


# -- records -----------------------------------------------------------------------------------------------------------


def record_of_alert(work: Work, source: str, observation: Observation, severity: Severity) -> Record:
    """An alert that would open an incident, as conditions see it."""
    return record_of(
        origin=Origin.ALERT,
        ticket={
            "kind": Incident.KIND, "title": observation.title, "description": observation.details.get("description", ""),
            "service": observation.service, "channel": "monitoring",
        },
        alert={
            "source": source, "severity": severity.value, "resource": observation.resource, "labels": observation.labels,
        },
        service=_service(work, observation.service),
    )


def record_of_report(
    work: Work, ticket: Mapping[str, Any], *, requester: UUID | None, report: Mapping[str, Any] | None = None
) -> Record:
    """What a person reports, before it is a ticket."""
    return record_of(
        origin=Origin.PERSON, ticket=ticket, report=report, requester=_requester(work, requester),
        service=_service(work, ticket.get("service")),
    )


def record_of_ticket(work: Work, ticket: Ticket) -> Record:
    """A ticket as it stands. Its description is not kept in its state, so conditions on a standing ticket see none."""
    seen: dict[str, Any] = {
        "kind": ticket.KIND, "title": ticket.title, "service": ticket.service, "team": ticket.team, "category": ticket.category,
        "channel": ticket.channel, "priority": ticket.priority.value, "level": ticket.level,
    }
    if isinstance(ticket, Incident):
        seen |= {"impact": ticket.impact.value, "urgency": ticket.urgency.value}
    elif isinstance(ticket, ServiceRequest):
        seen |= {"item": ticket.item}
    machine = isinstance(ticket, Incident) and ticket.correlation is not None
    return record_of(
        origin=Origin.ALERT if machine else Origin.PERSON, ticket=seen, requester=_requester(work, ticket.requester),
        service=_service(work, ticket.service),
    )


def _requester(work: Work, person: UUID | None) -> Mapping[str, Any]:
    if person is None:
        return {}
    known = work.load(Person, person)
    return {"name": known.name, "team": known.team}


def _service(work: Work, name: str | None) -> Mapping[str, Any]:
    known = work.load(Service, service_id(name)).known if name else None
    return {} if known is None else {"tier": known.tier, "owner_team": known.owner_team, "registered": True}


# -- what follows ------------------------------------------------------------------------------------------------------


def apply_to(work: Work, ticket: Ticket, triage: Triage) -> None:
    """Record on a ticket that has just opened what was decided about it, and close it where that was decided."""
    actor, work.journal.actor = work.journal.actor, "tocsin"
    if triage.applied:
        priority, impact, urgency = _priority(ticket, triage)
        team = triage.value("team")
        level = triage.value("level")
        if team is not None and level is None:
            known = work.load(Team, team_id(team)).known
            level = known.level if known is not None else None
        ticket.record(
            TicketTriaged(
                rulebook_version=triage.version, decisions=triage.applied, category=triage.value("category"), team=team, level=level,
                priority=priority, impact=impact, urgency=urgency,
            )
        )
    closing = triage.closing
    if closing is not None:
        _close(work, ticket, closing, triage.version)
    work.journal.actor = actor


def _priority(ticket: Ticket, triage: Triage) -> tuple[Priority | None, Level | None, Level | None]:
    """(priority, impact, urgency) where the rulebook changes them."""
    impact, urgency, priority = triage.value("impact"), triage.value("urgency"), triage.value("priority")
    if priority is None and isinstance(ticket, Incident) and (impact or urgency):
        priority = priority_of(impact or ticket.impact, urgency or ticket.urgency)
    return priority, impact, urgency


def _close(work: Work, ticket: Ticket, decision: Decision, version: int) -> None:
    assert decision.code is not None
    assert decision.reason is not None
    if isinstance(ticket, ServiceRequest):
        ticket.record(RequestFulfilled(fulfilled_at=work.now, note=decision.reason, requester=ticket.requester, code=decision.code))
    else:
        ticket.record(
            IncidentResolved(
                code=decision.code, solution=decision.reason, resolved_at=work.now, requester=ticket.requester, automatic=True,
                rule=decision.name, rule_version=version,
            )
        )
    ticket.record(TicketClosed())


def answer(work: Work, ticket: Ticket, triage: Triage, *, language: str, link: str, called: str = "") -> bool:
    """Answer the requester by the template that was decided on: a public message, kept on the ticket. False: there is none.

    Args:
        called: instead of the requester's name as it is known.
    """
    name = triage.value("reply")
    template = rulebook_in(work).template(name, language) if name else None
    if template is None:
        return False
    person = called or (work.load(Person, ticket.requester).name if ticket.requester else "")
    actor, work.journal.actor = work.journal.actor, "tocsin"
    text = filled(template.text, {"number": ticket.number, "title": ticket.title, "name": person, "link": link})
    ticket.say(text=text, visibility=Visibility.PUBLIC, template=template.name)
    work.journal.actor = actor
    return True


def with_service(triage: Triage, service: str | None) -> str | None:
    """The service that was named, else the one that the rulebook found."""
    found = triage.value("service")
    return service or (None if found is None else str(found))


