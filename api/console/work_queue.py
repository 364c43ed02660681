"""The queue page: what needs somebody, in the order in which it does, and why each row is there."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, Request
from markupsafe import Markup
from starlette.responses import Response

from api.access import ADMINS, MANAGERS, Principal
from api.console import instants, words
from api.console.language import figure, mark
from api.console.language import gettext as _
from api.console.layout import QUEUE, ConsoleRoute, Frame, frame, go_to, reading, reading_views, render
from api.console.time_left import TimeLeft, time_left
from api.door import directory_of
from api.queue_address import FILTERS, ME, URGENT, filter_of, written
from engine.incident import RESOLUTION_CODES
from projections.organisation import service_names, team_names
from projections.page import Page
from projections.queue_page import DEFAULT_SORT, NOBODY, QueueFilter, any_ticket, breached, queue, tickets
from projections.sources import never_heard
from projections.ticket_row import TicketRow

if TYPE_CHECKING:
    from api.console.bulk import Outcome

router = APIRouter(route_class=ConsoleRoute)

ROWS: Final = 50
CHOSEN: Final = "ticket-"  # and its number: the field that chooses a ticket and holds the version that was seen
ALL_CHOSEN: Final = "chosen"  # the address that has all of the page chosen, where no script does it
# To choose from in a field; others are typed.
MOST_NAMES: Final = 100
SORTS: Final = {
    "priority": mark("Most urgent first"),
    "due": mark("Least time left first"),
    "newest": mark("Newest first"),
    "updated": mark("Last changed first"),
    "number": mark("By number"),
    "service": mark("By service"),
}


@dataclass(frozen=True, slots=True)
class Pill:
    """A filter that is one click away."""

    label: str
    href: str
    current: bool
    count: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A ticket of a list, ready to be shown."""

    number: str
    href: str
    kind: str
    priority: str
    title: str
    why: Markup
    service: str | None
    service_href: str
    state: str
    firing: bool
    assignee: str | None
    team: str | None
    team_href: str
    opened_at: datetime
    open_for: str
    left: TimeLeft | None
    version: int
    may_acknowledge: bool
    done: bool


def why_it_is_here(row: TicketRow) -> Markup:
    """The second line of a row: by which rule, from how many alerts, waiting for whom."""
    why, parts = row.why, []
    if why.waiting_for:
        parts.append(Markup("{} {}").format(_("waits for:"), words.shown(why.waiting_for)))
    if row.kind == "request" and row.approved is False and row.meaning in ("new", "active", "waiting"):
        parts.append(Markup("{}").format(_("waits for approval")))
    if why.resolve_proposed:
        parts.append(Markup("{}").format(_("its alerts ended: resolve it?")))
    elif row.recovered and row.meaning in ("new", "active", "waiting"):
        parts.append(Markup("{}").format(_("recovered, settling")))
    if why.alerts > why.alerts_firing > 0:
        parts.append(Markup("{}").format(_("%(firing)s of %(all)s alerts firing") % {"firing": figure(why.alerts_firing), "all": figure(why.alerts)}))
    elif why.alerts_firing:
        parts.append(Markup("{}").format(instants.many("%s alert firing", "%s alerts firing", why.alerts_firing)))
    elif why.alerts:
        parts.append(Markup("{}").format(instants.many("%s alert, ended", "%s alerts, all ended", why.alerts)))
    if why.occurrences and why.occurrences > why.alerts:
        parts.append(Markup("{}").format(instants.many("%s occurrence", "%s occurrences", why.occurrences)))
    if why.rule:
        parts.append(Markup("{} {}").format(_("opened by rule"), words.shown(f"“{why.rule}”")))
    elif row.requester:
        parts.append(Markup("{} {}").format(_("for") if row.kind == "request" else _("reported by"), words.shown(row.requester)))
    if row.item:
        parts.append(words.shown(row.item))
    if not why.rule and row.channel:
        parts.append(Markup("{} {}").format(_("by"), words.shown(words.word(words.CHANNELS, row.channel))))
    return Markup(" · ").join(parts)


