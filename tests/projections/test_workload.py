"""Workload: who has how much, of what priority and age, now and as of any position."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import from_micros
from engine.person import AccountOpened, Person, Role
from engine.priority import Priority
from projections.queue_page import QueueFilter, queue
from projections.runner import Runner
from projections.workload import Load, Workload, first_of, workload
from tests.projections.test_laws import Step, fresh_views, histories, law, lived
from tests.projections.world import World, ends, fires, numbers


def loads(world: World, runner: Runner, as_of: int | None = None) -> Workload:
    runner.catch_up()
    with runner.views.reader() as reader:
        return workload(reader, world.clock.now(), as_of=as_of)


def named(found: Workload) -> dict[str | None, Load]:
    return {load.name: load for load in found.people}


def test_each_persons_tickets_are_counted_by_priority_and_age(world: World, runner: Runner) -> None:
    nora, luis = world.person("Nora", "Shop"), world.person("Luis")
    old, new, waits = world.incident(), world.request(), world.incident()
    world.act(old, "assign", team="Shop", assignee=nora)
    world.act(old, "set_priority", priority=Priority.P1, reason="so")
    world.clock.advance(3_600)
    for number in (new, waits):
        world.act(number, "assign", team=None, assignee=nora)
    world.act(waits, "hold", reason="parts")
    late = world.incident()
    world.act(late, "assign", team="Net", assignee=luis)
    world.incident()
    world.clock.advance(60)
    found = loads(world, runner)
    hers, his = named(found)["Nora"], named(found)["Luis"]
    assert [load.name for load in found.people] == ["Nora", "Luis"], "who has most comes first"
    assert (hers.open, hers.waiting, hers.team) == (3, 1, "Shop")
    assert (hers.by_priority["P1"], hers.by_priority["P3"], hers.by_priority["P4"]) == (1, 1, 1)
    assert (hers.oldest_seconds, hers.median_seconds, his.oldest_seconds) == (3_660.0, 3_660.0, 60.0)
    assert (found.nobody.open, found.nobody.oldest_seconds, found.total.open) == (1, 60.0, 5)
    assert {load.name: load.open for load in found.teams} == {"Shop": 1, "Net": 1, None: 3}


def test_resolves_of_seven_days_count_for_who_did_them(world: World, runner: Runner) -> None:
    nora = world.person("Nora")
    world.source()
    early = world.incident(team="Shop")
    world.act(early, "resolve", code="solved", solution="x", actor=f"user:{nora}")
    world.clock.advance(timedelta(days=7).total_seconds() + 1)
    for _ in range(2):
        world.act(world.incident(team="Shop"), "resolve", code="solved", solution="x", actor=f"user:{nora}")
    world.deliver(fires("web"))
    world.deliver(ends("web"))
    found = loads(world, runner)
    assert named(found)["Nora"].resolved == 2
    assert found.nobody.resolved == 1, "a rule's"
    assert found.total.resolved == 3
    assert {load.name: load.resolved for load in found.teams} == {"Shop": 2, None: 1}


def enrol(world: World, person: UUID, role: Role) -> None:
    world.do(lambda work: work.load(Person, person).record(AccountOpened(role=role)))


def test_who_could_take_some_is_shown_and_others_only_with_something(world: World, runner: Runner) -> None:
    agent, requester, auditor = world.person("Agent"), world.person("Requester"), world.person("Auditor")
    for person, role in ((agent, Role.AGENT), (requester, Role.REQUESTER), (auditor, Role.AUDITOR)):
        enrol(world, person, role)
    assert [load.name for load in loads(world, runner).people] == ["Agent"]
    world.act(world.incident(), "assign", team=None, assignee=auditor)
    assert [load.name for load in loads(world, runner).people] == ["Auditor", "Agent"]
    before = world.head
    enrol(world, world.person("Later"), Role.AGENT)
    assert [load.name for load in loads(world, runner).people] == ["Auditor", "Agent", "Later"]
    assert [load.name for load in loads(world, runner, as_of=before).people] == ["Auditor", "Agent"]


def test_what_presses_most_comes_first(world: World, runner: Runner) -> None:
    nora = world.person("Nora")
    plain = [world.incident() for _ in range(3)]
    urgent = world.incident()
    world.act(urgent, "set_priority", priority=Priority.P1, reason="so")
    for number in (*plain, urgent):
        world.act(number, "assign", team=None, assignee=nora)
    unclaimed = world.incident()
    runner.catch_up()
    with runner.views.reader() as reader:
        assert numbers(first_of(reader, nora, most=3)) == [urgent, *plain[:2]]
        assert numbers(first_of(reader, "nobody", most=3)) == [unclaimed]


def had(found: Workload) -> list[Any]:
    """Without those who are only shown because they could take some (roles have no past) and without the position."""
    return [sorted((load for load in found.people if load.open or load.resolved), key=str), found.teams, found.nobody, found.total]


@pytest.mark.law
@law
@given(histories, st.data())
def test_the_workload_as_of_a_position_is_that_of_a_store_fed_only_up_to_it(history_steps: list[Step], data: st.DataObject) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db")
        runner.catch_up()
        at = data.draw(st.integers(1, world.head))
        here = world.ledger.store.at(at)
        assert here is not None
        now = from_micros(here.recorded_at)
        with runner.views.reader() as reader, fresh_views(world, path, at) as fresh:
            assert had(workload(reader, now, as_of=at)) == had(workload(fresh, now))
        runner.close()


@pytest.mark.law
@law
@given(histories)
def test_each_number_is_as_many_tickets_as_the_queue_shows_behind_it(history_steps: list[Step]) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db")
        runner.catch_up()
        with runner.views.reader() as reader:
            found = workload(reader, world.clock.now())
            for load in (*found.people, found.nobody):
                for priority, number in load.by_priority.items():
                    filters = QueueFilter(assignee=load.id or "nobody", priority=priority)
                    assert len(queue(reader, filters=filters, limit=500).items) == number
                waiting = QueueFilter(assignee=load.id or "nobody", meaning="waiting")
                assert len(queue(reader, filters=waiting, limit=500).items) == load.waiting
            assert sum(load.open for load in (*found.people, found.nobody)) == found.total.open
            assert sum(load.open for load in found.teams) == found.total.open
        runner.close()

