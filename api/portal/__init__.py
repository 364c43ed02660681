"""The portal: where people who are not agents open tickets and follow them. Rendered on the server, usable without scripts.

`start.py` is the first page, `reporting.py` the form that opens a ticket, `following.py` the page of one ticket. Whoever is not
signed in follows theirs by a private link (`private_link.py`). Pages for the people who work on tickets are `api/console`.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response

from api.console.layout import go_to
from api.portal import following, reporting, start
from api.portal.frame import START, PortalRoute, Visit, visiting
from engine.errors import NotFound

__all__ = ["router"]

PAGES: Final = (start, reporting, following)

router = APIRouter(include_in_schema=False, route_class=PortalRoute)
for page in PAGES:
    router.include_router(page.router)


@router.get("/portal/{path:path}")
async def no_such_page(path: str, _visit: Annotated[Visit, Depends(visiting)]) -> Response:
    """Whatever else is asked for below the portal is answered by a page too."""
    if not path:
        return go_to(START)
    raise NotFound("page", f"/portal/{path}")
