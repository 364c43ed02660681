"""What all pages share: the frame around them, who may see them, which instant they show, and how errors look.

Templates are compiled once and receive finished values. A page is compressed where the browser takes that; its tokens are
masked (`forms.py`), so compression gives nothing away.
"""

import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.runtime import Context
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api.access import ADMINS, AUDITORS, READERS, WORKERS, Principal
from api.console import instants, language, words
from api.console.forms import masked
from api.console.language import figure
from api.console.language import gettext as _
from api.door import HARMLESS, SESSION_COOKIE, directory_of, house_of
from api.problem import RETRY_AFTER_SECONDS, Erased, TooLarge, Unauthenticated, ViewBehind
from api.queue_address import written
from api.settings import Portal
from engine.clock import from_micros, micros, rfc3339
from engine.errors import Conflict, InvalidInput, NotAllowed, NotFound, StaleVersion, StoreUnavailable, TocsinError
from engine.person import Role
from projections.people import person
from projections.queue_page import Glance, glance
from projections.saved_views import SavedViewRow, saved_views
from projections.views import Reader, Views

ROOM: Final = Path(__file__).parent.parent
STATIC: Final = ROOM / "static"
SIGN_IN: Final = "/console/sign-in"
PORTAL: Final = "/portal"
# Smaller ones gain nothing.
LEAST_COMPRESSED: Final = 1_400
COMPRESSION: Final = 5
QUEUE: Final = "/console"
# So many saved views stand in the navigation; all of them have a page.
MOST_SAVED: Final = 12
_NUMBER: Final = re.compile(r"[A-Z]{3}-[0-9]{1,12}")

log = structlog.get_logger(__name__)


class SignInNeeded(Unauthenticated):
    """A page was asked for by nobody that we know."""


class ElsewhereHome(NotAllowed):
    """A requester asked for a page of the console: theirs are in the portal."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Which instant a page shows.

    Attributes:
        position: the log position that it is asked for; None: now.
        instant: the moment as people say it.
        query: the address parameter that carries it on to other pages.
    """

    position: int | None = None
    instant: datetime | None = None
    query: str = ""

    @property
    def past(self) -> bool:
        return self.position is not None


NOW: Final = Moment()


@dataclass(frozen=True, slots=True)
class NavItem:
    """One page of the navigation."""

    label: str
    href: str
    current: bool
    count: str = ""
    saved: bool = False


