"""The page that connects a monitor: choose its kind, paste a block that holds its token, and see what its first delivery became.

A token is in the answer of the form that made it and nowhere else: in no address, no log and no second answer.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import quote
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api import connecting
from api.access import ADMINS, Principal
from api.connecting import Sheet
from api.console import words
from api.console.forms import check_form, read_form
from api.console.language import gettext as _
from api.console.language import mark
from api.console.layout import ConsoleRoute, Frame, frame, go_to, page_for, reading_views, render
from api.door import house_of
from api.reading import WAIT_SECONDS
from engine.errors import Conflict, InvalidInput, NotFound, Phrase
from engine.observation import Severity
from engine.source import SourceAdded
from monitors.integrations import generic
from monitors.integrations.registry import ADAPTERS
from projections.delivery_page import delivery, first_since
from projections.runner import Runner
from projections.sources import SourceRow, never_heard, source, sources
from projections.views import Reader

router = APIRouter(route_class=ConsoleRoute)

HERE: Final = "/console/connect"
MOST_NUMBERS: Final = 10
MOST_SENT: Final = 1_000
LONGEST_MAPPING: Final = 64 * 1024
SENTENCES: Final[Mapping[str, str]] = {
    "alertmanager": mark("A receiver in alertmanager.yml; it repeats what fires and tells when it is over."),
    "prometheus": mark("Prometheus itself, a ruler or amtool, posting as to an Alertmanager."),
    "grafana": mark("A contact point of the kind webhook, by hand or as a file."),
    "pagerduty": mark("Whatever speaks PagerDuty's Events API v2: a client, an agent, a script."),
    "generic": mark("curl, a script, or anything that posts JSON; a mapping reads shapes of its own."),
}

administering = page_for(ADMINS)

# Forms that were taken: one that a browser sends again by reloading its answer must not make another token.
_taken: OrderedDict[tuple[str, str], None] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of sender, to choose from."""

    name: str
    title: str
    sentence: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """What a first delivery became.

    Attributes:
        became: disposition and how many observations had it.
        more: how many alerts and tickets there are beyond those that are named.
    """

    id: UUID
    at: datetime
    observations: int
    became: list[tuple[str, int]]
    alerts: list[str]
    tickets: list[str]
    more: int
    status: int | None
    path: str | None
    reason: str | None


@router.get(HERE)
def connect_page(request: Request, principal: Annotated[Principal, Depends(administering)]) -> Response:
    """The kinds, and the form of the chosen one."""
    return _form_page(request, principal, request.query_params.get("kind", ""))


@router.get(HERE + "/{name}")
def waiting_page(request: Request, name: str, principal: Annotated[Principal, Depends(administering)]) -> Response:
    """A source that waits to be heard, without its token; `since` is the position from which on.

    Raises:
        NotFound: no such source.
        InvalidInput: `since` is no position.
    """
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "connect")
        row = _known(reader, name)
        asked = request.query_params.get("since", "")
        if asked and (not asked.isascii() or not asked.isdigit() or len(asked) > 18):
            raise InvalidInput("since", _("a position in the log"))
        since = int(asked) if asked else around.position or 0
        heard = _heard(reader, name, since)
    if request.query_params.get("fragment"):
        return render(request, "connect_heard.html", frame=around, source=row, heard=heard, again=_place(name, since))
    return _waiting(request, around, row, connecting.sheet(row.adapter, name, _base(request), _("YOUR-TOKEN")), since, heard, shown=False)


@router.post(HERE)
async def connect_source(request: Request, principal: Annotated[Principal, Depends(administering)]) -> Response:
    """Make the source where it is a new one, and a token; the answer is the only place where the token is shown."""
    form = await read_form(request)
    check_form(request, principal, form)
    kind, name = form.get("kind", ""), form.get("name", "").strip()
    if not _first_time(principal, form):
        return go_to(f"{HERE}/{quote(name, safe='')}" if name else HERE)
    house = house_of(request)
    try:
        await asyncio.to_thread(_make, request, principal, form, kind, name)
    except (InvalidInput, Conflict, NotFound) as error:
        _taken.pop(_form_key(principal, form), None)
        return await asyncio.to_thread(_form_page, request, principal, kind, form, words.refusal(error))
    made = await asyncio.to_thread(connecting.connect, house, name, _base(request), actor=principal.actor)
    return await _shown_once(request, principal, name, made)


@router.post(HERE + "/{name}")
async def another_token(request: Request, name: str, principal: Annotated[Principal, Depends(administering)]) -> Response:
    """A further token for a source, shown in this answer.

    Raises:
        NotFound: no such source.
    """
    form = await read_form(request)
    check_form(request, principal, form)
    if not _first_time(principal, form):
        return go_to(f"{HERE}/{quote(name, safe='')}")
    made = await asyncio.to_thread(connecting.connect, house_of(request), name, _base(request), actor=principal.actor)
    return await _shown_once(request, principal, name, made)


