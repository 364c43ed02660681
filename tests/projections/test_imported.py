"""Imported tickets in the views: shown with where they come from, counted when they happened, and lived on with as any other."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from engine.clock import SimulatedClock
from engine.errors import InvalidInput
from projections.history_page import history
from projections.kpi_page import KpiFilter, KpiGroup, Window, backlog_by_day, kpi_tickets, kpis
from projections.queue_page import queue, ticket
from projections.runner import Runner
from projections.ticket_row import Imported
from tests.projections.world import World

LONG_AGO = datetime(2019, 5, 6, 9, tzinfo=UTC)
THAT_WEEK = Window(start=LONG_AGO - timedelta(days=1), end=LONG_AGO + timedelta(days=6))
THIS_WEEK = Window(start=datetime(2026, 3, 1, tzinfo=UTC), end=datetime(2026, 3, 8, tzinfo=UTC))
NORA = UUID(int=7)


def total(runner: Runner, window: Window, imported: str = "include") -> KpiGroup:
    runner.catch_up()
    with runner.views.reader() as reader:
        return kpis(reader, window, filters=KpiFilter(imported=imported)).total


def test_an_imported_ticket_says_where_it_comes_from(world: World, runner: Runner) -> None:
    number = world.imported("40012", opened_at=LONG_AGO, resolved_at=LONG_AGO + timedelta(hours=3), description="It hums.", solution="Oil.")
    runner.catch_up()
    with runner.views.reader() as reader:
        row = ticket(reader, number)
        told = history(reader, number)
    assert row is not None
    assert told is not None
    assert (row.imported, row.state, row.description) == (Imported(system="zammad", old_number="40012"), "closed", "It hums.")
    assert (row.opened_at, row.resolved_at) == (LONG_AGO, LONG_AGO + timedelta(hours=3))
    assert [item.summary for item in told.items] == [
        "Imported from zammad, where it was 40012. How it ended there: Oil.", "Public comment of Ann, imported",
    ]
    assert [item.occurred_at for item in told.items] == [LONG_AGO, LONG_AGO]
    assert told.items[1].author == "Ann"


@pytest.mark.parametrize("basis", ["recorded", "occurred"])
def test_its_facts_count_when_they_happened_on_either_basis(world: World, runner: Runner, basis: str) -> None:
    world.incident()
    world.imported(
        "1", opened_at=LONG_AGO, acknowledged_at=LONG_AGO + timedelta(minutes=5), first_responded_at=LONG_AGO + timedelta(minutes=20),
        resolved_at=LONG_AGO + timedelta(hours=3), assignee=NORA,
    )
    then = total(runner, Window(start=THAT_WEEK.start, end=THAT_WEEK.end, basis=basis))
    assert [figure.count for figure in (then.opened, then.acknowledged, then.responded, then.resolved)] == [1, 1, 1, 1]
    assert [figure.median for figure in (then.acknowledged, then.responded, then.resolved)] == [300, 1200, 10800]
    assert then.resolved.imported == 1
    now = total(runner, Window(start=THIS_WEEK.start, end=THIS_WEEK.end, basis=basis))
    assert (now.opened.count, now.opened.imported, now.resolved.count) == (1, 0, 0)


def test_measures_can_be_asked_with_and_without_them(world: World, runner: Runner) -> None:
    world.imported("1", opened_at=LONG_AGO, resolved_at=LONG_AGO)
    counts = {asked: total(runner, THAT_WEEK, asked).opened.count for asked in ("include", "exclude", "only")}
    assert counts == {"include": 1, "exclude": 0, "only": 1}
    with pytest.raises(InvalidInput):
        KpiFilter(imported="perhaps")


def test_the_tickets_behind_a_number_are_listed_latest_first_page_by_page(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.incident()
    for days in (1, 3, 2):
        world.imported(str(days), opened_at=clock.now() - timedelta(days=days, hours=1), resolved_at=clock.now() - timedelta(days=days))
    clock.advance(60)
    world.incident()
    window = Window(start=clock.now() - timedelta(days=7), end=clock.now() + timedelta(days=1))
    runner.catch_up()
    found, cursor = [], None
    with runner.views.reader() as reader:
        while True:
            page = kpi_tickets(reader, "opened", window, limit=2, cursor=cursor)
            found += [item.ticket.number for item in page.items]
            cursor = page.next
            if cursor is None:
                break
    assert found == ["INC-5", "INC-1", "INC-2", "INC-4", "INC-3"]


def test_the_backlog_by_day_holds_them_from_the_day_on_which_they_were_opened(world: World, runner: Runner, clock: SimulatedClock) -> None:
    day = timedelta(days=1)
    world.imported("1", opened_at=clock.now() - 3 * day, state="in_progress")
    world.imported("2", opened_at=clock.now() - 3 * day, resolved_at=clock.now() - 2 * day)
    world.act("INC-1", "resolve", code="solved", solution="Done.")
    runner.catch_up()
    window = Window(start=datetime(2026, 2, 26, tzinfo=UTC), end=datetime(2026, 3, 3, tzinfo=UTC))
    with runner.views.reader() as reader:
        assert [count for _, count in backlog_by_day(reader, window)] == [0, 2, 1, 1, 0]


def test_one_that_is_open_is_worked_on_as_any_other(world: World, runner: Runner) -> None:
    new = world.imported("1", opened_at=LONG_AGO, state="new")
    waits = world.imported("2", opened_at=LONG_AGO, state="pending")
    asked = world.imported("3", opened_at=LONG_AGO, state="approved", request=True)
    runner.catch_up()
    with runner.views.reader() as reader:
        assert {row.number for row in queue(reader).items} == {new, waits, asked}
    world.act(new, "acknowledge", by=NORA)
    world.act(new, "assign", team="web", assignee=NORA)
    world.act(waits, "resume")
    for number in (new, waits):
        world.act(number, "resolve", code="solved", solution="Done.")
        world.act(number, "close")
    world.act(asked, "fulfil", note="Here.")
    world.act(asked, "reopen", reason="Broken.")
    runner.catch_up()
    with runner.views.reader() as reader:
        assert [row.number for row in queue(reader).items] == [asked]
    assert runner.verify() is None


def test_what_was_worked_on_before_is_not_measured_as_if_nobody_had(world: World, runner: Runner) -> None:
    number = world.imported("1", opened_at=LONG_AGO, state="in_progress")
    world.act(number, "resolve", code="solved", solution="Done.")
    found = total(runner, THIS_WEEK)
    assert (found.acknowledged.count, found.responded.count, found.resolved.count, found.resolved.imported) == (0, 0, 1, 0)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"state": "closed"}, "resolved_at"), ({"state": "new", "resolved_at": LONG_AGO}, "resolved_at"), ({"state": "odd"}, "state"),
        ({"state": "new", "acknowledged_at": LONG_AGO - timedelta(days=1)}, "acknowledged_at"),
        ({"state": "closed", "resolved_at": datetime(2030, 1, 1, tzinfo=UTC)}, "resolved_at"),
        ({"state": "closed", "resolved_at": LONG_AGO, "code": "magic"}, "code"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(world: World, values: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        world.imported("1", opened_at=LONG_AGO, **values)  # type: ignore[arg-type]  # values of several fields
    assert refused.value.field == field
    assert world.head == 0
