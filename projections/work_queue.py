"""The work queue's tables: every ticket as it stands, and what is needed to see the queue as it was.

A ticket's time in the queue with one priority is a span of log positions. The present spans are rows of `tickets`; ended
ones lie in `queue_index`, which finds those that cover a position, ordered by rank, without looking at the others. What
else a filter asks of the past (state, team, assignee) is in `ticket_versions`. `projections/queue_page.py` reads them.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from engine.alert import AlertEpisodeEnded
from engine.clock import micros
from engine.correlation import CorrelationAlertEnded, CorrelationAlertJoined, CorrelationIncidentOpened
from engine.event import Event, Fact
from engine.target import TargetsSet
from engine.ticket import TicketLinked
from projections import target_editions
from projections.projection import Projection, Table, rows_in
from projections.target_editions import Editions, kept_editions
from projections.ticket_fold import CHANGING, COLUMNS, OPENINGS, TICKET_EVENTS, TicketFold

MEMBERSHIP: Final[frozenset[type[Event]]] = frozenset(
    {CorrelationIncidentOpened, CorrelationAlertJoined, CorrelationAlertEnded, AlertEpisodeEnded}
)

# Positions are 64 bits wide and rtree_i32 has 32: it holds position >> 8, which lasts for 549 thousand million events.
# A search finds a few spans too many (those that begin or end within the same 256 events); the exact bounds beside decide.
POSITION_SHIFT: Final = 8
# A rank orders as the queue does, to the minute: priority, then minutes since 1970 (28 bits: until the year 2480). What was
# imported may be old.
MINUTE_BITS: Final = 28
MOST_MINUTES: Final = (1 << MINUTE_BITS) - 1
DAY: Final = 86_400_000_000  # µs
_RANK_EPOCH: Final = micros(datetime(1970, 1, 1, tzinfo=UTC))

_DDL: Final = """
CREATE TABLE tickets (
    ticket          INTEGER PRIMARY KEY,   -- position of the event that opened it
    id              BLOB    NOT NULL UNIQUE,
    kind            TEXT    NOT NULL,
    number          TEXT    NOT NULL UNIQUE,
    title           TEXT    NOT NULL,
    service         TEXT,
    channel         TEXT    NOT NULL,
    requester       BLOB,
    opened_at       INTEGER NOT NULL,      -- µs since 1970, as all instants here
    correlation     BLOB,
    rule            TEXT,
    rule_version    INTEGER,
    alert           BLOB,                  -- that it was opened for
    item            TEXT,
    system          TEXT,                  -- that it was imported from,
    old_number      TEXT,                  -- and its number there
    state           TEXT    NOT NULL,
    meaning         TEXT    NOT NULL,
    open            INTEGER NOT NULL,
    priority        INTEGER NOT NULL,
    category        TEXT,
    team            TEXT,
    assignee        BLOB,
    level           INTEGER NOT NULL,
    impact          TEXT,
    urgency         TEXT,
    recovered       INTEGER,
    approved        INTEGER,
    before_hold     TEXT    NOT NULL,
    touched         INTEGER NOT NULL,
    waiting_for     TEXT,
    acknowledged_at INTEGER,
    responded_at    INTEGER,
    began_at        INTEGER NOT NULL,
    response_due    INTEGER NOT NULL,
    resolution_due  INTEGER NOT NULL,
    next_due        INTEGER,               -- of the two, the one that is next; NULL where it is done
    resolved_at     INTEGER,
    updated_at      INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    span_from       INTEGER NOT NULL       -- position since which it is in the queue with this priority
);
-- The queue in its default order, also as of a position; it holds what the filters ask for, so that a filter that few rows
-- pass is decided in the index.
CREATE INDEX open_by_priority ON tickets
    (priority, opened_at, ticket, span_from, kind, service, team, assignee, state, meaning, alert) WHERE open = 1;
