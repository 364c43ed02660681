"""The measures page: how many, how long, how loud; each number opens its tickets, each chart has its table.

docs/measures.md defines each measure; `projections/kpi_page.py` computes them, `api/charts.py` draws them.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api import charts
from api.access import Principal
from api.charts import Drawing, Point, Series
from api.console import instants, words
from api.console.language import figure, language, mark
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, Frame, frame, reading, reading_views, render
from api.console.work_queue import Pill, shown_row
from engine.errors import InvalidInput
from projections.kpi_page import (
    METRICS,
    Backlog,
    Figure,
    KpiFilter,
    KpiGroup,
    KpiReport,
    Noise,
    Repeater,
    Window,
    backlog,
    backlog_by_day,
    kpi_tickets,
    kpis,
    noise,
    top_conditions,
    top_repeaters,
    zone_of,
)
from projections.queue_page import NOBODY, QueueFilter
from projections.views import Reader

router = APIRouter(route_class=ConsoleRoute)

DAYS: Final = (7, 30, 90)
# Longer windows are drawn by week: more points than this are noise.
MOST_BY_DAY: Final = 45
MOST_WEEKS: Final = 60
ROWS: Final = 50
MOST_KEPT: Final = 32
GROUPS: Final = {
    "priority": mark("By priority"), "service": mark("By service"), "team": mark("By team"), "agent": mark("By agent"),
    "channel": mark("By channel"), "kind": mark("By kind"),
}
TICKETS: Final = "/console/measures/tickets"
TITLES: Final = {
    "opened": mark("Opened"), "acknowledged": mark("Acknowledged"), "responded": mark("First response"),
    "resolved": mark("Resolved"), "reopened": mark("Reopened"), "cancelled": mark("Cancelled"),
}


@dataclass(frozen=True, slots=True)
class Number:
    """A number of the strip: what it counts, what it was in the window before, and its tickets."""

    value: str
    label: str
    more: str
    href: str
    was: str = ""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A day or week of the tables below the charts."""

    label: str
    group: KpiGroup
    open_at_end: int | None
    events_per_incident: float | None
    events: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """All that a page of measures shows of one window."""

    total: KpiGroup
    before: KpiGroup
    buckets: list[Bucket]
    weekly: bool
    groups: list[KpiGroup]
    backlog: list[Backlog]
    noise: Noise
    loudest: list[Repeater]
    returning: list[Repeater]


class _Kept:
    """The last few results, by position and question: a page that many look at is computed once an event."""

    def __init__(self) -> None:
        self._results: OrderedDict[Any, Measured] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Any, make: Callable[[], Measured]) -> Measured:
        with self._lock:
            found = self._results.get(key)
            if found is not None:
                self._results.move_to_end(key)
                return found
        made = make()
        with self._lock:
            self._results[key] = made
            while len(self._results) > MOST_KEPT:
                self._results.popitem(last=False)
        return made


_kept: Final = _Kept()


def _day(text: str, field: str, zone: str) -> datetime:
    """A date or instant of an address, as an instant."""
    instant = instants.read_instant(text, field)
    plain_date = len(text.strip()) == 10
    return instant.replace(tzinfo=zone_of(zone)).astimezone(UTC) if plain_date else instant


def window_of(request: Request, around: Frame) -> tuple[Window, int | None]:
    """(the window that an address asks for, its length in days if it is one of the usual ones). It ends with a day, so that
    the same question asked again a minute later has the same answer.

    Raises:
        InvalidInput: a bad instant, zone, basis, or an end before the start.
    """
    asked = request.query_params
    zone, basis = asked.get("zone") or instants.ZONE_NAME, asked.get("basis") or "recorded"
    where = zone_of(zone)
    if asked.get("from") or asked.get("to"):
        end = _day(asked["to"], "to", zone) if asked.get("to") else _midnight_after(around, where)
        start = _day(asked["from"], "from", zone) if asked.get("from") else end - timedelta(days=7)
        return Window(start=start, end=end, zone=zone, basis=basis), None
    text = asked.get("days") or str(DAYS[0])
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 4 and 1 <= int(text) <= 3650):
        raise InvalidInput("days", _("a number of days from 1 to 3650"))
    days = int(text)
    end = _midnight_after(around, where)
    first = (end.astimezone(where) - timedelta(days=days)).date()
    start = datetime(first.year, first.month, first.day, tzinfo=where).astimezone(UTC)
    return Window(start=start, end=end, zone=zone, basis=basis), days


