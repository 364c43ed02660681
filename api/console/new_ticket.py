"""The page on which somebody at the desk opens a ticket: what was called in, said at the door, or seen by themselves.

What becomes of it is decided in `engine/report.py`, as for every other way in; who is meant by a name, in `api/contacts.py`. A
refused form is answered with the page, the field that is wrong, and what was typed; only files have to be chosen again.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final, Literal
from urllib.parse import urlencode, urlsplit
from uuid import UUID, uuid4

import msgspec
from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from api.access import Principal
from api.attaching import ACCEPTED, FILES, PostedForm, read_posted
from api.commands import LONGEST_NAME, LONGEST_TEXT, LONGEST_TITLE, Body
from api.console import words
from api.console.forms import TOKEN_FIELD, check_form
from api.console.language import gettext as _
from api.console.language import mark
from api.console.layout import ConsoleRoute, frame, go_to, reading_views, render, working
from api.contacts import Contact, Unclear, contacts, meant, register_contact
from api.door import directory_of, house_of
from api.problem import TooLarge
from api.reading import WAIT_SECONDS
from api.records import parsed
from api.writing import IdempotencyKey, Stored
from engine.attachment import SealedFile
from engine.clock import rfc3339
from engine.errors import InvalidInput
from engine.person import Person
from engine.priority import Level
from engine.report import Report, open_incident, submit_request
from engine.rulebook import RULEBOOK, Rulebook
from engine.ticket import TicketReported
from engine.work import Unit, Work
from projections import organisation
from projections.runner import Runner

router = APIRouter(route_class=ConsoleRoute)

HERE: Final = "/console/new"
CHANNEL: Final = "console"
NEW: Final = "new"
# A page that lay open longer than a session says nothing about how long somebody wrote.
LONGEST_WRITING_SECONDS: Final = 12 * 3600
LONGEST_FORM_ID: Final = 64
LABELS: Final[Mapping[str, str]] = {
    "kind": mark("What it is"), "title": mark("Title"), "description": mark("What was said"), "requester": mark("For whom"),
    "new_name": mark("Name"), "new_email": mark("Mail address"), "service": mark("Service"), "team": mark("Team"),
    "category": mark("Category"), "impact": mark("Impact"), "urgency": mark("Urgency"), FILES: mark("Files"),
}


class NewTicket(Body):
    """What the form says of the ticket; empty fields are left out."""

    kind: Literal["incident", "request"] = "incident"
    title: str = Field("", max_length=LONGEST_TITLE)
    description: str = Field("", max_length=LONGEST_TEXT)
    service: str | None = Field(None, max_length=LONGEST_NAME)
    team: str | None = Field(None, max_length=LONGEST_NAME)
    category: str | None = Field(None, max_length=LONGEST_NAME)
    impact: Level | None = None
    urgency: Level | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The form as it is shown.

    Attributes:
        typed: what stands in it.
        fault: the field that is wrong, and what was expected there.
        candidates: who may be meant; None: that is no question. Empty: nobody is known by what was typed.
        again: its files have to be chosen again.
    """

    typed: Mapping[str, str] = field(default_factory=dict)
    fault: tuple[str, str] | None = None
    candidates: tuple[Contact, ...] | None = None
    again: bool = False
    status: int = 200


@router.get(HERE)
def new_ticket_page(request: Request, principal: Annotated[Principal, Depends(working)]) -> Response:
    now = rfc3339(house_of(request).clock.now())
    return _page(request, principal, Draft({"form": uuid4().hex, "opened": now, "page": _from(request)}))


@router.get("/console/contacts")
def contact_options(request: Request, _who: Annotated[Principal, Depends(working)], q: str = "") -> Response:
    """Options for the field that asks for whom it is; a part of a page."""
    with reading_views(request) as reader:
        found = contacts(reader, directory_of(request), q[:LONGEST_NAME])
    return render(request, "parts/contacts.html", contacts=found)


def _page(request: Request, principal: Principal, draft: Draft) -> Response:
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "new")
        services, teams = organisation.service_names(reader), organisation.team_names(reader)
    book = house_of(request).ledger.get(Rulebook, RULEBOOK)
    categories = sorted({row.category for row in book.for_people if row.category})
    return render(
        request, "new_ticket.html", status=draft.status, frame=around, draft=draft, typed=draft.typed, labels=LABELS,
        services=services, teams=teams, categories=categories, file_kinds=ACCEPTED, new=NEW, longest=LONGEST_NAME,
        longest_title=LONGEST_TITLE,
    )


@router.post(HERE)
async def open_ticket(request: Request, principal: Annotated[Principal, Depends(working)]) -> Response:
    """Open it, with its files, once for each form that was loaded; then 303 to its page."""
    posted = await read_posted(request)
    form = posted.fields
    check_form(request, principal, form)
    try:
        number, position = await _opened(request, principal, posted)
    except (InvalidInput, TooLarge) as error:
        return await asyncio.to_thread(_page, request, principal, _draft(error, form, again=posted.has_files))
    runner: Runner = request.app.state.runner
    await runner.reached(position, WAIT_SECONDS)
    return go_to(f"/console/tickets/{number}?{urlencode({'told': f'opened:{number}'})}")