-- The queue by number, and newest first.
CREATE INDEX open_by_kind ON tickets (kind, ticket) WHERE open = 1;
-- The queue by service.
CREATE INDEX open_by_service ON tickets (service IS NULL, coalesce(service, ''), priority, opened_at, ticket) WHERE open = 1;
-- The queue by last change.
CREATE INDEX open_by_update ON tickets (updated_at, ticket) WHERE open = 1;
-- The queue by time left.
CREATE INDEX open_by_due ON tickets (next_due, ticket) WHERE open = 1;
-- Lists of incidents and of requests, closed ones included.
CREATE INDEX tickets_by_kind ON tickets (kind, ticket);
-- Somebody's own tickets.
CREATE INDEX tickets_by_requester ON tickets (requester, ticket) WHERE requester IS NOT NULL;
CREATE TABLE ticket_versions (
    ticket     INTEGER NOT NULL,
    valid_from INTEGER NOT NULL,           -- position; valid until the ticket's next row
    state      TEXT    NOT NULL,
    meaning    TEXT    NOT NULL,
    priority   INTEGER NOT NULL,
    team       TEXT,
    assignee   BLOB,
    next_due   INTEGER,
    PRIMARY KEY (ticket, valid_from)
) WITHOUT ROWID;
-- Ended spans. The id is the position at which it ended: one event ends at most one.
CREATE VIRTUAL TABLE queue_index USING rtree_i32
    (valid_to, low, high, rank_low, rank_high, +ticket INTEGER, +valid_from INTEGER, +priority INTEGER, +opened_at INTEGER);
CREATE TABLE queue_counts (
    kind     TEXT    NOT NULL,
    priority INTEGER NOT NULL,
    meaning  TEXT    NOT NULL,
    taken    INTEGER NOT NULL,             -- whether somebody is assigned
    number   INTEGER NOT NULL,
    PRIMARY KEY (kind, priority, meaning, taken)
) WITHOUT ROWID;
-- The queue by age: `projections/queue_ages.py`.
CREATE TABLE queue_ages (
    kind     TEXT    NOT NULL,
    priority INTEGER NOT NULL,
    service  TEXT    NOT NULL,             -- empty: none
    team     TEXT    NOT NULL,
    day      INTEGER NOT NULL,             -- of their opening, in days since 1970
    number   INTEGER NOT NULL,
    within   INTEGER NOT NULL,             -- sum of their µs since that day began
    PRIMARY KEY (kind, priority, service, team, day)
) WITHOUT ROWID;
CREATE TABLE ticket_links (
    source   BLOB    NOT NULL,
    target   BLOB    NOT NULL,
    relation TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (source, target, relation)
) WITHOUT ROWID;
CREATE INDEX links_by_target ON ticket_links (target);   -- a ticket page shows who links to it
CREATE TABLE ticket_alerts (
    incident BLOB    NOT NULL,
    alert    BLOB    NOT NULL,
    joined   INTEGER NOT NULL,             -- position of its first joining
    firing   INTEGER NOT NULL,
    PRIMARY KEY (incident, joined)         -- a ticket page shows the first ones
) WITHOUT ROWID;
CREATE INDEX ticket_alerts_by_alert ON ticket_alerts (alert, firing, incident);   -- which incident an alert's end concerns
CREATE TABLE ticket_alert_counts (
    incident BLOB    NOT NULL,
    position INTEGER NOT NULL,             -- since when
    total    INTEGER NOT NULL,
    firing   INTEGER NOT NULL,
    PRIMARY KEY (incident, position)
) WITHOUT ROWID;
CREATE TABLE queue_totals (
    name   TEXT    PRIMARY KEY,            -- incidents_firing: incidents with an alert that fires
    number INTEGER NOT NULL
) WITHOUT ROWID;
"""

_INSERT: Final = f"INSERT INTO tickets ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
# Three ways to change a row: SQLite rewrites every index that holds a column of the SET list, changed or not.
_IN_QUEUE: Final = ("state", "meaning", "team", "assignee", "next_due")     # few indexes hold these
_PLACE: Final = ("open", "priority", "span_from", *_IN_QUEUE)               # what gives it another place in the queue
_STAYS: Final = [column for column in CHANGING if column not in _PLACE]


def _update(columns: Sequence[str]) -> tuple[str, Callable[[Sequence[Any]], tuple[Any, ...]]]:
    """The statement, and what takes its values from a row of `CHANGING` with the ticket at its end."""
    places = [*(CHANGING.index(column) for column in columns), len(CHANGING)]
    return f"UPDATE tickets SET {', '.join(f'{column} = ?' for column in columns)} WHERE ticket = ?", itemgetter(*places)


_TOUCH, _TOUCHED = _update(_STAYS)
_CHANGE, _CHANGED = _update([*_STAYS, *_IN_QUEUE])
_MOVE, _MOVED = _update(CHANGING)
_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM tickets WHERE id IN ({{keys}})"


def rank(priority: int, opened_at: int) -> int:
    """The queue's default order to the minute, as 31 bits; `opened_at` in µs since 1970."""
    minutes = (opened_at - _RANK_EPOCH) // 60_000_000
    return priority << MINUTE_BITS | min(max(minutes, 0), MOST_MINUTES)


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    streams: dict[UUID, list[Fact]] = {}
    membership: list[Fact] = []
    editions = kept_editions(connection, "target_editions", facts)
    for fact in facts:
        if type(fact.event) in MEMBERSHIP:
            membership.append(fact)
        elif type(fact.event) is TargetsSet:
            continue
        else:
            streams.setdefault(fact.stream_id, []).append(fact)
    if streams:
        _Changes(connection, editions).take(streams)
    if membership:
        _Members(connection).take(membership)


