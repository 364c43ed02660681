"""What must hold for any history: a rebuilt view is the live one, and the past is what a fresh store would say."""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.clock import SimulatedClock, from_micros, micros
from engine.errors import IllegalTransition, InvalidInput, NotAllowed
from engine.ledger import Ledger
from engine.observation import Severity
from engine.priority import Level, Priority
from engine.sqlite_store import SqliteStore
from engine.ticket import Relation, Visibility
from engine.vault import Vault
from projections import kpis as kpi_view
from projections.alert_page import AlertFilter, alerts
from projections.delivery_page import deliveries, monitoring_events
from projections.history_page import history
from projections.kpi_page import (
    METRICS,
    Figure,
    KpiFilter,
    Window,
    backlog,
    backlog_by_day,
    kpi_tickets,
    kpis,
    noise,
    percentile,
    top_conditions,
    top_repeaters,
)
from projections.projection import Projection
from projections.queue_page import QueueFilter, open_tickets, queue, ticket, tickets
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.ticket_row import TicketRow
from projections.views import Reader
from tests.projections.world import TICKETS, World, ends, fires
from tests.stores import keyring_at, store_at

pytestmark = pytest.mark.law

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
AGENTS = [UUID(int=number) for number in (1, 2)]
KEYS = ("web-1", "web-2", "db-1")

Step = Callable[[World], None]


def _on(number: int, command: str, **values: Any) -> Step:
    def step(world: World) -> None:
        known = [ticket for ticket in sorted(world.ids) if hasattr(TICKETS[ticket[:3]], command)]
        if known:
            actor = f"user:{AGENTS[number % 2]}"
            world.act(known[number % len(known)], command, actor=actor, **values)

    return step


def _link(number: int, other: int) -> Step:
    def step(world: World) -> None:
        known = sorted(world.ids)
        if known:
            _on(number, "link", to=world.ids[known[other % len(known)]], relation=Relation.RELATED)(world)

    return step


def _deliver(choices: list[tuple[str, bool, Severity, int | None]]) -> Step:
    def step(world: World) -> None:
        world.deliver(*(
            fires(key, severity=severity, service=key[:2], start=None if start is None else NOON + timedelta(minutes=start))
            if firing
            else ends(key, start=None if start is None else NOON + timedelta(minutes=start))
            for key, firing, severity, start in choices
        ))

    return step


def _imported(number: int, state: str, days: int, hours: int | None, request: bool) -> Step:
    """Opened some days ago, and done so many hours later where it is."""
    if request:
        state = {"new": "submitted", "resolved": "fulfilled"}.get(state, state)

    def step(world: World) -> None:
        opened_at = NOON - timedelta(days=days)
        done = None if state in ("new", "submitted", "pending", "in_progress") else opened_at + timedelta(hours=hours or 0)
        acknowledged_at = None if hours is None else opened_at + timedelta(minutes=hours)
        world.imported(
            str(number), state=state, opened_at=opened_at, resolved_at=done, request=request, assignee=AGENTS[number % 2], team="web",
            acknowledged_at=acknowledged_at,
        )

    return step


