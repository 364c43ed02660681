"""Time left: what is promised, when the promise is made, and that the queue sorts by it now and as of then."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from engine.clock import SimulatedClock
from engine.incident import Incident
from engine.ledger import Ledger
from engine.priority import Level, Priority
from engine.target import DEFAULT_TARGETS, TARGETS, Target, Targets
from engine.ticket import Visibility
from engine.work import Unit, Work
from projections.kpi_page import Window, kpis
from projections.queue_page import breached, queue, ticket
from projections.runner import Runner
from projections.ticket_row import TicketRow

NORA = "user:018f0000-0000-7000-8000-000000000001"


class Desk:
    """Incidents that are opened and worked on, and the rows that the views make of them."""

    def __init__(self, ledger: Ledger, runner: Runner) -> None:
        self.ledger, self.runner = ledger, runner

    def open(self, impact: Level = Level.MEDIUM) -> Incident:
        def decide(work: Work) -> Incident:
            incident = Incident.open(
                work.new_id(), work.journal, number=work.number("INC"), title="Broken", impact=impact, urgency=impact, now=work.now,
                channel="phone",
            )
            work.adopt(incident)
            return incident

        return self.ledger.run(Unit(decide, actor=NORA))

    def act(self, incident: Incident, command: str, **values: object) -> int:
        def decide(work: Work) -> int:
            getattr(work.load(Incident, incident.id), command)(**values)
            return work.stamp()

        return self.ledger.run(Unit(decide, actor=NORA))

    def row(self, incident: Incident, as_of: int | None = None) -> TicketRow:
        self.runner.catch_up()
        with self.runner.views.reader() as reader:
            found = ticket(reader, incident.number, as_of=as_of)
        assert found is not None
        return found


@pytest.fixture
def desk(ledger: Ledger, tmp_path: Path) -> Iterator[Desk]:
    runner = Runner(ledger, tmp_path / "views.db")
    yield Desk(ledger, runner)
    runner.close()


def test_the_promise_is_the_tables_of_its_priority(desk: Desk) -> None:
    incident = desk.open(Level.HIGH)
    row = desk.row(incident)
    assert row.response_due_at - row.opened_at == timedelta(minutes=15)
    assert row.resolution_due_at - row.opened_at == timedelta(hours=4)
    assert row.next_due_at == row.response_due_at


def test_once_answered_the_resolution_is_next_and_an_internal_note_is_no_answer(desk: Desk) -> None:
    incident = desk.open()
    desk.act(incident, "comment", text="hm", visibility=Visibility.INTERNAL, author=None)
    assert desk.row(incident).responded_at is None
    desk.act(incident, "comment", text="we are on it", visibility=Visibility.PUBLIC, author=None)
    row = desk.row(incident)
    assert row.responded_at is not None
    assert row.next_due_at == row.resolution_due_at


def test_a_new_table_moves_no_promise_that_was_made(desk: Desk) -> None:
    old = desk.open()
    short = dict.fromkeys(Priority, Target(response_seconds=60, resolution_seconds=120))
    desk.ledger.run(Unit(lambda work: work.load(Targets, TARGETS).set(short), actor=NORA))
    new = desk.open()
    assert desk.row(old).resolution_due_at - desk.row(old).opened_at == timedelta(
        seconds=DEFAULT_TARGETS[Priority.P3].resolution_seconds
    )
    assert desk.row(new).resolution_due_at - desk.row(new).opened_at == timedelta(seconds=120)


def test_another_priority_is_another_promise_from_the_same_opening(desk: Desk, clock: SimulatedClock) -> None:
    incident = desk.open()
    clock.advance(3600)
    desk.act(incident, "set_priority", priority=Priority.P1, reason="the shop is down")
    row = desk.row(incident)
    assert row.resolution_due_at - row.opened_at == timedelta(hours=4)


def test_a_reopened_ticket_gets_its_time_to_resolve_anew(desk: Desk, clock: SimulatedClock) -> None:
    incident = desk.open()
    desk.act(incident, "resolve", code="solved", solution="restarted", now=clock.now())
    assert desk.row(incident).next_due_at is None
    clock.advance(2 * 86_400)
    desk.act(incident, "reopen", reason="again")
    assert desk.row(incident).next_due_at == clock.now() + timedelta(seconds=DEFAULT_TARGETS[Priority.P3].resolution_seconds)


def test_the_queue_sorts_by_time_left_now_and_as_of_then(desk: Desk, clock: SimulatedClock) -> None:
    low, high = desk.open(Level.LOW), desk.open(Level.HIGH)
    clock.advance(1200)
    then = desk.act(low, "set_priority", priority=Priority.P4, reason="not that small")
    last = desk.act(high, "comment", text="we are on it", visibility=Visibility.PUBLIC, author=None)
    desk.runner.catch_up()
    with desk.runner.views.reader() as reader:
        now = [row.number for row in queue(reader, sort="due").items]
        before = [row.number for row in queue(reader, sort="due", as_of=then).items]
        assert now == before == [high.number, low.number]
        assert breached(reader, clock.now()) == 0
        assert breached(reader, clock.now() + timedelta(days=30)) == 2
        first = queue(reader, sort="due", limit=1)
        assert first.next is not None
        assert [row.number for row in queue(reader, sort="due", cursor=first.next, limit=1).items] == [low.number]
    assert desk.row(high, then).responded_at is None
    assert desk.row(high, last).responded_at is not None


def test_attainment_counts_each_answer_and_each_resolution_against_its_own_promise(desk: Desk, clock: SimulatedClock) -> None:
    early, late, again = desk.open(Level.HIGH), desk.open(Level.HIGH), desk.open(Level.HIGH)
    clock.advance(600)
    desk.act(early, "comment", text="we are on it", visibility=Visibility.PUBLIC, author=None)
    clock.advance(3 * 3600)
    for incident in (early, late, again):
        desk.act(incident, "resolve", code="solved", solution="restarted", now=clock.now())
    clock.advance(86_400)
    desk.act(again, "reopen", reason="again")
    clock.advance(5 * 3600)
    desk.act(again, "resolve", code="solved", solution="replaced", now=clock.now())
    desk.runner.catch_up()
    window = Window(start=clock.now() - timedelta(days=3), end=clock.now() + timedelta(seconds=1))
    with desk.runner.views.reader() as reader:
        total = kpis(reader, window).total
    assert (total.responded.promised, total.responded.met) == (3, 1)
    assert (total.resolved.promised, total.resolved.met) == (4, 3)
    assert total.resolved.attainment == 0.75
