"""What all pages of the portal share: who is visiting, the calm frame around a page, and how errors look there.

Rendering, sessions and the explanation of errors are those of the console (`api/console/layout.py`); nothing else of it is shown.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.access import READERS, Principal
from api.console import language
from api.console.forms import masked
from api.console.language import gettext as _
from api.console.layout import SIGN_IN, SignInNeeded, around_error, explain, go_to, reading_views, render, session_of
from api.door import house_of
from api.portal.limit import GENEROUS, Allowance, Limiter, Neighbourhood
from api.problem import RETRY_AFTER_SECONDS
from api.settings import Portal
from engine.clock import Clock
from engine.errors import InvalidInput, NotFound, TocsinError
from projections.people import PersonRow, person

START: Final = "/portal"
# Where the actor of a session would stand, for somebody who has not signed in.
VISITOR: Final = "portal"
# A private address must not travel on: not by a link that is followed, not by a search engine, not by a shared computer.
PRIVATE: Final = {"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}

log = structlog.get_logger(__name__)


class Limits:
    """The counts of one process."""

    def __init__(self, clock: Clock, networks: tuple[str, ...]) -> None:
        self.limiter = Limiter(clock.now)
        self.neighbourhood = Neighbourhood(networks)


class TooOften(TocsinError):
    """Somebody asks for more than they are allowed now; `seconds` until one more."""

    def __init__(self, seconds: float) -> None:
        super().__init__(_("That was a lot in a short time. Please wait a moment and send it again."))
        self.seconds = seconds

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(max(1, math.ceil(self.seconds)))}


@dataclass(frozen=True, slots=True)
class Visit:
    """Who looks at a page, and what the frame says of them.

    Attributes:
        principal: who is signed in; None: a stranger.
        name: of who is signed in.
        address: where the request comes from.
    """

    request: Request
    principal: Principal | None
    name: str
    now: datetime
    address: str

    @property
    def actor(self) -> str:
        """How events name them."""
        return self.principal.actor if self.principal else VISITOR

    @property
    def csrf_token(self) -> str:
        """What forms of a session carry; empty for a stranger's."""
        return masked(self.principal.csrf) if self.principal else ""

    @property
    def may_read_console(self) -> bool:
        return self.principal is not None and self.principal.role in READERS

    @property
    def sign_in(self) -> str:
        """Where one signs in, and comes back from; a private address stays out of it."""
        path = self.request.url.path
        return f"{SIGN_IN}?{urlencode({'next': path if path.count('/') <= 3 and not path.startswith('/portal/sent') else START})}"

    def counted_as(self) -> tuple[str, Allowance]:
        """What their reports count for, and how many they are allowed."""
        if self.principal is not None:
            return f"person:{self.principal.person}", GENEROUS
        return limits_of(self.request).neighbourhood.key(self.address)


def limits_of(request: Request) -> Limits:
    limits: Limits = request.app.state.portal_limits
    return limits


async def visiting(request: Request) -> Visit:
    """A page's dependency: whoever may use the portal; from here on the answer is in their language.

    Raises:
        NotFound: it is switched off.
        SignInNeeded: it is for people who are signed in.
    """
    house = house_of(request)
    if house.settings.portal is Portal.OFF:
        raise NotFound("page", "/portal")
    principal = await session_of(request)
    if principal is None and house.settings.portal is Portal.SIGNED_IN:
        raise SignInNeeded("sign in first")
    name = ""
    if principal is not None and principal.person is not None:
        known = await asyncio.to_thread(_known, request, principal.person)
        name = known.name if known else principal.name
        language.choose(known.language if known else None)
    return Visit(request, principal, name, house.clock.now(), request.client.host if request.client else "")


def _known(request: Request, who: UUID) -> PersonRow | None:
    with reading_views(request) as reader:
        return person(reader, who)


def shown(
    visit: Visit, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    """A page of the portal."""
    return render(visit.request, f"portal/{template}", status=status, headers=headers, visit=visit, **values)


# -- errors ----------------------------------------------------------------------------------------------------------


class PortalRoute(APIRoute):
    """A route whose errors are pages of the portal."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def run(request: Request) -> Response:
            language.choose(language.wanted(request.cookies.get(language.COOKIE), request.headers.get("accept-language", "")))
            try:
                return await handler(request)
            except SignInNeeded:
                wanted = request.url.path if request.method == "GET" else START
                return go_to(f"{SIGN_IN}?{urlencode({'next': wanted})}")
            except TooOften as error:
                return await _error(request, 429, _("A little slower, please"), str(error), error.headers)
            except NotFound:
                # One text for all: whether a number is given or a secret wrong is nobody's business.
                return await _error(request, 404, _("There is nothing here"), _("The address may be incomplete, or its link was renewed."))
            except TocsinError as error:
                told = explain(request, error)
                headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if told.retry else {}
                return await _error(request, told.status, told.title, told.text, headers)
            except RequestValidationError as error:
                first = error.errors()[0]
                told = explain(request, InvalidInput(str(first["loc"][-1]), first["msg"]))
                return await _error(request, told.status, told.title, told.text)
            except HTTPException as error:
                return await _error(request, error.status_code, str(error.detail), "")
            except Exception as error:  # whatever it is: a person is looking
                log.exception("a page failed", error=type(error).__name__)
                return await _error(request, 500, _("Something broke on our side"), _("It was logged. Nothing was changed by this request."))

        return run


async def _error(request: Request, status: int, title: str, text: str, headers: Mapping[str, str] | None = None) -> Response:
    house = house_of(request)
    off = house.settings.portal is Portal.OFF
    principal = None if off else await around_error(request)
    visit = Visit(request, principal, principal.name if principal else "", house.clock.now(), "")
    return shown(visit, "error.html", status=status, headers={**PRIVATE, **(headers or {})}, title=title, text=text, off=off)
