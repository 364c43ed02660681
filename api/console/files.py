"""A file of a ticket, for saving; what may be seen and how it is sent is in `api/file_routes.py`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import Principal
from api.console.layout import ConsoleRoute, reading
from api.file_routes import download

router = APIRouter(route_class=ConsoleRoute)


@router.get("/console/tickets/{number}/files/{file}")
async def get_file(request: Request, number: str, file: UUID, principal: Annotated[Principal, Depends(reading)]) -> Response:
    return await download(request, principal, number.upper(), file)