@dataclass(slots=True)
class Frame:
    """What stands around a page.

    Attributes:
        may_write: whether forms are offered: the role works on tickets, and the page shows the present.
        position: the last event that the page knows of.
        path: the page's own address, also where it answers a form.
        kept: parameters of its address.
        views: saved views of whoever looks, and shared ones.
    """

    request: Request
    principal: Principal
    now: datetime
    path: str
    moment: Moment = NOW
    name: str = ""
    position: int | None = None
    counts: Glance | None = None
    here: str = ""
    kept: dict[str, str] = field(default_factory=dict)
    views: list[SavedViewRow] = field(default_factory=list)

    @property
    def may_write(self) -> bool:
        return self.principal.role in WORKERS and not self.moment.past

    @property
    def may_search(self) -> bool:
        return self.principal.role in READERS

    @property
    def csrf_token(self) -> str:
        return masked(self.principal.csrf)

    @property
    def simulated(self) -> bool:
        return house_of(self.request).clock.simulated

    def groups(self) -> list[tuple[str, list[NavItem]]]:
        """The navigation: title of a group (empty for the first) and its pages; nothing for who may not see any."""
        if self.principal.role not in READERS:
            return []
        counts = self.counts
        shows_now = counts is not None and not self.moment.past
        firing = figure(counts.alerts_firing) if counts and shows_now and counts.alerts_firing else ""
        first = [
            self._item("queue", _("Queue"), "/console", figure(counts.open) if counts and shows_now else ""),
            self._item("mine", _("Mine"), "/console?assignee=me"),
            *self._saved(),
            self._item("incidents", _("Incidents"), "/console/incidents"),
            self._item("requests", _("Requests"), "/console/requests"),
            self._item("alerts", _("Alerts"), "/console/alerts", firing),
            self._item("deliveries", _("Deliveries"), "/console/deliveries"),
        ]
        second = [
            self._item("workload", _("Workload"), "/console/workload"), self._item("measures", _("Measures"), "/console/measures"),
            self._item("changes", _("Changes"), "/console/changes"), self._item("notices", _("Notices"), "/console/notices"),
        ]
        groups = [("", first), (_("Understand"), second)]
        if self.principal.role in AUDITORS:
            groups.append((_("Prove"), [self._item("log", _("Log"), "/console/log")]))
        set_up = [self._item("services", _("Services"), "/console/services"), self._item("teams", _("Teams"), "/console/teams")]
        set_up += [self._item("people", _("People"), "/console/people"), self._item("rules", _("Rules"), "/console/rules")]
        if self.principal.role in ADMINS:
            set_up.append(self._item("connect", _("Connect a monitor"), "/console/connect"))
        groups.append((_("Set up"), set_up))
        return groups

    def _item(self, name: str, label: str, href: str, count: str = "") -> NavItem:
        return NavItem(label, self.carry(href), name == self.here and self.view is None, count)

    @property
    def view(self) -> SavedViewRow | None:
        """The saved view that this page is."""
        if self.path != QUEUE:
            return None
        here = written(self.kept)
        return next((view for view in self.views if view.query == here), None)

    def _saved(self) -> list[NavItem]:
        here = self.view
        items = [
            NavItem(words.plain(view.name), self.carry(f"{QUEUE}?{view.query}"), view is here, saved=True)
            for view in self.views[:MOST_SAVED]
        ]
        if self.views:
            items.append(NavItem(_("Saved views"), "/console/views", self.here == "views", f"{len(self.views)}", saved=True))
        return items

    def carry(self, href: str) -> str:
        """An address of the console for the same moment as this page's."""
        if not self.moment.query:
            return href
        path, _hash, anchor = href.partition("#")
        return f"{path}{'&' if '?' in path else '?'}{self.moment.query}{_hash}{anchor}"

    def with_query(self, **changes: str | None) -> str:
        """This page's address with some parameters changed; None takes one away. A changed list begins at its start."""
        values = {**self.kept, "cursor": None, **changes}
        query = urlencode({name: value for name, value in values.items() if value})
        return self.path + (f"?{query}" if query else "")

    @property
    def back_to_now(self) -> str:
        return self.with_query(as_of=None, as_of_position=None)

    @property
    def told(self) -> str:
        """What was just done, as the address of the answered form says it."""
        command, _colon, number = self.request.query_params.get("told", "").partition(":")
        if not number and command in words.DONE_ALONE:
            return _(words.DONE_ALONE[command])
        if number.isascii() and number.isdigit() and len(number) < 4 and command in words.DONE_MANY:
            return words.DONE_MANY[command](int(number))
        form = words.DONE.get(command)
        return _(form) % number if form and _NUMBER.fullmatch(number) else ""


def frame(request: Request, principal: Principal, reader: Reader, here: str) -> Frame:
    """The frame of a page that reads the views. `here` is its place in the navigation.

    Raises:
        InvalidInput: it is asked for an instant that is none.
    """
    found = Frame(request, principal, house_of(request).clock.now(), request.url.path, here=here)
    found.kept = {name: value for name, value in request.query_params.items() if name not in ("fragment", "told", "done", "token") and value}
    found.moment = request.state.moment = _moment(request, reader, found.now)
    found.position, found.counts = reader.at(found.moment.position), glance(reader)
    found.views = saved_views(reader, principal.person)
    who = person(reader, principal.person) if principal.person else None
    found.name = who.name if who else principal.name
    if who:
        language.choose(who.language)
    return found


def _moment(request: Request, reader: Reader, now: datetime) -> Moment:
    text, at = request.query_params.get("as_of"), request.query_params.get("as_of_position")
    if at:
        if not at.isascii() or not at.isdigit() or len(at) > 18:
            raise InvalidInput("as_of_position", _("a position in the log"))
        position = int(at)
        row = reader.ledger.store.log(position - 1, 1, upto=position) if position else []
        return Moment(position, from_micros(row[0].recorded_at) if row else None, urlencode({"as_of_position": at}))
    if not text or text == "now":
        return NOW
    instant = instants.read_instant(text)
    if instant >= now:
        return NOW
    if instant < instants.EARLIEST:
        return Moment(0, instant, urlencode({"as_of": rfc3339(instant)}))
    return Moment(reader.ledger.store.position_at(micros(instant)), instant, urlencode({"as_of": rfc3339(instant)}))


# -- who may see a page ----------------------------------------------------------------------------------------------


