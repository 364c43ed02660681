"""Measures: what is counted, when, for whom, and that it stays counted."""

import statistics
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import SimulatedClock
from engine.errors import InvalidInput
from engine.priority import Level
from engine.ticket import Visibility
from projections.kpi_page import (
    KpiFilter,
    KpiGroup,
    KpiReport,
    Window,
    backlog,
    backlog_by_day,
    day_edges,
    kpi_tickets,
    kpis,
    noise,
    percentile,
    top_conditions,
    top_repeaters,
)
from projections.runner import Runner
from tests.projections.world import World, ends, fires, numbers

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
STOCKHOLM = "Europe/Stockholm"
# The days of this week in Stockholm (UTC+1).
WEEK = Window(start=MONDAY - timedelta(hours=1), end=MONDAY + timedelta(days=7, hours=-1), zone=STOCKHOLM)


def report(runner: Runner, window: Window = WEEK, **asked: object) -> KpiReport:
    runner.catch_up()
    with runner.views.reader() as reader:
        return kpis(reader, window, **asked)  # type: ignore[arg-type]


def total(runner: Runner, window: Window = WEEK, **asked: object) -> KpiGroup:
    return report(runner, window, **asked).total


def test_what_was_resolved_stays_counted_when_it_is_reopened_later(world: World, runner: Runner, clock: SimulatedClock) -> None:
    anna, bo = world.person("Anna"), world.person("Bo")
    first, _, third, fourth = (world.request(needs_approval=False) for _ in range(4))
    clock.set(datetime(2026, 3, 2, 9, tzinfo=UTC))

    def fulfil(number: str, instant: datetime, by: UUID) -> None:
        clock.set(instant)
        world.act(number, "fulfil", note="", actor=f"user:{by}")

    clock.set(datetime(2026, 3, 2, 12, tzinfo=UTC))
    fulfil(first, datetime(2026, 3, 2, 13, 0, tzinfo=UTC), anna)
    fulfil(third, datetime(2026, 3, 2, 22, 30, tzinfo=UTC), bo)
    fulfil(fourth, datetime(2026, 3, 2, 23, 15, tzinfo=UTC), anna)
    before = report(runner, group_by="day")
    known = world.head
    assert [group.resolved.count for group in before.groups] == [2, 1, 0, 0, 0, 0, 0]
    clock.set(datetime(2026, 3, 3, 8, tzinfo=UTC))
    world.act(first, "reopen", reason="wrong chair")
    fulfil(first, datetime(2026, 3, 3, 10, tzinfo=UTC), bo)
    clock.set(datetime(2026, 3, 4, 8, tzinfo=UTC))
    world.act(first, "reopen", reason="still the wrong chair")
    after = report(runner, group_by="day")
    assert [group.resolved.count for group in after.groups] == [2, 2, 0, 0, 0, 0, 0]
    assert (after.total.resolved.count, after.total.resolved.tickets) == (4, 3)
    assert (after.total.reopened.count, after.total.reopened.tickets) == (2, 1)
    assert after.total.reopen_rate == 0.5
    by_agent = report(runner, group_by="agent")
    assert {group.label: group.resolved.count for group in by_agent.groups} == {"Anna": 2, "Bo": 2, "": 0}
    assert sum(group.resolved.count for group in by_agent.groups) == after.total.resolved.count
    assert report(runner, group_by="day", as_of=known).groups == before.groups


def test_time_to_acknowledge_ends_with_the_first_hand_of_an_agent(world: World, runner: Runner, clock: SimulatedClock) -> None:
    anna = world.person("Anna")
    number = world.incident(requester=anna)
    clock.advance(60)
    world.act(number, "comment", text="Hurry!", visibility=Visibility.PUBLIC, author=anna, actor=f"user:{anna}")
    assert total(runner).acknowledged.count == 0
    clock.advance(60)
    world.act(number, "comment", text="Hm.", visibility=Visibility.INTERNAL, author=None)
    clock.advance(60)
    world.act(number, "acknowledge", by=None)
    found = total(runner)
    assert (found.acknowledged.count, found.acknowledged.median) == (1, 120.0)
    assert (found.responded.count, found.responded.median) == (1, 180.0)


def test_a_first_response_is_a_public_word_of_an_agent_or_the_solution(world: World, runner: Runner, clock: SimulatedClock) -> None:
    first, second = world.incident(), world.incident()
    clock.advance(30)
    world.act(first, "comment", text="Look.", visibility=Visibility.INTERNAL, author=None)
    clock.advance(30)
    world.act(first, "comment", text="We look.", visibility=Visibility.PUBLIC, author=None)
    clock.advance(30)
    world.act(first, "comment", text="Still.", visibility=Visibility.PUBLIC, author=None)
    world.act(second, "resolve", code="solved", solution="Restarted.")
    found = total(runner)
    assert (found.responded.count, found.responded.mean) == (2, 75.0)


