"""One ticket for whoever opened it: how it stands, what was said, and what they say to it.

They reach it signed in, or by its private link; with anything else it is not there. What may be seen is `course.py`'s word.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.attaching import ACCEPTED, PostedForm, read_posted
from api.commands import KINDS
from api.console.act import reached
from api.console.forms import check_form, check_origin
from api.console.language import gettext as _
from api.console.language import language
from api.console.layout import go_to
from api.door import house_of
from api.file_routes import given_out
from api.portal import course
from api.portal.draft import LONGEST_DESCRIPTION
from api.portal.form_token import new_token, read_token, signed
from api.portal.frame import PRIVATE, START, VISITOR, PortalRoute, TooOften, Visit, limits_of, shown, visiting
from api.portal.limit import GENEROUS, GUESSES
from api.portal.private_link import opens, secret_of
from api.portal.reporting import CHANNEL, UNSAID, fault_of_files, plain_link, sent_address, take_report
from api.problem import TooLarge
from api.records import found
from api.writing import IdempotencyKey, Stored
from engine.aggregate import replay
from engine.attachment import SealedFile, attach_file
from engine.errors import IllegalTransition, InvalidInput, NotFound, Phrase
from engine.event import Fact
from engine.incident import Incident
from engine.report import Report
from engine.request import ServiceRequest
from engine.ticket import Meaning, Ticket, TicketReported, Visibility
from engine.work import Unit, Work
from projections.ticket_row import TicketRow

router = APIRouter(route_class=PortalRoute)

SAY: Final = "say"
UNSOLVED: Final = "unsolved"
NUMBER: Final = re.compile(r"[A-Z]{3}-[0-9]{1,12}")

Visiting = Annotated[Visit, Depends(visiting)]


@dataclass(frozen=True, slots=True)
class Followed:
    """A ticket and who follows it.

    Attributes:
        facts: its own stream.
        secret: of the link that it was reached by; empty: by the session.
    """

    visit: Visit
    row: TicketRow
    ticket: Ticket
    facts: list[Fact]
    secret: str

    @property
    def address(self) -> str:
        return f"{START}/t/{self.row.number}" + (f"/{self.secret}" if self.secret else "")

    @property
    def link(self) -> str:
        """The private link, whole."""
        request, house = self.visit.request, house_of(self.visit.request)
        # As the visitor reached us, where nothing else is set: it is shown to them alone.
        here = house.settings.public_address or f"{request.url.scheme}://{request.url.netloc}"
        return f"{here.rstrip('/')}{START}/t/{self.row.number}/{secret_of(self.ticket, house.vault)}"

    @property
    def requester(self) -> UUID:
        assert self.ticket.requester is not None
        return self.ticket.requester

    @property
    def actor(self) -> str:
        """Who acts: a session that is the requester's acts as that person; whoever holds the link is a visitor."""
        principal = self.visit.principal
        return principal.actor if principal and principal.person == self.requester else VISITOR


# -- reaching it -----------------------------------------------------------------------------------------------------


async def followed(visit: Visit, number: str, secret: str = "") -> Followed:
    """The ticket of this number, for its requester.

    Raises:
        NotFound: there is none, the secret is not that of its link, or it is somebody else's: nothing tells which.
        TooOften: that happened too often.
    """
    request = visit.request
    house, limiter = house_of(request), limits_of(request).limiter
    guesser = f"guess:{visit.counted_as()[0]}"
    wait = limiter.wait(guesser, GUESSES)
    if wait:
        raise TooOften(wait)
    number = number.upper()
    try:
        if not NUMBER.fullmatch(number):
            raise NotFound("ticket", number)
        row = await found(request, number)
        facts = await asyncio.to_thread(house.ledger.stream, row.id)
        ticket = replay(KINDS[row.kind], facts)
        mine = visit.principal is not None and ticket.requester == visit.principal.person
        if ticket.requester is None or not (opens(secret, ticket, house.vault) if secret else mine):
            raise NotFound("ticket", number)
    except NotFound:
        limiter.take(guesser, GUESSES)
        raise
    return Followed(visit, row, ticket, facts, secret)


