"""A shorter way to the intake: the framework's layers cost three times what receiving a delivery does.

The same functions as the routes of `api/hooks.py` (which stay, for the description of the interface), called before routing.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import hooks
from api.measures import REQUESTS
from api.problem import of_error
from engine.errors import TocsinError

HOOKS: Final = "/hooks/"
EXACT: Final[dict[str, Callable[[Request], Awaitable[Response]]]] = {
    "/v2/enqueue": hooks.pagerduty_enqueue,
    "/v2/change/enqueue": hooks.pagerduty_change,
    "/api/v2/alerts": hooks.alertmanager_alerts,
}


class FastLane:
    """Takes deliveries; everything else goes the usual way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        exact = EXACT.get(path)
        source = path[len(HOOKS) :] if path.startswith(HOOKS) else ""
        if exact is None and (not source or "/" in source):
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request = Request(scope, receive)
        try:
            response = await (hooks.hook(source, request) if exact is None else exact(request))
        except TocsinError as error:
            response = of_error(error)
        except ClientDisconnect:
            return  # it hung up in the middle of its body; nobody waits for an answer
        await response(scope, receive, send)
        route = "/hooks/{source}" if exact is None else path
        REQUESTS.labels(route, f"{response.status_code // 100}xx").observe(time.perf_counter() - begun)
