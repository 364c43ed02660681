"""Answers about the past over HTTP: a ticket's history, the reasons behind a value, and the measures."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.access import READERS, Principal
from api.door import allow
from api.reading import answer, plain, read
from api.records import PROBLEMS, Anyone, AsOf, Cursor, Limit, one_ticket, page_of
from engine.errors import NotFound
from engine.person import Role
from projections import history_page
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
