"""Answers about the past over HTTP: a ticket's history, the reasons behind a value, and the measures."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.access import READERS, Principal
from api.door import allow, house_of
from api.kpi import measures, window_of
from api.reading import answer, instant, page_of, plain, read
from api.records import PROBLEMS, Anyone, AsOf, Cursor, Limit, one_ticket, person_of
from engine.errors import NotFound
from engine.person import Role
from projections import history_page, kpi_page
from projections.kpi_page import KpiFilter, Window
from projections.views import Reader
from projections.why import why

router = APIRouter(prefix="/api/v1", tags=["views"], responses=PROBLEMS)

Reads = Annotated[Principal, Depends(allow(READERS))]


@router.get("/tickets/{number}/history", summary="A ticket's history, in log order")
async def ticket_history(
    request: Request, principal: Anyone, number: str, as_of: AsOf = None,
    basis: Annotated[str, Query(description="`recorded` (log order) or `occurred` (as it was claimed to have happened)")] = "recorded",
    cursor: Cursor = None, limit: Limit = 100,
) -> Response:
    """Each event as a sentence (`summary`) and as data. A requester sees their own tickets, without internal words."""
    await one_ticket(request, principal, number, as_of)
    return await _history(request, number, as_of, basis, cursor, limit, public_only=principal.role is Role.REQUESTER)


@router.get("/alerts/{number}/history", summary="An alert's history, in log order")
async def alert_history(
    request: Request, _: Reads, number: str, as_of: AsOf = None, basis: str = "recorded", cursor: Cursor = None, limit: Limit = 100
) -> Response:
    return await _history(request, number, as_of, basis, cursor, limit)


async def _history(
    request: Request, number: str, as_of: str | None, basis: str, cursor: str | None, limit: int, *, public_only: bool = False
) -> Response:
    page = await read(
        request,
        lambda reader, at: history_page.history(reader, number, as_of=at, basis=basis, cursor=cursor, limit=limit),
        as_of=as_of,
    )
    if page is None:
        raise NotFound("ticket or alert", number)
    shape = page_of(page)
    if public_only:
        shape["items"] = [item for item in shape["items"] if item.get("visibility") != "internal"]
    return answer(shape)


@router.get("/tickets/{number}/why", summary="The facts and rules behind a value")
async def explain(
    request: Request, _: Reads, number: str,
    field: Annotated[str | None, Query(description="one field, such as `priority`; all by default")] = None, as_of: AsOf = None,
) -> Response:
    """For each field the fact that set it, and the chain of causes back to what came from outside. Also for alerts."""
    explained = await read(request, lambda reader, at: why(reader, number, field, as_of=at), as_of=as_of)
    return answer({"number": number, "fields": plain(explained)})


From = Annotated[str | None, Query(alias="from", description="start of the window (RFC 3339); a week before its end by default")]
To = Annotated[str | None, Query(alias="to", description="end of the window, not included; now by default")]
Zone = Annotated[str, Query(description="IANA zone whose midnights part the days")]
KpiBasis = Annotated[str, Query(description="`recorded` (when Tocsin knew it) or `occurred` (when it is claimed to have happened)")]


async def kpi_filter(
    request: Request,
    kind: Annotated[str | None, Query()] = None,
    priority: Annotated[str | None, Query()] = None,
    service: Annotated[str | None, Query()] = None,
    team: Annotated[str | None, Query()] = None,
    agent: Annotated[str | None, Query(description="login, address or id, or `nobody`")] = None,
    channel: Annotated[str | None, Query()] = None,
    imported: Annotated[str, Query(description="facts that an import told: `include`, `exclude` or `only`")] = "include",
) -> KpiFilter:
    """Whose facts, as it stands in the address."""
    who: Any = agent if agent in (None, "nobody") else await person_of(request, "agent", agent)
    return KpiFilter(kind=kind, priority=priority, service=service, team=team, agent=who, channel=channel, imported=imported)


def _window(request: Request, start: str | None, end: str | None, zone: str, basis: str, as_of: str | None) -> tuple[Window, datetime]:
    """(the window, the instant that is now for whoever asks as of another)."""
    now = house_of(request).clock.now()
    if as_of and not as_of.isdigit():
        now = min(now, instant("as_of", as_of))
    window = window_of(instant("from", start) if start else None, instant("to", end) if end else None, now, zone, basis)
    return window, now


@router.get("/kpis", summary="Measures: how many, how long, how loud")
async def kpis(
    request: Request, _: Reads, filters: Annotated[KpiFilter, Depends(kpi_filter)], start: From = None, end: To = None,
    zone: Zone = "UTC", basis: KpiBasis = "recorded",
    group_by: Annotated[str | None, Query(description="kind, priority, service, team, agent, channel or day")] = None,
    as_of: AsOf = None,
) -> Response:
    """Time to acknowledge and to restore, first response, volume, backlog and its age, reopen rate, noise, repeaters. Seconds.

    Each figure carries the `query` of `/api/v1/kpis/tickets` that opens the tickets behind it.
    """
    window, now = _window(request, start, end, zone, basis, as_of)

    def ask(reader: Reader, at: int | None) -> dict[str, Any]:
        return measures(reader, window, now, group_by=group_by, filters=filters, as_of=at)

    return answer(plain(await read(request, ask, as_of=as_of)))


@router.get("/kpis/tickets", summary="The tickets behind a measure")
async def kpi_tickets(
    request: Request, _: Reads, filters: Annotated[KpiFilter, Depends(kpi_filter)],
    metric: Annotated[str, Query(description="opened, acknowledged, responded, resolved, reopened or cancelled")] = "resolved",
    start: From = None, end: To = None, zone: Zone = "UTC", basis: KpiBasis = "recorded", as_of: AsOf = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Response:
    """One item a fact: a ticket that was resolved twice is there twice."""
    window, _now = _window(request, start, end, zone, basis, as_of)
    page = await read(
        request,
        lambda reader, at: kpi_page.kpi_tickets(reader, metric, window, filters=filters, as_of=at, cursor=cursor, limit=limit),
        as_of=as_of,
    )
    return answer(page_of(page))
