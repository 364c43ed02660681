"""What every route needs: the process's parts, who is asking, and a body of bounded size."""

import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import Request

from api.access import Directory, Principal
from api.house import House
from api.problem import TooLarge, Unauthenticated
from engine.errors import NotAllowed, Overloaded
from engine.person import Role

SESSION_COOKIE: Final = "tocsin_session"
MOST_HELD_BYTES: Final = 96 * 1024 * 1024
HARMLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER: Final = "x-csrf-token"


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


def directory_of(request: Request) -> Directory:
    return house_of(request).directory


def bearer(request: Request) -> str | None:
    """The token of a request: bearer, a key scheme, basic auth's password, or `?token=`; not every monitor can set a header."""
    header = request.headers.get("authorization", "")
    scheme, _, value = header.partition(" ")
    if scheme.lower() in ("bearer", "geniekey", "token") and value:
        return value.strip()
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return password or None
    return request.query_params.get("token")


async def identify(request: Request) -> Principal | None:
    """Who is asking: by token, else by session cookie; None: nobody that we know."""
    token, reads = bearer(request), request.method in HARMLESS
    if token:
        return await directory_of(request).whose_token(token, reads=reads)
    secret = request.cookies.get(SESSION_COOKIE)
    if secret:
        return await directory_of(request).whose_session(secret, house_of(request).clock.now(), reads=reads)
    return None


def allow(roles: frozenset[Role]) -> Callable[[Request], Awaitable[Principal]]:
    """A route's dependency: the principal, if its role is one of these.

    A write by cookie must carry the session's CSRF token in a header; forms of the console check theirs themselves.

    Raises:
        Unauthenticated: nobody that we know.
        NotAllowed: another role; recorded.
    """

    async def dependency(request: Request) -> Principal:
        principal = await identify(request)
        route = f"{request.method} {request.scope['route'].path}"
        if principal is None:
            if bearer(request):
                await directory_of(request).refuse("unknown_token", route)
            raise Unauthenticated("a token (Authorization: Bearer …) or a signed-in session is needed")
        if principal.role not in roles:
            await directory_of(request).refuse("role", route, principal)
            raise NotAllowed(f"the role {principal.role} may not do this")
        if principal.person and request.method not in HARMLESS and request.headers.get(CSRF_HEADER) != principal.csrf:
            raise NotAllowed(f"a write by a signed-in session needs its {CSRF_HEADER} header")
        return principal

    dependency.roles = roles  # type: ignore[attr-defined]  # read by the test that walks the role matrix
    return dependency


class Bodies:
    """How many bytes of bodies a process holds at once: many large ones must not take its memory."""

    def __init__(self, most: int = MOST_HELD_BYTES) -> None:
        self.most, self.held = most, 0

    @asynccontextmanager
    async def of(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The whole body, for as long as it is worked on.

        Raises:
            TooLarge: over `limit`; its beginning and its size are then in `request.state`.
            Overloaded: with the others it would be too much now.
        """
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                self.held += len(chunk)
                if size > limit:
                    announced = request.headers.get("content-length", "")
                    request.state.beginning = b"".join([*chunks, chunk])
                    request.state.size = max(size, int(announced) if announced.isdigit() else 0)
                    raise TooLarge(limit)
                if self.held > self.most:
                    raise Overloaded("too many large bodies at once")
                chunks.append(chunk)
            yield chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            self.held -= size