def test_what_a_rule_resolves_has_a_time_to_restore_and_no_agent(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.source()
    world.deliver(fires("web-1"))
    clock.advance(600)
    world.deliver(ends("web-1", ended_at=clock.now() - timedelta(seconds=60)))
    found = report(runner, group_by="agent")
    assert (found.total.resolved.count, found.total.resolved.median) == (1, 540.0)
    assert found.total.acknowledged.count == found.total.responded.count == 0
    assert [(group.key, group.resolved.count) for group in found.groups] == [("nobody", 1)]


def test_a_resolution_after_a_reopening_is_measured_from_the_reopening(world: World, runner: Runner, clock: SimulatedClock) -> None:
    number = world.incident()
    clock.advance(100)
    world.act(number, "resolve", code="solved", solution="Restarted.")
    clock.advance(1000)
    world.act(number, "reopen", reason="slow again")
    clock.advance(10)
    world.act(number, "resolve", code="solved", solution="Restarted again.")
    found = total(runner).resolved
    assert (found.count, found.tickets, found.mean, found.median) == (2, 1, 55.0, 55.0)


def test_groups_and_filters_mean_the_ticket_as_it_was_then(world: World, runner: Runner, clock: SimulatedClock) -> None:
    number = world.incident(team="web", service="shop", impact=Level.HIGH, urgency=Level.HIGH)
    world.act(number, "resolve", code="solved", solution="Restarted.")
    world.act(number, "reopen", reason="slow again")
    world.act(number, "escalate", level=None, team="database", reason="locks")
    world.act(number, "resolve", code="solved", solution="An index.")
    found = report(runner, group_by="team")
    assert [(group.key, group.resolved.count) for group in found.groups] == [("database", 1), ("web", 1)]
    assert total(runner, filters=KpiFilter(team="web")).resolved.count == 1
    assert total(runner, filters=KpiFilter(priority="P1", service="shop", kind="incident")).resolved.count == 2
    assert total(runner, filters=KpiFilter(service="")).resolved.count == 0
    assert [group.key for group in report(runner, group_by="priority").groups] == ["P1"]
    with pytest.raises(InvalidInput, match="group_by"):
        report(runner, group_by="colour")


def test_each_number_opens_its_tickets_by_its_own_query(world: World, runner: Runner, clock: SimulatedClock) -> None:
    for service in ("shop", "shop", "mail"):
        number = world.incident(service=service)
        clock.advance(60)
        world.act(number, "resolve", code="solved", solution="Restarted.")
    found = report(runner, group_by="service")
    shop = next(group for group in found.groups if group.key == "shop").resolved
    assert shop.query["metric"] == "resolved"
    window = Window(
        start=datetime.fromisoformat(shop.query["from"]), end=datetime.fromisoformat(shop.query["to"]),
        zone=shop.query["zone"], basis=shop.query["basis"],
    )
    with runner.views.reader() as reader:
        page = kpi_tickets(reader, shop.query["metric"], window, filters=KpiFilter(service=shop.query["service"]), limit=1)
        rest = kpi_tickets(reader, "resolved", window, filters=KpiFilter(service="shop"), limit=1, cursor=page.next)
    assert numbers([row.ticket for row in (*page.items, *rest.items)]) == ["INC-2", "INC-1"]
    assert [row.seconds for row in page.items] == [60.0]
    assert rest.next is None


def test_by_occurrence_a_late_end_counts_on_its_own_day(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.source()
    world.deliver(fires("web-1"))
    ended = clock.now() + timedelta(hours=1)
    clock.advance(86_400)
    world.deliver(ends("web-1", ended_at=ended))

    def days(basis: str) -> list[int]:
        window = Window(start=WEEK.start, end=WEEK.end, zone=STOCKHOLM, basis=basis)
        return [group.resolved.count for group in report(runner, window, group_by="day").groups][:2]

    assert days("recorded") == [0, 1]
    assert days("occurred") == [1, 0]


def test_the_backlog_is_counted_with_its_age_now_and_then(world: World, runner: Runner, clock: SimulatedClock) -> None:
    anna = world.person("Anna")
    first = world.incident(service="shop")
    clock.advance(3600)
    world.incident(service="mail")
    world.act(first, "assign", team=None, assignee=anna)
    then, instant = world.head, clock.now()
    clock.advance(3600)
    world.act(first, "resolve", code="solved", solution="Restarted.")
    runner.catch_up()
    with runner.views.reader() as reader:
        (now,) = backlog(reader, clock.now())
        before, mine, nobodys = backlog(reader, instant, as_of=then, group_by="assignee")
    assert (now.count, now.oldest) == (1, 3600.0)
    assert (before.count, before.median, before.oldest) == (2, 1800.0, 3600.0)
    assert (mine.label, mine.count, mine.query) == ("Anna", 1, {"assignee": str(anna)})
    assert (nobodys.key, nobodys.count) == ("nobody", 1)


def test_the_backlog_at_the_end_of_each_day(world: World, runner: Runner, clock: SimulatedClock) -> None:
    clock.set(datetime(2026, 3, 2, 23, 30, tzinfo=UTC))  # Tuesday in Stockholm
    world.incident()
    world.incident()
    clock.advance(86_400)
    world.act("INC-1", "cancel", reason="a duplicate")
    runner.catch_up()
    with runner.views.reader() as reader:
        assert [count for _, count in backlog_by_day(reader, WEEK)] == [0, 2, 1, 1, 1, 1, 1]


def test_noise_is_monitoring_events_for_each_incident_of_a_rule(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.source()
    clock.set(datetime(2026, 3, 2, 22, 50, tzinfo=UTC))  # 23:50 on Monday in Stockholm
    world.deliver(*(fires("web-1") for _ in range(5)))
    clock.advance(1200)                                   # 00:10 on Tuesday
    world.deliver(*(fires("web-1") for _ in range(3)))
    world.deliver(fires("web-2"), fires("db-1", service="db"))
    then = world.head
    clock.advance(30)
    world.deliver(fires("web-2"))
    world.incident()
    runner.catch_up()
    with runner.views.reader() as reader:
        whole, monday, tuesday, *_ = noise(reader, WEEK, group_by="day")
        assert (whole.monitoring_events, whole.incidents, whole.ratio) == (11, 2, 5.5)
        assert (monday.monitoring_events, monday.incidents) == (5, 1)
        assert (tuesday.monitoring_events, tuesday.incidents) == (6, 1)
        assert noise(reader, WEEK, as_of=then)[0].monitoring_events == 10
        assert [(row.key, row.monitoring_events) for row in noise(reader, WEEK, group_by="source")[1:]] == [("alertmanager", 11)]
        cut = Window(start=clock.now() - timedelta(seconds=30), end=clock.now())
        assert noise(reader, cut)[0].monitoring_events == 5
        assert [(row.alert, row.count) for row in top_repeaters(reader, WEEK)] == [("ALT-1", 8), ("ALT-2", 2), ("ALT-3", 1)]
        assert [(row.alert, row.count) for row in top_repeaters(reader, WEEK, limit=1)] == [("ALT-1", 8)]
        assert {(row.alert, row.count) for row in top_conditions(reader, WEEK)} == {("ALT-1", 1), ("ALT-3", 1)}


def test_a_day_with_a_clock_change_has_its_real_length() -> None:
    spring = day_edges([date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30)], STOCKHOLM)
    autumn = day_edges([date(2026, 10, 24), date(2026, 10, 25), date(2026, 10, 26)], STOCKHOLM)
    hours = 3_600_000_000
    assert [(b - a) / hours for a, b in pairwise(spring)] == [24, 23, 24]
    assert [(b - a) / hours for a, b in pairwise(autumn)] == [24, 25, 24]
    half = day_edges([date(2026, 4, 5)], "Australia/Lord_Howe")
    assert (half[1] - half[0]) / hours == 24.5


def test_counts_by_day_over_a_clock_change(world: World, runner: Runner, clock: SimulatedClock) -> None:
    for instant in ("2026-03-28T22:59:59", "2026-03-28T23:00:00", "2026-03-29T21:59:59", "2026-03-29T22:00:00"):
        clock.set(datetime.fromisoformat(instant).replace(tzinfo=UTC))
        world.incident()
    window = Window(
        start=datetime(2026, 3, 27, 23, tzinfo=UTC), end=datetime(2026, 3, 30, 22, tzinfo=UTC), zone=STOCKHOLM
    )
    assert [(group.key, group.opened.count) for group in report(runner, window, group_by="day").groups] == [
        ("2026-03-28", 1),
        ("2026-03-29", 2),
        ("2026-03-30", 1),
    ]


@given(st.lists(st.floats(0, 1e7), min_size=2, max_size=60), st.integers(1, 99))
def test_percentiles_agree_with_the_standard_library(values: list[float], percent: int) -> None:
    expected = statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
    found = percentile(sorted(values), percent / 100)
    assert found is not None
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_percentiles_of_one_and_of_none() -> None:
    assert percentile([7.0], 0.95) == 7.0
    assert percentile([], 0.5) is None


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("zone", {"zone": "Europe/Atlantis"}),
        ("basis", {"basis": "true"}),
        ("to", {"end": MONDAY - timedelta(days=9)}),
        ("from", {"start": datetime(2026, 3, 2)}),
    ],
)
def test_a_window_that_is_none_is_refused_by_name(field: str, values: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=field):
        Window(**{"start": MONDAY, "end": MONDAY + timedelta(days=1)} | values)  # type: ignore[arg-type]
