"""Notices over HTTP: what waits, what was sent, what could not be; and trying a dead letter again."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.access import ADMINS, READERS, Principal
from api.door import allow
from api.reading import answer, page_of, read
from api.records import PROBLEMS, Cursor, Limit, StrictRoute
from api.writing import execute
from engine.aggregate import Aggregate
from engine.errors import NotFound
from engine.notice import Notices, notices_id
from engine.work import Work
from projections import outbox
from projections.outbox import NoticeRow

router = APIRouter(prefix="/api/v1", tags=["notices"], route_class=StrictRoute, responses=PROBLEMS)


@router.get("/notices", summary="Notices: waiting, sent and dead letters, the latest first")
async def list_notices(
    request: Request,
    _: Annotated[Principal, Depends(allow(READERS))],
    status: Annotated[str | None, Query(description="waiting, sent or dead")] = None,
    recipient: Annotated[str | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    page = await read(
        request, lambda reader, _at: outbox.notices(reader, status=status, recipient=recipient, cursor=cursor, limit=limit)
    )
    return answer(page_of(page))


@router.post("/notices/{notice}/retry", summary="Try a dead letter again, at once")
async def retry_notice(request: Request, principal: Annotated[Principal, Depends(allow(ADMINS))], notice: UUID) -> Response:
    row = await found(request, notice)

    def decide(work: Work) -> tuple[int, Aggregate, dict[str, Any]]:
        notices = retry(work, row)
        return 200, notices, {"notice": str(notice), "ticket": row.number, "status": "waiting"}

    return (await execute(request, principal, decide)).response()


async def found(request: Request, notice: UUID) -> NoticeRow:
    """Raises: NotFound: there is no notice of that id."""
    row = await read(request, lambda reader, _at: outbox.notice(reader, notice))
    if row is None:
        raise NotFound("notice", str(notice))
    return row


def retry(work: Work, row: NoticeRow) -> Notices:
    """Raises: Conflict: it is no dead letter (any more)."""
    notices = work.load(Notices, notices_id(row.ticket_id))
    notices.retry(row.id)
    return notices
