"""One command on several tickets of the queue: each its own unit of work, from the version that was seen; the answer says it
ticket by ticket, and those that were refused stay chosen."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import Principal
from api.commands import COMMANDS_OF, Assign, Body, Categorise
from api.console import words
from api.console.act import carry_out_command, known_command, reached
from api.console.forms import check_form, read_form
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, go_to, reading, told_address, working
from api.console.work_queue import CHOSEN, Chosen, queue_with
from api.door import directory_of, house_of
from api.reading import read
from api.records import parsed
from engine.errors import IllegalTransition, InvalidInput, NotAllowed, NotFound, StaleVersion
from projections.queue_page import ticket
from projections.ticket_row import TicketRow

router = APIRouter(route_class=ConsoleRoute)

HERE: Final = "/console/bulk"
# What several tickets at once make sense for; the rest is done on a ticket's own page.
COMMANDS: Final = ("take", "assign", "set-priority", "hold", "resume", "escalate", "resolve", "categorise", "close")
MOST_CHOSEN: Final = 200
# A ticket each, the fields of all commands, and a few of the form itself.
MOST_FIELDS: Final = MOST_CHOSEN + 50


@dataclass(frozen=True, slots=True)
class Refused:
    """A ticket on which nothing was done, and why."""

    number: str
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command on several tickets, where not all of it was done.

    Attributes:
        done: what was done, as a sentence; empty: nothing.
        fault: what was wrong with the form, so that no ticket was touched; `wrong` is the field.
        typed: what stood in the form.
    """

    command: str
    title: str
    typed: Mapping[str, str]
    done: str = ""
    fault: str = ""
    wrong: str = ""
    refused: tuple[Refused, ...] = ()


@router.get(HERE)
def bulk_page(request: Request, _who: Annotated[Principal, Depends(reading)]) -> Response:
    """Whoever loads the answer of such a form again is shown the queue."""
    return go_to(f"/console?{request.url.query}")


@router.post(HERE)
async def bulk(request: Request, principal: Annotated[Principal, Depends(working)]) -> Response:
    """Give one command to the chosen tickets; then 303 to the queue, or the queue with what stood in the way."""
    form = await read_form(request, fields=MOST_FIELDS)
    check_form(request, principal, form)
    command = form.get("do", "")
    if command not in COMMANDS:
        raise InvalidInput("do", ", ".join(COMMANDS))
    seen = {name.removeprefix(CHOSEN): version for name, version in form.items() if name.startswith(CHOSEN)}
    name = words.word(words.COMMANDS, command)
    try:
        if not 0 < len(seen) <= MOST_CHOSEN:
            raise InvalidInput("ticket", _("at least one ticket, and at most %s") % MOST_CHOSEN)
        content = await asyncio.to_thread(_content, request, command, form)
    except InvalidInput as error:
        outcome = Outcome(
            command, _("“%s” needs something else") % name, form, wrong=f"{command}.{error.field}",
            fault=_("Choose %s.") % error.expected if error.field == "ticket" else words.refusal(error),
        )
        return await asyncio.to_thread(queue_with, request, principal, Chosen(frozenset(seen), outcome, 422))
    rows = await read(request, lambda reader, _at: {number: ticket(reader, number) for number in seen})
    answers = await asyncio.gather(
        *(_one(request, principal, command, number, rows[number], version, content) for number, version in seen.items())
    )
    refused = tuple(answer for answer in answers if answer is not None)
    await reached(request, house_of(request).ledger.last_position)
    done = len(seen) - len(refused)
    if not refused:
        return go_to(told_address(_queue_address(request), command, str(done)))
    said = words.DONE_MANY[command](done) if done else _("Nothing was done.")
    outcome = Outcome(command, _("Not on all of them") if done else _("On none of them"), form, done=said, refused=refused)
    chosen = Chosen(frozenset(one.number for one in refused), outcome, 200 if done else 412)
    return await asyncio.to_thread(queue_with, request, principal, chosen)


def _queue_address(request: Request) -> str:
    query = request.url.query
    return "/console" + (f"?{query}" if query else "")


def _content(request: Request, command: str, form: Mapping[str, str]) -> dict[str, str]:
    """What was filled in for this command; what is the same for all tickets is checked before the first of them.

    Raises:
        InvalidInput: something is missing or wrong.
    """
    shape = next(commands[command][0] for commands in COMMANDS_OF.values() if command in commands) if command != "take" else Body
    fields = {name: form[key].strip() for name in shape.model_fields if form.get(key := f"{command}.{name}", "").strip()}
    parsed(shape, fields)
    if shape is Assign and not fields:
        raise InvalidInput("team", _("a team, a person, or both"))
    if shape is Categorise and not fields:
        raise InvalidInput("category", _("a category"))
    if "assignee" in fields and directory_of(request).person_of(fields["assignee"]) is None:
        raise InvalidInput("assignee", _("the login or address of somebody; %s is none") % fields["assignee"])
    return fields


async def _one(
    request: Request, principal: Principal, command: str, number: str, row: TicketRow | None, version: str, content: Mapping[str, str]
) -> Refused | None:
    """Carry it out on one ticket; None where it was done."""
    if row is None:
        return Refused(number, _("There is no such ticket."))
    if command != "take" and command not in COMMANDS_OF[row.kind]:
        return Refused(number, _("“%s” is not for service requests: they are fulfilled.") % words.word(words.COMMANDS, command))
    try:
        shape, carry_out = known_command(row.kind, command)
        await carry_out_command(request, principal, row, version, carry_out, parsed(shape, dict(content)))
    except StaleVersion:
        return Refused(number, _("It has changed meanwhile: nothing was done there."))
    except IllegalTransition as error:
        return Refused(number, _("Not possible: it is %s.") % words.word(words.STATES, error.state))
    except (InvalidInput, NotAllowed, NotFound) as error:
        return Refused(number, words.refusal(error))
    return None
