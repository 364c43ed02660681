"""Saved views: shelves in an order of their own, and whatever is done to them the rebuilt view is the live one."""

import sqlite3
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput, NotFound
from engine.event import Fact
from engine.saved_view import LONGEST_NAME, MOST_VIEWS, Shelf, shelf_id
from projections.generation import statements
from projections.projection import batched
from projections.runner import Runner
from projections.saved_views import PROJECTION, saved_views
from tests.projections.world import World

NORA, LUIS = UUID(int=1), UUID(int=2)


def save(world: World, name: str, owner: UUID | None = NORA, query: str = "team=Shop") -> UUID:
    view = uuid4()
    world.do(lambda work: work.load(Shelf, shelf_id(owner)).save(view, owner=owner, name=name, query=query))
    return view


def on_shelf(world: World, command: str, view: UUID, **values: Any) -> None:
    """A command on Nora's shelf."""
    world.do(lambda work: getattr(work.load(Shelf, shelf_id(NORA)), command)(view, **values))


def shelf(world: World, owner: UUID | None = NORA) -> list[str]:
    return [view.name for view in world.ledger.get(Shelf, shelf_id(owner)).views]


def shown(runner: Runner, person: UUID | None = NORA) -> list[str]:
    runner.catch_up()
    with runner.views.reader() as reader:
        return [row.name for row in saved_views(reader, person)]


def test_everybody_sees_their_own_first_and_then_the_shared_ones(world: World, runner: Runner) -> None:
    save(world, "All of us", None)
    save(world, "Mine")
    save(world, "Of somebody else", LUIS)
    save(world, "Mine too")
    assert shown(runner) == ["Mine", "Mine too", "All of us"]
    assert shown(runner, None) == ["All of us"]


def test_a_view_is_renamed_moved_and_removed(world: World, runner: Runner) -> None:
    first, second, third = (save(world, name) for name in ("one", "two", "three"))
    on_shelf(world, "change", second, name="zwei")
    on_shelf(world, "change", third, place=0)
    on_shelf(world, "change", first, place=99)
    assert shown(runner) == ["three", "zwei", "one"]
    on_shelf(world, "remove", second)
    assert shown(runner) == shelf(world) == ["three", "one"]


def test_what_changes_nothing_is_no_event(world: World) -> None:
    view = save(world, "Mine")
    head = world.head
    save(world, " Mine ")
    world.do(lambda work: work.load(Shelf, shelf_id(NORA)).change(view, name="Mine", place=0))
    assert world.head == head


@pytest.mark.parametrize("name", ["", "  ", "x" * (LONGEST_NAME + 1), "two\nlines", "Mine"])
def test_a_name_is_short_visible_and_its_own(world: World, name: str) -> None:
    view = save(world, "Mine")
    save(world, "Other", query="team=Net")
    with pytest.raises(InvalidInput, match="name"):
        save(world, name, query="state=new")
    if name != "Mine":
        with pytest.raises(InvalidInput, match="name"):
            world.do(lambda work: work.load(Shelf, shelf_id(NORA)).change(view, name=name))


def test_a_shelf_is_bounded_and_a_view_that_is_gone_is_not_found(world: World) -> None:
    views = [save(world, f"View {number}") for number in range(MOST_VIEWS)]
    with pytest.raises(InvalidInput, match="at most 50"):
        save(world, "One more")
    world.do(lambda work: work.load(Shelf, shelf_id(NORA)).remove(views[0]))
    save(world, "One more")
    for command in ("remove", "change"):
        with pytest.raises(NotFound):
            on_shelf(world, command, views[0])


def test_a_name_is_sealed_under_its_owner_and_a_shared_one_is_plain(world: World) -> None:
    save(world, "The boss's tickets")
    save(world, "For all of us", None)
    log = b"".join(row.state for row in world.ledger.store.log(0, 100))
    assert b"boss" not in log
    assert b"For all of us" in log


steps = st.lists(
    st.tuples(st.sampled_from(["save", "rename", "move", "remove"]), st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=25
)


@pytest.mark.law
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, size=st.integers(1, 7))
def test_the_tables_are_the_shelves_however_the_facts_were_batched(steps: list[tuple[str, int, int, bool]], size: int) -> None:
    shelves: dict[UUID | None, Shelf] = {owner: Shelf(shelf_id(owner)) for owner in (NORA, None)}
    facts: list[Fact] = []
    for place, (what, which, where, shared) in enumerate(steps):
        owner = None if shared else NORA
        one = shelves[owner]
        if what == "save":
            fact = one.save(UUID(int=100 + place), owner=owner, name=f"view {place}", query="state=new")
        elif not one.views:
            continue
        else:
            view = one.views[which % len(one.views)].view
            if what == "remove":
                fact = one.remove(view)
            else:
                fact = one.change(view, name=f"view {place}") if what == "rename" else one.change(view, place=where)
        if fact is not None:
            facts.append(fact)
    connection = sqlite3.connect(":memory:")
    for statement in statements(PROJECTION.ddl):
        connection.execute(statement)
    for batch in batched(facts, size):
        PROJECTION.apply(connection, batch)
    for owner, one in shelves.items():
        rows = connection.execute(
            "SELECT view, name, query FROM saved_views WHERE owner = ? ORDER BY place", (owner.bytes if owner else b"",)
        ).fetchall()
        assert rows == [(view.view.bytes, view.name, view.query) for view in one.views]