any_ticket = st.integers(0, 7)
steps = st.one_of(
    st.builds(
        lambda impact, urgency, service: lambda world: world.incident(
            impact=impact, urgency=urgency, service=service, requester=AGENTS[0]
        ),
        st.sampled_from(Level), st.sampled_from(Level), st.sampled_from([None, "shop", "mail"]),
    ),
    st.builds(lambda approval: lambda world: world.request(needs_approval=approval), st.booleans()),
    st.builds(lambda n: _on(n, "acknowledge", by=AGENTS[n % 2]), any_ticket),
    st.builds(
        lambda n, team, who: _on(n, "assign", team=team, assignee=who),
        any_ticket, st.sampled_from([None, "web"]), st.sampled_from([None, *AGENTS]),
    ),
    st.builds(
        lambda n, seen: _on(n, "comment", text="Hm.", visibility=seen, author=None), any_ticket, st.sampled_from(Visibility)
    ),
    st.builds(lambda n, to: _on(n, "set_priority", priority=to, reason="so"), any_ticket, st.sampled_from(Priority)),
    st.builds(lambda n: _on(n, "hold", reason="parts"), any_ticket),
    st.builds(lambda n: _on(n, "resume"), any_ticket),
    st.builds(lambda n: _on(n, "escalate", level=None, team=None, reason="hard"), any_ticket),
    st.builds(lambda n: _on(n, "resolve", code="solved", solution="Done."), any_ticket),
    st.builds(lambda n: _on(n, "approve", by=AGENTS[n % 2]), any_ticket),
    st.builds(lambda n: _on(n, "fulfil", note=""), any_ticket),
    st.builds(lambda n: _on(n, "reopen", reason="not done"), any_ticket),
    st.builds(lambda n: _on(n, "close"), any_ticket),
    st.builds(lambda n: _on(n, "cancel", reason="no"), any_ticket),
    st.builds(_link, any_ticket, any_ticket),
    st.builds(
        _deliver,
        st.lists(
            st.tuples(
                st.sampled_from(KEYS), st.booleans(), st.sampled_from([Severity.CRITICAL, Severity.WARNING]),
                st.sampled_from([None, None, 0, 5]),
            ),
            min_size=1, max_size=4,
        ),
    ),
    st.builds(
        lambda state, days, hours, request: lambda world: _imported(world.head, state, days, hours, request)(world),
        st.sampled_from(["new", "in_progress", "pending", "resolved", "closed", "cancelled"]), st.integers(0, 60),
        st.none() | st.integers(0, 40), st.booleans(),
    ),
    st.builds(lambda: lambda world: world.reject()),
    st.builds(lambda seconds: lambda world: world.clock.advance(seconds), st.integers(1, 90_000)),
)
histories = st.lists(steps, min_size=1, max_size=22)
law = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def lived(history_steps: list[Step]) -> Iterator[tuple[World, Path]]:
    """A world in which these steps were taken, as far as they were legal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        clock = SimulatedClock(NOON, running=False)
        ledger = Ledger(store_at(path), Vault(keyring_at(path), b"k" * 32), clock)
        world = World(ledger, clock)
        world.source()
        for step in history_steps:
            with suppress(IllegalTransition, InvalidInput, NotAllowed):  # refused: nothing was recorded
                step(world)
        yield world, path
        ledger.close()
        ledger.store.close()
        ledger.vault.close()


@contextmanager
def fresh_views(world: World, path: Path, upto: int) -> Iterator[Reader]:
    """The views of a store that never saw what came after a position."""
    store = SqliteStore(path / f"log-{upto}.db")
    store.begin()
    store.insert(world.ledger.store.log(0, 1_000_000, upto=upto))
    store.commit()
    ledger = Ledger(store, world.ledger.vault, world.clock)
    runner = Runner(ledger, path / f"views-{upto}.db")
    runner.catch_up()
    with runner.views.reader() as reader:
        yield reader
    runner.close()
    ledger.close()
    store.close()


def as_then(row: TicketRow) -> TicketRow:
    """Without the one thing that is not known of the past."""
    return msgspec.structs.replace(row, why=msgspec.structs.replace(row.why, occurrences=None))


@law
@given(histories, st.integers(1, 9))
def test_a_rebuilt_view_equals_the_live_one_however_the_log_was_cut_into_pages(history_steps: list[Step], page: int) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db", page=page)
        runner.catch_up()
        runner._page = 1_000
        assert runner.verify() is None
        runner.close()


@law
@given(histories, st.data())
def test_the_queue_as_of_a_position_is_that_of_a_store_fed_only_up_to_it(history_steps: list[Step], data: st.DataObject) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db")
        runner.catch_up()
        at = data.draw(st.integers(1, world.head))
        asked = data.draw(st.sampled_from([
            QueueFilter(), QueueFilter(kind="incident"), QueueFilter(priority="P3"), QueueFilter(assignee="nobody"),
            QueueFilter(team="web"), QueueFilter(meaning="waiting"), QueueFilter(service="we", state="new"),
            QueueFilter(source="alertmanager"), QueueFilter(assignee=AGENTS[0]),
        ]))
        with runner.views.reader() as reader, fresh_views(world, path, at) as fresh:
            for sort in ("priority", "newest", "number", "service"):
                then = [as_then(row) for row in queue(reader, as_of=at, sort=sort, filters=asked).items]
                assert then == [as_then(row) for row in queue(fresh, sort=sort, filters=asked).items]
            listed = [as_then(row) for row in tickets(reader, as_of=at, filters=asked).items]
            assert listed == [as_then(row) for row in tickets(fresh, filters=asked).items]
        runner.close()


@law
@given(histories, st.data())
def test_every_other_view_as_of_a_position_is_that_of_a_store_fed_only_up_to_it(
    history_steps: list[Step], data: st.DataObject
) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db")
        runner.catch_up()
        at = data.draw(st.integers(1, world.head))
        window = Window(start=NOON - timedelta(days=1), end=NOON + timedelta(days=30), zone="Europe/Stockholm")
        with runner.views.reader() as reader, fresh_views(world, path, at) as fresh:
            for asked in (AlertFilter(), AlertFilter(firing=True), AlertFilter(severity="critical")):
                assert alerts(reader, as_of=at, filters=asked).items == alerts(fresh, filters=asked).items
            for number in ("INC-1", "INC-2", "REQ-1", "ALT-1", "ALT-2"):
                assert history(reader, number, as_of=at) == history(fresh, number)
            for number in ("INC-1", "REQ-1"):
                then, real = ticket(reader, number, as_of=at), ticket(fresh, number)
                assert (then and as_then(then)) == (real and as_then(real))
            assert deliveries(reader, as_of=at) == deliveries(fresh)
            assert monitoring_events(reader, as_of=at) == monitoring_events(fresh)
            for basis in ("recorded", "occurred"):
                asked_window = Window(start=window.start, end=window.end, zone=window.zone, basis=basis)
                for group in (None, "day", "priority", "agent"):
                    assert kpis(reader, asked_window, group_by=group, as_of=at) == kpis(fresh, asked_window, group_by=group)
                assert top_conditions(reader, asked_window, as_of=at) == top_conditions(fresh, asked_window)
            here = world.ledger.store.at(at)
            assert here is not None
            now = from_micros(here.recorded_at)
            assert backlog(reader, now, as_of=at, group_by="priority") == backlog(fresh, now, group_by="priority")
            assert backlog_by_day(reader, window, as_of=at) == backlog_by_day(fresh, window)
            assert noise(reader, window, as_of=at, group_by="day") == noise(fresh, window, group_by="day")
            assert top_repeaters(reader, window, as_of=at) == top_repeaters(fresh, window)
        runner.close()


def small_blocks(sizes: tuple[int, int]) -> tuple[Projection, ...]:
    """All views, the measures' sums in blocks of these sizes: a short history fills them too."""
    return tuple(kpi_view.kept(sizes) if one.name == "kpis" else one for one in PROJECTIONS)


