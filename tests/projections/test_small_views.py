"""People, sources and changes."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from engine.change import Change, ChangeRecorded
from engine.clock import SimulatedClock
from engine.errors import InvalidInput
from engine.person import AccountOpened, Person, Role, RoleChanged
from engine.work import Work
from projections.changes import change, changes, changes_before
from projections.page import Page
from projections.people import PersonRow, called, people, person
from projections.runner import Runner
from projections.sources import source, sources
from tests.projections.world import World, fires, numbers

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def record(world: World, title: str, occurred_at: datetime, service: str | None = None) -> str:
    def decide(work: Work) -> str:
        number = work.number("CHG")
        work.fresh(Change, uuid4()).report(
            ChangeRecorded(
                number=number, title=title, source="pagerduty", occurred_at=occurred_at, service=service,
                details={"build": "17"}, link="https://ci.example/17",
            )
        )
        return number

    number: str = world.do(decide)
    return number


def test_people_are_listed_by_name_with_their_role(world: World, runner: Runner) -> None:
    bo, anna = world.person("Bo", "web"), world.person("Anna", "web")
    world.person("Cleo")

    def account(work: Work) -> None:
        account = work.load(Person, bo)
        account.record(AccountOpened(role=Role.AGENT))
        account.record(RoleChanged(role=Role.LEAD))

    world.do(account)
    runner.catch_up()
    with runner.views.reader() as reader:
        first: Page[PersonRow] = people(reader, limit=2)
        second = people(reader, limit=2, cursor=first.next)
        assert [(row.name, row.role) for row in first.items + second.items] == [("Anna", None), ("Bo", "lead"), ("Cleo", None)]
        assert [row.name for row in people(reader, team="web").items] == ["Anna", "Bo"]
        assert [row.name for row in people(reader, role="lead").items] == ["Bo"]
        found = person(reader, anna)
        assert found is not None
        assert (found.name, found.team) == ("Anna", "web")
        assert person(reader, uuid4()) is None


def test_people_are_found_by_the_beginnings_of_their_words_and_whoever_is_called_so_comes_first(world: World, runner: Runner) -> None:
    for number in range(20):
        world.person(f"Anna Bergström {number}")
    exact, luis, lena = world.person("Anna Berg"), world.person("Luis Marín"), world.person("Åsa-Lena Holm")
    runner.catch_up()

    def found(text: str) -> list[str]:
        with runner.views.reader() as reader:
            return [row.name for row in called(reader, text, limit=8)]

    assert (found("anna berg")[0], len(found("anna berg"))) == ("Anna Berg", 8)
    for text in ("MARIN", "marín", "lui mar", "mar lui"):
        assert found(text) == ["Luis Marín"]
    assert found("lena") == found("holm asa") == ["Åsa-Lena Holm"]
    for text in ("", " - ", "%", "arin", "luis holm", "nobody"):
        assert found(text) == []
    world.do(lambda work: work.load(Person, luis).change(name="Luis Luna", email=None, team=None))
    runner.catch_up()
    assert (found("marin"), found("luna")) == ([], ["Luis Luna"])
    with runner.views.reader() as reader:
        assert [row.id for row in called(reader, "anna berg", limit=1)] == [exact]
        assert [row.id for row in called(reader, "åsa", limit=8)] == [lena]


def test_sources_say_when_they_were_last_heard(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.source()
    world.source("grafana")
    world.deliver(fires("web-1"), fires("web-2"))
    clock.advance(60)
    world.deliver(fires("web-1"))
    clock.advance(60)
    world.reject()
    world.reject(source="unknown")
    runner.catch_up()
    with runner.views.reader() as reader:
        first, second = sources(reader)
        assert (first.name, first.deliveries, first.monitoring_events, first.rejected) == ("alertmanager", 2, 3, 1)
        assert (first.heard_at, first.rejected_at) == (NOON + timedelta(minutes=1), NOON + timedelta(minutes=2))
        assert (second.name, second.heard_at, second.deliveries) == ("grafana", None, 0)
        assert source(reader, "grafana") == second
        assert source(reader, "unknown") is None


def test_changes_are_listed_and_found_before_an_incident(world: World, runner: Runner) -> None:
    old = record(world, "A new disk", NOON - timedelta(hours=30))
    near = record(world, "Shop 4.2", NOON - timedelta(minutes=5), "shop")
    then = world.head
    other = record(world, "Mail 1.1", NOON - timedelta(hours=1), "mail")
    record(world, "Later", NOON + timedelta(minutes=5), "shop")
    runner.catch_up()
    with runner.views.reader() as reader:
        assert numbers(changes(reader).items) == ["CHG-4", "CHG-3", "CHG-2", "CHG-1"]
        assert numbers(changes(reader, service="shop").items) == ["CHG-4", "CHG-2"]
        assert numbers(changes(reader, as_of=then).items) == ["CHG-2", "CHG-1"]
        page = changes(reader, limit=3)
        assert numbers(changes(reader, limit=3, cursor=page.next).items) == [old]
        assert numbers(changes_before(reader, NOON)) == [near, other]
        assert numbers(changes_before(reader, NOON, hours=48)) == [near, other, old]
        assert numbers(changes_before(reader, NOON, hours=48, service="shop")) == [near, old]
        assert numbers(changes_before(reader, NOON, hours=48, as_of=then)) == [near, old]
        found = change(reader, near)
        assert found is not None
        assert (found.title, found.details, found.link) == ("Shop 4.2", {"build": "17"}, "https://ci.example/17")
        assert change(reader, other, as_of=then) is None
        with pytest.raises(InvalidInput, match="hours"):
            changes_before(reader, NOON, hours=0)