def _midnight_after(around: Frame, where: Any) -> datetime:
    local = (around.moment.instant or around.now).astimezone(where).date() + timedelta(days=1)
    return datetime(local.year, local.month, local.day, tzinfo=where).astimezone(UTC)


def filter_of(request: Request) -> KpiFilter:
    """Raises: InvalidInput: a value outside its closed set."""
    asked = request.query_params
    agent: UUID | str | None = asked.get("agent") or None
    if agent is not None and agent != NOBODY:
        try:
            agent = UUID(str(agent))
        except ValueError:
            raise InvalidInput("agent", _("a person's id, or nobody")) from None
    return KpiFilter(
        kind=asked.get("kind") or None, priority=asked.get("priority") or None, service=asked.get("service"),
        team=asked.get("team"), agent=agent, channel=asked.get("channel"), imported=asked.get("imported") or "include",
    )


@router.get("/console/measures")
def measures_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """The measures of a window."""
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "measures")
        window, days = window_of(request, around)
        filters = filter_of(request)
        group = request.query_params.get("group") or "service"
        if group not in GROUPS:
            raise InvalidInput("group", _("one of %s") % ", ".join(GROUPS))
        key = (id(request.app.state.views), language(), reader.position, around.moment.position, window, filters, group)
        found = _kept.get(key, lambda: _measure(reader, around, window, filters, group))
    span = (window.end - window.start).days
    return render(
        request, "measures.html", frame=around, measured=found, numbers=_numbers(found, around),
        drawings=_drawings(found, around), window=window, days=days, group=group, groups=GROUPS,
        pills=_pills(around, days, filters), said=_window_words(window, days, span), tickets=lambda figure: _tickets_href(figure, around),
        buckets=list(reversed(found.buckets)), kinds=("incident", "request"), imported=filters.imported, without_imported=around.with_query(imported="exclude"),
        with_imported=around.with_query(imported=None), narrowed=bool(filters.query()),
        backlog_href=lambda row: around.carry("/console?" + urlencode({name: value for name, value in row.query.items() if value})),
    )


def _measure(reader: Reader, around: Frame, window: Window, filters: KpiFilter, group: str) -> Measured:
    at = around.moment.position
    weekly = (window.end - window.start).days > MOST_BY_DAY
    spread: KpiReport
    if weekly:
        parts = _weeks(window)
        reports = [kpis(reader, part, filters=filters, as_of=at).total for part in parts]
        noises = [noise(reader, part, as_of=at)[0] for part in parts]
        spread = kpis(reader, window, filters=filters, as_of=at)
        by_day = dict(backlog_by_day(reader, window, as_of=at))
        zone = zone_of(window.zone)
        buckets = [
            Bucket(
                _day_label(part.start.astimezone(zone).date()), one,
                by_day.get((part.end - timedelta(microseconds=1)).astimezone(zone).date()), heard.ratio, heard.monitoring_events,
            )
            for part, one, heard in zip(parts, reports, noises, strict=True)
        ]
    else:
        spread = kpis(reader, window, group_by="day", filters=filters, as_of=at)
        open_at = dict(backlog_by_day(reader, window, as_of=at))
        heard_on = {one.key: one for one in noise(reader, window, group_by="day", as_of=at)[1:]}
        buckets = []
        for one in spread.groups:
            day = date.fromisoformat(one.label)
            heard = heard_on.get(one.label)
            buckets.append(Bucket(_day_label(day), one, open_at.get(day), heard.ratio if heard else None, heard.monitoring_events if heard else None))
    width = window.end - window.start
    before = replace(window, start=window.start - width, end=window.start)
    asked = QueueFilter(
        kind=filters.kind, priority=filters.priority, service=filters.service or None, team=filters.team or None,
        assignee=filters.agent,
    )
    return Measured(
        total=spread.total, before=kpis(reader, before, filters=filters, as_of=at).total, buckets=buckets, weekly=weekly,
        groups=kpis(reader, window, group_by=group, filters=filters, as_of=at).groups,
        backlog=backlog(reader, around.moment.instant or around.now, group_by="priority", filters=asked, as_of=at),
        noise=noise(reader, window, as_of=at)[0], loudest=top_repeaters(reader, window, limit=10, as_of=at),
        returning=top_conditions(reader, window, limit=10, as_of=at),
    )