class _Changes:
    """What a batch does to tickets, gathered and then written at once."""

    def __init__(self, connection: sqlite3.Connection, editions: Editions) -> None:
        self._connection, self._editions = connection, editions
        self._versions: list[tuple[Any, ...]] = []
        self._ended: list[tuple[int, ...]] = []
        self._links: list[tuple[Any, ...]] = []
        self._counts: Counter[tuple[str, int, str, bool]] = Counter()
        self._moves: list[tuple[_Aged, datetime, int]] = []

    def take(self, streams: dict[UUID, list[Fact]]) -> None:
        folds = self._stored([stream for stream, facts in streams.items() if type(facts[0].event) not in OPENINGS])
        new: list[tuple[Any, ...]] = []
        touched: list[tuple[Any, ...]] = []
        changed: list[tuple[Any, ...]] = []
        moved: list[tuple[Any, ...]] = []
        for stream, facts in streams.items():
            known = folds.get(stream)
            place, filtered = (None, None) if known is None else (_place(known), _filtered(known))
            fold = self._fold(known, facts)
            if known is None:
                new.append(fold.fixed() + fold.changing())
                continue
            row = (*fold.changing(), fold.ticket)
            if _place(fold) != place:
                moved.append(_MOVED(row))
            elif _filtered(fold) != filtered:
                changed.append(_CHANGED(row))
            else:
                touched.append(_TOUCHED(row))
        self._connection.executemany(_INSERT, new)
        self._connection.executemany(_MOVE, moved)
        self._connection.executemany(_CHANGE, changed)
        self._connection.executemany(_TOUCH, touched)
        self._write()

    def _stored(self, streams: Sequence[UUID]) -> dict[UUID, TicketFold]:
        rows = rows_in(self._connection, _SELECT, [stream.bytes for stream in streams])
        return {fold.aggregate.id: fold for fold in map(TicketFold.from_row, rows)}

    def _fold(self, fold: TicketFold | None, facts: Sequence[Fact]) -> TicketFold:
        before: tuple[Any, ...] | None = None
        aged_before: _Aged | None = None
        if fold is not None:
            before = _filtered(fold)
            if fold.is_open:
                self._counts[_counted(fold)] -= 1
                aged_before = _aged(fold)
        for fact in facts:
            was_open, priority = (False, 0) if fold is None else (fold.is_open, fold.priority)
            if fold is None:
                fold = TicketFold.opened(fact, self._editions.at(fact.position))
            else:
                fold.apply(fact, self._editions.at(fact.position))
                self._end_span(fold, was_open, priority, fact.position)
            after = _filtered(fold)
            if after != before:
                self._versions.append((fold.ticket, fact.position, *after))
                before = after
            event = fact.event
            if isinstance(event, TicketLinked):
                self._links.append((fact.stream_id.bytes, event.to.bytes, event.relation.value, fact.position))
        assert fold is not None
        aged: _Aged | None = None
        if fold.is_open:
            self._counts[_counted(fold)] += 1
            aged = _aged(fold)
        if aged != aged_before:
            assert fold.aggregate.opened_at is not None
            self._moves += ((each, fold.aggregate.opened_at, by) for each, by in ((aged_before, -1), (aged, 1)) if each is not None)
        return fold

    def _end_span(self, fold: TicketFold, was_open: bool, priority: int, position: int) -> None:
        is_open = fold.is_open
        if was_open == is_open and (not is_open or fold.priority == priority):
            return
        if was_open:
            assert fold.aggregate.opened_at is not None
            opened_at = micros(fold.aggregate.opened_at)
            order = rank(priority, opened_at)
            self._ended.append((
                position, fold.span_from >> POSITION_SHIFT, position >> POSITION_SHIFT, order, order,
                fold.ticket, fold.span_from, priority, opened_at,
            ))
        fold.span_from = position

    def _write(self) -> None:
        connection = self._connection
        connection.executemany(
            "INSERT INTO ticket_versions (ticket, valid_from, state, meaning, priority, team, assignee, next_due) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            self._versions,
        )
        connection.executemany(
            "INSERT INTO queue_index (valid_to, low, high, rank_low, rank_high, ticket, valid_from, priority, opened_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._ended,
        )
        connection.executemany(
            "INSERT INTO ticket_links (source, target, relation, position) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (source, target, relation) DO NOTHING",
            self._links,
        )
        add_counts(connection, "queue_counts", ("kind", "priority", "meaning", "taken"), self._counts)
        _count_ages(connection, self._moves)