def shown_row(row: TicketRow, around: Frame) -> Row:
    """A row of a list of tickets."""
    ends = row.resolved_at or (None if row.meaning in ("new", "active", "waiting") else row.updated_at)
    return Row(
        number=row.number, href=around.carry(f"/console/tickets/{row.number}"), kind=row.kind, priority=row.priority,
        title=row.title, why=why_it_is_here(row), service=row.service,
        service_href=around.with_query(service=row.service) if row.service else "", state=row.state,
        firing=row.alerts_firing > 0, assignee=row.assignee, team=row.team,
        team_href=around.with_query(team=row.team) if row.team else "", opened_at=row.opened_at,
        open_for=instants.span(((ends or _seen_at(around)) - row.opened_at).total_seconds()), version=row.version, left=time_left(row, _seen_at(around)),
        may_acknowledge=row.acknowledged_at is None and row.meaning in ("new", "active"), done=ends is not None,
    )


def _seen_at(around: Frame) -> datetime:
    return around.moment.instant or around.now


def _pills(around: Frame, filters: QueueFilter, mine: bool) -> list[Pill]:
    """The filters that are always there, and those in force that are not among them."""
    counts = around.counts.by_priority if around.counts and not around.moment.past else {}
    urgent = counts.get("P1", 0) + counts.get("P2", 0)

    def pill(label: str, current: bool, name: str, value: str, count: int = 0) -> Pill:
        # A pill in force takes its filter away again; others stay.
        return Pill(label, around.with_query(**{name: None if current else value}), current, figure(count) if count else "")

    pills = [
        Pill(_("All open"), around.with_query(**dict.fromkeys(FILTERS)), not any(around.kept.get(name) for name in FILTERS)),
        pill(_("P1–P2"), around.kept.get("priority") == URGENT, "priority", URGENT, urgent),
        pill(_("Mine"), mine, "assignee", ME),
        pill(_("Nobody's"), filters.assignee == NOBODY, "assignee", NOBODY),
        pill(_("Waiting"), filters.meaning == "waiting", "meaning", "waiting"),
        pill(_("Incidents"), filters.kind == "incident", "kind", "incident"),
        pill(_("Requests"), filters.kind == "request", "kind", "request"),
    ]
    for name, label in (("service", _("Service: %s")), ("team", _("Team: %s")), ("source", _("Source: %s"))):
        value = getattr(filters, name)
        if value:
            pills.append(Pill(label % words.plain(value) + " ✕", around.with_query(**{name: None}), True))
    if filters.priority:
        pills.append(Pill(f"{filters.priority} ✕", around.with_query(priority=None), True))
    if filters.state:
        pills.append(Pill(f"{words.word(words.STATES, filters.state)} ✕", around.with_query(state=None), True))
    return pills


