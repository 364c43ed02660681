"""Errors as RFC 9457 problem documents. The only place that maps Tocsin's errors to HTTP."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from engine.errors import (
    Conflict,
    IllegalTransition,
    InvalidInput,
    MalformedDelivery,
    NotAllowed,
    NotFound,
    StaleVersion,
    StoreUnavailable,
    TocsinError,
)
from monitors.intake import Rejected

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 5

log = structlog.get_logger(__name__)


class Unauthenticated(TocsinError):
    """No credential, or none that we know."""


class TooLarge(TocsinError):
    """A body over the limit."""

    def __init__(self, limit: int, delivery: str | None = None) -> None:
        super().__init__(f"the body is larger than {limit} bytes")
        self.limit, self.delivery = limit, delivery


class Erased(TocsinError):
    """It was here, and its key was destroyed: nobody can read it any more."""


class NoSuchBasis(TocsinError):
    """A view was asked by a clock that it does not know (`basis=occurred` of a view of what was recorded)."""


class ViewBehind(TocsinError):
    """A view did not reach the asked-for position in time."""


def problem(status: int, title: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """A problem document; `more` are its extension members."""
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(msgspec.json.encode(document), status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def of_error(error: TocsinError) -> Response:
    """The problem document of one of Tocsin's errors."""
    text = str(error)
    match error:
        case Rejected():
            return problem(
                error.status, "The delivery cannot be read", text, field=error.path, expected=error.expected, delivery=str(error.delivery)
            )
        case MalformedDelivery():
            return problem(error.status, "The body cannot be read", text, field=error.path, expected=error.expected)
        case InvalidInput():
            return problem(422, "A value is missing or wrong", text, field=error.field, expected=error.expected)
        case NotFound():
            return problem(404, "Not found", text)
        case IllegalTransition():
            return problem(
                409, "Not possible in this state", text, number=error.number, state=error.state, legal=list(error.legal)
            )
        case Conflict():
            return problem(409, "Conflict", text)
        case StaleVersion():
            changes = [{"type": kind, "recorded_at": at} for kind, at in error.changes]
            return problem(412, "Changed meanwhile", text, number=error.number, version=error.current, changes=changes)
        case NotAllowed():
            return problem(403, "Not allowed", text)
        case Unauthenticated():
            return problem(401, "Who are you?", text, headers={"WWW-Authenticate": "Bearer"})
        case TooLarge():
            return problem(413, "Too large", text, limit=error.limit, delivery=error.delivery)
        case Erased():
            return problem(410, "Erased", text)
        case NoSuchBasis():
            return problem(400, "Not known by that clock", text)
        case StoreUnavailable() | ViewBehind():
            return problem(503, "Try again", text, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    log.error("an error without a place in HTTP", error=text, kind=type(error).__name__)
    return problem(500, "Internal error", "an error on our side; it was logged")


def install(app: FastAPI) -> None:
    """Answer every error of this application with a problem document."""

    @app.exception_handler(TocsinError)
    async def tocsin_error(_: Request, error: TocsinError) -> Response:
        return of_error(error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(_: Request, error: RequestValidationError) -> Response:
        faults = [
            {"field": ".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0]), "expected": fault["msg"]}
            for fault in error.errors()
        ]
        first = faults[0]
        return problem(422, "A value is missing or wrong", f"{first['field']}: {first['expected']}", errors=faults, **first)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, TocsinError):  # FastAPI hides what was wrong with a body
            return of_error(error.__cause__)
        return problem(error.status_code, str(error.detail), str(error.detail), headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def hung_up(_: Request, __: ClientDisconnect) -> Response:
        return problem(400, "Hung up", "the body ended too early")

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        log.exception("a request failed", error=type(error).__name__)
        return problem(500, "Internal error", "an error on our side; it was logged")