@router.get(f"{START}/t/{{number}}")
async def follow_own(number: str, visit: Visiting) -> Response:
    """For who is signed in; others are asked to, or to take their private link. Whoever works on tickets goes to its page."""
    if visit.principal is None:
        return shown(visit, "which.html", headers=PRIVATE)
    try:
        return _page(await followed(visit, number))
    except NotFound:
        if visit.may_read_console and NUMBER.fullmatch(number.upper()):
            return go_to(f"/console/tickets/{number.upper()}")
        raise


@router.get(f"{START}/t/{{number}}/{{secret}}")
async def follow(number: str, secret: str, visit: Visiting) -> Response:
    return _page(await followed(visit, number, secret))


@router.get(f"{START}/sent/{{number}}")
async def answer_to_own(number: str, visit: Visiting) -> Response:
    if visit.principal is None:
        return shown(visit, "which.html", headers=PRIVATE)
    return _answer(await followed(visit, number))


@router.get(f"{START}/sent/{{number}}/{{secret}}")
async def answer(number: str, secret: str, visit: Visiting) -> Response:
    """What came of a report; it can be read again."""
    return _answer(await followed(visit, number, secret))


@router.get(f"{START}/t/{{number}}/files/{{file}}")
async def own_file(number: str, file: UUID, visit: Visiting) -> Response:
    return await _file(await followed(visit, number), file)


@router.get(f"{START}/t/{{number}}/{{secret}}/files/{{file}}")
async def get_file(number: str, secret: str, file: UUID, visit: Visiting) -> Response:
    """A public file of the ticket, for saving."""
    return await _file(await followed(visit, number, secret), file)


async def _file(here: Followed, file: UUID) -> Response:
    response = await given_out(here.visit.request, here.row, file, public_only=True)
    response.headers.update(PRIVATE)
    return response


# -- saying something ------------------------------------------------------------------------------------------------


@router.post(f"{START}/t/{{number}}")
async def say_own(request: Request, number: str, visit: Visiting) -> Response:
    if visit.principal is None:
        raise NotFound("ticket", number)
    posted = await read_posted(request)
    check_form(request, visit.principal, posted.fields)
    return await _say(await followed(visit, number), posted)


@router.post(f"{START}/t/{{number}}/{{secret}}")
async def say(request: Request, number: str, secret: str, visit: Visiting) -> Response:
    check_origin(request)
    here = await followed(visit, number, secret)
    return await _say(here, await read_posted(request))


async def _say(here: Followed, posted: PostedForm) -> Response:
    """A comment with or without files, or that it is not solved: each once for its form."""
    visit, house, form = here.visit, house_of(here.visit.request), posted.fields
    what, text = form.get("do", ""), form.get("text", "").replace("\r\n", "\n").strip()
    if what not in (SAY, UNSOLVED):
        raise InvalidInput("do", Phrase("%s or %s", SAY, UNSOLVED))
    token = read_token(form.get("form", ""), _purpose(what, here), house.vault, visit.now)
    if token is None:
        return _page(here, what, text, _("The form had lain open for too long. What you typed is still here: please send it again."), 422)
    try:
        files = await posted.sealed(house.vault)
    except (InvalidInput, TooLarge) as error:
        return _page(here, what, text, fault_of_files(error), 422)
    if not (text or (files and what == SAY)) or len(text) > LONGEST_DESCRIPTION:
        return _page(here, what, text, _("Write something, of at most %s characters.") % f"{LONGEST_DESCRIPTION:,}", 422)
    key = IdempotencyKey(f"{VISITOR}:{here.ticket.id}", what, token.form, house.vault.digest(posted.digest(without=UNSAID)))
    try:
        if what == UNSOLVED and here.ticket.meaning is Meaning.CLOSED:
            return go_to(await _again(here, text, replace(key, route="again")))
        await _record(here, what, text, files, key)
    except TooOften as error:
        return _page(here, what, text, str(error), 429, error.headers)
    except IllegalTransition:
        return _page(await _anew(here), what, text, _("It changed meanwhile, so this was not taken. Here it is as it stands now."), 409)
    except InvalidInput as error:
        if error.field != IdempotencyKey.FIELD:
            raise
        return _page(here, what, text, _("This was sent already, and what stands here now differs. Send it once more to add it."), 422)
    return go_to(f"{here.address}#course")