async def session_of(request: Request) -> Principal | None:
    """The person of this browser's session."""
    secret = request.cookies.get(SESSION_COOKIE)
    if not secret:
        return None
    return await directory_of(request).whose_session(secret, house_of(request).clock.now(), reads=request.method in HARMLESS)


async def around_error(request: Request) -> Principal | None:
    """The same for a page that tells of an error, which may be that nobody can be asked."""
    try:
        return await session_of(request)
    except StoreUnavailable:
        return None


def portal_is_open(request: Request) -> bool:
    """Whether there is a portal, to which requesters belong."""
    return house_of(request).settings.portal is not Portal.OFF


def page_for(roles: frozenset[Role]) -> Callable[[Request], Awaitable[Principal]]:
    """A page's dependency: the signed-in person, if the role is one of these. Forms check their token themselves.

    Raises:
        SignInNeeded: nobody is signed in; the page goes to the sign-in.
        ElsewhereHome: a requester; the page goes to the portal, where there is one.
        NotAllowed: another role; recorded.
    """

    async def dependency(request: Request) -> Principal:
        principal = await session_of(request)
        if principal is None:
            raise SignInNeeded("sign in first")
        if principal.role is Role.REQUESTER and principal.role not in roles and request.method == "GET" and portal_is_open(request):
            raise ElsewhereHome("the portal is theirs")
        if principal.role not in roles:
            await directory_of(request).refuse("role", f"{request.method} {request.scope['route'].path}", principal)
            raise NotAllowed(_("your role, %s, may not do this") % words.word(words.ROLES, principal.role))
        return principal

    dependency.roles = roles  # type: ignore[attr-defined]  # read by the test that walks the role matrix
    return dependency


reading = page_for(READERS)
working = page_for(WORKERS)
auditing = page_for(AUDITORS)


@contextmanager
def reading_views(request: Request) -> Iterator[Reader]:
    """A snapshot of the views for one page."""
    views: Views = request.app.state.views
    with views.reader() as reader:
        yield reader


# -- rendering -------------------------------------------------------------------------------------------------------


@cache
def digest_of_static() -> str:
    """Changes whenever a file of `static` does: part of their address, so they may be kept for ever."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.rglob("*")):
        if file.is_file():
            digest.update(file.relative_to(STATIC).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def static(name: str) -> str:
    return f"/static/{digest_of_static()}/{name}"


class _Immutable(StaticFiles):
    """Files that never change under their address."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def mount_static(app: FastAPI) -> None:
    """Serve the style sheet, the scripts and the mark."""
    app.mount(f"/static/{digest_of_static()}", _Immutable(directory=STATIC), name="static")


