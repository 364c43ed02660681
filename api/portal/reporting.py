"""The form that opens a ticket, and the answer to it.

Before it is sent, what may help is shown once. Sent twice, it is one ticket. `draft.py` knows the fields, `help.py` what helps,
`engine/report.py` what becomes of it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.attaching import ACCEPTED, FILES, MOST_FILES, read_posted
from api.commands import KINDS as KINDS_OF
from api.console.act import reached
from api.console.forms import TOKEN_FIELD, check_form, check_origin
from api.console.language import gettext as _
from api.console.language import language
from api.console.layout import go_to
from api.door import directory_of, house_of
from api.measures import REPORTS
from api.portal import help as helping
from api.portal.draft import KINDS, LONGEST_DESCRIPTION, QUESTIONS, TRAP, Draft, read_draft
from api.portal.form_token import FormToken, new_token, read_token, signed
from api.portal.frame import START, PortalRoute, TooOften, Visit, limits_of, shown, visiting
from api.portal.private_link import secret_of
from api.problem import TooLarge
from api.reading import read
from api.writing import IdempotencyKey, Stored
from engine.errors import InvalidInput, NotAllowed
from engine.incident import Incident
from engine.person import Person
from engine.report import Report, open_incident, submit_request
from engine.ticket import Relation, Ticket, TicketReported
from engine.work import Unit, Work
from projections.organisation import service_names
from projections.views import Reader

router = APIRouter(route_class=PortalRoute)

PAGE: Final = f"{START}/new"
PURPOSE: Final = "new"
CHANNEL: Final = "portal"
# An answer that says: a document did it. The shipped rules close such a report at once.
ANSWERED: Final = "answered_by_document"
LONGEST_PAGE: Final = 200
MOST_SERVICES: Final = 500
# What a form carries besides what is reported.
UNSAID: Final = (TOKEN_FIELD, "form", "send")
# A report that is sent again is recognised by its form.
ROUTE: Final = f"POST {PAGE}"

Visiting = Annotated[Visit, Depends(visiting)]


class Sent(msgspec.Struct, frozen=True):
    """What a report became: remembered, so that the form sent again gets the same answer."""

    number: str
    kind: str
    id: UUID


@router.get(PAGE)
async def form_page(request: Request, visit: Visiting) -> Response:
    kind = request.query_params.get("kind", "")
    token = new_token(PURPOSE, visit.now, _opened_from(request))
    return await _page(visit, token, Draft(kind=kind if kind in KINDS else ""))


@router.post(PAGE)
async def send(request: Request, visit: Visiting) -> Response:
    """Take a report, unless something is wrong with it, or something may help that was not shown yet."""
    house = house_of(request)
    check_origin(request)
    posted = await read_posted(request)
    form = posted.fields
    draft = read_draft(form, services=await _services(request), stranger=visit.principal is None)
    token = read_token(form.get("form", ""), PURPOSE, house.vault, visit.now)
    if token is None or not _of_this_session(visit, form):
        fault = _("The form had lain open for too long. What you typed is still here: please send it again.")
        return await _page(visit, new_token(PURPOSE, visit.now), draft, fault=fault, status=422, again=posted.has_files)
    try:
        files = await posted.sealed(house.vault)
    except (InvalidInput, TooLarge) as error:
        files, draft = (), replace(draft, faults={**draft.faults, FILES: fault_of_files(error)})
    if draft.faults:
        if draft.trapped:
            REPORTS.labels("refused").inc()
        return await _page(visit, token, draft, status=422, again=posted.has_files)
    document = form.get("document", "")
    if document and document not in (name for name, _title in token.documents):
        raise InvalidInput("document", _("one that was offered"))
    report = _report(visit, draft, token, document)
    if not token.offered:
        found = helping.Help(
            await helping.documents_for(house, draft.kind, report, visit.actor),
            await read(request, lambda reader, _at: helping.disturbance(reader, draft.service, visit.now)) if draft.service else (),
        )
        if found:
            return await _page(visit, helping.offering(token, found), draft, found=found, again=bool(files))
    key = IdempotencyKey(visit.actor, ROUTE, token.form, house.vault.digest(posted.digest(without=UNSAID)))
    report = replace(report, files=files)
    try:
        sent = await take_report(visit, draft.kind, report, key, draft.email)
    except TooOften as error:
        return await _page(visit, token, draft, fault=str(error), status=429, headers=error.headers, again=bool(files))
    except InvalidInput as error:
        if error.field != IdempotencyKey.FIELD:
            raise
        fault = _("This form was sent already, and what stands here now differs. Send it once more to report it as something new.")
        return await _page(visit, _another(token, visit), draft, fault=fault, status=422, again=bool(files))
    return go_to(await sent_address(visit, sent))


def fault_of_files(error: InvalidInput | TooLarge) -> str:
    """What is wrong with a file that was sent."""
    return f"{_('Expected')} {error.expected}." if isinstance(error, InvalidInput) else str(error)


def _of_this_session(visit: Visit, form: Mapping[str, str]) -> bool:
    if visit.principal is None:
        return True
    try:
        check_form(visit.request, visit.principal, form)
    except NotAllowed:
        return False
    return True


def _another(token: FormToken, visit: Visit) -> FormToken:
    """A new form in the place of one that was sent, with what was shown there."""
    fresh = new_token(token.purpose, visit.now, token.page)
    return msgspec.structs.replace(fresh, documents=token.documents, told=token.told, offered=token.offered)


def _report(visit: Visit, draft: Draft, token: FormToken, document: str) -> Report:
    told = TicketReported(
        requester=visit.principal.person if visit.principal else None, answers=(*draft.answers, *((ANSWERED,) if document else ())),
        document=document, page=token.page, seconds=max(0.0, round((visit.now - token.opened_at).total_seconds(), 3)),
        suggestions=token.suggestions, language=language(),
    )
    return Report(
        title=draft.title, channel=CHANNEL, requester=told.requester, description=draft.description, service=draft.service or None,
        told=told, link=plain_link(visit), language=language(), called=draft.name,
        proven=visit.principal is not None,
    )


def plain_link(visit: Visit) -> str:
    """Where a ticket is followed, for texts that others read too: without the secret, so one signs in or takes the private link."""
    return f"{visit.request.app.state.address}{START}/t/{{number}}"


async def take_report(visit: Visit, kind: str, report: Report, key: IdempotencyKey, email: str = "", follows: UUID | None = None) -> Sent:
    """Open a ticket for a report, once for each key.

    Args:
        email: of a stranger: whoever is known by it is the requester, and stays as they are; else they are registered.
        follows: an earlier ticket that it is related to.

    Raises:
        TooOften: more than is allowed; nothing was recorded.
        InvalidInput: the key was used for another report.
    """
    request, house = visit.request, house_of(visit.request)
    limiter, (counted, allowance) = limits_of(request).limiter, visit.counted_as()
    wait = limiter.take(counted, allowance)
    again = False

    def decide(work: Work) -> tuple[Stored, int]:
        nonlocal again
        if (known := key.remembered(work)) is not None:
            again = True
            return known, 0
        if wait:
            raise TooOften(wait)
        requester = report.requester or _contact(work, visit, report.called, email)
        told = report.told and msgspec.structs.replace(report.told, requester=requester)
        opening = open_incident if kind == Incident.KIND else submit_request
        ticket: Ticket = opening(work, replace(report, requester=requester, told=told))
        if follows is not None:
            ticket.link(to=follows, relation=Relation.RELATED, by_hand=False)
        stored = Stored(303, msgspec.json.encode(Sent(ticket.number, kind, ticket.id)), {})
        position = work.stamp()
        key.remember(work, stored)
        return stored, position

    try:
        stored, position = await house.ledger.commit(Unit(decide, actor=visit.actor))
    except TooOften:
        REPORTS.labels("limited").inc()
        raise
    except InvalidInput:
        if not wait:
            limiter.give_back(counted, allowance)
        raise
    if again and not wait:
        limiter.give_back(counted, allowance)
    if not again:
        REPORTS.labels("taken").inc()
        await reached(request, position)
    return msgspec.json.decode(stored.body, type=Sent)


def _contact(work: Work, visit: Visit, name: str, email: str) -> UUID:
    """The person who is known by this address, or a new one."""
    digest = directory_of(visit.request).handle(email)
    found = work.store.pending_person(digest)
    if found is not None:
        return UUID(bytes=found)
    person = work.fresh(Person, work.new_id())
    person.register(name=name, email=email)
    work.after.append(lambda store: store.set_handle(digest, person.id.bytes))
    return person.id


async def sent_address(visit: Visit, sent: Sent, *, private: bool = False) -> str:
    """Where the answer stands, to be read again.

    Args:
        private: by its private link also for who is signed in: they may not be its requester.
    """
    if visit.principal is not None and not private:
        return f"{START}/sent/{sent.number}"
    house = house_of(visit.request)
    ticket = await asyncio.to_thread(house.ledger.get, KINDS_OF[sent.kind], sent.id)
    return f"{START}/sent/{sent.number}/{secret_of(ticket, house.vault)}"


async def _services(request: Request) -> list[str]:
    def ask(reader: Reader, _at: int | None) -> list[str]:
        return service_names(reader, limit=MOST_SERVICES)

    return await read(request, ask)


def _opened_from(request: Request) -> str:
    """Where the form was opened from: what the link says, else the page of ours that led here; a path without its query."""
    said = request.query_params.get("from", "")
    if not said:
        referer = urlsplit(request.headers.get("referer", ""))
        said = referer.path if referer.netloc == request.headers.get("host", "") else ""
    if said.startswith((f"{START}/t/", f"{START}/sent/")):  # never a private address
        said = START
    return "".join(character for character in said if character.isprintable())[:LONGEST_PAGE]


async def _page(
    visit: Visit, token: FormToken, draft: Draft, *, fault: str = "", found: helping.Help | None = None, status: int = 200,
    headers: Mapping[str, str] | None = None, again: bool = False,
) -> Response:
    """The form; `again`: files came with it, which a browser does not keep."""
    services = await _services(visit.request)
    # After a fault the help that was shown stays.
    return shown(
        visit, "new.html", status=status, headers=headers, draft=draft, form=signed(token, house_of(visit.request).vault), fault=fault,
        found=found, offered=token.documents if found is None else (), told=token.told if found is None else (), services=services,
        questions=QUESTIONS, trap=TRAP, longest=LONGEST_DESCRIPTION, file_kinds=ACCEPTED, most_files=MOST_FILES, again=again,
    )
