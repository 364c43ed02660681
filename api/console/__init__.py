"""The console: pages for operations and auditors, rendered on the server and usable without scripts.

One module a page; `layout.py` is the frame around all of them, `api/templates` and `api/static` are what they look like.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response

from api.access import Principal
from api.console import (
    act,
    alerts,
    bulk,
    changes,
    connect,
    deliveries,
    event_log,
    files,
    measures,
    new_ticket,
    notices,
    organisation,
    rules,
    search,
    session,
    ticket,
    views,
    why,
    work_queue,
    workload,
)
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, go_to, mount_static, reading
from engine.errors import NotFound

__all__ = ["mount_static", "router"]

PAGES: Final = (
    session, work_queue, ticket, act, alerts, deliveries, changes, event_log, measures, rules, why, notices, search, workload,
    organisation, connect, views, bulk, files, new_ticket,
)

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)
for page in PAGES:
    router.include_router(page.router)


@router.get("/")
async def home() -> Response:
    return go_to("/console")


@router.get("/console/{path:path}")
async def no_such_page(path: str, _who: Annotated[Principal, Depends(reading)]) -> Response:
    """Whatever else is asked for below the console is answered by a page too."""
    if not path:
        return go_to("/console")
    raise NotFound(_("page"), f"/console/{path}")
