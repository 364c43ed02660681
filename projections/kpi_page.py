"""Questions about measures: how many, how long, how loud; now or as of a position. docs/measures.md defines each one.

Every number carries the query that opens its tickets (`Figure.query`, for `kpi_tickets`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from engine.clock import from_micros, micros, rfc3339
from engine.errors import InvalidInput, Phrase
from projections.kpi_sums import Asked, Tally, tallied
from projections.kpis import HOUR, Metric
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.people import names
from projections.queue_ages import Ages, ages
from projections.queue_page import NOBODY, OpenTicket, QueueFilter, open_tickets, rows_of
from projections.ticket_row import TicketRow
from projections.views import Reader

METRICS: Final = {metric.name.lower(): metric for metric in Metric}
GROUPS: Final = ("kind", "priority", "service", "team", "agent", "channel", "day")
IMPORTED: Final = ("include", "exclude", "only")
BASES: Final = ("recorded", "occurred")
MOST_DAYS: Final = 3_700
FIRST_YEAR: Final = 1900
END_YEAR: Final = 2200
EXPECTED_YEARS: Final = f"an instant between the years {FIRST_YEAR} and {END_YEAR}"
_NONE: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From when to when, and on which clock.

    Attributes:
        start, end: instants, start included, end not.
        zone: IANA zone whose midnights part the days.
        basis: `recorded` (when Tocsin knew it) or `occurred` (when it is claimed to have happened).
    """

    start: datetime
    end: datetime
    zone: str = "UTC"
    basis: str = "recorded"

    def __post_init__(self) -> None:
        """Raises: InvalidInput: no zone, an unknown one, or an end before the start."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise InvalidInput("from", "an instant with its zone")
        for name, instant in (("from", self.start), ("to", self.end)):
            if not FIRST_YEAR <= instant.year < END_YEAR:  # beyond them a zone's days leave the calendar
                raise InvalidInput(name, EXPECTED_YEARS)
        if self.end <= self.start:
            raise InvalidInput("to", "an instant after `from`")
        if self.basis not in BASES:
            raise InvalidInput("basis", "recorded or occurred")
        zone_of(self.zone)

    def days(self) -> list[date]:
        """The days that the window touches, in its zone.

        Raises:
            InvalidInput: more than ten years of them.
        """
        zone = zone_of(self.zone)
        first, last = self.start.astimezone(zone).date(), (self.end - timedelta(microseconds=1)).astimezone(zone).date()
        if (last - first).days > MOST_DAYS:
            raise InvalidInput("from", "a window of at most ten years to be shown by day")
        return [first + timedelta(days=number) for number in range((last - first).days + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiFilter:
    """Whose facts; None asks for all. Each is meant as of the fact: a ticket's team when it was resolved, say.

    Attributes:
        agent: a person's id, or `nobody` for what no person did.
        service, team: the empty text stands for none.
        imported: facts that an import told: `include`, `exclude` or `only`.
    """

    kind: str | None = None
    priority: str | None = None
    service: str | None = None
    team: str | None = None
    agent: UUID | str | None = None
    channel: str | None = None
    imported: str = "include"

    def __post_init__(self) -> None:
        """Raises: InvalidInput: a value outside its closed set."""
        if self.imported not in IMPORTED:
            raise InvalidInput("imported", "include, exclude or only")
        if self.kind not in (None, "incident", "request"):
            raise InvalidInput("kind", "incident or request")
        if self.priority is not None and self.priority not in ("P1", "P2", "P3", "P4", "P5"):
            raise InvalidInput("priority", "P1, P2, P3, P4 or P5")
        if isinstance(self.agent, str) and self.agent != NOBODY:
            raise InvalidInput("agent", "a person's id, or nobody")

    def where(self) -> str:
        """Conditions on `kpi_facts`, each after an AND."""
        parts = []
        for name in ("kind", "priority", "service", "team", "channel", "agent"):
            value = getattr(self, name)
            if value is not None:
                nobody = value == (NOBODY if name == "agent" else _NONE)
                parts.append(f" AND {name} IS NULL" if nobody else f" AND {name} = :{name}")
        if self.imported != "include":
            parts.append(f" AND imported = {int(self.imported == 'only')}")
        return "".join(parts)

    def values(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "priority": None if self.priority is None else int(self.priority[1]), "service": self.service,
            "team": self.team, "channel": self.channel, "agent": self.agent.bytes if isinstance(self.agent, UUID) else None,
        }

    def only(self) -> dict[str, Any]:
        """The values asked for, as they are stored; None stands for none."""
        values = self.values()
        return {
            name: None if value == (NOBODY if name == "agent" else _NONE) else values[name]
            for name in ("kind", "priority", "service", "team", "channel", "agent")
            if (value := getattr(self, name)) is not None
        }

    def query(self) -> dict[str, str]:
        found = {name: getattr(self, name) for name in ("kind", "priority", "service", "team", "agent", "channel")}
        if self.imported != "include":
            found["imported"] = self.imported
        return {name: str(value) for name, value in found.items() if value is not None}


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number with its spread; durations in seconds, None where there are none.

    Attributes:
        count: facts. A ticket that was resolved twice counts twice.
        tickets: distinct tickets among them.
        imported: how many of the facts an import told.
        promised: how many of the facts had a target; `met`: of them, within it.
        query: for `kpi_tickets`: the tickets behind the number.
    """

    metric: str
    count: int
    tickets: int
    imported: int
    mean: float | None
    median: float | None
    p90: float | None
    p95: float | None
    query: dict[str, str]
    promised: int = 0
    met: int = 0

    @property
    def attainment(self) -> float | None:
        """The part that was within its target, 0 to 1; None where nothing was promised."""
        return self.met / self.promised if self.promised else None


class KpiGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The measures of one group.

    Attributes:
        key: the group's value (an id for agents, a date for days); empty: none; None: everything.
        label: for people.
        reopen_rate: reopenings for each resolution; None where nothing was resolved.
    """

    key: str | None
    label: str
    opened: Figure
    acknowledged: Figure
    responded: Figure
    resolved: Figure
    reopened: Figure
    cancelled: Figure
    reopen_rate: float | None


class KpiReport(msgspec.Struct, frozen=True, kw_only=True):
    """The measures of a window: all together, and by group (days in order, other groups by name)."""

    total: KpiGroup
    groups: list[KpiGroup]
    position: int


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Tickets in the queue at an instant, with the spread of their age in seconds."""

    key: str | None
    label: str
    count: int
    mean: float | None
    median: float | None
    p90: float | None
    p95: float | None
    oldest: float | None
    query: dict[str, str]


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """Monitoring events against the incidents that were opened.

    Attributes:
        incidents: opened by rules; None for a group by source.
        ratio: monitoring events for each incident; None where there was none.
    """

    key: str | None
    monitoring_events: int
    incidents: int | None
    ratio: float | None


class Repeater(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that comes again and again. `count`: its monitoring events, or the incidents that were opened for it."""

    alert: str
    title: str
    source: str
    service: str | None
    count: int


class KpiTicket(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket behind a number: when it counted there, and the duration in seconds."""

    at: datetime
    seconds: float | None
    ticket: TicketRow


def zone_of(name: str) -> ZoneInfo:
    """Raises: InvalidInput: no such zone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput("zone", "an IANA time zone, such as Europe/Stockholm") from None


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value below which this share of them lies, interpolated between neighbours; `ordered` ascending.

    Source: docs/measures.md, "Percentiles" (R-7 of Hyndman and Fan, as spreadsheets have it).
    """
    if not ordered:
        return None
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def day_edges(days: Sequence[date], zone: str) -> list[int]:
    """The beginnings of these days in a zone, and the end of the last, in µs since 1970."""
    where = zone_of(zone)
    edges = [*days, days[-1] + timedelta(days=1)]
    # A midnight that a clock change skips or repeats: `fold=0` takes the first instant of the day.
    return [micros(datetime(day.year, day.month, day.day, tzinfo=where).astimezone(UTC)) for day in edges]


# -- facts -----------------------------------------------------------------------------------------------------------


_Tallies = dict[Any, dict[Metric, Tally]]
_NO_FACTS: Final = Tally()
_LINES: Final = {"include": (0, 1), "exclude": (0,), "only": (1,)}


def kpis(
    reader: Reader,
    window: Window,
    *,
    group_by: str | None = None,
    filters: KpiFilter | None = None,
    as_of: int | None = None,
) -> KpiReport:
    """Volume, time to acknowledge, to respond and to restore, reopenings: all together and by group.

    Raises:
        InvalidInput: an unknown group, or too many days.
    """
    filters, at = filters or KpiFilter(), reader.at(as_of)
    if group_by is not None and group_by not in GROUPS:
        raise InvalidInput("group_by", Phrase("one of %s", ', '.join(GROUPS)))
    days = window.days() if group_by == "day" else []
    starts = [max(micros(window.start), edge) for edge in day_edges(days, window.zone)[:-1]] if days else [micros(window.start)]
    whole: dict[Metric, Tally] = {}
    found: _Tallies = {}
    for metric in Metric:
        whole[metric], groups = tallied(reader, Asked(
            metric=metric.value, edges=[*starts, micros(window.end)], occurred=window.basis == "occurred", at=at,
            by=None if group_by == "day" else group_by, only=filters.only(), imported=_LINES[filters.imported],
        ))
        for key, tally in groups.items():
            found.setdefault(key, {})[metric] = tally
    shown = _day_groups(found, days, starts, window, filters) if days else _groups(reader, found, group_by, window, filters)
    return KpiReport(total=_group(None, "", whole, window, filters), groups=shown, position=at)


def _figure(metric: Metric, tally: Tally, query: dict[str, str]) -> Figure:
    ordered = tally.ordered()
    return Figure(
        metric=metric.name.lower(), count=tally.count, tickets=tally.count - tally.repeats, imported=tally.imported,
        mean=tally.total / len(ordered) / 1_000_000 if ordered else None, median=percentile(ordered, 0.5), p90=percentile(ordered, 0.9),
        p95=percentile(ordered, 0.95), query=query, promised=tally.promised, met=tally.met,
    )


def _parts(reader: Reader, window: Window, at: int) -> list[tuple[str, str, dict[str, int]]]:
    """(condition, column of its instant, values) of the facts in a window. On the basis `recorded` there are two: what was
    imported counts when it happened, not on the day of the import."""
    condition, values = _in_window(reader, window, at)
    if window.basis == "occurred":
        return [(condition, "occurred_at", values)]
    occurred, bounds = _in_window(reader, replace(window, basis="occurred"), at)
    return [(f"imported = 0 AND {condition}", "recorded_at", values), (f"imported = 1 AND {occurred}", "occurred_at", bounds)]


def _in_window(reader: Reader, window: Window, at: int) -> tuple[str, dict[str, int]]:
    """The condition that a fact lies in the window and was known at a position, with its values."""
    start, end = micros(window.start), micros(window.end)
    if window.basis == "recorded":
        # recorded_at never decreases along positions, so the window is a range of positions: the table's own order.
        store = reader.ledger.store
        first, last = store.position_at(start - 1), min(at, store.position_at(end - 1))
        return "position > :first AND position <= :last", {"first": first, "last": last}
    return "occurred_at >= :start AND occurred_at < :end AND position <= :at", {"start": start, "end": end, "at": at}


def _groups(reader: Reader, found: _Tallies, group_by: str | None, window: Window, filters: KpiFilter) -> list[KpiGroup]:
    if group_by is None:
        return []
    people = names(reader, [UUID(bytes=key) for key in found if key is not None]) if group_by == "agent" else {}
    groups = []
    for key, tallies in found.items():
        if group_by == "agent":
            value: Any = NOBODY if key is None else UUID(bytes=key)
            label = "" if key is None else people.get(value, "")
        elif group_by == "priority":
            value = label = f"P{key}"
        else:
            value = label = key or _NONE
        # A filter on this very field has let only this group through, so it may be replaced.
        groups.append(_group(str(value), label, tallies, window, replace(filters, **{group_by: value})))
    nobody = NOBODY if group_by == "agent" else _NONE
    return sorted(groups, key=lambda group: (group.key == nobody, group.label, group.key or ""))


def _day_groups(found: _Tallies, days: list[date], starts: list[int], window: Window, filters: KpiFilter) -> list[KpiGroup]:
    groups = []
    for number, (day, part) in enumerate(zip(days, pairwise([*map(from_micros, starts), window.end]), strict=True)):
        within = replace(window, start=part[0], end=part[1])
        groups.append(_group(day.isoformat(), day.isoformat(), found.get(number, {}), within, filters))
    return groups


def _group(key: str | None, label: str, tallies: dict[Metric, Tally], window: Window, filters: KpiFilter) -> KpiGroup:
    def figure(metric: Metric) -> Figure:
        return _figure(metric, tallies.get(metric, _NO_FACTS), {"metric": metric.name.lower(), **_window_query(window), **filters.query()})

    resolved, reopened = figure(Metric.RESOLVED), figure(Metric.REOPENED)
    return KpiGroup(
        key=key, label=label, opened=figure(Metric.OPENED), acknowledged=figure(Metric.ACKNOWLEDGED),
        responded=figure(Metric.RESPONDED), resolved=resolved, reopened=reopened, cancelled=figure(Metric.CANCELLED),
        reopen_rate=reopened.count / resolved.count if resolved.count else None,
    )


def _window_query(window: Window) -> dict[str, str]:
    return {"from": rfc3339(window.start), "to": rfc3339(window.end), "zone": window.zone, "basis": window.basis}


def kpi_tickets(
    reader: Reader,
    metric: str,
    window: Window,
    *,
    filters: KpiFilter | None = None,
    as_of: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[KpiTicket]:
    """The tickets behind a number, the latest first; one that counts twice is there twice. The tickets read as
    they were at `as_of`, not when they counted.

    Raises:
        InvalidInput: an unknown metric, a bad cursor or limit.
    """
    filters, limit, at = filters or KpiFilter(), checked_limit(limit), reader.at(as_of)
    if metric not in METRICS:
        raise InvalidInput("metric", Phrase("one of %s", ', '.join(METRICS)))
    key = from_cursor(cursor, metric, (int, int))
    instant, place = key or (0, 0)
    found: list[tuple[Any, ...]] = []
    for condition, column, values in _parts(reader, window, at):
        # Along positions recorded_at never decreases, so this order is the table's own; the bound ends the search early.
        order, after, bounds = f"{column} DESC, position DESC", "", dict(values)
        if column == "recorded_at":
            order = "position DESC"
        if key:
            after = f" AND ({column}, position) < (:instant, :place)"
            bounds |= {"instant": instant, "place": place}
            if column == "recorded_at":
                bounds["last"] = min(bounds["last"], reader.ledger.store.position_at(instant))
        found += reader.rows(
            f"SELECT {column}, position, duration, ticket FROM kpi_facts "
            f"WHERE metric = {METRICS[metric].value} AND {condition}{filters.where()}{after} ORDER BY {order} LIMIT :count",
            {**bounds, **filters.values(), "count": limit + 1},
        )
    rows = sorted(found, key=lambda row: (row[0], row[1]), reverse=True)[: limit + 1]
    more = to_cursor(metric, rows[limit - 1][:2]) if len(rows) > limit else None
    shown = rows[:limit]
    tickets = rows_of(reader, list({row[3]: None for row in shown}), at)
    known = dict(zip({row[3]: None for row in shown}, tickets, strict=True))
    items = [
        KpiTicket(
            at=from_micros(row[0]), seconds=None if row[2] is None else row[2] / 1_000_000, ticket=known[row[3]]
        )
        for row in shown
    ]
    return Page(items=items, next=more, position=at)


# -- backlog ---------------------------------------------------------------------------------------------------------


def backlog(
    reader: Reader,
    now: datetime,
    *,
    group_by: str | None = None,
    filters: QueueFilter | None = None,
    as_of: int | None = None,
) -> list[Backlog]:
    """How many tickets are in the queue and how old they are: all together first, then by group.

    Args:
        now: to which age is counted: the present, or the instant of `as_of`.
        group_by: kind, priority, service, team or assignee.

    Raises:
        InvalidInput: an unknown group.
    """
    groups = ("kind", "priority", "service", "team", "assignee")
    if group_by is not None and group_by not in groups:
        raise InvalidInput("group_by", Phrase("one of %s", ', '.join(groups)))
    filters, at = filters or QueueFilter(), reader.at(as_of)
    if at == reader.position and (kept := ages(reader, micros(now), filters, group_by)) is not None:
        found: dict[Any, Ages] = kept
    else:
        found = _counted_ages(open_tickets(reader, filters, at), micros(now), group_by)
    rows = [_backlog(None, "", found.pop(None), filters)]
    people = {}
    if group_by == "assignee":
        people = names(reader, [UUID(key) for key in found if key != NOBODY])
    nobody = NOBODY if group_by == "assignee" else _NONE
    for key in sorted(found, key=lambda key: (key == nobody, key)):
        label = people.get(UUID(key), "") if group_by == "assignee" and key != nobody else key
        rows.append(_backlog(key, label, found[key], filters, group_by))
    return rows


def _counted_ages(tickets: Iterable[OpenTicket], until: int, group_by: str | None) -> dict[Any, Ages]:
    whole: list[int] = []
    groups: dict[str, list[int]] = {}
    for ticket in tickets:
        age = max(0, until - ticket.opened_at)
        whole.append(age)
        if group_by is not None:
            groups.setdefault(_backlog_key(ticket, group_by), []).append(age)
    return {None: Ages.of(whole), **{key: Ages.of(found) for key, found in groups.items()}}


def _backlog_key(found: OpenTicket, group_by: str) -> str:
    value = getattr(found, group_by)
    if group_by == "priority":
        return f"P{value}"
    if group_by == "assignee":
        return NOBODY if value is None else str(UUID(bytes=value))
    return value or _NONE


def _backlog(key: str | None, label: str, ages: Ages, filters: QueueFilter, group_by: str | None = None) -> Backlog:
    query = {name: str(value) for name, value in filters.asked().items()}
    if key is not None and group_by is not None:
        query[group_by] = key
    count = len(ages)
    return Backlog(
        key=key, label=label, count=count, mean=ages.total / count / 1_000_000 if count else None,
        median=percentile(ages, 0.5), p90=percentile(ages, 0.9), p95=percentile(ages, 0.95),
        oldest=ages[count - 1] if count else None, query=query,
    )


def backlog_by_day(reader: Reader, window: Window, *, as_of: int | None = None) -> list[tuple[date, int]]:
    """How many tickets were in the queue at the end of each day of the window (or at its end), as recorded; imported ones from
    the day on which they were opened in the tool before."""
    at, days = reader.at(as_of), window.days()
    edges = day_edges(days, window.zone)
    moves = (Metric.OPENED, Metric.RESOLVED, Metric.REOPENED, Metric.CANCELLED)
    found = []
    brought, since = 0, -(2**62)
    for day, edge in zip(days, edges[1:], strict=True):
        until = min(edge, micros(window.end))
        brought, since = brought + _imported_moves(reader, since, until, at), until
        last = min(at, reader.ledger.store.position_at(min(edge, micros(window.end)) - 1))
        newest = max(
            (
                row
                for metric in moves
                if (
                    row := reader.row(
                        "SELECT position, open_after FROM kpi_facts WHERE metric = :metric AND imported = 0 AND position <= :last "
                        "ORDER BY position DESC LIMIT 1",
                        {"metric": metric.value, "last": last},
                    )
                )
            ),
            default=(0, 0),
        )
        found.append((day, newest[1] + brought))
    return found


def _imported_moves(reader: Reader, start: int, end: int, at: int) -> int:
    """By how many tickets imports say that the queue grew from one instant to another."""
    grown = 0
    for metric, sign in ((Metric.OPENED, 1), (Metric.RESOLVED, -1), (Metric.CANCELLED, -1)):
        row = reader.row(
            f"SELECT count(*) FROM kpi_facts WHERE metric = {metric.value} AND imported = 1 AND occurred_at >= :start "
            "AND occurred_at < :end AND position <= :at",
            {"start": start, "end": end, "at": at},
        )
        grown += sign * (row[0] if row else 0)
    return grown


# -- noise -----------------------------------------------------------------------------------------------------------


def noise(reader: Reader, window: Window, *, group_by: str | None = None, as_of: int | None = None) -> list[Noise]:
    """How many monitoring events came for each incident that a rule opened: all together first, then by `source` or `day`.

    Always by when they were recorded: a monitoring event is received, whatever it claims.

    Raises:
        InvalidInput: an unknown group.
    """
    if group_by not in (None, "source", "day"):
        raise InvalidInput("group_by", "source or day")
    at = reader.at(as_of)
    rows = [_noise(reader, None, window, at)]
    if group_by == "source":
        counts = _monitoring_events(reader, window, at, "source")
        rows += [Noise(key=key, monitoring_events=counts[key], incidents=None, ratio=None) for key in sorted(counts)]
    elif group_by == "day":
        days = window.days()
        edges = day_edges(days, window.zone)
        for number, day in enumerate(days):
            part = replace(
                window, start=max(window.start, from_micros(edges[number])), end=min(window.end, from_micros(edges[number + 1]))
            )
            rows.append(_noise(reader, day.isoformat(), part, at))
    return rows


def _noise(reader: Reader, key: str | None, window: Window, at: int) -> Noise:
    heard = sum(_monitoring_events(reader, window, at, "source").values())
    condition, values = _in_window(reader, replace(window, basis="recorded"), at)
    row = reader.row(
        f"SELECT count(*) FROM kpi_facts INDEXED BY kpi_facts_alerted WHERE alert IS NOT NULL AND {condition}", values
    )
    opened = row[0] if row else 0
    return Noise(key=key, monitoring_events=heard, incidents=opened, ratio=heard / opened if opened else None)


def top_repeaters(reader: Reader, window: Window, *, limit: int = 10, as_of: int | None = None) -> list[Repeater]:
    """The alerts with the most monitoring events in the window, the loudest first."""
    at, most = reader.at(as_of), checked_limit(limit)
    (first, last), cuts = _hours(reader, window, at)
    if not cuts:
        return _repeaters(reader, at, reader.rows(
            "SELECT alert, sum(number) FROM kpi_hours WHERE hour >= :first AND hour < :last AND alert <> x'' GROUP BY alert "
            "ORDER BY sum(number) DESC, alert LIMIT :most",
            {"first": first, "last": last, "most": most},
        ))
    counts = _monitoring_events(reader, window, at, "alert")
    counts.pop(b"", None)
    return _repeaters(reader, at, sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:most])


def top_conditions(reader: Reader, window: Window, *, limit: int = 10, as_of: int | None = None) -> list[Repeater]:
    """The alerts that most incidents were opened for in the window, the most frequent first."""
    at = reader.at(as_of)
    condition, values = _in_window(reader, window, at)
    source = "kpi_facts INDEXED BY kpi_facts_alerted" if window.basis == "recorded" else "kpi_facts"
    rows = reader.rows(
        f"SELECT alert, count(*) FROM {source} WHERE metric = {Metric.OPENED.value} AND alert IS NOT NULL AND {condition} "
        "GROUP BY alert ORDER BY count(*) DESC, alert LIMIT :limit",
        {**values, "limit": checked_limit(limit)},
    )
    return _repeaters(reader, at, [(row[0], row[1]) for row in rows])


def _repeaters(reader: Reader, at: int, counts: Sequence[tuple[Any, int]]) -> list[Repeater]:
    found = []
    for alert, count in counts:
        row = reader.row(
            "SELECT number, title, source, service FROM alerts WHERE id = :id AND listed <= :at", {"id": alert, "at": at}
        )
        if row is not None:
            found.append(Repeater(alert=row[0], title=row[1], source=row[2], service=row[3], count=count))
    return found


def _hours(reader: Reader, window: Window, at: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """The whole hours of a window (the first one, the one after the last), and the parts of hours, in µs, that the window or the
    position cuts off."""
    start, end = micros(window.start), micros(window.end)
    here = reader.ledger.store.at(at)
    known = here.recorded_at if here is not None else 0
    if at == reader.position and end > known:
        whole_until = -(-end // HOUR)          # nothing was recorded after `known`, so its hour is whole
        end = whole_until * HOUR
    else:
        whole_until = min(end, known) // HOUR
    whole_from = -(-start // HOUR)
    if whole_from >= whole_until:
        return (0, 0), [(start, end)]
    cuts = [(start, whole_from * HOUR), (whole_until * HOUR, end)]
    return (whole_from, whole_until), [(first, last) for first, last in cuts if first < last]


def _monitoring_events(reader: Reader, window: Window, at: int, group: str) -> "Counter[Any]":
    """How many monitoring events were recorded in the window, by `source` or `alert`: whole hours from their counters, the
    hours that the window or the position cuts from the events themselves."""
    store = reader.ledger.store
    (first_hour, last_hour), cuts = _hours(reader, window, at)
    counts: Counter[Any] = Counter()
    for key, number in reader.iterate(
        f"SELECT {group}, sum(number) FROM {'kpi_heard' if group == 'source' else 'kpi_hours'} WHERE hour >= :first AND hour < :last "
        f"GROUP BY {group}",
        {"first": first_hour, "last": last_hour},
    ):
        counts[key] += number
    column = "d.source" if group == "source" else "coalesce(m.alert, x'')"
    for first, last in cuts:
        values = {"first": store.position_at(first - 1), "last": min(at, store.position_at(last - 1))}
        for key, number in reader.iterate(
            f"SELECT {column}, count(*) FROM deliveries AS d CROSS JOIN monitoring_events AS m ON m.position = d.position "
            f"WHERE d.position > :first AND d.position <= :last GROUP BY {column}",
            values,
        ):
            counts[key] += number
    return counts
