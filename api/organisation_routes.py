"""Services, teams and people over HTTP; what writing them means is in `api/organisation.py`."""

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from msgspec import structs
from pydantic import Field
from starlette.responses import Response

from api.access import MANAGERS, READERS, Principal
from api.commands import LONGEST_NAME, LONGEST_TEXT, Body
from api.door import allow, directory_of, house_of
from api.organisation import Organisation, Written
from api.reading import answer, page_of, plain, read
from api.records import PROBLEMS, Cursor, Limit, StrictRoute
from api.writing import execute
from engine.aggregate import Aggregate
from engine.errors import NotFound
from engine.service import Service
from engine.team import Team
from engine.work import Work
from projections import organisation, people
from projections.views import Reader

router = APIRouter(prefix="/api/v1", tags=["organisation"], route_class=StrictRoute, responses=PROBLEMS)

Reads = Annotated[Principal, Depends(allow(READERS))]
Manages = Annotated[Principal, Depends(allow(MANAGERS))]


class PutTeam(Body):
    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    level: int | None = Field(None, ge=1, le=3, description="left out: as it is, or 1")
    email: str | None = Field(None, max_length=LONGEST_NAME, description="left out: as it is; null: none")


class PutService(Body):
    name: str = Field(min_length=1, max_length=LONGEST_NAME, description="as monitoring spells it")
    owner_team: str | None = Field(None, max_length=LONGEST_NAME, description="left out: as it is; null: none")
    tier: int | None = Field(None, ge=1, le=4, description="from 1, everything hangs on it, to 4; left out: as it is, or 3")
    depends_on: list[str] = Field([], max_length=500, description="names of the services that it needs; left out: as it is")
    description: str = Field("", max_length=LONGEST_TEXT)


@router.get("/services", summary="Registered services")
async def list_services(
    request: Request, _: Reads, owner: Annotated[str | None, Query(description="a team's name")] = None, cursor: Cursor = None, limit: Limit = 50
) -> Response:
    """By name. `heard` beside the first page: names that alerts and tickets use and nobody has registered."""

    def ask(reader: Reader, _at: int | None) -> dict[str, Any]:
        found = page_of(organisation.services(reader, owner=owner, cursor=cursor, limit=limit))
        return found | ({} if cursor or owner else {"heard": plain(organisation.for_adoption(reader))})

    return answer(await read(request, ask))


@router.get("/services/{name:path}", summary="A registered service")
async def get_service(request: Request, _: Reads, name: str) -> Response:
    row = await read(request, lambda reader, _at: organisation.service(reader, name))
    if row is None:
        raise NotFound("service", name)
    return answer(plain(row), headers={"ETag": f'"{row.version}"'})


@router.get("/teams", summary="Registered teams")
async def list_teams(request: Request, _: Reads) -> Response:
    """All of them, by support level and name, on one page."""
    rows, position = await read(request, lambda reader, _at: (organisation.teams(reader), reader.position))
    return answer({"items": plain(rows), "next": None, "position": position})


@router.get("/users", summary="People who may sign in")
async def list_users(request: Request, _: Reads) -> Response:
    """All of them, by login, on one page."""

    def ask(reader: Reader, _at: int | None) -> dict[str, Any]:
        accounts = house_of(request).store.accounts()
        known = people.known(reader, [UUID(bytes=account.person) for account in accounts])
        items = [
            {
                "id": str(UUID(bytes=account.person)), "login": account.login, "name": row.name if row else None,
                "role": account.role, "team": row.team if row else None,
            }
            for account in accounts for row in (known.get(UUID(bytes=account.person)),)
        ]
        return {"items": items, "next": None, "position": reader.position}

    return answer(await read(request, ask))


@router.post("/teams", status_code=201, summary="Register a team, or change what is known of it")
async def post_team(request: Request, principal: Manages, body: PutTeam) -> Response:
    """201 where it is new, 200 where it was known."""
    return await _put(request, principal, body, lambda one, values: one.put_team(values))


@router.post("/services", status_code=201, summary="Register a service, or change what is known of it")
async def post_service(request: Request, principal: Manages, body: PutService) -> Response:
    """201 where it is new, 200 where it was known."""
    return await _put(request, principal, body, lambda one, values: one.put_service(values))


async def _put(
    request: Request, principal: Principal, body: Body, write: Callable[[Organisation, dict[str, Any]], Written]
) -> Response:
    values = body.model_dump(exclude_unset=True)

    def decide(work: Work) -> tuple[int, Aggregate, dict[str, Any]]:
        written = write(Organisation(work, directory_of(request)), values)
        record = written.record
        assert isinstance(record, Team | Service)
        assert record.known is not None
        return 201 if written.what == "new" else 200, record, {**structs.asdict(record.known), "version": record.version}

    return (await execute(request, principal, decide)).response()
