"""Forms that act on a ticket: the engine's commands, given by a person who saw a certain version of it.

A refused form is answered with the ticket as it is now, what stood in the way, and what was typed.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import Principal
from api.attaching import FILES, Attach, Say, attaching, read_posted
from api.commands import COMMANDS_OF, KINDS, Assign, Body, Command, Context
from api.console import words
from api.console.forms import check_form, local_path
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, go_to, told_address, working
from api.console.ticket import ticket_page
from api.door import house_of
from api.problem import TooLarge
from api.reading import WAIT_SECONDS
from api.records import context_of, found, linked_by, parsed
from api.writing import check_version
from engine.errors import IllegalTransition, InvalidInput, NotAllowed, NotFound, StaleVersion, TocsinError
from engine.ticket import Ticket
from engine.work import Unit, Work
from projections.runner import Runner
from projections.ticket_row import TicketRow

router = APIRouter(route_class=ConsoleRoute)

TAKE: Final = "take"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a form was not carried out, for the page that is shown instead.

    Attributes:
        command: whose form it was; it is shown open again.
        changes: what happened since the version that was seen: name of the fact and its instant.
        legal: commands that are possible now.
        typed: what stood in the form.
        fields: field -> what was expected there.
    """

    command: str
    title: str
    text: str
    status: int
    typed: Mapping[str, str]
    changes: tuple[tuple[str, datetime], ...] = ()
    legal: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)


def _take(ticket: Ticket, _body: Any, context: Context) -> object:
    return ticket.assign(team=ticket.team, assignee=context.person)


def known_command(kind: str, name: str) -> tuple[type[Body], Command]:
    """Raises: NotFound: there is no such command on this kind of ticket."""
    commands = COMMANDS_OF[kind]
    if name == TAKE:
        return commands["acknowledge"][0], _take
    if name not in commands:
        raise NotFound(_("command"), name)
    return commands[name]


@router.post("/console/tickets/{number}/{command}")
async def act(request: Request, number: str, command: str, principal: Annotated[Principal, Depends(working)]) -> Response:
    """Give one command, then 303 to where the reader came from."""
    posted = await read_posted(request)
    form = posted.fields
    check_form(request, principal, form)
    row = await found(request, number.upper())
    shape, carry_out = known_command(row.kind, command)
    if posted.has_files:
        if command != "comment":
            raise InvalidInput(FILES, _("no files: they go with a comment"))
        shape = Say if form.get("text", "").strip() else Attach  # the word beside them may be left out
    # An empty field is one that was left out; the shapes then say what must be there.
    content: dict[str, str | None] = {name: form[name] for name in shape.model_fields if form.get(name, "").strip()}
    if shape is Assign:  # but here it takes away what is there
        content |= {name: None for name in shape.model_fields if name in form and name not in content}
    try:
        if files := await posted.sealed(house_of(request).vault):
            carry_out = attaching(files)
        body = parsed(shape, content)
        position = await carry_out_command(request, principal, row, form.get("version"), carry_out, body)
    except (InvalidInput, IllegalTransition, StaleVersion, NotAllowed, TooLarge) as error:
        obstacle = _obstacle(command, error, form, shape)
        await reached(request, house_of(request).ledger.last_position)
        return await asyncio.to_thread(ticket_page, request, principal, number, obstacle)
    await reached(request, position)
    return go_to(told_address(local_path(form.get("next"), f"/console/tickets/{row.number}"), command, row.number))


async def carry_out_command(
    request: Request, principal: Principal, row: TicketRow, seen: str | None, carry_out: Command, body: Body
) -> int:
    """Run a command on a ticket that a person saw at a version; the position after it.

    Raises:
        InvalidInput, IllegalTransition, StaleVersion, NotAllowed: nothing was recorded.
    """
    if seen is None or not seen.isascii() or not seen.isdigit():
        raise InvalidInput("version", _("the version that the form was made from"))
    linked = await linked_by(request, body)

    def decide(work: Work) -> int:
        record = work.load(KINDS[row.kind], row.id)
        check_version(work, record, int(seen))
        carry_out(record, body, context_of(request, principal, work, linked))
        return work.stamp()

    return await house_of(request).ledger.commit(Unit(decide, actor=principal.actor))


def _obstacle(command: str, error: TocsinError, form: Mapping[str, str], shape: type[Body]) -> Obstacle:
    typed = {name: value for name, value in form.items() if name in shape.model_fields}
    name = words.word(words.COMMANDS, command)
    match error:
        case StaleVersion():
            changes = tuple((kind, datetime.fromisoformat(at)) for kind, at in error.changes)
            text = _("%s has changed since you opened it, so nothing was done. Here it is as it stands now; what you typed is still in the form.")
            return Obstacle(command, _("Changed meanwhile"), text % error.number, 412, typed, changes=changes)
        case IllegalTransition():
            return Obstacle(command, _("“%s” is not possible now") % name, words.refusal(error), 409, typed, legal=error.legal)
        case InvalidInput():
            return Obstacle(command, _("“%s” needs something else") % name, words.refusal(error), 422, typed, fields={error.field: words.said(error.phrase)})
        case TooLarge():
            return Obstacle(command, _("“%s” needs something else") % name, words.refusal(error), 413, typed)
    return Obstacle(command, _("“%s” is not allowed") % name, words.refusal(error), 403, typed)


async def reached(request: Request, position: int) -> None:
    """Wait for the views, so that the reader sees what was done; a slow view only means that they see it a little later."""
    runner: Runner = request.app.state.runner
    await runner.reached(position, WAIT_SECONDS)
