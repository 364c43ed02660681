"""Questions about tickets: the queue (now, or as of a position), lists with closed ones, one ticket, and the counts of a console.

A page of the queue in the past is merged from two ordered parts: tickets still in the queue that were in it then, and ended
spans that cover the position. The second part is found by galloping over ranges of rank: a range that holds too many rows
is cut, one that holds few makes the next one wider, so a page never fetches and sorts everything that was open then.
"""

import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from engine.clock import micros
from engine.errors import InvalidInput, Phrase
from engine.ticket import MEANINGS, Meaning
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.projection import batched
from projections.target_editions import editions_in
from projections.ticket_fold import COLUMNS, TicketFold
from projections.ticket_row import MOST_ALERTS, TicketRow, dress, with_text
from projections.views import Reader
from projections.work_queue import MINUTE_BITS, MOST_MINUTES, POSITION_SHIFT, rank

NOBODY: Final = "nobody"
LEAST_PRIORITY: Final = 5
MOST_BREACHED: Final = 1_000
# More rows than this in one range of rank are not worth sorting for one page.
MOST_IN_A_RANGE: Final = 400

# Joins the version of a ticket that was in force at a position.
AS_THEN: Final = (
    "JOIN ticket_versions AS v ON v.ticket = {ticket} AND v.valid_from = (SELECT max(w.valid_from) FROM ticket_versions AS w "
    "WHERE w.ticket = {ticket} AND w.valid_from <= :at)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """Which tickets; None asks for all.

    Attributes:
        kind: `incident` or `request`.
        priority: `P1` to `P5`.
        assignee: a person's id, or `nobody`.
        meaning: one of the closed set; `state` is the organisation's word.
        source: whose alert it was opened for.
        requester: a person's id (lists only).
    """

    kind: str | None = None
    priority: str | None = None
    service: str | None = None
    team: str | None = None
    assignee: UUID | str | None = None
    state: str | None = None
    meaning: str | None = None
    source: str | None = None
    requester: UUID | None = None

    def __post_init__(self) -> None:
        """Raises: InvalidInput: a value outside its closed set."""
        if self.kind not in (None, "incident", "request"):
            raise InvalidInput("kind", "incident or request")
        if self.priority is not None and self.priority not in ("P1", "P2", "P3", "P4", "P5"):
            raise InvalidInput("priority", "P1, P2, P3, P4 or P5")
        if self.meaning is not None and self.meaning not in frozenset(Meaning):
            raise InvalidInput("meaning", Phrase("one of %s", ', '.join(Meaning)))
        if self.state is not None and self.state not in MEANINGS:
            raise InvalidInput("state", Phrase("one of %s", ', '.join(MEANINGS)))
        if isinstance(self.assignee, str) and self.assignee != NOBODY:
            raise InvalidInput("assignee", "a person's id, or nobody")

    def values(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "priority": None if self.priority is None else int(self.priority[1]),
            "service": self.service,
            "team": self.team,
            "assignee": self.assignee.bytes if isinstance(self.assignee, UUID) else None,
            "state": self.state,
            "meaning": self.meaning,
            "source": self.source,
            "requester": None if self.requester is None else self.requester.bytes,
        }

    def asked(self) -> dict[str, Any]:
        """What it asks for, by name."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}

    def fixed(self, table: str) -> str:
        """Conditions on what never changes, each after an AND."""
        parts = [f" AND {table}.{name} = :{name}" for name in ("kind", "service", "requester") if getattr(self, name) is not None]
        if self.source is not None:
            parts.append(f" AND EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = {table}.alert AND a.source = :source)")
        return "".join(parts)

    def changing(self, table: str, *, priority: bool = True) -> str:
        """Conditions on what changes, each after an AND."""
        names = ("priority", "team", "state", "meaning") if priority else ("team", "state", "meaning")
        parts = [f" AND {table}.{name} = :{name}" for name in names if getattr(self, name) is not None]
        if self.assignee is not None:
            parts.append(f" AND {table}.assignee IS NULL" if self.assignee == NOBODY else f" AND {table}.assignee = :assignee")
        return "".join(parts)


class OpenTicket(NamedTuple):
    """What measures ask of a ticket in the queue; `opened_at` in µs since 1970, `assignee` as stored."""

    ticket: int
    opened_at: int
    kind: str
    priority: int
    service: str | None
    team: str | None
    assignee: bytes | None
    meaning: str


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """What a console says first.

    Attributes:
        open: tickets in the queue.
        by_priority: of them, by `P1` to `P5`.
        waiting: of them, on hold.
        unassigned: of them, with nobody's name on it.
        alerts_firing, incidents_firing: alerts that fire now, and in how many incidents.
    """

    open: int
    by_priority: dict[str, int]
    by_kind: dict[str, int]
    unassigned: int
    waiting: int
    alerts_firing: int
    incidents_firing: int
    position: int


def any_ticket(reader: Reader) -> bool:
    """Whether there has ever been a ticket."""
    return reader.row("SELECT 1 FROM tickets LIMIT 1") is not None


@dataclass(frozen=True, slots=True)
class _Sort:
    """An order of the queue: index, columns (with their types in a cursor), and how a key is compared."""

    index: str
    columns: tuple[str, ...]
    shape: tuple[type, ...]
    descending: bool = False


SORTS: Final = {
    "priority": _Sort("open_by_priority", ("priority", "opened_at", "ticket"), (int, int, int)),
    "newest": _Sort("open_by_kind", ("ticket",), (int,), descending=True),
    "number": _Sort("open_by_kind", ("kind", "ticket"), (str, int)),
    "service": _Sort(
        "open_by_service", ("service IS NULL", "coalesce(service, '')", "priority", "opened_at", "ticket"),
        (int, str, int, int, int),
    ),
    "due": _Sort("open_by_due", ("next_due", "ticket"), (int, int)),
    "updated": _Sort("open_by_update", ("updated_at", "ticket"), (int, int), descending=True),
}
DEFAULT_SORT: Final = "priority"


def queue(
    reader: Reader,
    *,
    filters: QueueFilter | None = None,
    sort: str = DEFAULT_SORT,
    as_of: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[TicketRow]:
    """Tickets that wait for somebody: new, active and waiting ones.

    Args:
        sort: `priority` (then oldest first), `due` (least time left first), `newest`, `number`, `service` or `updated` (latest first;
            not with `as_of`).
        as_of: a log position; None: now.

    Raises:
        InvalidInput: bad sort, cursor or limit.
    """
    filters, limit = filters or QueueFilter(), checked_limit(limit)
    order = SORTS.get(sort)
    if order is None:
        raise InvalidInput("sort", Phrase("one of %s", ', '.join(SORTS)))
    key = from_cursor(cursor, sort, order.shape)
    at = reader.at(as_of)
    if at == reader.position:
        keys = _present(reader, filters, order, key, limit + 1)
        folds = _folds_now(reader, [found[-1] for found in keys[:limit]])
    else:
        keys = _past(reader, filters, sort, at, key, limit + 1)
        folds = _folds_then(reader, [found[-1] for found in keys[:limit]], at)
    more = to_cursor(sort, keys[limit - 1]) if len(keys) > limit else None
    return Page(items=dress(reader, folds, at, past=at != reader.position), next=more, position=at)


def _present(reader: Reader, filters: QueueFilter, order: _Sort, key: tuple[Any, ...] | None, count: int) -> list[tuple[Any, ...]]:
    """Sort keys of a page of the present queue; the last part of each is the ticket."""
    direction, after = (" DESC", "<") if order.descending else ("", ">")
    values = {**filters.values(), "count": count}
    where = ""
    if key is not None:
        where = f" AND ({', '.join(order.columns)}) {after} ({', '.join(f':k{place}' for place in range(len(key)))})"
        values |= {f"k{place}": part for place, part in enumerate(key)}
    index = order.index
    if order.columns == ("ticket",):
        # Newest first over both kinds: by two ordered lists, since the index leads with the kind.
        if filters.kind is None:
            pages = [_present(reader, _of_kind(filters, kind), order, key, count) for kind in ("incident", "request")]
            return list(islice(heapq.merge(*pages, reverse=True), count))
        index = "open_by_kind"
    sql = (
        f"SELECT {', '.join(order.columns)} FROM tickets AS t INDEXED BY {index} "
        f"WHERE open = 1{where}{filters.fixed('t')}{filters.changing('t')} "
        f"ORDER BY {', '.join(column + direction for column in order.columns)} LIMIT :count"
    )
    return reader.rows(sql, values)


def _of_kind(filters: QueueFilter, kind: str) -> QueueFilter:
    return QueueFilter(
        kind=kind, priority=filters.priority, service=filters.service, team=filters.team, assignee=filters.assignee,
        state=filters.state, meaning=filters.meaning, source=filters.source, requester=filters.requester,
    )


def _folds_now(reader: Reader, tickets: list[int]) -> list[TicketFold]:
    if not tickets:
        return []
    marks = ", ".join("?" * len(tickets))
    rows = {row[0]: row for row in reader.rows(f"SELECT {', '.join(COLUMNS)} FROM tickets WHERE ticket IN ({marks})", tickets)}
    return [TicketFold.from_row(rows[ticket]) for ticket in tickets]


def _folds_then(reader: Reader, tickets: list[int], at: int) -> list[TicketFold]:
    if not tickets:
        return []
    marks = ", ".join("?" * len(tickets))
    streams = dict(reader.rows(f"SELECT ticket, id FROM tickets WHERE ticket IN ({marks})", tickets))
    editions = editions_in(reader.ledger)
    folds = [TicketFold.from_log(reader.ledger, streams[ticket], at, editions) for ticket in tickets]
    return [fold for fold in folds if fold is not None]


# -- the past --------------------------------------------------------------------------------------------------------


def _past(
    reader: Reader, filters: QueueFilter, sort: str, at: int, key: tuple[Any, ...] | None, count: int
) -> list[tuple[Any, ...]]:
    """Sort keys of a page of the queue as of a position."""
    if sort == "priority":
        parts = heapq.merge(_still_open(reader, filters, at, key), _ended(reader, filters, at, key))
        return list(islice(parts, count))
    if sort == "updated":
        raise InvalidInput("sort", "priority, due, newest, number or service together with as_of")
    # Other orders have no index over the past: everything that was open then is sorted. Bounded by the queue's length.
    found = [*_still_open(reader, filters, at, None), *_ended(reader, filters, at, None)]
    if sort == "newest":
        keys: list[tuple[Any, ...]] = [(ticket,) for *_, ticket in found]
        return heapq.nlargest(count, [each for each in keys if key is None or each < key])
    if sort == "due":
        keys = _due_then(reader, [ticket for *_, ticket in found], at)
        return heapq.nsmallest(count, [each for each in keys if key is None or each > key])
    facts = _facts_of(reader, [ticket for *_, ticket in found])
    if sort == "number":
        keys = [(facts[ticket][0], ticket) for *_, ticket in found]
    else:
        keys = [
            (int(facts[ticket][1] is None), facts[ticket][1] or "", priority, opened_at, ticket)
            for priority, opened_at, ticket in found
        ]
    return heapq.nsmallest(count, [each for each in keys if key is None or each > key])


def _due_then(reader: Reader, tickets: list[int], at: int) -> list[tuple[Any, ...]]:
    """(what was due next, ticket) as of a position."""
    keys: list[tuple[Any, ...]] = []
    for part in batched(tickets):
        marks = ", ".join("?" * len(part))
        sql = (
            "SELECT v.next_due, v.ticket FROM ticket_versions AS v WHERE v.valid_from = (SELECT max(w.valid_from) "
            f"FROM ticket_versions AS w WHERE w.ticket = v.ticket AND w.valid_from <= ?) AND v.ticket IN ({marks})"
        )
        keys += reader.rows(sql, [at, *part])
    return keys


def _facts_of(reader: Reader, tickets: list[int]) -> dict[int, tuple[str, str | None]]:
    """Ticket -> (kind, service), which never change."""
    facts = {}
    for start in range(0, len(tickets), 500):
        part = tickets[start : start + 500]
        marks = ", ".join("?" * len(part))
        for ticket, kind, service in reader.rows(f"SELECT ticket, kind, service FROM tickets WHERE ticket IN ({marks})", part):
            facts[ticket] = (kind, service)
    return facts


def _still_open(reader: Reader, filters: QueueFilter, at: int, key: tuple[Any, ...] | None) -> Iterator[tuple[int, int, int]]:
    """(priority, opened_at, ticket) of present spans that had begun by then, in this order."""
    versions, where = "", ""
    if filters.changing("v", priority=False):
        versions = AS_THEN.format(ticket="t.ticket")
        where = filters.changing("v", priority=False)
    values = {**filters.values(), "at": at}
    if key is not None:
        where += " AND (t.priority, t.opened_at, t.ticket) > (:k0, :k1, :k2)"
        values |= {"k0": key[0], "k1": key[1], "k2": key[2]}
    if filters.priority is not None:
        where += " AND t.priority = :priority"
    sql = (
        f"SELECT t.priority, t.opened_at, t.ticket FROM tickets AS t INDEXED BY open_by_priority {versions} "
        f"WHERE t.open = 1 AND t.span_from <= :at{filters.fixed('t')}{where} ORDER BY t.priority, t.opened_at, t.ticket"
    )
    return reader.iterate(sql, values)


def _ended(reader: Reader, filters: QueueFilter, at: int, key: tuple[Any, ...] | None) -> Iterator[tuple[int, int, int]]:
    """(priority, opened_at, ticket) of ended spans that cover a position, in this order, found range by range."""
    joins, where = "", ""
    if filters.fixed("t"):
        joins, where = "JOIN tickets AS t ON t.ticket = q.ticket ", filters.fixed("t")
    if filters.changing("v", priority=False):
        joins += AS_THEN.format(ticket="q.ticket")
        where += filters.changing("v", priority=False)
    sql = (
        f"SELECT q.priority, q.opened_at, q.ticket FROM queue_index AS q {joins} "
        "WHERE q.low <= :bucket AND q.high >= :bucket AND q.rank_low >= :first AND q.rank_high <= :last "
        f"AND q.valid_from <= :at AND q.valid_to > :at{where} LIMIT :most"
    )
    values = {**filters.values(), "at": at, "bucket": at >> POSITION_SHIFT}
    only = values["priority"]
    horizon = _horizon(reader, at)
    for priority in range(1, LEAST_PRIORITY + 1) if only is None else (only,):
        first, last = priority << MINUTE_BITS, priority << MINUTE_BITS | MOST_MINUTES
        if key is not None:
            first = max(first, rank(key[0], key[1]))
        for low, high in ((first, min(last, first | horizon)), (max(first, priority << MINUTE_BITS | horizon + 1), last)):
            yield from _gallop(reader, sql, values, low, high, key)


def _horizon(reader: Reader, at: int) -> int:
    """Minutes since 1970 at a position: hardly a ticket is opened in its future."""
    stored = reader.ledger.store.log(at - 1, 1)
    return rank(0, stored[0].recorded_at) if stored else MOST_MINUTES - 1


def _gallop(
    reader: Reader, sql: str, values: dict[str, Any], low: int, high: int, key: tuple[Any, ...] | None
) -> Iterator[tuple[int, int, int]]:
    width = max(1, (high - low) // 16)
    while low <= high:
        last = min(low + width - 1, high)
        # All tickets of one minute are sorted together, however many.
        most = -1 if last == low else MOST_IN_A_RANGE + 1
        rows = reader.rows(sql, {**values, "first": low, "last": last, "most": most})
        if 0 <= most <= len(rows):
            width = max(1, width // 4)
            continue
        rows.sort()
        for found in rows:
            if key is None or found > key:
                yield found
        low = last + 1
        if len(rows) < MOST_IN_A_RANGE // 4:
            width *= 4


# -- lists, one ticket, counts ---------------------------------------------------------------------------------------


def tickets(
    reader: Reader,
    *,
    filters: QueueFilter | None = None,
    sort: str = "newest",
    as_of: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[TicketRow]:
    """All tickets, closed ones included, by when they were opened: `newest` or `oldest` first.

    Raises:
        InvalidInput: bad sort, cursor or limit.
    """
    filters, limit = filters or QueueFilter(), checked_limit(limit)
    if sort not in ("newest", "oldest"):
        raise InvalidInput("sort", "newest or oldest")
    key = from_cursor(cursor, sort, (int,))
    at = reader.at(as_of)
    past = at != reader.position
    versions, changing = "", filters.changing("t")
    if past and changing:
        versions, changing = AS_THEN.format(ticket="t.ticket"), filters.changing("v")
    after, direction = ("<", "DESC") if sort == "newest" else (">", "ASC")
    values = {**filters.values(), "at": at, "count": limit + 1, "k0": key[0] if key else 0}
    where = f" AND t.ticket {after} :k0" if key else ""
    sql = (
        f"SELECT t.ticket FROM tickets AS t {versions} WHERE t.ticket <= :at{where}{filters.fixed('t')}{changing} "
        f"ORDER BY t.ticket {direction} LIMIT :count"
    )
    found = [row[0] for row in reader.rows(sql, values)]
    folds = _folds_then(reader, found[:limit], at) if past else _folds_now(reader, found[:limit])
    more = to_cursor(sort, [found[limit - 1]]) if len(found) > limit else None
    return Page(items=dress(reader, folds, at, past=past), next=more, position=at)


def open_tickets(reader: Reader, filters: QueueFilter, at: int) -> Iterator[OpenTicket]:
    """Every ticket in the queue at a position, in no order; as many as were open then."""
    columns = "t.ticket, t.opened_at, t.kind, {priority}, t.service, {v}.team, {v}.assignee, {v}.meaning"
    if at == reader.position:
        sql = (
            f"SELECT {columns.format(priority='t.priority', v='t')} FROM tickets AS t INDEXED BY open_by_priority "
            f"WHERE t.open = 1{filters.fixed('t')}{filters.changing('t')}"
        )
        yield from map(OpenTicket._make, reader.iterate(sql, filters.values()))
        return
    version = AS_THEN.format(ticket="t.ticket")
    columns = columns.format(priority="v.priority", v="v")
    values = {**filters.values(), "at": at, "bucket": at >> POSITION_SHIFT}
    where = f"{filters.fixed('t')}{filters.changing('v')}"
    for sql in (
        f"SELECT {columns} FROM tickets AS t INDEXED BY open_by_priority {version} WHERE t.open = 1 AND t.span_from <= :at{where}",
        f"SELECT {columns} FROM queue_index AS q CROSS JOIN tickets AS t ON t.ticket = q.ticket {version} "
        f"WHERE q.low <= :bucket AND q.high >= :bucket AND q.valid_from <= :at AND q.valid_to > :at{where}",
    ):
        yield from map(OpenTicket._make, reader.iterate(sql, values))


def rows_of(reader: Reader, tickets: list[int], at: int) -> list[TicketRow]:
    """Rows of chosen tickets (by the position of their opening), in this order, as of a position."""
    past = at != reader.position
    folds = _folds_then(reader, tickets, at) if past else _folds_now(reader, tickets)
    return dress(reader, folds, at, past=past)


def own_tickets(reader: Reader, person: UUID, *, limit: int) -> list[TicketRow]:
    """What somebody opened: open ones first, then the newest. Costs as much as this person has tickets."""
    rows = reader.rows(
        "SELECT ticket FROM tickets WHERE requester = :person ORDER BY open DESC, ticket DESC LIMIT :limit",
        {"person": person.bytes, "limit": limit},
    )
    return rows_of(reader, [row[0] for row in rows], reader.position)


def ticket(reader: Reader, number: str, *, as_of: int | None = None) -> TicketRow | None:
    """One ticket by its number, or None where there was none by then."""
    found = reader.row("SELECT ticket FROM tickets WHERE number = :number", {"number": number})
    at = reader.at(as_of)
    if found is None or found[0] > at:
        return None
    past = at != reader.position
    folds = _folds_then(reader, [found[0]], at) if past else _folds_now(reader, [found[0]])
    (row,) = dress(reader, folds, at, past=past, most_alerts=MOST_ALERTS)
    return with_text(reader, row, found[0])


def ticket_id(reader: Reader, number: str) -> tuple[str, UUID] | None:
    """(kind, stream id) of a ticket by its number; None where there is none."""
    found = reader.row("SELECT kind, id FROM tickets WHERE number = :number", {"number": number})
    return None if found is None else (found[0], UUID(bytes=found[1]))


def glance(reader: Reader) -> Glance:
    """The counts of a console; read from counters, not from the queue."""
    by_priority = {f"P{priority}": 0 for priority in range(1, LEAST_PRIORITY + 1)}
    by_kind = {"incident": 0, "request": 0}
    unassigned = waiting = 0
    for kind, priority, meaning, taken, number in reader.rows("SELECT kind, priority, meaning, taken, number FROM queue_counts"):
        by_priority[f"P{priority}"] += number
        by_kind[kind] += number
        unassigned += 0 if taken else number
        waiting += number if meaning == Meaning.WAITING else 0
    counts = dict(reader.rows("SELECT name, number FROM alert_totals UNION ALL SELECT name, number FROM queue_totals"))
    return Glance(
        open=sum(by_kind.values()), by_priority=by_priority, by_kind=by_kind, unassigned=unassigned, waiting=waiting,
        alerts_firing=counts.get("firing", 0), incidents_firing=counts.get("incidents_firing", 0), position=reader.position,
    )


def breached(reader: Reader, now: datetime, *, most: int = MOST_BREACHED) -> int:
    """How many tickets in the queue are past what was promised next; counted up to `most`."""
    row = reader.row(
        "SELECT count(*) FROM (SELECT 1 FROM tickets INDEXED BY open_by_due WHERE open = 1 AND next_due < :now LIMIT :most)",
        {"now": micros(now), "most": most},
    )
    return 0 if row is None else int(row[0])


def numbers_of(reader: Reader, streams: Collection[bytes]) -> list[str]:
    """Numbers of the tickets among these streams."""
    marks = ", ".join("?" * len(streams))
    return [row[0] for row in reader.rows(f"SELECT number FROM tickets WHERE id IN ({marks})", list(streams))]
