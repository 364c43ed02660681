"""One event that a view cannot take: it is parked for that view, the later ones of its stream behind it, and all else goes on."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.event import REGISTRY, Fact
from engine.incident import IncidentOpened
from engine.ledger import Ledger
from engine.ticket import Visibility
from projections import dead_letters, work_queue
from projections.dead_letters import CODEC, Letter, letters, parked
from projections.projection import Projection, Table
from projections.queue_page import queue
from projections.rebuild import RebuildFailed
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.views import Views
from tests.projections.test_laws import Step, histories, lived
from tests.projections.world import World, numbers

Refuses = Callable[[Fact], bool]


def note(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    connection.executemany("INSERT INTO seen (position, stream) VALUES (?, ?)", [(fact.position, fact.stream_id.bytes) for fact in facts])


# Every fact that it was shown, in the order in which it was: what it lacks and what it holds twice both show.
SEEN = Projection(
    name="seen", version=1, tables=(Table("seen", key="place"),),
    ddl="CREATE TABLE seen (place INTEGER PRIMARY KEY AUTOINCREMENT, position INTEGER NOT NULL UNIQUE, stream BLOB NOT NULL);\n",
    events=frozenset(), apply=note,
)


def refusing(projection: Projection, refuses: Refuses) -> Projection:
    """Fails at what it refuses, after it has taken in everything before it, so that something has to be undone."""

    def apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if refuses(fact):
                raise KeyError(fact.position)
            projection.apply(connection, [fact])

    return replace(projection, apply=apply)


def among(projection: Projection) -> tuple[Projection, ...]:
    return tuple(projection if one.name == projection.name else one for one in PROJECTIONS)


def titled(*titles: str) -> Refuses:
    return lambda fact: isinstance(fact.event, IncidentOpened) and fact.event.title in titles


def of(views: Views) -> list[Letter]:
    with views.reader() as reader:
        return letters(reader, 100)


def open_numbers(views: Views) -> list[str]:
    with views.reader() as reader:
        return numbers(queue(reader).items)


def test_the_stream_is_parked_for_that_view_alone_and_the_rest_goes_on(world: World, ledger: Ledger, tmp_path: Path) -> None:
    runner = Runner(ledger, tmp_path / "views.db", projections=among(refusing(work_queue.PROJECTION, titled("bad")))).start()
    world.incident("good")
    world.incident("bad")
    bad = world.head
    world.incident("good again")
    world.act("INC-2", "acknowledge", by=None)
    behind = world.head
    assert runner.wait_for(world.head)
    assert open_numbers(runner.views) == ["INC-1", "INC-3"]
    assert runner.failure is None
    first, second = of(runner.views)
    assert (first.projection, first.position, first.ticket, first.type) == ("work_queue", bad, "INC-2", "incident.opened.v1")
    assert first.reason.startswith("KeyError at projections/test_dead_letters.py:")
    assert first.stream == world.ids["INC-2"]
    assert (second.position, second.reason) == (behind, f"behind event {bad}")
    with runner.views.reader() as reader:
        assert parked(reader) == {"work_queue": 2}
    assert runner.verify() is None
    runner.close()


def test_what_is_parked_stays_parked_after_a_restart(world: World, ledger: Ledger, tmp_path: Path) -> None:
    first = Runner(ledger, tmp_path / "views.db", projections=among(refusing(work_queue.PROJECTION, titled("bad"))))
    world.incident("bad")
    first.catch_up()
    first.close()
    again = Runner(ledger, tmp_path / "views.db")  # mended meanwhile
    world.act("INC-1", "acknowledge", by=None)
    again.catch_up()
    assert open_numbers(again.views) == []
    assert [letter.reason for letter in of(again.views)][1:] == [f"behind event {of(again.views)[0].position}"]
    difference = again.verify()
    assert difference is not None
    assert str(difference).startswith("dead_letters: dead_letters work_queue, ")
    assert str(difference).endswith("is only in the live view")
    again.rebuild("work_queue")
    assert of(again.views) == []
    assert open_numbers(again.views) == ["INC-1"]
    assert again.verify() is None
    again.close()


def test_a_text_of_a_person_is_not_told(world: World, ledger: Ledger, tmp_path: Path) -> None:
    def apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
        raise ValueError("call Anna at home")

    runner = Runner(ledger, tmp_path / "views.db", projections=among(replace(work_queue.PROJECTION, apply=apply)))
    world.incident()
    runner.catch_up()
    assert [letter for letter in of(runner.views) if "Anna" in letter.reason] == []
    runner.close()


@contextmanager
def older(ledger: Ledger, topic: str) -> Iterator[Ledger]:
    """The same log, read by a Tocsin that does not know these events yet."""
    known = REGISTRY.pop(topic)
    reading = Ledger(ledger.store, ledger.vault, ledger.clock)
    try:
        yield reading
    finally:
        REGISTRY[topic] = known
        reading.close()


def test_what_cannot_be_decoded_is_parked_for_all(world: World, ledger: Ledger, tmp_path: Path) -> None:
    world.incident("one")
    world.incident("two")
    world.act("INC-1", "acknowledge", by=None)
    unknown = world.head
    world.act("INC-1", "comment", text="Hm.", visibility=Visibility.PUBLIC, author=None)
    world.act("INC-2", "comment", text="Hm.", visibility=Visibility.PUBLIC, author=None)
    with older(ledger, "ticket.acknowledged.v1") as reading:
        before = Runner(reading, tmp_path / "views.db", page=3)
        assert before.catch_up() == world.head
        first, second = of(before.views)
        assert (first.projection, first.position, first.ticket) == (CODEC, unknown, "INC-1")
        assert "the log holds ticket.acknowledged.v1, which this version does not know" in first.reason
        assert (second.projection, second.position, second.reason) == (CODEC, unknown + 1, f"behind event {unknown}")
        assert open_numbers(before.views) == ["INC-1", "INC-2"]
        assert before.verify() is None
        before.close()
    runner = Runner(ledger, tmp_path / "views.db", page=3)
    runner.rebuild("history")
    with runner.views.reader() as reader:  # one view alone gets no fuller than the others
        assert reader.row("SELECT count(*) FROM dead_letters") == (2,)
    assert runner.verify() is not None
    runner.rebuild()
    assert of(runner.views) == []
    assert runner.verify() is None
    runner.close()


class TestTooMany:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dead_letters, "MOST_STREAMS", 2)

    def test_a_view_that_fails_everywhere_stops_and_the_others_go_on(self, world: World, ledger: Ledger, tmp_path: Path) -> None:
        runner = Runner(ledger, tmp_path / "views.db", projections=among(refusing(work_queue.PROJECTION, titled("bad")))).start()
        world.incident("good")
        for _ in range(3):
            world.incident("bad")
        stopped_at = world.head
        world.act("INC-2", "acknowledge", by=None)
        world.incident("good")
        anna = world.person("Anna")
        assert runner.wait_for(world.head)
        until_failed(runner)
        assert runner.failure is not None
        assert runner.failure.startswith(f"work_queue stopped at event {stopped_at} (incident.opened.v1): ")
        assert open_numbers(runner.views) == ["INC-1"]
        with runner.views.reader() as reader:
            assert reader.position == world.head
            assert reader.row("SELECT name FROM people WHERE person = ?", (anna.bytes,)) == ("Anna",)
            assert parked(reader) == {"work_queue": 3}
        assert runner.verify() is None
        for page in (1, 1_000):
            runner._page = page
            assert runner.verify() is None
        runner.close()
        follower = Runner(ledger, tmp_path / "views.db")
        assert follower.position == world.head
        assert follower.verify() is not None
        follower.rebuild("work_queue")
        assert open_numbers(follower.views) == [f"INC-{number}" for number in range(1, 6)]
        assert follower.verify() is None
        follower.close()

    def test_a_rebuild_that_would_stop_a_view_leaves_the_present_ones(self, world: World, runner: Runner, ledger: Ledger, tmp_path: Path) -> None:
        for _ in range(3):
            world.incident("bad")
        runner.catch_up()
        other = Runner(ledger, tmp_path / "views.db", projections=among(refusing(work_queue.PROJECTION, titled("bad"))))
        with pytest.raises(RebuildFailed, match="the present views stay: built anew, work_queue stopped at event"):
            other.rebuild()
        assert open_numbers(runner.views) == ["INC-1", "INC-2", "INC-3"]
        assert sorted(found.name for found in tmp_path.glob("views.db.[0-9]")) == ["views.db.1"]
        other.close()

    def test_a_log_that_cannot_be_decoded_stops_all(self, world: World, ledger: Ledger, tmp_path: Path) -> None:
        world.incident("good")
        for _ in range(5):
            world.person("Anna")
        with older(ledger, "person.registered.v1") as reading:
            before = Runner(reading, tmp_path / "views.db")
            before.catch_up()
            assert before.position == world.head - 2
            assert before.step() == 0
            assert [letter.projection for letter in of(before.views)] == [CODEC] * 3
            before.close()
        runner = Runner(ledger, tmp_path / "views.db")
        runner.rebuild()
        assert runner.position == world.head
        assert runner.verify() is None
        runner.close()


def until_failed(runner: Runner) -> None:
    for _ in range(1_000):
        if runner.failure or runner.wait_for(1 << 60, timeout=0.01):
            return


@pytest.mark.law
@settings(max_examples=40, deadline=None)
@given(histories, st.data(), st.integers(1, 9))
def test_exactly_the_streams_of_refused_events_are_parked_however_the_log_was_cut(
    history_steps: list[Step], data: st.DataObject, page: int
) -> None:
    with lived(history_steps) as (world, path):
        facts = world.ledger.read(0, 1_000_000)
        refused = data.draw(st.sets(st.sampled_from([fact.position for fact in facts]), max_size=4))
        kinds = frozenset(type(fact.event) for fact in facts)
        seen = replace(SEEN, events=kinds)
        bad = (refusing(seen, lambda fact: fact.position in refused), *PROJECTIONS)
        runner = Runner(world.ledger, path / "views.db", projections=bad, page=page)
        runner.catch_up()
        first: dict[UUID, int] = {}
        for fact in facts:
            if fact.position in refused:
                first.setdefault(fact.stream_id, fact.position)
        behind = {fact.position for fact in facts if first.get(fact.stream_id, fact.position + 1) <= fact.position}
        with runner.views.reader() as reader:
            held = [position for (position,) in reader.rows("SELECT position FROM seen ORDER BY place")]
            assert {letter.position for letter in letters(reader, 1_000)} == behind
        assert held == [fact.position for fact in facts if fact.position not in behind]
        runner._page = 1_000
        assert runner.verify() is None
        runner.close()
        mended = Runner(world.ledger, path / "views.db", projections=(seen, *PROJECTIONS), page=page)
        mended.rebuild("seen")
        assert mended.verify() is None
        with mended.views.reader() as reader:
            assert reader.rows("SELECT position FROM seen ORDER BY place") == [(fact.position,) for fact in facts]
        mended.close()
