"""The change pages: what was altered on purpose, to be held against what broke soon after."""

from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import Principal
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, frame, reading, reading_views, render
from engine.errors import NotFound
from projections.changes import change, changes

router = APIRouter(route_class=ConsoleRoute)

ROWS: Final = 50


@router.get("/console/changes")
def changes_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """Changes, the latest first."""
    asked = request.query_params
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "changes")
        found = changes(
            reader, service=asked.get("service") or None, as_of=around.moment.position, cursor=asked.get("cursor") or None, limit=ROWS
        )
    return render(
        request, "changes.html", frame=around, rows=found.items, service=asked.get("service"),
        next_href=around.with_query(cursor=found.next) if found.next else None, first=not asked.get("cursor"),
        first_href=around.with_query(),
    )


@router.get("/console/changes/{number}")
def change_page(request: Request, number: str, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """One change.

    Raises:
        NotFound: there is none of that number (by then).
    """
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "changes")
        row = change(reader, number.upper(), as_of=around.moment.position)
        if row is None:
            raise NotFound(_("change"), number)
    return render(request, "change.html", frame=around, row=row, after=row.occurred_at - timedelta(minutes=5))