async def _record(here: Followed, what: str, text: str, files: Sequence[SealedFile], key: IdempotencyKey) -> None:
    visit, house = here.visit, house_of(here.visit.request)
    limiter = limits_of(visit.request).limiter
    counted = f"say:{visit.counted_as()[0]}"
    wait = limiter.take(counted, GENEROUS)

    def decide(work: Work) -> int:
        if key.remembered(work) is not None:
            return 0
        if wait:
            raise TooOften(wait)
        ticket: Ticket = work.load(KINDS[here.row.kind], here.ticket.id)
        if what == UNSOLVED:
            ticket.reopen(reason=text)
        elif text:
            ticket.comment(text=text, visibility=Visibility.PUBLIC, author=here.requester)
        for file in files:
            attach_file(work, ticket, file, visibility=Visibility.PUBLIC, by=here.requester)
        position = work.stamp()
        key.remember(work, Stored(303, b"", {}))
        return position

    position = await house.ledger.commit(Unit(decide, actor=here.actor))
    await reached(visit.request, position)


async def _again(here: Followed, text: str, key: IdempotencyKey) -> str:
    """What is closed stays closed: a new ticket follows it."""
    visit, ticket = here.visit, here.ticket
    known = here.actor != VISITOR
    report = Report(
        title=ticket.title, channel=CHANNEL, requester=here.requester, proven=known, service=ticket.service, language=language(),
        description=f"{text}\n\n" + _("It follows %s, which is closed.") % ticket.number, link=plain_link(visit),
        told=TicketReported(requester=here.requester, language=language()),
        # Whoever holds the link may be somebody else: the answer does not tell them the requester's name.
        called="" if known else _("there"),
    )
    return await sent_address(visit, await take_report(visit, here.row.kind, report, key, follows=ticket.id), private=bool(here.secret))


async def _anew(here: Followed) -> Followed:
    return await followed(here.visit, here.row.number, here.secret)


# -- showing it ------------------------------------------------------------------------------------------------------


def _purpose(what: str, here: Followed) -> str:
    return f"{what}:{here.ticket.id}"


def _form(what: str, here: Followed) -> str:
    return signed(new_token(_purpose(what, here), here.visit.now), house_of(here.visit.request).vault)


def _page(
    here: Followed, what: str = "", typed: str = "", fault: str = "", status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    ticket = here.ticket
    done = ticket.meaning in (Meaning.RESOLVED, Meaning.CLOSED)
    return shown(
        here.visit, "ticket.html", status=status, headers={**PRIVATE, **(headers or {})}, here=here, row=here.row, ticket=ticket,
        standing=_(course.STATES[ticket.state_name]), steps=course.course(here.facts, here.requester), written=course.written(here.facts),
        waiting=course.waiting_for(here.facts) if ticket.meaning is Meaning.WAITING else "",
        solution=course.solution(here.facts) if done or ticket.state_name == "declined" else "",
        may_say="comment" in ticket.legal_commands(), may_doubt=done, closed=ticket.meaning is Meaning.CLOSED, file_kinds=ACCEPTED,
        forms={each: _form(each, here) for each in (SAY, UNSOLVED)}, what=what, typed=typed, fault=fault, longest=LONGEST_DESCRIPTION,
    )


def _answer(here: Followed) -> Response:
    ticket = here.ticket
    assert isinstance(ticket, Incident | ServiceRequest)
    return shown(
        here.visit, "sent.html", headers=PRIVATE, here=here, row=here.row, ticket=ticket, next_step=course.next_steps(ticket),
        answer=course.automatic_answer(here.facts), solution=course.solution(here.facts) if not ticket.is_open else "",
    )
