"""The delivery pages: what arrived from whom, what was made of it, and what could not be read and why."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import ADMINS, Principal
from api.console import words
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, frame, reading, reading_views, render
from api.console.work_queue import Pill
from engine.errors import NotFound
from projections.delivery_page import deliveries, delivery
from projections.sources import sources

router = APIRouter(route_class=ConsoleRoute)

ROWS: Final = 50
MOST_OBSERVATIONS: Final = 500


@router.get("/console/deliveries")
def deliveries_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """Deliveries, the latest first."""
    asked = request.query_params
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "deliveries")
        rejected, source = {"1": True, "0": False}.get(asked.get("rejected", "")), asked.get("source") or None
        found = deliveries(
            reader, source=source, rejected=rejected, as_of=around.moment.position, cursor=asked.get("cursor") or None, limit=ROWS
        )
        senders = [one for one in sources(reader) if one.heard_at or one.rejected_at]
    pills = [
        Pill(_("All"), around.with_query(rejected=None, source=None), rejected is None and source is None),
        Pill(_("Rejected"), around.with_query(rejected=None if rejected else "1"), rejected is True),
        *(Pill(one.name, around.with_query(source=None if one.name == source else one.name), one.name == source) for one in senders),
    ]
    return render(
        request, "deliveries.html", frame=around, rows=found.items, pills=pills, senders=senders,
        next_href=around.with_query(cursor=found.next) if found.next else None, first=not asked.get("cursor"),
        first_href=around.with_query(), narrowed=rejected is not None or source is not None,
    )


@router.get("/console/deliveries/{delivery_id}")
def delivery_page(request: Request, delivery_id: str, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """One delivery, observation by observation.

    Raises:
        NotFound: there is none of that id (by then).
    """
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "deliveries")
        try:
            found = delivery(reader, UUID(delivery_id))
        except ValueError:
            found = None
        if found is None or (around.moment.position is not None and found.delivery.position > around.moment.position):
            raise NotFound(_("delivery"), words.plain(delivery_id))
    return render(
        request, "delivery.html", frame=around, row=found.delivery, detail=found, observations=found.observations[:MOST_OBSERVATIONS],
        body_href=f"/api/v1/deliveries/{found.delivery.id}/body" if found.body and principal.role in ADMINS else "",
    )