def _urgent_of(page: Page[TicketRow]) -> Page[TicketRow]:
    """The P1 and P2 of a page in the queue's own order; where something else follows, it was the last."""
    kept = [row for row in page.items if row.priority in ("P1", "P2")]
    return Page(items=kept, next=page.next if len(kept) == len(page.items) else None, position=page.position)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tickets that are chosen for one command, and what came of it (`bulk.py`)."""

    numbers: frozenset[str]
    outcome: "Outcome | None" = None
    status: int = 200


@router.get("/console")
def queue_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """The tickets that wait for somebody, now or as of an instant."""
    return queue_with(request, principal, None)


def queue_with(request: Request, principal: Principal, chosen: Chosen | None) -> Response:
    """The queue, with these of its tickets chosen."""
    with reading_views(request) as reader:
        if principal.role in ADMINS and not request.query_params and never_heard(reader) and not any_ticket(reader):
            return go_to("/console/connect")  # an empty queue has nothing to say to whoever sets it up
        mine = request.query_params.get("assignee") == ME
        around = frame(request, principal, reader, "mine" if mine else "queue")
        around.path = QUEUE
        every = around.kept.pop(ALL_CHOSEN, None) is not None
        filters = filter_of(request.query_params, principal.person)
        sort = request.query_params.get("sort") or DEFAULT_SORT
        urgent = around.kept.get("priority") == URGENT
        if urgent or (sort == "updated" and around.moment.past):
            sort = DEFAULT_SORT
        cursor = request.query_params.get("cursor") or None
        found = queue(reader, filters=filters, sort=sort, as_of=around.moment.position, cursor=cursor, limit=ROWS)
        if urgent:
            found = _urgent_of(found)
        past_target = 0 if around.moment.past else breached(reader, around.now)
        known_services, known_teams = service_names(reader, limit=MOST_NAMES), team_names(reader)[:MOST_NAMES]
    narrowed = any(around.kept.get(name) for name in FILTERS)
    sorts = {name: text for name, text in SORTS.items() if not (name == "updated" and around.moment.past)}
    rows = [shown_row(row, around) for row in found.items]
    logins = sorted(directory_of(request).logins().values())[:MOST_NAMES] if around.may_write and rows else []
    return render(
        request, "queue_rows.html" if request.query_params.get("fragment") == "rows" else "queue.html", frame=around,
        rows=rows, status=chosen.status if chosen else 200, chosen=chosen.numbers if chosen else {row.number for row in rows} if every else (),
        outcome=chosen.outcome if chosen else None, field=CHOSEN, codes=RESOLUTION_CODES, logins=logins, may_share=principal.role in MANAGERS,
        query=written(around.kept), choose_all=around.with_query(**{ALL_CHOSEN: "1", "cursor": cursor}), bulk_href=_bulk_address(around, cursor),
        glance=around.counts, past_target=past_target,
        late_href="/console?sort=due", pills=_pills(around, filters, mine), narrowed=narrowed, sorts=sorts, sort=sort, first=cursor is None,
        services=sorted({row.service for row in found.items if row.service} | set(known_services)),
        teams=sorted({row.team for row in found.items if row.team} | set(known_teams)),
        next_href=around.with_query(cursor=found.next) if found.next else None, first_href=around.with_query(),
        order={name: around.with_query(sort=None if name == DEFAULT_SORT else name) for name in sorts},
        all_href=around.with_query(**dict.fromkeys(FILTERS)), complete=found.next is None and cursor is None,
    )


def _bulk_address(around: Frame, cursor: str | None) -> str:
    """Where the form about several tickets goes: the answer is the same page of the queue."""
    return around.with_query(cursor=cursor).replace(QUEUE, f"{QUEUE}/bulk", 1)


@router.get("/console/requests")
def requests_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """All service requests, newest first, closed ones included."""
    return _list_page(request, principal, "request", "requests")


@router.get("/console/incidents")
def incidents_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """All incidents, newest first, closed ones included."""
    return _list_page(request, principal, "incident", "incidents")


def _list_page(request: Request, principal: Principal, kind: str, here: str) -> Response:
    with reading_views(request) as reader:
        around = frame(request, principal, reader, here)
        filters = filter_of(request.query_params, principal.person)
        found = tickets(
            reader, filters=replace(filters, kind=kind), as_of=around.moment.position,
            cursor=request.query_params.get("cursor") or None, limit=ROWS,
        )
    meanings = {
        "request": (("new", _("To approve or start")), ("active", _("Under way")), ("waiting", _("Waiting")), ("resolved", _("Fulfilled")), ("closed", _("Closed"))),
        "incident": (("new", _("New")), ("active", _("Under way")), ("waiting", _("Waiting")), ("resolved", _("Resolved")), ("closed", _("Closed"))),
    }[kind]
    pills = [Pill(_("All"), around.with_query(meaning=None), not filters.meaning)]
    pills += [
        Pill(label, around.with_query(meaning=None if filters.meaning == name else name), filters.meaning == name)
        for name, label in meanings
    ]
    return render(
        request, "tickets.html", frame=around, kind=kind, rows=[shown_row(row, around) for row in found.items], pills=pills,
        narrowed=bool(filters.meaning), next_href=around.with_query(cursor=found.next) if found.next else None,
        first=not request.query_params.get("cursor"), first_href=around.with_query(),
    )