def _place(fold: TicketFold) -> tuple[bool, int, int]:
    return fold.is_open, fold.priority, fold.span_from


def _filtered(fold: TicketFold) -> tuple[Any, ...]:
    """What filters ask for, apart from what never changes."""
    aggregate = fold.aggregate
    assignee = aggregate.assignee
    return (
        aggregate.state_name, fold.meaning, fold.priority, aggregate.team, None if assignee is None else assignee.bytes,
        None if fold.next_due is None else micros(fold.next_due),
    )


def _counted(fold: TicketFold) -> tuple[str, int, str, bool]:
    return fold.kind, fold.priority, fold.meaning, fold.aggregate.assignee is not None


# kind, priority, service, team
_Aged = tuple[str, int, str | None, str | None]


def _aged(fold: TicketFold) -> _Aged:
    aggregate = fold.aggregate
    return aggregate.KIND, fold.priority, aggregate.service, aggregate.team


def _count_ages(connection: sqlite3.Connection, moves: Sequence[tuple[_Aged, datetime, int]]) -> None:
    """Add to the counts of open tickets by the day of their opening: what has come to a place, and what has left one (−1)."""
    changes: dict[tuple[Any, ...], list[int]] = {}
    for (kind, priority, service, team), opened_at, number in moves:
        day, within = divmod(micros(opened_at), DAY)
        change = changes.setdefault((kind, priority, service or "", team or "", day), [0, 0])
        change[0] += number
        change[1] += number * within
    connection.executemany(
        "INSERT INTO queue_ages (kind, priority, service, team, day, number, within) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (kind, priority, service, team, day) DO UPDATE SET number = number + excluded.number, within = within + excluded.within",
        [(*key, *change) for key, change in changes.items() if change != [0, 0]],
    )
    if any(number < 0 for number, _ in changes.values()):
        connection.execute("DELETE FROM queue_ages WHERE number = 0")


def add_counts(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], counts: "Mapping[tuple[Any, ...], int]"
) -> None:
    """Add to rows of counters; a counter of nothing has no row, whichever batches led there."""
    changed = [(*key, number) for key, number in counts.items() if number]
    key = ", ".join(columns)
    connection.executemany(
        f"INSERT INTO {table} ({key}, number) VALUES ({', '.join('?' * len(columns))}, ?) "
        f"ON CONFLICT ({key}) DO UPDATE SET number = number + excluded.number",
        changed,
    )
    if any(number < 0 for *_, number in changed):
        connection.execute(f"DELETE FROM {table} WHERE number = 0")


