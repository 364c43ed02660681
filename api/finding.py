"""Finding over HTTP: the search, tickets like a given one, and who has how much."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from markupsafe import Markup, escape
from starlette.responses import Response

from api.access import READERS, Principal
from api.door import allow, house_of
from api.reading import answer, instant, page_of, plain, read
from api.records import PROBLEMS, AsOf, Cursor, Limit
from engine.clock import from_micros
from engine.errors import NotFound
from projections import search_page, workload
from projections.page import Page
from projections.search_page import Found, Piece
from projections.views import Reader

router = APIRouter(prefix="/api/v1", tags=["views"], responses=PROBLEMS)

Reads = Annotated[Principal, Depends(allow(READERS))]
Field = Annotated[str | None, Query(max_length=200)]


def marked(pieces: list[Piece]) -> Markup:
    """A snippet as HTML: escaped, what was found in `mark`."""
    return Markup("").join(Markup("<mark>{}</mark>").format(piece.text) if piece.hit else escape(piece.text) for piece in pieces)


def found_page(page: Page[Found]) -> dict[str, Any]:
    """The answer of a search: tickets as in any list, and beside each its snippet."""
    shape = page_of(Page(items=[found.ticket for found in page.items], next=page.next, position=page.position))
    for item, found in zip(shape["items"], page.items, strict=True):
        item["snippet"] = str(marked(found.snippet))
    return shape


@router.get("/search", summary="Tickets by what was said on them")
async def search(
    request: Request, _: Reads,
    q: Annotated[str, Query(description="words, \"phrases\", -word, field:value; the last word may be unfinished; docs/search.md")] = "",
    kind: Field = None, service: Field = None, team: Field = None,
    state: Annotated[str | None, Query(description="`open`, a state or a meaning")] = None, priority: Field = None,
    requester: Field = None, host: Field = None, cursor: Cursor = None, limit: Limit = 25,
) -> Response:
    """The best first, at most 2,000 in all. `snippet` is HTML: escaped text, with `mark` around what was found."""
    asked = search_page.asked(q).narrowed(
        kind=kind, service=service, team=team, state=state, priority=priority, requester=requester, host=host
    )
    page = await read(request, lambda reader, _: search_page.search(reader, asked, cursor=cursor, limit=limit))
    return answer(found_page(page), headers={"Tocsin-Position": str(page.position)})


@router.get("/tickets/{number}/similar", summary="Have we had this before? Solved tickets like this one")
async def similar(
    request: Request, _: Reads, number: str, as_of: AsOf = None, limit: Annotated[int, Query(ge=1, le=50)] = 5
) -> Response:
    """The most alike first, each with its resolution code and the beginning of its solution."""

    def ask(reader: Reader, at: int | None) -> tuple[Any, int]:
        return search_page.similar(reader, number, as_of=at, limit=limit), reader.at(at)

    items, position = await read(request, ask, as_of=as_of)
    if items is None:
        raise NotFound("ticket", number)
    return answer({"items": plain(items), "next": None, "position": position})


@router.get("/workload", summary="Who has how much, now or as of an instant")
async def who_has_what(request: Request, _: Reads, as_of: AsOf = None) -> Response:
    """By person and by team: open tickets by priority, their age, how many wait, how many were resolved in seven days."""
    def ask(reader: Reader, at: int | None) -> workload.Workload:
        return workload.workload(reader, _moment(request, reader, as_of, at), as_of=at)

    found = await read(request, ask, as_of=as_of)
    return answer(plain(found), headers={"Tocsin-Position": str(found.position)})


def _moment(request: Request, reader: Reader, as_of: str | None, at: int | None) -> datetime:
    """The instant that is asked about: of a position, when it was recorded."""
    if at is None or as_of is None:
        return house_of(request).clock.now()
    if not as_of.isdigit():
        return instant("as_of", as_of)
    stored = reader.ledger.store.at(reader.at(at))
    return from_micros(stored.recorded_at) if stored else house_of(request).clock.now()
