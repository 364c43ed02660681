"""What goes on, live and in full: the log by page, and the stream of changes (server-sent events)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from api.access import AUDITORS, READERS, Principal
from api.door import allow, house_of
from api.measures import SUBSCRIBERS
from api.presence import Companion, Presence, Visit
from engine.clock import rfc3339
from engine.errors import InvalidInput
from engine.event import Fact
from projections.history_page import data_of
from projections.people import person
from projections.queue_page import numbers_of
from projections.runner import Runner

router = APIRouter(tags=["log"])

# A storm makes many commits a second; a person's page needs a few.
REST_SECONDS: Final = 0.25
# So that proxies keep an idle stream open, and a dead one is noticed.
BEAT_SECONDS: Final = 15.0
MOST_IN_A_MESSAGE: Final = 100
FIRST_RETRY_MS: Final = 2_000
LAST_POSITION: Final = 2**63 - 1


@dataclass(slots=True)
class Streams:
    """The live streams of one process, so that they can be ended when it stops: a browser would keep them open for ever."""

    open: set[asyncio.Event] = field(default_factory=set)
    ending: bool = False

    def end(self) -> None:
        """End all of them; called on the event loop's thread."""
        self.ending = True
        for changed in self.open:
            changed.set()


def shown_fact(fact: Fact) -> dict[str, Any]:
    """A fact as JSON: its envelope, and the event's fields as `data`."""
    return {
        "position": fact.position,
        "recorded_at": rfc3339(fact.recorded_at),
        "stream": str(fact.stream_id),
        "version": fact.version,
        "type": fact.type,
        "actor": fact.actor,
        "correlation": str(fact.correlation_id),
        "cause": fact.cause,
        "data": data_of(fact),
    }


@router.get("/api/v1/log", summary="The log by page")
async def log_page(
    request: Request,
    _: Annotated[Principal, Depends(allow(AUDITORS))],
    after: Annotated[int, Query(ge=0, le=LAST_POSITION, description="position; what follows it is answered")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Every event as it was recorded, in log order. `next` is the `after` of the following page; null at the head."""
    ledger = house_of(request).ledger
    facts = await asyncio.to_thread(ledger.read, after, limit)
    following = facts[-1].position if len(facts) == limit else None
    head = await asyncio.to_thread(ledger.store.head)  # also what another process appended
    answer = {"items": [shown_fact(fact) for fact in facts], "next": following, "position": head.position}
    return Response(msgspec.json.encode(answer), media_type="application/json")


@router.get("/api/v1/stream", summary="Live changes (server-sent events)")
async def stream(
    request: Request,
    who: Annotated[Principal, Depends(allow(READERS))],
    ticket: Annotated[str, Query(max_length=40, description="number of the ticket that is being read: others on it are told, and told of")] = "",
) -> Response:
    """After each commit that has reached the views: which records changed. Resumable by `Last-Event-ID`, a position.

    Each `change`: `{"position": N, "types": […], "tickets": [numbers], "more": bool}`. Messages are drawn together when much
    goes on; a reader that does not keep up gets fewer, larger ones, and nothing is buffered for it. While nothing goes on,
    a `beat` every 15 s says that the stream lives. With `ticket`, a `presence` says who else has it open: `{"others": [{"name":
    "…", "writing": bool}]}`; first right away, then whenever it changes.
    """
    runner: Runner = request.app.state.runner
    header = request.headers.get("last-event-id", request.query_params.get("after", ""))
    if header and not (header.isdigit() and len(header) < 18):
        raise InvalidInput("Last-Event-ID", "a position")
    after = int(header) if header else runner.position
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_messages(request, runner, after, who, ticket.upper()), media_type="text/event-stream", headers=headers)


async def _messages(request: Request, runner: Runner, after: int, who: Principal, ticket: str) -> AsyncIterator[bytes]:
    loop, changed, streams = asyncio.get_running_loop(), asyncio.Event(), request.app.state.streams

    def notice(_: int) -> None:
        loop.call_soon_threadsafe(changed.set)

    presence: Presence = request.app.state.presence
    visit = Visit(ticket, who.person, await asyncio.to_thread(_name, runner, who), changed.set) if ticket and who.person else None
    told: tuple[Companion, ...] | None = None
    unsubscribe = runner.subscribe(notice)
    streams.open.add(changed)
    SUBSCRIBERS.inc()
    try:
        yield f"retry: {FIRST_RETRY_MS}\n: listening after {after}\n\n".encode()
        if visit is not None:
            presence.enter(visit)
        if runner.position > after:
            changed.set()
        while not streams.ending and not await request.is_disconnected():
            try:
                await asyncio.wait_for(changed.wait(), BEAT_SECONDS)
            except TimeoutError:
                yield b"event: beat\ndata: {}\n\n"
                continue
            changed.clear()
            if visit is not None and told != (there := presence.others(ticket, who.person)):
                told = there
                content = {"others": [{"name": other.name, "writing": other.writing} for other in there]}
                yield b"event: presence\ndata: %s\n\n" % msgspec.json.encode(content)
            position, message = await asyncio.to_thread(_message, runner, after)
            if position > after:
                after = position
                yield b"id: %d\nevent: change\ndata: %s\n\n" % (position, message)
            await asyncio.sleep(REST_SECONDS)
    finally:
        if visit is not None:
            presence.leave(visit)
        streams.open.discard(changed)
        SUBSCRIBERS.dec()
        unsubscribe()


def _name(runner: Runner, who: Principal) -> str:
    with runner.views.reader() as reader:
        known = person(reader, who.person) if who.person else None
    return known.name if known else who.name


def _message(runner: Runner, after: int) -> tuple[int, bytes]:
    """(the views' position, what changed between `after` and it)."""
    with runner.views.reader() as reader:
        position = reader.position
        rows = reader.ledger.store.log(after, MOST_IN_A_MESSAGE, upto=position)
        tickets = numbers_of(reader, {row.stream for row in rows})
    more = bool(rows) and rows[-1].position < position
    content = {"position": position, "types": sorted({row.type for row in rows}), "tickets": sorted(tickets), "more": more}
    return position, msgspec.json.encode(content)