sizes_of_blocks = st.sampled_from([(1, 2), (1, 3), (2, 4), (3, 3)])


@law
@given(histories, sizes_of_blocks, st.integers(1, 9))
def test_a_rebuild_adds_up_the_same_blocks_however_the_log_was_cut_into_pages(
    history_steps: list[Step], sizes: tuple[int, int], page: int
) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db", projections=small_blocks(sizes), page=page)
        runner.catch_up()
        runner._page = 1_000
        assert runner.verify() is None
        runner.close()


def counted(
    reader: Reader, metric: str, window: Window, group_by: str | None, filters: KpiFilter, at: int
) -> dict[str | None, tuple[Any, ...]]:
    """The figures of a metric, all together under None and by group, from the facts alone."""
    start, end = micros(window.start), micros(window.end)
    zone = ZoneInfo(window.zone)
    parts: dict[str | None, list[tuple[Any, ...]]] = {None: []}
    for (
        ticket_id, occurred_at, recorded_at, duration, kind, priority, service, team, agent, channel, target, imported
    ) in reader.rows(
        "SELECT ticket, occurred_at, recorded_at, duration, kind, priority, service, team, agent, channel, target, imported FROM kpi_facts "
        "WHERE metric = ? AND position <= ?",
        (METRICS[metric].value, at),
    ):
        instant = occurred_at if window.basis == "occurred" or imported else recorded_at
        values = {
            "kind": kind, "priority": f"P{priority}", "service": service or "", "team": team or "", "channel": channel,
            "agent": "nobody" if agent is None else str(UUID(bytes=agent)),
        }
        asked = {name: str(getattr(filters, name)) for name in values if getattr(filters, name) is not None}
        if not start <= instant < end or any(values[name] != value for name, value in asked.items()):
            continue
        if (filters.imported, imported) in (("only", 0), ("exclude", 1)):
            continue
        values["day"] = from_micros(instant).astimezone(zone).date().isoformat()
        for key in {None, None if group_by is None else values[group_by]}:
            parts.setdefault(key, []).append((ticket_id, duration, target, imported))
    figures = {}
    for key, facts in parts.items():
        seconds = sorted(duration / 1_000_000 for _, duration, _, _ in facts if duration is not None)
        promised = [duration <= target for _, duration, target, _ in facts if duration is not None and target is not None]
        figures[key] = (
            len(facts), len({each for each, *_ in facts}), sum(each for *_, each in facts), len(promised), sum(promised),
            pytest.approx(statistics.fmean(seconds)) if seconds else None, *(percentile(seconds, share) for share in (0.5, 0.9, 0.95)),
        )
    return figures


