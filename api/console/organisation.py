"""The pages of what is set up: services, teams and people; to see, to add, to change, and to take from a CSV file.

What the forms mean is in `api/organisation.py`; a refused one is answered with the page, what was expected, and what was typed.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import ADMINS, MANAGERS, SHORTEST_PASSWORD, Principal
from api.console import words
from api.console.forms import check_form, read_form
from api.console.language import gettext as _
from api.console.language import mark
from api.console.layout import ConsoleRoute, frame, go_to, page_for, reading, reading_views, render
from api.door import directory_of, house_of
from api.organisation import Organisation
from api.organisation_file import KINDS, MOST_BYTES, Report, apply_file
from api.reading import WAIT_SECONDS
from engine.errors import InvalidInput
from engine.person import Role
from engine.work import Unit, Work
from projections import organisation, people
from projections.runner import Runner
from projections.views import Reader

router = APIRouter(route_class=ConsoleRoute)

ROWS: Final = 50
MOST_HEARD: Final = 20
ROLES: Final = tuple(role for role in Role if role is not Role.MONITOR)
DONE: Final[Mapping[str, str]] = {
    "new": mark("%s is registered."), "changed": mark("%s is changed."), "as it is": mark("%s was like this already."),
    "file": mark("The file is applied: %s."),
}
WHAT: Final[Mapping[str, str]] = {
    "new": mark("new"), "changed": mark("changed"), "as it is": mark("as it is"), "fault": mark("wrong"),
}

managing = page_for(MANAGERS)
administering = page_for(ADMINS)


@dataclass(frozen=True, slots=True)
class Draft:
    """A form that was not carried out, or a file that was read: shown again on the page.

    Attributes:
        typed: what stood in the form.
        fault: the member that was wrong, and what was expected.
        text, report: of a CSV file.
    """

    typed: Mapping[str, str] = field(default_factory=dict)
    fault: tuple[str, str] | None = None
    text: str = ""
    report: Report | None = None
    status: int = 200


NO_DRAFT: Final = Draft()


@router.get("/console/services")
def services_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """Registered services by name, and the names that wait for adoption."""
    return _services(request, principal, NO_DRAFT)


def _services(request: Request, principal: Principal, draft: Draft) -> Response:
    asked = request.query_params
    with reading_views(request) as reader:
        values = _around(request, principal, reader, "services", MANAGERS, draft)
        cursor, owner = asked.get("cursor") or None, asked.get("owner") or None
        found = organisation.services(reader, owner=owner, cursor=cursor, limit=ROWS)
        changing = organisation.service(reader, asked["change"]) if asked.get("change") else None
        heard = organisation.for_adoption(reader, limit=MOST_HEARD + 1) if cursor is None and owner is None else []
        teams, names = organisation.team_names(reader), organisation.service_names(reader)
    around = values["frame"]
    form = draft.typed or ({} if changing is None else {
        "name": changing.name, "owner_team": changing.owner_team or "", "tier": str(changing.tier),
        "depends_on": ", ".join(changing.depends_on), "description": changing.description,
    })
    return render(
        request, "services.html", **values, rows=found.items, heard=heard[:MOST_HEARD], more_heard=len(heard) > MOST_HEARD,
        form=form, changing=changing is not None, teams=teams, names=names, owner=owner, first=cursor is None,
        first_href=around.with_query(), next_href=around.with_query(cursor=found.next) if found.next else None,
    )


@router.get("/console/teams")
def teams_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """Registered teams by support level, and those that people name and nobody has registered."""
    return _teams(request, principal, NO_DRAFT)


def _teams(request: Request, principal: Principal, draft: Draft) -> Response:
    asked = request.query_params.get("change")
    with reading_views(request) as reader:
        values = _around(request, principal, reader, "teams", MANAGERS, draft)
        rows = organisation.teams(reader)
        unknown = sorted(set(organisation.team_names(reader)) - {row.name for row in rows})
    changing = next((row for row in rows if row.name == asked), None)
    form = draft.typed or ({} if changing is None else {
        "name": changing.name, "level": str(changing.level), "email": changing.email or "",
    })
    return render(request, "teams.html", **values, rows=rows, unknown=unknown, form=form, changing=changing is not None)


@router.get("/console/people")
def people_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """People by name, with role and team."""
    return _people(request, principal, NO_DRAFT)


def _people(request: Request, principal: Principal, draft: Draft) -> Response:
    asked = request.query_params
    logins = directory_of(request).logins()
    with reading_views(request) as reader:
        values = _around(request, principal, reader, "people", ADMINS, draft)
        team, cursor = asked.get("team") or None, asked.get("cursor") or None
        found = people.people(reader, team=team, cursor=cursor, limit=ROWS)
        changed = next((person for person, login in logins.items() if login == asked.get("change")), None)
        changing = people.person(reader, changed) if changed else None
        teams = organisation.team_names(reader)
    around = values["frame"]
    # The address lies in the log alone, under the person's key; an empty field leaves it.
    form = draft.typed or ({} if changing is None else {
        "login": logins[changing.id], "name": changing.name, "team": changing.team or "", "role": changing.role or "",
    })
    return render(
        request, "people.html", **values, rows=[(row, logins.get(row.id)) for row in found.items], form=form,
        changing=changing is not None, teams=teams, team=team, roles=ROLES, shortest=SHORTEST_PASSWORD,
        first=cursor is None, first_href=around.with_query(),
        next_href=around.with_query(cursor=found.next) if found.next else None,
    )


def _around(
    request: Request, principal: Principal, reader: Reader, here: str, writers: frozenset[Role], draft: Draft
) -> dict[str, Any]:
    """What the three pages share."""
    around = frame(request, principal, reader, here)
    around.path = f"/console/{here}"
    what, _colon, name = request.query_params.get("done", "").partition(":")
    return {
        "frame": around, "draft": draft, "status": draft.status, "may_change": principal.role in writers and not around.moment.past,
        "done": _(DONE[what]) % name if what in DONE and name else "", "what": WHAT, "columns": ", ".join(KINDS[here_kind(here)].columns),
    }


def here_kind(here: str) -> str:
    """The kind of file that a page takes."""
    return {"services": "service", "teams": "team", "people": "user"}[here]


# -- forms -----------------------------------------------------------------------------------------------------------


@router.post("/console/services")
async def put_service(request: Request, principal: Annotated[Principal, Depends(managing)]) -> Response:
    """Register or change a service, then 303 to the page."""

    def write(one: Organisation, form: Mapping[str, str]) -> str:
        values: dict[str, Any] = {"name": form.get("name"), "tier": _number("tier", form)}
        values |= {name: form[name] for name in ("owner_team", "description") if name in form}
        if "depends_on" in form:
            values["depends_on"] = tuple(name.strip() for name in form["depends_on"].split(",") if name.strip())
        return one.put_service(values).what

    return await _taken(request, principal, "services", "name", write, _services)


@router.post("/console/teams")
async def put_team(request: Request, principal: Annotated[Principal, Depends(managing)]) -> Response:
    """Register or change a team, then 303 to the page."""

    def write(one: Organisation, form: Mapping[str, str]) -> str:
        values = {"name": form.get("name"), "level": _number("level", form)}
        return one.put_team(values | {name: form[name] for name in ("email",) if name in form}).what

    return await _taken(request, principal, "teams", "name", write, _teams)


@router.post("/console/people")
async def put_person(request: Request, principal: Annotated[Principal, Depends(administering)]) -> Response:
    """Register or change a person with an account, then 303 to the page. A password is for somebody new."""

    def write(one: Organisation, form: Mapping[str, str]) -> str:
        values = {name: form[name] for name in ("login", "name", "role", "team") if name in form}
        if form.get("email", "").strip():
            values["email"] = form["email"]
        return one.put_person(values, password=form.get("hashed")).what

    return await _taken(request, principal, "people", "login", write, _people)


def _number(name: str, form: Mapping[str, str]) -> int | None:
    text = form.get(name, "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) < 5):
        raise InvalidInput(name, _("a number"))
    return int(text) if text else None


async def _taken(
    request: Request, principal: Principal, here: str, key: str, write: Callable[[Organisation, Mapping[str, str]], str],
    page: Callable[[Request, Principal, Draft], Response],
) -> Response:
    form = await read_form(request)
    check_form(request, principal, form)
    if "csv" in form:
        return await _file(request, principal, here, form, page)
    typed = {name: value for name, value in form.items() if name not in ("csrf_token", "password")}

    def decide(work: Work) -> tuple[str, int]:
        what = write(Organisation(work, directory_of(request)), given)
        return what, work.stamp()

    given = dict(typed)
    given.pop("hashed", None)
    try:
        if form.get("password"):
            given["hashed"] = await asyncio.to_thread(directory_of(request).hashed, form["password"])
        what, position = await house_of(request).ledger.commit(Unit(decide, actor=principal.actor))
    except InvalidInput as error:
        draft = Draft(typed=typed, fault=(error.field, words.said(error.phrase)), status=422)
        return await asyncio.to_thread(page, request, principal, draft)
    await _reached(request, position)
    return go_to(f"/console/{here}?{urlencode({'done': f'{what}:{typed[key].strip()}'})}")


async def _file(
    request: Request, principal: Principal, here: str, form: Mapping[str, str], page: Callable[[Request, Principal, Draft], Response]
) -> Response:
    house, text = house_of(request), form["csv"]
    dry_run = form.get("do") != "apply"
    report = await asyncio.to_thread(
        apply_file, house.ledger, house.directory, here_kind(here), text.encode("utf-8", "replace")[:MOST_BYTES], dry_run=dry_run,
        actor=principal.actor,
    )
    await _reached(request, house.ledger.last_position)
    if report.applied:
        said = _("%(new)s new, %(changed)s changed, %(same)s as they are") % {
            "new": report.count("new"), "changed": report.count("changed"), "same": report.count("as it is"),
        }
        return go_to(f"/console/{here}?{urlencode({'done': f'file:{said}'})}")
    draft = Draft(text=text, report=report, status=422 if report.faults else 200)
    return await asyncio.to_thread(page, request, principal, draft)


async def _reached(request: Request, position: int) -> None:
    runner: Runner = request.app.state.runner
    await runner.reached(position, WAIT_SECONDS)
