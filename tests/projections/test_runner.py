"""The keeper of the views: each event once, rebuilt when they do not fit the log, and never silently stopped."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import Conflict, NotFound, StoreUnavailable
from engine.event import Fact
from engine.ledger import Ledger
from projections import people
from projections.files import Files
from projections.queue_page import queue
from projections.rebuild import build_beside
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.views import Views
from tests.projections.world import World, fires, numbers


def some_history(world: World) -> None:
    anna = world.person("Anna")
    world.source()
    world.incident(requester=anna)
    world.request(requester=anna)
    world.deliver(fires("web-1"), fires("web-1"))
    world.act("INC-1", "acknowledge", by=None)
    world.act("INC-1", "resolve", code="solved", solution="Restarted.")


def open_numbers(views: Views) -> list[str]:
    with views.reader() as reader:
        return numbers(queue(reader).items)


def file_of(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "views.db", isolation_level=None)


def test_a_started_runner_follows_each_commit(world: World, runner: Runner) -> None:
    reached: list[int] = []
    end = runner.subscribe(reached.append)
    runner.start()
    world.incident()
    assert runner.wait_for(world.head)
    assert open_numbers(runner.views) == ["INC-1"]
    assert runner.lag == 0
    assert reached[-1] == world.head
    end()
    world.incident()
    assert runner.wait_for(world.head)
    assert reached[-1] < world.head


def test_waiting_for_what_has_not_happened_ends(runner: Runner) -> None:
    runner.start()
    assert not runner.wait_for(99, timeout=0.01)
    assert not asyncio.run(runner.reached(99, timeout=0.01))


def test_the_event_loop_is_free_while_it_waits(world: World, runner: Runner) -> None:
    async def wait() -> bool:
        waiting = asyncio.create_task(runner.reached(1))
        await asyncio.sleep(0)
        await asyncio.to_thread(world.person, "Anna")
        await asyncio.to_thread(runner.catch_up)
        return await waiting

    assert asyncio.run(wait())
    assert asyncio.run(runner.reached(1))


def test_a_subscriber_that_fails_stops_nobody(world: World, runner: Runner) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("gone")

    runner.subscribe(fail)
    world.incident()
    assert runner.catch_up() == world.head


def test_two_runners_on_one_file_put_each_event_in_once(world: World, runner: Runner, ledger: Ledger, tmp_path: Path) -> None:
    other = Runner(ledger, tmp_path / "views.db", page=3)
    some_history(world)
    other.step()
    runner.step()
    some_history_more = world.incident()
    other.step()
    runner.catch_up()
    other.catch_up()
    assert runner.verify() is None
    assert some_history_more in open_numbers(other.views)
    other.close()


def test_started_again_it_goes_on_where_it_was(world: World, ledger: Ledger, tmp_path: Path) -> None:
    some_history(world)
    first = Runner(ledger, tmp_path / "views.db", page=4)
    first.step()
    first.close()
    second = Runner(ledger, tmp_path / "views.db")
    assert second.position == 4
    second.catch_up()
    assert second.verify() is None
    second.close()


def test_another_version_is_rebuilt_and_the_others_stay(world: World, runner: Runner, ledger: Ledger, tmp_path: Path) -> None:
    some_history(world)
    runner.catch_up()
    runner.close()
    newer = tuple(replace(one, version=one.version + 1) if one.name == "people" else one for one in PROJECTIONS)
    again = Runner(ledger, tmp_path / "views.db", projections=newer)
    assert again.position == 0
    with pytest.raises(Conflict, match="catching up"):
        again.verify()
    again.catch_up()
    assert again.verify() is None
    again.close()


@pytest.mark.parametrize("change", ["digest = x'00'", "position = 1000", "store = 'another'"])
def test_views_of_another_log_are_rebuilt(world: World, ledger: Ledger, tmp_path: Path, change: str) -> None:
    some_history(world)
    first = Runner(ledger, tmp_path / "views.db")
    first.catch_up()
    first.close()
    with file_of(tmp_path) as file:
        file.execute(f"UPDATE tracking SET {change}")
        file.execute("DELETE FROM tickets")
    file.close()
    again = Runner(ledger, tmp_path / "views.db")
    again.catch_up()
    assert open_numbers(again.views) == ["INC-2", "REQ-1"]
    assert again.verify() is None
    again.close()


def test_a_file_that_is_no_database_any_more_is_made_anew(world: World, ledger: Ledger, tmp_path: Path) -> None:
    some_history(world)
    first = Runner(ledger, tmp_path / "views.db")
    first.catch_up()
    first.close()
    (tmp_path / "views.db").resolve().write_bytes(b"not a database, whatever it was before" * 200)
    again = Runner(ledger, tmp_path / "views.db")
    again.catch_up()
    assert open_numbers(again.views) == ["INC-2", "REQ-1"]
    again.close()


def test_reading_before_anything_was_built_says_so(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="not built yet"), Views(ledger, Files(tmp_path / "views.db")).reader():
        pass


def test_a_rebuild_switches_while_readers_and_the_live_one_go_on(world: World, runner: Runner, tmp_path: Path) -> None:
    some_history(world)
    runner.start()
    assert runner.wait_for(world.head)
    told: list[tuple[int, int]] = []
    with runner.views.reader() as before:
        runner.rebuild(progress=lambda done, head: told.append((done, head)))
        assert numbers(queue(before).items) == ["INC-2", "REQ-1"]
    world.incident()
    assert runner.wait_for(world.head)
    assert open_numbers(runner.views) == ["INC-2", "INC-3", "REQ-1"]
    assert told[-1] == (told[-1][1], told[-1][1])
    assert (tmp_path / "views.db").resolve().name == "views.db.2"


def test_one_view_is_rebuilt_alone(world: World, runner: Runner, tmp_path: Path) -> None:
    some_history(world)
    runner.catch_up()
    with file_of(tmp_path) as file:
        file.execute("UPDATE tickets SET title = 'forged'")
    file.close()
    difference = runner.verify()
    assert difference is not None
    assert (difference.table, difference.column, difference.live) == ("tickets", "title", "forged")
    runner.rebuild("work_queue")
    assert runner.verify() is None
    with pytest.raises(NotFound, match="projection"):
        runner.rebuild("colours")


def test_a_rebuild_in_another_process_is_followed(world: World, runner: Runner, ledger: Ledger, tmp_path: Path) -> None:
    some_history(world)
    runner.catch_up()
    other = Runner(ledger, tmp_path / "views.db")
    other.rebuild()
    world.incident()
    runner.catch_up()
    assert open_numbers(other.views) == open_numbers(runner.views) == ["INC-2", "INC-3", "REQ-1"]
    other.close()


def test_two_rebuilds_at_once_are_refused(world: World, runner: Runner, ledger: Ledger, tmp_path: Path) -> None:
    some_history(world)
    with build_beside(ledger, Files(tmp_path / "views.db"), PROJECTIONS, names=()), pytest.raises(Conflict):
        runner.rebuild()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("UPDATE people SET name = 'Eve'", "people: people {anna}: name is 'Eve', the log says 'Anna'"),
        ("DELETE FROM people", "people: people {anna} is only in the rebuilt view"),
        (
            "INSERT INTO people (person, name, position) VALUES (x'00', 'Eve', 1)",
            "people: people 00 is only in the live view",
        ),
    ],
)
def test_a_verification_names_the_first_difference(
    world: World, runner: Runner, tmp_path: Path, change: str, text: str
) -> None:
    anna = world.person("Anna")
    runner.catch_up()
    assert runner.verify() is None
    with file_of(tmp_path) as file:
        file.execute(change)
    file.close()
    assert str(runner.verify()) == text.format(anna=anna.hex)


def test_a_store_that_cannot_be_written_now_is_tried_again(world: World, ledger: Ledger, tmp_path: Path) -> None:
    full = threading.Event()
    full.set()

    def apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
        if full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        people.PROJECTION.apply(connection, facts)

    runner = Runner(ledger, tmp_path / "views.db", projections=(replace(people.PROJECTION, apply=apply),))
    runner.start()
    world.person("Anna")
    for _ in range(1000):
        if runner.failure or runner.wait_for(world.head, timeout=0.01):
            break
    assert runner.failure == "database or disk is full"
    full.clear()
    world.person("Bo")
    assert runner.wait_for(world.head)
    runner.close()


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for it, in another thread's time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.002)


class TestOneFoldsAndAllRead:
    def test_whoever_comes_second_follows_and_announces_the_same(self, world: World, ledger: Ledger, tmp_path: Path) -> None:
        folder = Runner(ledger, tmp_path / "views.db").start()
        world.incident()
        assert folder.wait_for(world.head)
        follower = Runner(ledger, tmp_path / "views.db").start()
        assert follower.position == world.head
        told: list[int] = []
        follower.subscribe(told.append)
        world.incident()
        assert follower.wait_for(world.head)
        assert open_numbers(follower.views) == ["INC-1", "INC-2"]
        world.incident()
        assert asyncio.run(follower.reached(world.head))
        until(lambda: told and told[-1] == world.head)
        assert follower.lag == 0
        assert sum(follower.folded.values()) == 0
        assert folder.folded["work_queue"] == world.head
        assert follower.verify() is None
        follower.close()
        folder.close()

    def test_when_it_ends_another_takes_its_turn(self, world: World, ledger: Ledger, tmp_path: Path) -> None:
        first = Runner(ledger, tmp_path / "views.db").start()
        world.incident()
        assert first.wait_for(world.head)
        second, third = (Runner(ledger, tmp_path / "views.db").start() for _ in range(2))
        first.close()
        world.incident()
        assert second.wait_for(world.head)
        assert third.wait_for(world.head)
        assert [0, world.head - 1] == sorted((second.folded["people"], third.folded["people"]))
        second.close()
        third.close()

    def test_a_rebuild_in_one_is_read_in_all(self, world: World, ledger: Ledger, tmp_path: Path) -> None:
        runners = [Runner(ledger, tmp_path / "views.db").start() for _ in range(3)]
        for runner in runners:
            number = world.incident()
            runner.rebuild()
            world.incident()
            for reader in runners:
                assert reader.wait_for(world.head)
                assert number in open_numbers(reader.views)
                with reader.views.reader() as seen:
                    assert seen.row("SELECT max(position) FROM tracking") == (world.head,)
        for runner in runners:
            runner.close()

    def test_a_command_waits_for_the_one_who_folds(self, world: World, ledger: Ledger, tmp_path: Path) -> None:
        folder = Runner(ledger, tmp_path / "views.db", page=1).start()
        some_history(world)
        command = Runner(ledger, tmp_path / "views.db")
        assert command.catch_up() == world.head
        assert sum(command.folded.values()) == 0
        command.close()
        folder.close()

    def test_one_that_holds_its_turn_and_stands_still_is_told_of(self, world: World, ledger: Ledger, tmp_path: Path) -> None:
        follower = Runner(ledger, tmp_path / "views.db", still=0.05)
        turn = Files(tmp_path / "views.db").turn()
        assert turn.take()
        follower.start()
        world.incident()
        until(lambda: follower.failure)
        assert follower.failure == f"process {os.getpid()} keeps the views of this node and has not moved for 0.05 seconds"
        with pytest.raises(StoreUnavailable, match="has not moved"):
            Runner(ledger, tmp_path / "views.db", still=0.05).catch_up()
        turn.give_up()
        assert follower.wait_for(world.head)
        until(lambda: follower.failure is None)
        follower.close()

    def test_one_of_another_version_keeps_its_views(self, world: World, ledger: Ledger, tmp_path: Path) -> None:
        folder = Runner(ledger, tmp_path / "views.db").start()
        world.incident()
        assert folder.wait_for(world.head)
        newer = tuple(replace(one, version=one.version + 1) if one.name == "people" else one for one in PROJECTIONS)
        with pytest.raises(StoreUnavailable, match=r"another version of Tocsin \(its people is \d+, here it is \d+\)"):
            Runner(ledger, tmp_path / "views.db", projections=newer, still=0.01)
        folder.close()
        taken_over = Runner(ledger, tmp_path / "views.db", projections=newer)
        taken_over.catch_up()
        assert taken_over.verify() is None
        taken_over.close()