def _weeks(window: Window) -> list[Window]:
    """The window in weeks, counted back from its end."""
    parts: list[Window] = []
    end = window.end
    while end > window.start and len(parts) < MOST_WEEKS:
        start = max(window.start, end - timedelta(days=7))
        parts.append(replace(window, start=start, end=end))
        end = start
    return list(reversed(parts))


def _day_label(day: date) -> str:
    return instants.day_form(day)


def _window_words(window: Window, days: int | None, span: int) -> str:
    if days is not None:
        return instants.many("the last day", "the last %s days", days) if days != 1 else _("today")
    zone = zone_of(window.zone)
    first, last = window.start.astimezone(zone).date(), (window.end - timedelta(microseconds=1)).astimezone(zone).date()
    return _("%(first)s to %(last)s (%(span)s)") % {
        "first": instants.dated(first), "last": instants.dated(last),
        "span": instants.many("%s day", "%s days", max(1, span)),
    }


def _tickets_href(figure: Figure, around: Frame) -> str:
    return around.carry(f"{TICKETS}?{urlencode(figure.query)}")


def _pills(around: Frame, days: int | None, filters: KpiFilter) -> list[Pill]:
    pills = [
        Pill(instants.many("%s day", "%s days", count), around.with_query(days=str(count), **{"from": None, "to": None}), days == count)
        for count in DAYS
    ]
    pills += [
        Pill(label, around.with_query(kind=None if filters.kind == kind else kind), filters.kind == kind)
        for kind, label in (("incident", _("Incidents")), ("request", _("Requests")))
    ]
    for name in ("priority", "service", "team", "channel", "agent"):
        value = getattr(filters, name)
        if value is not None:
            pills.append(Pill(f"{words.plain(str(value)) or _('none')} ✕", around.with_query(**{name: None}), True))
    return pills


def _numbers(found: Measured, around: Frame) -> list[Number]:
    total, before, waiting = found.total, found.before, found.backlog[0]

    def time(label: str, now: Figure, then: Figure) -> Number:
        more = _("median; p90 %s") % instants.measure(now.p90) if now.p90 is not None else _("none in this window")
        was = _("before: %s") % instants.measure(then.median) if then.median is not None else ""
        return Number(instants.measure(now.median), label, more, _tickets_href(now, around), was)

    query = {name: value for name, value in waiting.query.items() if value}
    rate = "–" if total.reopen_rate is None else _("%s %%") % figure(total.reopen_rate * 100, 1)
    return [
        Number(figure(total.opened.count), _("opened"), _("before: %s") % figure(before.opened.count), _tickets_href(total.opened, around)),
        time(_("to acknowledge"), total.acknowledged, before.acknowledged),
        time(_("to the first response"), total.responded, before.responded),
        time(_("to restore or fulfil"), total.resolved, before.resolved),
        Number(rate, _("reopened"), instants.many("%s time", "%s times", total.reopened.count), _tickets_href(total.reopened, around)),
        Number(
            figure(waiting.count), _("in the queue"), _("oldest: %s") % instants.measure(waiting.oldest) if waiting.oldest else _("empty"),
            around.carry(f"/console?{urlencode(query)}" if query else "/console"),
        ),
        Number(
            "–" if found.noise.ratio is None else figure(found.noise.ratio, 1), _("monitoring events for an incident"),
            instants.many("%s event", "%s events", found.noise.monitoring_events), "#loudest",
        ),
    ]