def told(figure: Figure) -> tuple[Any, ...]:
    return (
        figure.count, figure.tickets, figure.imported, figure.promised, figure.met, figure.mean, figure.median, figure.p90, figure.p95,
    )


minutes = st.one_of(st.integers(-90 * 24 * 60, 20 * 24 * 60), st.integers(-60, 2_000))


@settings(law, max_examples=60)
@given(histories, sizes_of_blocks, st.data())
def test_sums_that_are_kept_are_those_that_are_counted_from_the_facts(
    history_steps: list[Step], sizes: tuple[int, int], data: st.DataObject
) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db", projections=small_blocks(sizes))
        runner.catch_up()
        with runner.views.reader() as reader:
            for _ in range(8):
                first, last = sorted(data.draw(st.lists(minutes, min_size=2, max_size=2, unique=True)))
                window = Window(
                    start=NOON + timedelta(minutes=first), end=NOON + timedelta(minutes=last),
                    zone=data.draw(st.sampled_from(["UTC", "Europe/Stockholm", "Asia/Kolkata"])),
                    basis=data.draw(st.sampled_from(["recorded", "occurred"])),
                )
                filters = data.draw(st.sampled_from([
                    KpiFilter(), KpiFilter(), KpiFilter(imported="exclude"), KpiFilter(imported="only"), KpiFilter(kind="incident"),
                    KpiFilter(team=""), KpiFilter(team="web"), KpiFilter(agent=AGENTS[0]), KpiFilter(agent="nobody"), KpiFilter(priority="P3"),
                    KpiFilter(service="shop", kind="incident"),
                ]))
                group_by = data.draw(st.sampled_from([None, "day", "kind", "priority", "service", "team", "agent", "channel"]))
                at = data.draw(st.integers(1, world.head))
                found = kpis(reader, window, group_by=group_by, filters=filters, as_of=at)
                for metric in METRICS:
                    expected = counted(reader, metric, window, group_by, filters, at)
                    assert told(getattr(found.total, metric)) == expected.pop(None)
                    groups = {group.key: told(getattr(group, metric)) for group in found.groups}
                    assert {key: figures for key, figures in groups.items() if figures[0]} == expected
        runner.close()


