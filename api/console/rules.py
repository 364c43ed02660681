"""The rules page: the rulebook as it is written, and the table of targets; leads and administrators change them here."""

import asyncio
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import MANAGERS, Principal
from api.console import words
from api.console.forms import check_form, read_form
from api.console.instants import length
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, frame, go_to, page_for, reading, reading_views, render
from api.door import house_of
from api.lengths import seconds_of, typed
from api.rulebook_file import Fault, FaultyRulebook, read_rulebook
from engine.errors import Conflict, InvalidInput
from engine.priority import Priority
from engine.rulebook import RULEBOOK, Rulebook
from engine.target import TARGETS, Target, Targets
from engine.work import Unit, Work

router = APIRouter(route_class=ConsoleRoute)

PAGE: Final = "/console/rules"
ruling = page_for(MANAGERS)


@router.get(PAGE)
def rules_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    return _page(request, principal)


def _page(
    request: Request, principal: Principal, *, status: int = 200, text: str | None = None, faults: tuple[Fault, ...] = (),
    refused: str = "", targets: dict[str, tuple[str, str]] | None = None,
) -> Response:
    """The page; after a refusal with what was typed and what is wrong with it."""
    ledger = house_of(request).ledger
    book, table = ledger.get(Rulebook, RULEBOOK), ledger.get(Targets, TARGETS)
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "rules")
    around.path = PAGE
    shown = targets or {
        priority.value: (typed(table.table[priority].response_seconds), typed(table.table[priority].resolution_seconds))
        for priority in Priority
    }
    return render(
        request, "rules.html", status=status, frame=around, book=book, text=book.text if text is None else text, faults=faults,
        refused=refused, targets=shown, targets_version=table.version, may_rule=principal.role in MANAGERS and not around.moment.past,
        said={"rulebook": _("The rulebook is in force."), "targets": _("The targets are in force.")}.get(request.query_params.get("done", ""), ""),
        whole={priority.value: (length(table.table[priority].response_seconds), length(table.table[priority].resolution_seconds)) for priority in Priority},
    )


def _version(form: dict[str, str]) -> int:
    text = form.get("version", "")
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput("version", _("the version that the form was made from"))
    return int(text)


@router.post(f"{PAGE}/rulebook")
async def publish(request: Request, principal: Annotated[Principal, Depends(ruling)]) -> Response:
    """Put a rulebook in force, whole; a faulty one is shown again with its faults by line and column."""
    form = await read_form(request)
    check_form(request, principal, form)
    seen, text = _version(form), form.get("text", "").replace("\r\n", "\n")

    def decide(work: Work) -> None:
        book = work.load(Rulebook, RULEBOOK)
        if book.version != seen:
            raise Conflict(_("somebody published another rulebook meanwhile"))
        book.publish(edition)

    try:
        edition = read_rulebook(text)
        await house_of(request).ledger.commit(Unit(decide, actor=principal.actor))
    except FaultyRulebook as error:
        return await asyncio.to_thread(_page, request, principal, status=422, text=text, faults=tuple(error.faults))
    except Conflict as error:
        return await asyncio.to_thread(_page, request, principal, status=409, text=text, refused=words.refusal(error))
    return go_to(f"{PAGE}?{urlencode({'done': 'rulebook'})}")


@router.post(f"{PAGE}/targets")
async def set_targets(request: Request, principal: Annotated[Principal, Depends(ruling)]) -> Response:
    """Put a table of targets in force."""
    form = await read_form(request)
    check_form(request, principal, form)
    seen = _version(form)
    written = {priority.value: (form.get(f"{priority}.response", ""), form.get(f"{priority}.resolution", "")) for priority in Priority}

    def decide(work: Work) -> None:
        known = work.load(Targets, TARGETS)
        if known.version != seen:
            raise Conflict(_("somebody set another table meanwhile"))
        known.set(table)

    try:
        table = {
            priority: Target(
                response_seconds=seconds_of(f"{priority}.response", written[priority][0]),
                resolution_seconds=seconds_of(f"{priority}.resolution", written[priority][1]),
            )
            for priority in Priority
        }
        await house_of(request).ledger.commit(Unit(decide, actor=principal.actor))
    except InvalidInput as error:
        return await asyncio.to_thread(_page, request, principal, status=422, refused=words.refusal(error), targets=written)
    except Conflict as error:
        return await asyncio.to_thread(_page, request, principal, status=409, refused=words.refusal(error), targets=written)
    return go_to(f"{PAGE}?{urlencode({'done': 'targets'})}")