def _drawings(found: Measured, around: Frame) -> list[Drawing]:
    unit = _("by week") if found.weekly else _("by day")

    def is_weekend(bucket: Bucket) -> bool:
        key = bucket.group.key
        return not found.weekly and key is not None and date.fromisoformat(key).weekday() >= 5

    def points(figure_of: Callable[[KpiGroup], Figure], tell: Callable[[Bucket], str]) -> list[Point]:
        return [
            Point(bucket.label, f"{bucket.label}: {tell(bucket)}", _tickets_href(figure_of(bucket.group), around), is_weekend(bucket))
            for bucket in found.buckets
        ]

    def spread(name: str, title: str, figure_of: Callable[[KpiGroup], Figure]) -> Drawing:
        def tell(bucket: Bucket) -> str:
            figure = figure_of(bucket.group)
            return _("median %(median)s, 90 %% within %(high)s, %(count)s") % {
                "median": instants.measure(figure.median), "high": instants.measure(figure.p90),
                "count": instants.many("%s ticket", "%s tickets", figure.tickets),
            }

        figures = [figure_of(bucket.group) for bucket in found.buckets]
        total = figure_of(found.total)
        text = _("Over the window the median is %(median)s and 90 %% are within %(high)s. The same figures stand in the table below.") % {
            "median": instants.measure(total.median), "high": instants.measure(total.p90),
        }
        return charts.spread(
            name, f"{title}, {unit}", points(figure_of, tell), Series(_("median"), [figure.median for figure in figures]),
            Series(_("p90"), [figure.p90 for figure in figures]), _axis, text,
        )

    def volume(bucket: Bucket) -> str:
        return _("%(opened)s opened, %(resolved)s resolved") % {
            "opened": bucket.group.opened.count, "resolved": bucket.group.resolved.count,
        }

    def queue(bucket: Bucket) -> str:
        return instants.many("%s open at its end", "%s open at its end", bucket.open_at_end or 0)

    def loud(bucket: Bucket) -> str:
        return _("%(events)s monitoring events, %(ratio)s for an incident") % {
            "events": figure(bucket.events or 0), "ratio": _count(bucket.events_per_incident),
        }

    buckets = found.buckets
    drawings = [
        spread("restore", _("Time to restore"), lambda group: group.resolved),
        spread("acknowledge", _("Time to acknowledge"), lambda group: group.acknowledged),
        spread("respond", _("Time to the first response"), lambda group: group.responded),
        charts.lines(
            "volume", _("Opened and resolved, %s") % unit, points(lambda group: group.opened, volume),
            [
                Series(_("opened"), [float(bucket.group.opened.count) for bucket in buckets], "two"),
                Series(_("resolved"), [float(bucket.group.resolved.count) for bucket in buckets], "three"),
            ],
            _count, _("%(opened)s opened and %(resolved)s resolved in the window.") % {
                "opened": figure(found.total.opened.count), "resolved": figure(found.total.resolved.count),
            },
        ),
        charts.lines(
            "backlog", _("In the queue at the end, %s") % unit, points(lambda group: group.opened, queue),
            [Series(_("open"), [None if bucket.open_at_end is None else float(bucket.open_at_end) for bucket in buckets])],
            _count, instants.many("%s ticket waits now.", "%s tickets wait now.", found.backlog[0].count),
        ),
        charts.columns(
            "noise", _("Monitoring events, %s") % unit, points(lambda group: group.opened, loud),
            Series(_("events"), [None if bucket.events is None else float(bucket.events) for bucket in buckets], "one"),
            _count, _("%s monitoring events for each incident that a rule opened.") % _count(found.noise.ratio),
        ),
    ]
    return drawings


def _axis(seconds: float) -> str:
    return instants.measure(seconds)


def _count(value: float | None) -> str:
    if value is None:
        return "–"
    return figure(value, 0 if value == int(value) else 1)


@router.get("/console/measures/tickets")
def tickets_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """The tickets behind a number.

    Raises:
        InvalidInput: an unknown metric, or a bad window.
    """
    asked = request.query_params
    metric = asked.get("metric") or "opened"
    if metric not in METRICS:
        raise InvalidInput("metric", _("one of %s") % ", ".join(METRICS))
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "measures")
        window, days = window_of(request, around)
        found = kpi_tickets(
            reader, metric, window, filters=filter_of(request), as_of=around.moment.position, cursor=asked.get("cursor") or None, limit=ROWS
        )
    rows: Sequence[tuple[Any, Any, str]] = [
        (item, shown_row(item.ticket, around), instants.measure(item.seconds) if item.seconds is not None else "–") for item in found.items
    ]
    return render(
        request, "measure_tickets.html", frame=around, rows=rows, title=TITLES[metric], metric=metric,
        said=_window_words(window, days, (window.end - window.start).days), next_href=around.with_query(cursor=found.next) if found.next else None,
        first=not asked.get("cursor"), first_href=around.with_query(), zone_name=window.zone,
    )
