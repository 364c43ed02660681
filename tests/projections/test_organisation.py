"""Services, teams, and the names that were heard and nobody registered."""

from datetime import UTC, datetime, timedelta

from engine.clock import SimulatedClock
from engine.service import Service, service_id
from engine.team import Team, team_id
from projections import organisation
from projections.runner import Runner
from tests.projections.world import World, ends, fires

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def service(world: World, name: str, *needs: str, owner: str | None = None) -> None:
    world.do(lambda work: work.load(Service, service_id(name)).register(name=name, depends_on=needs, owner_team=owner))


def test_names_are_heard_counted_and_adopted(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.source()
    service(world, "mail")
    world.deliver(fires("web-1", service="shop"), fires("web-2", service="shop"), fires("m", service="mail"))
    clock.advance(60)
    world.deliver(ends("web-1"), fires("web-3", service=None))
    world.incident(service="cart")
    runner.catch_up()
    with runner.views.reader() as reader:
        heard = organisation.for_adoption(reader)
        assert [(row.name, row.alerts, row.last_at) for row in heard] == [("cart", 0, NOON + timedelta(minutes=1)), ("shop", 2, NOON)]
        assert heard[0].tickets == 1
        found = organisation.service(reader, "mail")
        assert found is not None
        assert (found.alerts, found.open_tickets, found.last_at) == (1, 1, NOON)
    service(world, "shop", "mail", "db")
    runner.catch_up()
    with runner.views.reader() as reader:
        assert [row.name for row in organisation.for_adoption(reader)] == ["cart"]
        rows = organisation.services(reader).items
        assert [(row.name, row.depends_on, row.needed_by) for row in rows] == [("mail", [], ["shop"]), ("shop", ["mail", "db"], [])]
    service(world, "shop", "db")
    runner.catch_up()
    with runner.views.reader() as reader:
        found = organisation.service(reader, "shop")
        assert found is not None
        assert (found.depends_on, found.version) == (["db"], 2)
    assert runner.verify() is None


def test_what_it_counts_is_the_same_in_any_batches(world: World, runner: Runner) -> None:
    for count in range(6):
        world.incident(service=f"s{count % 2}")
        if count == 3:
            service(world, "s1")
    while runner.step():
        pass
    assert runner.verify() is None


def test_of_much_that_needs_a_service_the_first_are_named_and_all_counted(world: World, runner: Runner) -> None:
    service(world, "db")
    for number in range(25):
        service(world, f"s{number:02}", "db")
    runner.catch_up()
    with runner.views.reader() as reader:
        found = organisation.service(reader, "db")
    assert found is not None
    assert (found.needed_by, found.needed_by_total) == ([f"s{number:02}" for number in range(organisation.MOST_NEEDED_BY)], 25)


def test_teams_come_by_level_with_what_is_theirs(world: World, runner: Runner) -> None:
    world.person("Nora", "Web")
    world.person("Luis", "Kernel")
    world.do(lambda work: work.load(Team, team_id("Web")).register(name="Web", level=2))
    world.do(lambda work: work.load(Team, team_id("Desk")).register(name="Desk"))
    service(world, "shop", owner="Web")
    runner.catch_up()
    with runner.views.reader() as reader:
        assert [(row.name, row.level, row.members, row.services) for row in organisation.teams(reader)] == [("Desk", 1, 0, 0), ("Web", 2, 1, 1)]
        assert organisation.team_names(reader) == ["Desk", "Kernel", "Web"]
        assert organisation.team(reader, "Kernel") is None


def test_counting_open_tickets_reads_the_index_only(runner: Runner) -> None:
    runner.catch_up()
    with runner.views.reader() as reader:
        plan = " ".join(row[3] for row in reader.rows(f"EXPLAIN QUERY PLAN {organisation._SELECT}"))
    assert "open_by_service (<expr>=? AND <expr>=?)" in plan
