"""A person's report becomes a ticket: an incident or a service request, decided on by the rulebook and answered.

Every way in that people have (the console's form, the portal, the interface, mail) comes together here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from engine.attachment import SealedFile, attach_file
from engine.incident import Incident
from engine.priority import Level
from engine.request import ServiceRequest
from engine.rulebook import Record
from engine.ticket import Ticket, TicketReported, Visibility
from engine.triage import Triage, answer, apply_to, decide, record_of_report, rulebook_in, with_service
from engine.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What somebody reports or asks for. None is what they did not say: the rulebook may fill it in.

    Attributes:
        told: what a form had shown and asked beside the text; None: there was no form.
        link: where the requester follows the ticket, for the answer; `{number}` in it is filled in.
        language: of the answer.
        called: how the answer calls the requester; empty: by the name that is known.
        proven: whether it is certain who reports it. If not, conditions see nothing of the requester: whoever merely names
            somebody gets nothing by it, and learns nothing of them.
        files: that came with it; the requester sees them.
        by: who attached them, where it is not the requester.
    """

    title: str
    channel: str
    requester: UUID | None = None
    description: str = ""
    service: str | None = None
    team: str | None = None
    category: str | None = None
    impact: Level | None = None
    urgency: Level | None = None
    item: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    needs_approval: bool = True
    told: TicketReported | None = None
    link: str = ""
    language: str = "en"
    called: str = ""
    proven: bool = True
    files: tuple[SealedFile, ...] = ()
    by: UUID | None = None


def open_incident(work: Work, report: Report) -> Incident:
    """Open an incident.

    Raises:
        InvalidInput: it has no title.
    """
    triage = _decided(work, Incident.KIND, report)
    incident = Incident.open(
        work.new_id(), work.journal, number=work.number("INC"), title=report.title, impact=report.impact or Level.MEDIUM,
        urgency=report.urgency or Level.MEDIUM, now=work.now, channel=report.channel, description=report.description,
        service=with_service(triage, report.service), team=report.team, requester=report.requester,
    )
    _follow(work, incident, report, triage)
    return incident


def submit_request(work: Work, report: Report) -> ServiceRequest:
    """Submit a service request; one that a rule closes at once needs nobody's approval.

    Raises:
        InvalidInput: it has no title.
    """
    assert report.requester is not None, "a request is always somebody's"
    triage = _decided(work, ServiceRequest.KIND, report)
    request = ServiceRequest.submit(
        work.new_id(), work.journal, number=work.number("REQ"), title=report.title, requester=report.requester, now=work.now,
        channel=report.channel, item=report.item, service=with_service(triage, report.service), team=report.team,
        description=report.description, fields=dict(report.fields), needs_approval=report.needs_approval and triage.closing is None,
    )
    _follow(work, request, report, triage)
    return request


def record_before(work: Work, kind: str, report: Report) -> Record:
    """What conditions see of a report before it is a ticket."""
    told = report.told
    claims = {} if told is None else dict.fromkeys(told.answers, True) | {
        "document": told.document, "page": told.page, "seconds": told.seconds, "suggestions": list(told.suggestions),
    }
    ticket = {
        "kind": kind, "title": report.title, "description": report.description, "service": report.service, "team": report.team,
        "category": report.category, "channel": report.channel, "impact": report.impact, "urgency": report.urgency,
        "item": report.item, "fields": dict(report.fields),
    }
    return record_of_report(work, ticket, requester=report.requester if report.proven else None, report=claims)


def _decided(work: Work, kind: str, report: Report) -> Triage:
    book = rulebook_in(work)
    if not book.for_people:
        return Triage()
    given = {name for name in ("service", "team", "category", "impact", "urgency") if getattr(report, name) is not None}
    if given & {"impact", "urgency"}:
        given.add("priority")
    return decide(book.for_people, book.version, record_before(work, kind, report), given)


def _follow(work: Work, ticket: Ticket, report: Report, triage: Triage) -> None:
    work.adopt(ticket)
    if report.told is not None:
        ticket.record(report.told)
    # Before the rulebook has its say: it may close the ticket at once.
    for file in report.files:
        attach_file(work, ticket, file, visibility=Visibility.PUBLIC, by=report.by or report.requester)
    if report.category:
        ticket.categorise(category=report.category)
    apply_to(work, ticket, triage)
    link = report.link.replace("{number}", ticket.number)
    answer(work, ticket, triage, language=report.language, link=link, called=report.called)