async def _opened(request: Request, principal: Principal, posted: PostedForm) -> tuple[str, int]:
    """The number of the ticket, and the position after it.

    Raises:
        InvalidInput, TooLarge: nothing was recorded.
    """
    form, house = posted.fields, house_of(request)
    said = parsed(NewTicket, {name: form[name] for name in NewTicket.model_fields if form.get(name, "").strip()})
    assert isinstance(said, NewTicket)
    if not said.title:
        raise InvalidInput("title", _("one line that says what it is about"))
    asked = house.vault.digest(posted.digest(without=(TOKEN_FIELD,)))
    key = IdempotencyKey(principal.actor, f"POST {HERE}", _form_id(form), asked)
    requester = await asyncio.to_thread(_checked, request, form, said)
    files = await posted.sealed(house.vault)

    def decide(work: Work) -> Stored:
        if (known := key.remembered(work)) is not None:
            return known
        person = requester
        if person is None and form.get("person") == NEW:
            person = register_contact(work, house.directory, name=form.get("new_name", ""), email=form.get("new_email", ""))
        ticket = _report(work, said, form, person, files, by=principal.person)
        stored = Stored(201, msgspec.json.encode(ticket), {"Tocsin-Position": str(work.stamp())})
        key.remember(work, stored)
        return stored

    stored = await house.ledger.commit(Unit(decide, actor=principal.actor))
    return msgspec.json.decode(stored.body, type=str), int(stored.headers["Tocsin-Position"])


def _report(
    work: Work, said: NewTicket, form: Mapping[str, str], requester: UUID | None, files: tuple[SealedFile, ...], *, by: UUID | None
) -> str:
    """Report it; the ticket's number."""
    told = TicketReported(requester=requester, page=form.get("page", "")[:LONGEST_NAME], seconds=_seconds(work.now, form.get("opened", "")))
    report = Report(
        title=said.title, channel=CHANNEL, requester=requester, description=said.description, service=said.service, team=said.team,
        category=said.category, impact=said.impact, urgency=said.urgency, told=told, files=files, by=by,
    )
    return (submit_request if said.kind == "request" else open_incident)(work, report).number


def _checked(request: Request, form: Mapping[str, str], said: NewTicket) -> UUID | None:
    """For whom it is, as far as that person is known; services and teams that are named are some of ours.

    Raises:
        InvalidInput: names the field.
    """
    requester, chosen = form.get("requester", "").strip(), form.get("person", "")
    # A choice was made among those that fitted what was typed then.
    settled = bool(chosen) and form.get("asked", "").strip() == requester
    with reading_views(request) as reader:
        if said.service and organisation.service(reader, said.service) is None:
            raise InvalidInput("service", _("a registered service; %s is none") % said.service)
        if said.team and said.team not in organisation.team_names(reader):
            raise InvalidInput("team", _("a team that is known; %s is none") % said.team)
        if settled and chosen == NEW:
            return None
        if settled:
            return _person(request, chosen)
        if requester:
            return meant(reader, directory_of(request), "requester", requester)
    if said.kind == "request":
        raise InvalidInput("requester", _("whose request it is"))
    return None


def _person(request: Request, text: str) -> UUID:
    try:
        found = UUID(text)
    except ValueError:
        raise InvalidInput("requester", _("one of those that are shown")) from None
    if not house_of(request).ledger.get(Person, found).exists:
        raise InvalidInput("requester", _("one of those that are shown"))
    return found


def _draft(error: InvalidInput | TooLarge, form: Mapping[str, str], *, again: bool) -> Draft:
    typed: dict[str, str] = {name: value for name, value in form.items() if name != TOKEN_FIELD}
    if isinstance(error, TooLarge):
        return Draft(typed, (FILES, words.refusal(error)), again=again, status=413)
    candidates: tuple[Contact, ...] | None = None
    if isinstance(error, Unclear):
        candidates = error.candidates
        text = typed.get("requester", "").strip()
        typed |= {"person": "" if candidates else NEW, "asked": text}
        typed |= {"new_name": "", "new_email": text} if "@" in text else {"new_name": text, "new_email": ""}
    elif typed.get("person") == NEW and typed.get("asked", "").strip() == typed.get("requester", "").strip():
        candidates = ()
    if error.field in ("Idempotency-Key", "form"):
        fault = "form", _("a form that was not sent before with something else in it; its ticket is there, and this is a new form")
        return Draft({**typed, "form": uuid4().hex}, fault, again=again, status=422)
    return Draft(typed, (error.field, error.expected), candidates, again=again, status=422)


def _form_id(form: Mapping[str, str]) -> str:
    text = form.get("form", "")
    if not 0 < len(text) <= LONGEST_FORM_ID or not text.isalnum():
        raise InvalidInput("form", "the id that the page gave it")
    return text


def _seconds(now: datetime, opened: str) -> float:
    """How long the form was open, as far as it can be believed."""
    try:
        passed = (now - datetime.fromisoformat(opened)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(passed, 0.0), LONGEST_WRITING_SECONDS)


def _from(request: Request) -> str:
    """The page of ours from which the form was opened."""
    try:
        came = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return ""
    return came.path[:LONGEST_NAME] if came.netloc == request.headers.get("host") and came.path != HERE else ""
