"""The page of saved views: rename them, move them, remove them; and the form of the queue that saves one.

They stand in the navigation of every page (`layout.py`); who may do what is in `api/saved_views.py`.
"""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import MANAGERS, WORKERS, Principal
from api.console import words
from api.console.act import reached
from api.console.forms import check_form, read_form
from api.console.language import gettext as _
from api.console.language import mark
from api.console.layout import ConsoleRoute, frame, go_to, reading, reading_views, render, working
from api.door import house_of
from api.saved_views import save, shelf_of
from engine.errors import InvalidInput, NotAllowed
from engine.saved_view import LONGEST_NAME
from engine.work import Unit, Work

router = APIRouter(route_class=ConsoleRoute)

HERE: Final = "/console/views"
DONE: Final[Mapping[str, str]] = {
    "renamed": mark("The view has its new name."), "moved": mark("The view is moved."), "removed": mark("The view is removed."),
}
# A step on its shelf, by the button that was pressed.
STEPS: Final = {"up": -1, "down": 1}


@router.get(HERE)
def views_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    return _page(request, principal)


def _page(
    request: Request, principal: Principal, *, typed: Mapping[str, str] | None = None, fault: str = "", status: int = 200
) -> Response:
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "views")
        around.path = HERE
    told = around.kept.pop("what", "")
    shelves = (
        (_("Yours"), [view for view in around.views if not view.shared], principal.role in WORKERS),
        (_("Everybody’s"), [view for view in around.views if view.shared], principal.role in MANAGERS),
    )
    return render(
        request, "views.html", status=status, frame=around, shelves=shelves, told=_(DONE[told]) if told in DONE else "", typed=typed or {},
        fault=fault, longest=LONGEST_NAME, may_share=principal.role in MANAGERS,
    )


@router.post(HERE)
async def save_view(request: Request, principal: Annotated[Principal, Depends(working)]) -> Response:
    """Keep the address that the queue shows, then go back to it."""
    form = await read_form(request)
    check_form(request, principal, form)
    query = form.get("query", "")

    def decide(work: Work) -> tuple[str, int]:
        _shelf, kept, _new = save(work, principal, name=form.get("name", ""), query=query, shared=bool(form.get("shared")))
        return kept.query, work.stamp()

    try:
        kept, position = await house_of(request).ledger.commit(Unit(decide, actor=principal.actor))
    except (InvalidInput, NotAllowed) as error:
        return await _refused(request, principal, form, error)
    await reached(request, position)
    return go_to(f"/console?{kept}&{urlencode({'told': 'view-saved'})}")


@router.post("/console/views/{view}")
async def change_view(request: Request, view: UUID, principal: Annotated[Principal, Depends(working)]) -> Response:
    """Rename, move or remove one, as the button says."""
    form = await read_form(request)
    check_form(request, principal, form)
    what = form.get("do", "")
    if what not in ("rename", "remove", *STEPS):
        raise InvalidInput("do", _("rename, up, down or remove"))

    def decide(work: Work) -> int:
        shelf = shelf_of(work, principal, view)
        if what == "remove":
            shelf.remove(view)
        elif what == "rename":
            shelf.change(view, name=form.get("name", ""))
        else:
            shelf.change(view, place=shelf.place_of(view) + STEPS[what])
        return work.stamp()

    try:
        position = await house_of(request).ledger.commit(Unit(decide, actor=principal.actor))
    except InvalidInput as error:
        return await _refused(request, principal, {**form, "view": str(view)}, error)
    await reached(request, position)
    told = {"rename": "renamed", "remove": "removed"}.get(what, "moved")
    return go_to(f"{HERE}?{urlencode({'what': told})}")


async def _refused(request: Request, principal: Principal, typed: Mapping[str, str], error: InvalidInput | NotAllowed) -> Response:
    status = 403 if isinstance(error, NotAllowed) else 422
    return await asyncio.to_thread(_page, request, principal, typed=typed, fault=words.refusal(error), status=status)
