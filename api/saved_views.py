"""Saved views over HTTP, and who may do what with them: everybody who works here keeps their own, leads and administrators
those that all see. The page of them is `api/console/views.py`."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from api.access import MANAGERS, READERS, WORKERS, Principal
from api.commands import Body
from api.door import allow
from api.queue_address import checked
from api.reading import answer, read
from api.records import PROBLEMS, StrictRoute
from api.writing import execute
from engine.aggregate import Aggregate
from engine.errors import InvalidInput, NotAllowed, NotFound
from engine.saved_view import LONGEST_NAME, LONGEST_QUERY, SavedView, Shelf, shelf_id
from engine.work import Work
from projections.saved_views import SavedViewRow, saved_views

router = APIRouter(prefix="/api/v1", tags=["records"], route_class=StrictRoute, responses=PROBLEMS)

Reads = Annotated[Principal, Depends(allow(READERS))]
Writes = Annotated[Principal, Depends(allow(WORKERS))]


class SaveView(Body):
    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    query: str = Field(max_length=LONGEST_QUERY, description="parameters of the queue's address, such as `team=Shop&sort=due`")
    shared: bool = Field(False, description="for everybody; needs the role lead or admin")


def save(work: Work, principal: Principal, *, name: str, query: str, shared: bool) -> tuple[Shelf, SavedView, bool]:
    """Keep an address under a name: (its shelf, the view, whether it is new).

    Raises:
        NotAllowed: this role shares no views.
        InvalidInput: a name or a query that cannot be, or a full shelf.
    """
    if shared and principal.role not in MANAGERS:
        raise NotAllowed("views for everybody are saved by leads and administrators")
    if not shared and principal.person is None:
        raise InvalidInput("shared", "true: a token has no views of its own")
    owner = None if shared else principal.person
    shelf = work.load(Shelf, shelf_id(owner))
    fact = shelf.save(work.new_id(), owner=owner, name=name, query=checked(query))
    kept = shelf.views[-1] if fact else next(one for one in shelf.views if one.name == name.strip())
    return shelf, kept, fact is not None


def shelf_of(work: Work, principal: Principal, view: UUID) -> Shelf:
    """The shelf of a view that this principal may change.

    Raises:
        NotFound: there is none, or it is somebody else's.
        NotAllowed: it is everybody's, and this role may not change those.
    """
    shared = work.load(Shelf, shelf_id(None))
    if any(one.view == view for one in shared.views):
        if principal.role not in MANAGERS:
            raise NotAllowed("views for everybody are changed by leads and administrators")
        return shared
    if principal.person is None:
        raise NotFound("saved view", str(view))
    own = work.load(Shelf, shelf_id(principal.person))
    own.place_of(view)
    return own


def _shown(view: SavedView | SavedViewRow, *, shared: bool) -> dict[str, Any]:
    ident = view.view if isinstance(view, SavedView) else view.id
    return {"id": str(ident), "name": view.name, "query": view.query, "shared": shared, "address": f"/console?{view.query}"}


@router.get("/views", summary="Saved views of the queue")
async def list_views(request: Request, principal: Reads) -> Response:
    """Those of whoever asks, then the shared ones; each in its order, all on one page."""
    rows, position = await read(request, lambda reader, _at: (saved_views(reader, principal.person), reader.position))
    return answer({"items": [_shown(row, shared=row.shared) for row in rows], "next": None, "position": position})


@router.get("/views/{view}", summary="A saved view")
async def get_view(request: Request, principal: Reads, view: UUID) -> Response:
    rows = await read(request, lambda reader, _at: saved_views(reader, principal.person))
    for row in rows:
        if row.id == view:
            return answer(_shown(row, shared=row.shared))
    raise NotFound("saved view", str(view))


@router.post("/views", status_code=201, summary="Save a view of the queue")
async def post_view(request: Request, principal: Writes, body: SaveView) -> Response:
    """201 where it is new, 200 where it was saved under this name already."""

    def decide(work: Work) -> tuple[int, Aggregate, dict[str, Any]]:
        shelf, kept, new = save(work, principal, name=body.name, query=body.query, shared=body.shared)
        return 201 if new else 200, shelf, _shown(kept, shared=body.shared)

    return (await execute(request, principal, decide)).response()


@router.delete("/views/{view}", summary="Remove a saved view")
async def delete_view(request: Request, principal: Writes, view: UUID) -> Response:
    """Answers what it was."""

    def decide(work: Work) -> tuple[int, Aggregate, dict[str, Any]]:
        shelf = shelf_of(work, principal, view)
        was = shelf.views[shelf.place_of(view)]
        shelf.remove(view)
        return 200, shelf, _shown(was, shared=shelf.owner is None)

    return (await execute(request, principal, decide)).response()
