"""Durable timers: the index of due times says what the streams say, and nothing fires early or twice."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import SimulatedClock, micros
from engine.errors import InvalidInput
from engine.event import Fact
from engine.identity import stream_id, timer_id
from engine.ledger import Ledger
from engine.store import DueTimer
from engine.timer import Timer, TimerFired
from engine.work import Unit, Work
from tests.conftest import NOON
from tests.engine.belfry import Belfry, effort, with_belfry

OWNER: Final = stream_id("test", "owner")
TIMER: Final = timer_id(OWNER, "settle")


def sets(seconds: int) -> Callable[[Work], Fact | None]:
    due_at = NOON + timedelta(seconds=seconds)
    return lambda work: work.load(Timer, TIMER).set(owner=OWNER, purpose="settle", due_at=due_at)


def cancels(work: Work) -> Fact | None:
    return work.load(Timer, TIMER).cancel()


def fires(work: Work) -> Fact | None:
    return work.load(Timer, TIMER).fire(work.now)


def run(ledger: Ledger, decide: Callable[[Work], Fact | None]) -> Fact | None:
    return ledger.run(Unit(decide, actor="timer"))


def indexed(ledger: Ledger) -> list[int]:
    """Due times in the index, in seconds after noon."""
    return [(timer.due_at - micros(NOON)) // 1_000_000 for timer in ledger.store.due_timers(2**62, 10)]


@pytest.mark.law
@given(steps=st.lists(st.sampled_from(["set", "cancel", "fire", "wait"]), max_size=15), seconds=st.data())
@effort(30)
def test_the_index_says_what_the_stream_says_and_nothing_fires_early(steps: list[str], seconds: st.DataObject) -> None:
    def example(belfry: Belfry) -> None:
        belfry.clock.set(NOON)
        for step in steps:
            before = belfry.ledger.get(Timer, TIMER).due_at
            match step:
                case "set":
                    run(belfry.ledger, sets(seconds.draw(st.integers(1, 100))))
                case "cancel":
                    assert (run(belfry.ledger, cancels) is not None) == (before is not None)
                case "fire":
                    may = before is not None and before <= belfry.clock.now()
                    assert (run(belfry.ledger, fires) is not None) == may
                case "wait":
                    belfry.clock.advance(seconds.draw(st.integers(1, 60)))
            due_at = belfry.ledger.get(Timer, TIMER).due_at
            index = belfry.ledger.store.due_timers(2**62, 10)
            assert index == ([] if due_at is None else [DueTimer(TIMER.bytes, OWNER.bytes, "settle", micros(due_at))])

    with_belfry(example)


def test_due_timers_are_found_by_their_time(ledger: Ledger) -> None:
    for seconds, purpose in ((30, "b"), (10, "a"), (50, "c")):
        due_at = NOON + timedelta(seconds=seconds)
        timer = timer_id(OWNER, purpose)

        def decide(work: Work, timer: UUID = timer, purpose: str = purpose, due_at: datetime = due_at) -> Fact | None:
            return work.load(Timer, timer).set(owner=OWNER, purpose=purpose, due_at=due_at)

        run(ledger, decide)
    now = micros(NOON + timedelta(seconds=30))
    assert [timer.purpose for timer in ledger.store.due_timers(now, 10)] == ["a", "b"]
    assert [timer.purpose for timer in ledger.store.due_timers(now, 1)] == ["a"]
    assert ledger.store.next_due() == micros(NOON + timedelta(seconds=10))


def test_a_timer_that_is_set_where_it_stands_records_nothing(ledger: Ledger) -> None:
    assert run(ledger, sets(10)) is not None
    assert run(ledger, sets(10)) is None
    assert run(ledger, sets(20)) is not None
    assert indexed(ledger) == [20]


def test_a_refused_unit_does_not_touch_the_index(ledger: Ledger) -> None:
    run(ledger, sets(10))

    def refused(work: Work) -> None:
        sets(99)(work)
        work.set_timer(DueTimer(b"t" * 16, OWNER.bytes, "lease", 1))
        work.clear_timer(TIMER.bytes)
        raise InvalidInput("x", "y")

    with pytest.raises(InvalidInput):
        run(ledger, refused)
    assert indexed(ledger) == [10]


def test_a_due_time_without_an_event_of_its_own_is_in_the_index_too(ledger: Ledger) -> None:
    lease = DueTimer(b"t" * 16, OWNER.bytes, "lease", micros(NOON))

    def seen(work: Work) -> DueTimer | None:
        return work.due_timer(lease.timer)

    ledger.run(Unit(lambda work: work.set_timer(lease), actor="tocsin"))
    assert ledger.run(Unit(seen, actor="tocsin")) == lease
    assert ledger.store.due_timers(micros(NOON), 10) == [lease]
    ledger.run(Unit(lambda work: work.clear_timer(lease.timer), actor="tocsin"))
    assert ledger.run(Unit(seen, actor="tocsin")) is None
    assert ledger.store.next_due() is None


def test_the_id_of_a_firing_is_that_of_timer_and_due_time(ledger: Ledger, clock: SimulatedClock) -> None:
    run(ledger, sets(10))
    clock.advance(30)
    fact = run(ledger, fires)
    assert fact is not None
    assert isinstance(fact.event, TimerFired)
    assert fact.event.firing == stream_id("firing", str(TIMER), "2026-03-02T12:00:10.000000Z")
    assert run(ledger, fires) is None
    run(ledger, sets(40))
    assert indexed(ledger) == [40]
