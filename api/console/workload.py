"""The workload page: who has how much, now or as of an instant; and handing tickets over from one to another."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import Principal
from api.console import instants, words
from api.console.act import carry_out_command, known_command, reached
from api.console.forms import check_form, read_form
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, Frame, frame, go_to, reading, reading_views, render, working
from api.door import directory_of, house_of
from api.records import found, parsed
from engine.errors import IllegalTransition, InvalidInput, NotAllowed, NotFound, StaleVersion
from projections.people import person
from projections.queue_page import NOBODY
from projections.ticket_row import TicketRow
from projections.workload import RESOLVED_DAYS, Load, first_of, workload

router = APIRouter(route_class=ConsoleRoute)

HERE: Final = "/console/workload"
HAND_OVER: Final = 10
MOST_PEOPLE: Final = 300
TICKET: Final = "ticket-"  # and its number: the field of a form that names a ticket and holds the version that was seen
PRIORITIES: Final = ("P1", "P2", "P3", "P4", "P5")


@dataclass(frozen=True, slots=True)
class Count:
    """A number that opens its tickets; without an address where the queue can't be asked for them."""

    number: int
    href: str


@dataclass(frozen=True, slots=True)
class LoadRow:
    """A row of the table; `share` is of the most loaded's open tickets, from 0 to 100."""

    name: str | None
    team: str | None
    open: Count
    priorities: tuple[Count, ...]
    waiting: Count
    oldest: str
    median: str
    resolved: int
    share: int
    hand_over: str | None
    current: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A ticket that was not handed over, and why."""

    number: str
    why: str


def _row(load: Load, around: Frame, query: Mapping[str, str] | None, most: int, *, of: str | None, chosen: str | None) -> LoadRow:
    def count(number: int, **more: str) -> Count:
        if query is None:
            return Count(number, "")
        return Count(number, around.carry(f"/console?{urlencode({**query, **more})}"))

    return LoadRow(
        name=load.name, team=load.team, open=count(load.open),
        priorities=tuple(count(load.by_priority[code], priority=code) for code in PRIORITIES),
        waiting=count(load.waiting, meaning="waiting"), oldest=instants.length(load.oldest_seconds),
        median=instants.length(load.median_seconds), resolved=load.resolved, share=round(100 * load.open / most) if most else 0,
        hand_over=f"{HERE}?{urlencode({'of': of})}#hand-over" if of and load.open and around.may_write else None,
        current=of is not None and of == chosen,
    )


@router.get("/console/workload")
def workload_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    return _page(request, principal, request.query_params.get("of") or None, ())


def _page(
    request: Request, principal: Principal, of: str | None, refused: tuple[Refused, ...], *, handed: int = 0, status: int = 200
) -> Response:
    whose = _whose(of)
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "workload")
        around.path = HERE
        told = _told(around)
        now = around.moment.instant or around.now
        loads = workload(reader, now, as_of=around.moment.position)
        theirs: list[TicketRow] = []
        name = None
        if whose is not None and around.may_write:
            theirs = first_of(reader, whose, most=HAND_OVER)
            known = person(reader, whose) if isinstance(whose, UUID) else None
            name = known.name if known else None
    most = max((load.open for load in (*loads.people, loads.nobody)), default=0)
    people = [_row(load, around, {"assignee": str(load.id)}, most, of=str(load.id), chosen=of) for load in loads.people]
    nobody = _row(loads.nobody, around, {"assignee": NOBODY}, most, of=NOBODY, chosen=of)
    most_of_a_team = max((load.open for load in loads.teams), default=0)
    teams = [_row(load, around, {"team": load.name} if load.name else None, most_of_a_team, of=None, chosen=None) for load in loads.teams]
    logins = sorted(directory_of(request).logins().items(), key=lambda pair: pair[1]) if theirs else []
    return render(
        request, "workload.html", frame=around, status=status, people=people, nobody=nobody, teams=teams, loads=loads,
        priorities=PRIORITIES, days=RESOLVED_DAYS, whose=of if around.may_write and whose is not None else None, name=name,
        theirs=theirs, logins=[login for _id, login in logins[:MOST_PEOPLE]], refused=refused, handed=handed, told=told,
        lengths={row.number: instants.span((now - row.opened_at).total_seconds()) for row in theirs}, field=TICKET,
    )


def _whose(of: str | None) -> UUID | str | None:
    if of is None or of == NOBODY:
        return of
    try:
        return UUID(of)
    except ValueError:
        raise InvalidInput("of", _("nobody or a person's id")) from None


def _told(around: Frame) -> str:
    """What was just done, as the address of the answered form says it."""
    number, to = around.kept.pop("handed", ""), around.kept.pop("to", "")
    if not (number.isascii() and number.isdigit() and len(number) < 4 and to):
        return ""
    return str(instants.many("%s ticket is handed over to", "%s tickets are handed over to", int(number))) + f" {to}."


@router.post("/console/workload/hand-over")
async def hand_over(request: Request, principal: Annotated[Principal, Depends(working)]) -> Response:
    """Assign the chosen tickets to somebody else, each as it was seen; the others go on where one is refused."""
    form = await read_form(request)
    check_form(request, principal, form)
    of = form.get("of") or None
    _whose(of)
    chosen = {name.removeprefix(TICKET): seen for name, seen in form.items() if name.startswith(TICKET)}
    to = form.get("to", "").strip()
    if not to:
        raise InvalidInput("to", _("the login of whoever gets them"))
    if not chosen:
        raise InvalidInput("ticket", _("at least one ticket"))
    refused, handed = [], 0
    for number, seen in chosen.items():
        try:
            row = await found(request, number)
            shape, command = known_command(row.kind, "assign")
            await carry_out_command(request, principal, row, seen, command, parsed(shape, {"assignee": to}))
            handed += 1
        except InvalidInput as error:
            if error.field == "assignee":  # nobody by that name: so it is for all of them
                raise InvalidInput("to", error.expected) from None
            refused.append(Refused(number, words.refusal(error)))
        except (IllegalTransition, StaleVersion, NotAllowed, NotFound) as error:
            refused.append(Refused(number, words.refusal(error)))
    await reached(request, house_of(request).ledger.last_position)
    if refused:
        return await asyncio.to_thread(_page, request, principal, of, tuple(refused), handed=handed, status=412)
    return go_to(f"{HERE}?{urlencode({'of': of or '', 'handed': handed, 'to': to})}")