@cache
def environment() -> Environment:
    """The templates, compiled at first use and kept."""
    made = Environment(
        loader=FileSystemLoader(ROOM / "templates"), autoescape=True, auto_reload=False, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    made.context_class = _Shown
    made.install_gettext_callables(language.gettext, language.ngettext, newstyle=True)  # type: ignore[attr-defined]
    made.filters |= {
        "said": words.said, "shown": words.shown, "shown_lines": words.shown_lines, "lasting": instants.measure, "plain": words.plain, "initials": words.initials,
        "number": _number, "segment": lambda text: quote(text, safe=""),
    }
    made.globals |= {
        "static": static, "language": language.language, "word": words.word, "words": words, "time_tag": instants.time_tag,
        "clock_tag": instants.clock_tag, "languages": language.LANGUAGES, "long_form": instants.long_form, "short_form": instants.short_form,
        "for_input": instants.for_input, "presets": instants.presets, "many": instants.many, "zone": instants.ZONE_NAME,
        "rfc3339": rfc3339,
    }
    return made


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else figure(value, digits)


_MADE: Final = "contexts of this page"


def render(request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
    """A page as a response, compressed where the browser takes it. Pages are never kept: they change and are personal."""
    html = _filled(environment().get_template(template), values).encode("utf-8", "replace")
    sent = {"Cache-Control": "no-store", "Vary": "Accept-Encoding", **(headers or {})}
    if len(html) >= LEAST_COMPRESSED and "gzip" in request.headers.get("accept-encoding", ""):
        html = gzip.compress(html, COMPRESSION, mtime=0)
        sent["Content-Encoding"] = "gzip"
    return Response(html, status, media_type="text/html", headers=sent)


def _filled(page: Template, values: dict[str, Any]) -> str:
    """As `page.render`, but what the page showed is let go of at once.

    A template with macros is a cycle with its values. Left to the collector, the hundreds of rows of each page brought it every sixty
    pages, and one of them took some 20 ms longer.
    """
    made: list[Context] = []
    try:
        return page.render({**values, _MADE: made})
    finally:
        for context in made:
            context.parent.clear()
            context.vars.clear()


class _Shown(Context):
    """What one template of a page sees of its values."""

    def __init__(self, environment: Environment, parent: dict[str, Any], *rest: Any, **named: Any) -> None:
        super().__init__(environment, parent, *rest, **named)
        made: list[Context] | None = parent.get(_MADE)
        if made is not None:  # else it is kept from page to page
            made.append(self)


def go_to(address: str) -> Response:
    """303: the form was taken, look there."""
    return RedirectResponse(address, 303, headers={"Cache-Control": "no-store"})


def told_address(address: str, command: str, what: str) -> str:
    """An address whose page says what was done (`Frame.told`): a command and the ticket's number, or how many they were."""
    path, _hash, _anchor = address.partition("#")
    return f"{path}{'&' if '?' in path else '?'}{urlencode({'told': f'{command}:{what}'})}"


# -- errors ----------------------------------------------------------------------------------------------------------


class ConsoleRoute(APIRoute):
    """A route whose errors are pages, and whose unknown visitors are sent to the sign-in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def run(request: Request) -> Response:
            language.choose(language.wanted(request.cookies.get(language.COOKIE), request.headers.get("accept-language", "")))
            try:
                return await handler(request)
            except SignInNeeded:
                return _to_sign_in(request)
            except ElsewhereHome:
                return go_to(PORTAL)
            except TocsinError as error:
                return await error_page(request, error)
            except RequestValidationError as error:
                first = error.errors()[0]
                return await error_page(request, InvalidInput(str(first["loc"][-1]), first["msg"]))
            except HTTPException as error:
                return await _error(request, error.status_code, str(error.detail), "")
            except Exception as error:  # whatever it is: a person is looking
                log.exception("a page failed", error=type(error).__name__)
                return await _error(request, 500, _("Something broke on our side"), _("It was logged. Nothing was changed by this request."))

        return run


def _to_sign_in(request: Request) -> Response:
    if request.query_params.get("fragment"):
        return Response(status_code=401, headers={"Cache-Control": "no-store"})
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "") if request.method == "GET" else "/console"
    return go_to(f"{SIGN_IN}?{urlencode({'next': wanted})}" if wanted != "/console" else SIGN_IN)


@dataclass(frozen=True, slots=True)
class Explained:
    """An error as a page says it; `retry`: soon it may work."""

    status: int
    title: str
    text: str
    retry: bool = False


def explain(request: Request, error: TocsinError) -> Explained:
    """One of Tocsin's errors in words for a person."""
    text = words.refusal(error)
    match error:
        case InvalidInput():
            return Explained(422, _("A value is missing or wrong"), text)
        case NotFound() if _moment_shown(request).past:
            return Explained(404, _("It was not known then"), text)
        case NotFound():
            return Explained(404, _("There is no such thing here"), text)
        case StaleVersion():
            return Explained(412, _("Changed meanwhile"), text)
        case Conflict():
            return Explained(409, _("Not possible now"), text)
        case NotAllowed():
            return Explained(403, _("Not allowed"), text)
        case Erased():
            return Explained(410, _("Erased"), text)
        case TooLarge():
            return Explained(413, _("Too large"), text)
        case StoreUnavailable() | ViewBehind():
            return Explained(503, _("Try again in a moment"), text, retry=True)
    return Explained(409, _("Not possible now"), text)


async def error_page(request: Request, error: TocsinError) -> Response:
    """One of Tocsin's errors as a page."""
    told = explain(request, error)
    return await _error(request, told.status, told.title, told.text, retry=told.retry)


async def _error(request: Request, status: int, title: str, text: str, *, retry: bool = False) -> Response:
    principal = await around_error(request)
    moment = _moment_shown(request)
    around = (
        Frame(request, principal, house_of(request).clock.now(), request.url.path, moment, principal.name) if principal else None
    )
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if retry else {}
    in_the_past = any(name in request.query_params for name in ("as_of", "as_of_position"))
    return render(
        request, "error.html", status=status, headers=headers, frame=around, title=title, text=text, code=status,
        now_href=request.url.path if in_the_past and not moment.past else "",
    )


def _moment_shown(request: Request) -> Moment:
    """The moment that the page would have shown, as far as it came to know it."""
    moment: Moment = getattr(request.state, "moment", NOW)
    return moment