# Few tickets, and of each what moves it within the queue, out of it and in again.
one_of_few = st.integers(0, 3)
moves = st.one_of(
    st.builds(
        lambda impact, service: lambda world: world.incident(impact=impact, urgency=Level.HIGH, service=service, requester=AGENTS[0]),
        st.sampled_from(Level), st.sampled_from([None, "shop"]),
    ),
    st.builds(lambda: lambda world: world.request(needs_approval=False)),
    st.builds(lambda n, team: _on(n, "assign", team=team, assignee=None), one_of_few, st.sampled_from([None, "web"])),
    st.builds(lambda n, to: _on(n, "set_priority", priority=to, reason="so"), one_of_few, st.sampled_from([Priority.P1, Priority.P3])),
    st.builds(lambda n: _on(n, "resolve", code="solved", solution="Done."), one_of_few),
    st.builds(lambda n: _on(n, "reopen", reason="not done"), one_of_few),
    st.builds(lambda hours: lambda world: world.clock.advance(hours * 3_600), st.sampled_from([1, 20])),
)
queue_histories = st.lists(moves, min_size=8, max_size=40)


@law
@given(histories | queue_histories, st.data())
def test_ages_from_kept_counts_are_those_of_the_open_tickets(history_steps: list[Step], data: st.DataObject) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db", page=data.draw(st.integers(1, 9)))
        runner.catch_up()
        now = world.clock.now() - timedelta(hours=data.draw(st.integers(0, 3)))
        group_by = data.draw(st.sampled_from(["kind", "priority", "service", "team"]))
        asked = data.draw(st.sampled_from([
            QueueFilter(), QueueFilter(kind="incident"), QueueFilter(priority="P3"), QueueFilter(team="web"), QueueFilter(service="shop"),
            QueueFilter(kind="request", team="web"), QueueFilter(service=""),
        ]))
        with runner.views.reader() as reader:
            expected: dict[str | None, list[float]] = {None: []}
            for found in open_tickets(reader, asked, reader.position):
                age = max(0, micros(now) - found.opened_at) / 1_000_000
                value = getattr(found, group_by)
                for key in (None, f"P{value}" if group_by == "priority" else value or ""):
                    expected.setdefault(key, []).append(age)
            for row in backlog(reader, now, group_by=group_by, filters=asked):
                seconds = sorted(expected.pop(row.key))
                assert (row.count, row.oldest) == (len(seconds), seconds[-1] if seconds else None)
                assert row.mean == (pytest.approx(statistics.fmean(seconds)) if seconds else None)
                assert (row.median, row.p90, row.p95) == tuple(percentile(seconds, share) for share in (0.5, 0.9, 0.95))
            assert not expected
        runner.close()


@law
@given(histories, st.sampled_from(["recorded", "occurred"]))
def test_each_number_opens_as_many_tickets_as_it_says(history_steps: list[Step], basis: str) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db")
        runner.catch_up()
        window = Window(start=NOON - timedelta(days=100), end=NOON + timedelta(days=30), basis=basis)
        with runner.views.reader() as reader:
            total = kpis(reader, window).total
            for figure in (total.opened, total.acknowledged, total.responded, total.resolved, total.reopened, total.cancelled):
                pages, cursor = [], None
                while True:
                    page = kpi_tickets(reader, figure.metric, window, cursor=cursor, limit=3)
                    pages += page.items
                    cursor = page.next
                    if cursor is None:
                        break
                assert len(pages) == figure.count
                assert len({row.ticket.number for row in pages}) == figure.tickets
            assert total.opened.count + total.reopened.count - total.resolved.count - total.cancelled.count == (
                backlog(reader, world.clock.now())[0].count
            )
            assert backlog_by_day(reader, window)[-1][1] == backlog(reader, world.clock.now())[0].count
        runner.close()
