"""Waiting in lanes: nobody is starved, nobody's order is changed, and there is an end to how much waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Overloaded, StoreUnavailable
from engine.turns import Turns


def test_a_busy_sender_does_not_starve_another() -> None:
    turns: Turns[str] = Turns()
    for number in range(1_000):
        turns.put("busy", f"busy {number}")
    turns.put("quiet", "quiet")
    assert [turns.take(), turns.take(), turns.take()] == ["busy 0", "quiet", "busy 1"]


def test_one_sender_is_refused_before_it_takes_the_others_place() -> None:
    turns: Turns[int] = Turns(most=4, most_of_one=2)
    turns.put("busy", 1)
    turns.put("busy", 2)
    with pytest.raises(Overloaded):
        turns.put("busy", 3)
    turns.put("quiet", 4)
    turns.put("other", 5)
    with pytest.raises(Overloaded):
        turns.put("fourth", 6)
    turns.take()
    turns.put("fourth", 6)


def test_what_waits_when_it_is_closed_is_still_taken() -> None:
    turns: Turns[int] = Turns()
    turns.put("one", 1)
    turns.close()
    with pytest.raises(StoreUnavailable):
        turns.put("one", 2)
    assert turns.wait()
    assert turns.take() == 1
    assert not turns.wait()


@pytest.mark.law
@given(st.lists(st.one_of(st.sampled_from("abcd"), st.none()), max_size=200))
def test_each_lane_keeps_its_order_and_its_turn_comes_within_a_round(steps: list[str | None]) -> None:
    turns: Turns[tuple[str, int]] = Turns()
    waiting: dict[str, list[int]] = {}
    passed_over: dict[str, int] = {}
    for number, lane in enumerate(steps):
        if lane is not None:
            turns.put(lane, (lane, number))
            waiting.setdefault(lane, []).append(number)
            continue
        taken = turns.take()
        if not waiting:
            assert taken is None
            continue
        assert taken is not None
        served, thing = taken
        assert waiting[served].pop(0) == thing
        passed_over[served] = 0
        for other in waiting.keys() - {served}:
            passed_over[other] = passed_over.get(other, 0) + 1
            assert passed_over[other] < 4
        if not waiting[served]:
            del waiting[served], passed_over[served]
    assert len(turns) == sum(len(things) for things in waiting.values())
