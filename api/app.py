"""The applications: what a process serves over HTTP, and the life of its parts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import (
    console,
    file_routes,
    finding,
    hooks,
    kafka_front,
    kafka_reader,
    operation,
    organisation_routes,
    outbox,
    portal,
    problem,
    records,
    reports,
    saved_views,
    watch,
)
from api.door import Bodies
from api.duties import Duties
from api.fast_lane import FastLane
from api.house import House
from api.measures import Measured
from api.portal.frame import Limits
from api.presence import Presence
from projections.runner import Runner

GUARDS: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin"), (b"x-frame-options", b"DENY"))
POLICY: Final = (
    b"content-security-policy",
    b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
)
# Its page carries a script of its own; it shows the API's description and nothing of the store.
UNGUARDED: Final = ("/docs", "/redoc")


def create_app(house: House, runner: Runner, *, works: bool = True, reads: bool = False, address: str | None = None) -> FastAPI:
    """The HTTP side of one process.

    Args:
        works: offer to fire timers, send notices and publish events too, as `tocsin serve` does and `tocsin api` does not.
        reads: decide the deliveries that lie in Kafka too, where the settings name one.
        address: how people reach it, for links; None: what the settings say.
    """
    duties = Duties(house, runner, address or house.settings.address) if works else None
    app = FastAPIOffline(
        title="Tocsin", version=operation.VERSION, summary="Event-sourced IT service management", lifespan=_life(house, runner, duties, reads=reads),
        description="Alerts in; tickets, history and measures out. Every record can be asked for as of any instant.",
    )
    app.state.house, app.state.runner, app.state.views = house, runner, runner.views
    app.state.demo_accounts, app.state.background = [], []
    app.state.leadership = duties.leadership if duties is not None else None
    app.state.relay = duties.relay if duties is not None else None
    app.state.streams, app.state.bodies, app.state.presence = watch.Streams(), Bodies(), Presence()
    app.state.address = address or house.settings.address
    app.state.portal_limits = Limits(house.clock, house.settings.portal_networks)
    kafka_front.front_of(app)  # what is wrong with its settings is told at the start
    problem.install(app)
    app.add_middleware(Measured)
    app.add_middleware(Guarded)
    app.add_middleware(FastLane)
    for module in (operation, hooks, records, file_routes, finding, reports, outbox, organisation_routes, saved_views, watch, console, portal):
        app.include_router(module.router)
    console.mount_static(app)
    return app


def create_worker(house: House, runner: Runner, *, address: str | None = None) -> FastAPI:
    """A process that has duties and answers nobody; what it serves is its own state."""
    duties = Duties(house, runner, address or house.settings.address)
    app = FastAPI(title="Tocsin worker", version=operation.VERSION, lifespan=_life(house, runner, duties), docs_url=None, redoc_url=None)
    app.state.house, app.state.runner, app.state.leadership, app.state.relay = house, runner, duties.leadership, duties.relay
    app.state.background, app.state.streams = [], watch.Streams()
    app.include_router(operation.router)
    return app


def create_intake(house: House, *, reread: bool = False) -> FastAPI:
    """A process that decides the deliveries in Kafka, and serves its own state; the arguments of `kafka_reader.start`."""
    life = _life(house, None, None, reads=True, reread=reread)
    app = FastAPI(title="Tocsin intake", version=operation.VERSION, lifespan=life, docs_url=None, redoc_url=None)
    app.state.house, app.state.background, app.state.streams = house, [], watch.Streams()
    app.include_router(operation.router)
    return app


def _life(
    house: House, runner: Runner | None, duties: Duties | None, *, reads: bool = False, reread: bool = False
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """From the start of a process's parts to their end, in the order in which they need each other."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        if runner is not None:
            runner.start()
        if duties is not None:
            duties.start()
        reader = app.state.reader = kafka_reader.start(house, reread=reread) if reads else None
        tasks = [asyncio.create_task(work()) for work in app.state.background]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if reader is not None:
            await asyncio.to_thread(reader.stop)
        if duties is not None:
            await duties.stop()
        await asyncio.to_thread(kafka_front.close, app)
        if runner is not None:
            await asyncio.to_thread(runner.close)
        await asyncio.to_thread(house.close)

    return life


class Guarded:
    """Adds the headers that keep a browser from doing what our pages never ask for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = GUARDS if scope["type"] != "http" or scope["path"].startswith(UNGUARDED) else (*GUARDS, POLICY)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Of two policies of referrers the last holds: a page's own word must be it. Of others both do.
                own = any(name.lower() == b"referrer-policy" for name, _value in message["headers"])
                added = [pair for pair in headers if not (own and pair[0] == b"referrer-policy")]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, guarded)

