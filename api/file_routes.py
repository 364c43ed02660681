"""Files on tickets over HTTP: attaching them, and giving one out. What is taken in is decided in `api/attaching.py`."""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import PEOPLE, WORKERS, Principal
from api.attaching import Attach, attaching, read_posted
from api.commands import KINDS, shown
from api.door import allow, house_of
from api.problem import Erased
from api.reading import plain
from api.records import PROBLEMS, context_of, found, one_ticket, parsed
from api.writing import execute, expect_version
from engine.attachment import read_file
from engine.codec import ERASED
from engine.errors import InvalidInput, NotFound
from engine.person import Role
from engine.ticket import Ticket, TicketFileAttached, Visibility
from engine.work import Work
from projections.ticket_row import TicketRow

router = APIRouter(prefix="/api/v1", tags=["records"], responses={
    **PROBLEMS, 410: {"description": "Erased"}, 413: {"description": "Too large"},
})

Anyone = Annotated[Principal, Depends(allow(PEOPLE))]
Writes = Annotated[Principal, Depends(allow(WORKERS))]

FORM: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
        "type": "object", "required": ["files"], "properties": {
            "files": {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": 5},
            "visibility": {"type": "string", "enum": [visibility.value for visibility in Visibility], "default": "internal"},
        },
    }}}},
}


@router.post("/tickets/{number}/files", summary="Attach files to a ticket", openapi_extra=FORM)
async def attach(request: Request, principal: Writes, number: str) -> Response:
    """At most five files a form. Answered with the ticket and the files, whose `id` is what they are got by."""
    form = await read_posted(request)
    body = parsed(Attach, form.fields)
    files = await form.sealed(house_of(request).vault)
    if not files:
        raise InvalidInput("files", "one file at least, in a form (multipart/form-data)")
    row = await found(request, number)

    def decide(work: Work) -> tuple[int, Ticket, dict[str, Any]]:
        record = work.load(KINDS[row.kind], row.id)
        expect_version(request, work, record)
        attaching(files)(record, body, context_of(request, principal, work))
        links = [{"number": link.number, "relation": link.relation} for link in row.links]
        answer = shown(work, record, alerts=row.alerts, links=links)
        answer["files"] = [
            {"id": str(file.id), "name": file.name, "media_type": file.media_type, "length": file.length} for file in files
        ]
        return 200, record, plain(answer)

    return (await execute(request, principal, decide, asked=form.digest())).response()


@router.get("/tickets/{number}/files/{file}", summary="A file of a ticket, for saving")
async def get_file(request: Request, principal: Anyone, number: str, file: UUID) -> Response:
    """Its exact bytes. A requester gets what is public on their own tickets."""
    return await download(request, principal, number, file)


async def download(request: Request, principal: Principal, number: str, file: UUID) -> Response:
    """A file of a ticket that this principal may see, in a form that a browser saves and never shows.

    Raises:
        NotFound: no such ticket or file, or not for this principal.
        Erased: its key was destroyed, or that of the person whose file it was.
    """
    row = await one_ticket(request, principal, number)
    return await given_out(request, row, file, public_only=principal.role is Role.REQUESTER)


async def given_out(request: Request, row: TicketRow, file: UUID, *, public_only: bool) -> Response:
    """A file of a ticket that somebody may see.

    Raises:
        NotFound: it has none such, or it is not public.
        Erased: its key was destroyed, or that of the person whose file it was.
    """
    event, content = await asyncio.to_thread(_content, request, row.id, file, public_only=public_only)
    if event is None:
        raise NotFound("file", f"{file} on {row.number}")
    if content is None:
        raise Erased(f"this file of {row.number} was erased")
    headers = {
        "Content-Disposition": disposition(event.name), "Content-Security-Policy": "sandbox", "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Response(content, media_type=event.media_type, headers=headers)


def _content(
    request: Request, ticket: UUID, file: UUID, *, public_only: bool
) -> tuple[TicketFileAttached | None, bytes | None]:
    house = house_of(request)
    for row in house.store.stream(ticket.bytes):
        if row.type != TicketFileAttached.TOPIC:
            continue
        event = house.ledger.fact(row).event
        if isinstance(event, TicketFileAttached) and event.file == file:
            if public_only and event.visibility is not Visibility.PUBLIC:
                break
            if event.name == ERASED:  # whose file it was is forgotten: then it is not given out either
                return event, None
            return event, read_file(house.store, house.vault, event.digest)
    return None, None


def disposition(name: str) -> str:
    """`Content-Disposition` that saves under this name (RFC 6266): plain for old clients, UTF-8 (RFC 8187) for the others."""
    fallback = "".join(letter if letter.isascii() and letter.isprintable() and letter not in '"\\%' else "_" for letter in name)
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='')}"
