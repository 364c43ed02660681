"""The first page: what one can do here, and for who is signed in, what became of what they opened."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.console.layout import reading_views
from api.portal.frame import START, PortalRoute, Visit, shown, visiting
from projections.queue_page import own_tickets

router = APIRouter(route_class=PortalRoute)

MOST_SHOWN: Final = 100


@router.get(START)
def start(request: Request, visit: Annotated[Visit, Depends(visiting)]) -> Response:
    rows = []
    if visit.principal is not None and visit.principal.person is not None:
        with reading_views(request) as reader:
            rows = own_tickets(reader, visit.principal.person, limit=MOST_SHOWN)
    return shown(visit, "start.html", rows=rows, most=MOST_SHOWN)
