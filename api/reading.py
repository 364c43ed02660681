"""How the interface reads: the instant or position that is asked for, waiting for the view, and the shape of an answer."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from fastapi import Request
from starlette.responses import Response

from api.door import house_of
from api.problem import ViewBehind
from engine.clock import micros, rfc3339
from engine.errors import InvalidInput
from projections.alert_page import AlertRow
from projections.changes import ChangeRow
from projections.page import Page
from projections.runner import Runner
from projections.ticket_row import TicketRow
from projections.views import Reader

T = TypeVar("T")

WAIT_SECONDS: Final = 2.0
POSITION_HEADER: Final = "tocsin-position"
ONLY_OF_ONE: Final[dict[type, tuple[str, ...]]] = {
    TicketRow: ("description", "fields"),
    AlertRow: ("labels", "details", "link"),
    ChangeRow: ("details", "link"),
}


def instant(field: str, text: str) -> datetime:
    """An RFC 3339 instant, aware and UTC.

    Raises:
        InvalidInput: it is none, or has no zone.
    """
    try:
        # A plus sign that a client did not encode arrives as a blank.
        parsed = datetime.fromisoformat(text.strip().replace(" ", "+") if text.count(":") > 2 else text.strip())
    except ValueError:
        raise InvalidInput(field, "an instant such as 2026-03-02T02:14:00Z") from None
    if parsed.tzinfo is None:
        raise InvalidInput(field, "an instant with its zone, such as 2026-03-02T02:14:00Z")
    try:
        return parsed.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(field, "an instant between the years 1 and 9999") from None


def as_of_position(request: Request, as_of: str | None) -> int | None:
    """The last position that was known at the instant; None: now. A plain number is a position itself."""
    if as_of is None or as_of in ("", "now"):
        return None
    if as_of.isdigit() and len(as_of) < 18:
        return int(as_of)
    return house_of(request).store.position_at(micros(instant("as_of", as_of)))


async def read(request: Request, question: Callable[[Reader, int | None], T], *, as_of: str | None = None) -> T:
    """Ask the views, off the event loop, for what was known as of an instant.

    A request that carries `Tocsin-Position` (what its writer was answered) waits until the views have reached it.

    Raises:
        ViewBehind: they did not within 2 s.
        InvalidInput: a bad instant or position.
    """
    runner: Runner = request.app.state.runner
    wanted = request.headers.get(POSITION_HEADER)
    if wanted is not None and not (wanted.isdigit() and len(wanted) < 18):
        raise InvalidInput("Tocsin-Position", "a position as it was sent")
    at = await asyncio.to_thread(as_of_position, request, as_of)
    needed = max(int(wanted or 0), min(at or 0, await _head(request, at)))
    if not await runner.reached(needed, WAIT_SECONDS):
        raise ViewBehind(f"the views have not reached position {needed} yet; they are at {runner.position}")

    def ask() -> T:
        with runner.views.reader() as reader:
            return question(reader, at)

    return await asyncio.to_thread(ask)


async def _head(request: Request, at: int | None) -> int:
    """How far the log reaches; what another process may have appended is asked for only where it matters."""
    ledger = house_of(request).ledger
    if at is None or at <= ledger.last_position:
        return ledger.last_position
    return (await asyncio.to_thread(ledger.store.head)).position


def plain(value: Any) -> Any:
    """JSON-able: instants in UTC with microseconds, structs as objects."""
    return _plain(msgspec.to_builtins(value, builtin_types=(datetime,)))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def page_of(page: Page[Any]) -> dict[str, Any]:
    """A list as it is answered: without what the views look up only where one record is asked for."""
    items = plain(page.items)
    for item in items:
        for name in ONLY_OF_ONE.get(type(page.items[0]), ()):
            del item[name]
    return {"items": items, "next": page.next, "position": page.position}


def answer(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json", headers=headers)