def _make(request: Request, principal: Principal, form: Mapping[str, str], kind: str, name: str) -> None:
    """The source, unless it is there already with this very format."""
    with reading_views(request) as reader:
        there = source(reader, name)
    if there is not None:
        if there.adapter != kind:
            raise Conflict(_("there is a source of that name already, and it speaks another format: %s") % there.adapter)
        return
    try:
        severity = Severity(form.get("severity") or Severity.WARNING)
    except ValueError:
        raise InvalidInput("severity", Phrase("one of %s", ', '.join(Severity))) from None
    event = SourceAdded(
        name=name, adapter=kind, zone=form.get("zone", "").strip() or "UTC", severity=severity,
        mapping=form.get("mapping", "").strip() or None, identity=form.get("same_as") or None,
    )
    connecting.add_source(house_of(request), event, actor=principal.actor)


async def _shown_once(request: Request, principal: Principal, name: str, made: Sheet) -> Response:
    runner: Runner = request.app.state.runner
    since = house_of(request).ledger.last_position
    await runner.reached(since, WAIT_SECONDS)

    def page() -> Response:
        with reading_views(request) as reader:
            around, row = frame(request, principal, reader, "connect"), _known(reader, name)
        return _waiting(request, around, row, made, since, None, shown=True)

    return await asyncio.to_thread(page)


def _waiting(request: Request, around: Frame, row: SourceRow, made: Sheet, since: int, heard: Heard | None, *, shown: bool) -> Response:
    return render(
        request, "connect.html", frame=around, kinds=_kinds(row.adapter), kind=None, source=row, sheet=made, shown=shown, heard=heard,
        again=_place(row.name, since), loopback=connecting.only_from_here(made.address), once=uuid4().hex, fault="", first=False,
    )


def _form_page(
    request: Request, principal: Principal, kind: str, form: Mapping[str, str] | None = None, fault: str = ""
) -> Response:
    with reading_views(request) as reader:
        around, known, first = frame(request, principal, reader, "connect"), sources(reader), never_heard(reader)
    chosen = next((adapter for adapter in ADAPTERS if adapter.name == kind), None)
    return render(
        request, "connect.html", status=422 if fault else 200, frame=around, kinds=_kinds(kind), kind=chosen, source=None, sheet=None,
        typed=form or {"name": kind}, fault=fault, known=known, severities=list(Severity), once=uuid4().hex, first=first,
        mapped=kind == generic.ADAPTER.name, longest_mapping=LONGEST_MAPPING,
    )


def _kinds(current: str) -> list[Kind]:
    return [
        Kind(one.name, one.title, _(SENTENCES[one.name]) if one.name in SENTENCES else "", f"{HERE}?kind={one.name}#named", one.name == current)
        for one in ADAPTERS
    ]


def _known(reader: Reader, name: str) -> SourceRow:
    row = source(reader, name)
    if row is None:
        raise NotFound(_("source"), words.plain(name))
    return row


def _heard(reader: Reader, name: str, since: int) -> Heard | None:
    row = first_since(reader, name, since)
    found = delivery(reader, row.id) if row is not None else None
    if found is None:
        return None
    told = found.observations
    became = Counter(event.disposition for event in told)
    alerts = list(dict.fromkeys(event.alert for event in told if event.alert))
    tickets = list(dict.fromkeys(event.incident for event in told if event.incident))
    return Heard(
        id=found.delivery.id, at=found.delivery.received_at, observations=len(told), became=became.most_common(),
        alerts=alerts[:MOST_NUMBERS], tickets=tickets[:MOST_NUMBERS],
        more=max(0, len(alerts) - MOST_NUMBERS) + max(0, len(tickets) - MOST_NUMBERS), status=found.delivery.status,
        path=found.delivery.path, reason=found.delivery.reason,
    )


def _first_time(principal: Principal, form: Mapping[str, str]) -> bool:
    key = _form_key(principal, form)
    if key in _taken:
        return False
    _taken[key] = None
    while len(_taken) > MOST_SENT:
        _taken.popitem(last=False)
    return True


def _form_key(principal: Principal, form: Mapping[str, str]) -> tuple[str, str]:
    """One form of one person; a form without a mark of its own is like no other."""
    return principal.actor, form.get("once", "")[:64] or uuid4().hex


def _place(name: str, since: int) -> str:
    return f"{HERE}/{quote(name, safe='')}?since={since}"


def _base(request: Request) -> str:
    """How a sender reaches this server: as it was told, else as this browser does."""
    return house_of(request).settings.public_address or f"{request.url.scheme}://{request.url.netloc}"