class _Members:
    """Which alerts belong to which incident, and how many of them fire."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # incident -> alert -> [position of joining, firing]
        self._members: dict[UUID, dict[UUID, list[int]]] = {}
        self._incidents: dict[UUID, dict[UUID, None]] = {}  # alert -> its incidents, as far as they are looked at
        self._counts: dict[UUID, list[int]] = {}
        self._history: list[tuple[Any, ...]] = []
        self._touched: dict[tuple[UUID, UUID], None] = {}
        self._totals: Counter[tuple[str]] = Counter()

    def take(self, facts: Iterable[Fact]) -> None:
        facts = list(facts)
        self._load(facts)
        for fact in facts:
            event = fact.event
            if isinstance(event, CorrelationIncidentOpened | CorrelationAlertJoined):
                self._join(event.incident, event.alert, fact.position)
            elif isinstance(event, CorrelationAlertEnded):
                self._end(event.incident, event.alert, fact.position)
            else:  # the alert's own word, also where its incident is not the current one of its correlation any more
                for incident in tuple(self._incidents.get(fact.stream_id, ())):
                    self._end(incident, fact.stream_id, fact.position)
        self._write()

    def _load(self, facts: Sequence[Fact]) -> None:
        pairs: set[tuple[UUID, UUID]] = set()
        ended: set[UUID] = set()
        for fact in facts:
            event = fact.event
            if isinstance(event, CorrelationIncidentOpened | CorrelationAlertJoined | CorrelationAlertEnded):
                pairs.add((event.incident, event.alert))
            else:
                ended.add(fact.stream_id)
        columns = "SELECT incident, alert, joined, firing FROM ticket_alerts INDEXED BY ticket_alerts_by_alert"
        rows = list(rows_in(self._connection, f"{columns} WHERE firing = 1 AND alert IN ({{keys}})", [alert.bytes for alert in ended]))
        joining = sorted({alert.bytes for _, alert in pairs})
        rows += [
            row
            for row in rows_in(self._connection, f"{columns} WHERE firing IN (0, 1) AND alert IN ({{keys}})", joining)
            if (UUID(bytes=row[0]), UUID(bytes=row[1])) in pairs
        ]
        for incident_bytes, alert_bytes, joined, firing in rows:
            self._put(UUID(bytes=incident_bytes), UUID(bytes=alert_bytes), [joined, firing])
        sql = "SELECT total, firing FROM ticket_alert_counts WHERE incident = ? ORDER BY position DESC LIMIT 1"
        for incident in {*self._members, *(incident for incident, _ in pairs)}:
            row = self._connection.execute(sql, (incident.bytes,)).fetchone()
            self._counts[incident] = list(row) if row else [0, 0]

    def _put(self, incident: UUID, alert: UUID, member: list[int]) -> None:
        self._members.setdefault(incident, {})[alert] = member
        self._incidents.setdefault(alert, {})[incident] = None

    def _join(self, incident: UUID, alert: UUID, position: int) -> None:
        counts = self._counts[incident]
        member = self._members.get(incident, {}).get(alert)
        if member is None:
            self._put(incident, alert, [position, 1])
            counts[0] += 1
        elif member[1]:
            return
        else:
            member[1] = 1
        counts[1] += 1
        self._totals["incidents_firing",] += counts[1] == 1
        self._note(incident, alert, position)

    def _end(self, incident: UUID, alert: UUID, position: int) -> None:
        member = self._members.get(incident, {}).get(alert)
        if member is None or not member[1]:
            return
        member[1] = 0
        counts = self._counts[incident]
        counts[1] -= 1
        self._totals["incidents_firing",] -= counts[1] == 0
        self._note(incident, alert, position)

    def _note(self, incident: UUID, alert: UUID, position: int) -> None:
        self._touched[incident, alert] = None
        self._history.append((incident.bytes, position, *self._counts[incident]))

    def _write(self) -> None:
        self._connection.executemany(
            "INSERT INTO ticket_alerts (incident, alert, joined, firing) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (incident, joined) DO UPDATE SET firing = excluded.firing",
            [(incident.bytes, alert.bytes, *self._members[incident][alert]) for incident, alert in self._touched],
        )
        self._connection.executemany(
            "INSERT INTO ticket_alert_counts (incident, position, total, firing) VALUES (?, ?, ?, ?)", self._history
        )
        add_counts(self._connection, "queue_totals", ("name",), self._totals)


PROJECTION: Final = Projection(
    name="work_queue",
    version=6,
    tables=(
        Table("tickets", "ticket"),
        Table("ticket_versions", "ticket, valid_from"),
        Table("queue_index", "valid_to"),
        Table("target_editions", target_editions.KEY),
        Table("queue_ages", "kind, priority, service, team, day"),
        Table("queue_counts", "kind, priority, meaning, taken"),
        Table("ticket_links", "source, target, relation"),
        Table("ticket_alerts", "incident, joined"),
        Table("ticket_alert_counts", "incident, position"),
        Table("queue_totals", "name"),
    ),
    ddl=_DDL + target_editions.DDL.format(table="target_editions"),
    events=TICKET_EVENTS | MEMBERSHIP | {TargetsSet},
    apply=_apply,
)
