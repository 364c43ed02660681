"""The application: routes, errors, metrics and the life of the process's parts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

import msgspec
from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import (
    console,
    file_routes,
    finding,
    hooks,
    kafka_front,
    organisation_routes,
    outbox,
    portal,
    problem,
    records,
    reports,
    saved_views,
    watch,
)
from api.door import Bodies, house_of
from api.fast_lane import FastLane
from api.house import House
from api.measures import Measured
from api.notices.sender import Channels, Sender
from api.portal.frame import Limits
from api.presence import Presence
from api.scheduler import Scheduler
from engine.clock import rfc3339
from projections.runner import Runner

VERSION: Final = version("tocsin")
GUARDS: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin"), (b"x-frame-options", b"DENY"))
POLICY: Final = (
    b"content-security-policy",
    b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
)
# Its page carries a script of its own; it shows the API's description and nothing of the store.
UNGUARDED: Final = ("/docs", "/redoc")


def create_app(house: House, runner: Runner, *, schedule: bool = True, address: str | None = None) -> FastAPI:
    """The HTTP side of one process.

    Args:
        schedule: fire due timers and send notices from this process too.
        address: how people reach it, for links; None: what the settings say.
    """
    channels = Channels(house.settings, house.clock)
    sender = Sender(house.ledger, runner, channels, address=address or house.settings.address)
    scheduler = Scheduler(house.ledger, house.intake)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        runner.start()
        if schedule:
            scheduler.start()
        tasks = [asyncio.create_task(work()) for work in app.state.background]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if schedule:
            await asyncio.to_thread(scheduler.stop)
        await asyncio.to_thread(kafka_front.close, app)
        await asyncio.to_thread(runner.close)
        await asyncio.to_thread(house.close)

    app = FastAPIOffline(
        title="Tocsin", version=VERSION, summary="Event-sourced IT service management", lifespan=life,
        description="Alerts in; tickets, history and measures out. Every record can be asked for as of any instant.",
    )
    app.state.house, app.state.runner, app.state.views = house, runner, runner.views
    app.state.demo_accounts, app.state.background = [], [sender.run] if schedule else []
    app.state.streams, app.state.bodies, app.state.presence = watch.Streams(), Bodies(), Presence()
    app.state.address = address or house.settings.address
    app.state.portal_limits = Limits(house.clock, house.settings.portal_networks)
    problem.install(app)
    app.add_middleware(Measured)
    app.add_middleware(Guarded)
    app.add_middleware(FastLane)
    for module in (hooks, records, file_routes, finding, reports, outbox, organisation_routes, saved_views, watch, console, portal):
        app.include_router(module.router)
    console.mount_static(app)

    @app.get("/healthz", tags=["operation"], summary="Is the process alive?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": VERSION}

    @app.get("/readyz", tags=["operation"], summary="Can it do its work?")
    async def readyz(request: Request) -> Response:
        """200 where it can; 503 with the reasons where it can't."""
        return _ready(house_of(request), runner)

    return app


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


def _ready(house: House, runner: Runner) -> Response:
    checks = {
        "store": house.ledger.failure or "ok",
        "views": runner.failure or "ok",
        "clock": house.clock_trouble() or "ok",
    }
    ready = all(text == "ok" for text in checks.values())
    state = {
        "status": "ok" if ready else "not ready", "checks": checks, "version": VERSION, "store": house.store_id,
        "clock": "simulated" if house.clock.simulated else "real", "now": rfc3339(house.clock.now()),
        "position": house.store.head().position, "views_position": runner.position, "lag_events": runner.lag,
    }
    headers = {} if ready else {"Retry-After": "5"}
    return Response(msgspec.json.encode(state), 200 if ready else 503, media_type="application/json", headers=headers)
