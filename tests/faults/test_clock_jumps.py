"""The wall clock may be stepped in any way: nothing is due from that alone, nothing happens twice, and nothing lasts less than no time."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.belfry import effort
from tests.faults.jumps import DAY, HOUR, keeps_time
from tests.faults.promises import scratch
from tests.soak import SOAK

pytestmark = pytest.mark.law

EXAMPLES: Final = 2_000 if SOAK else 200
MONDAY: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
JUMPS: Final = (HOUR, -HOUR, DAY, -DAY, 3_652.5 * DAY, 30.0, -30.0)
LIFE: Final = (("fires", 1.0), ("pass", 60.0), ("fires", 2.0), ("pass", 240.0), ("ends", 1.0))

steps = st.one_of(
    st.tuples(st.just("jump"), st.sampled_from(JUMPS)),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 20.0, 400.0, 1_000.0, 5 * HOUR])),
    st.tuples(st.sampled_from(["fires", "ends"]), st.sampled_from([1.0, 2.0])),
    st.tuples(st.sampled_from(["fires", "acknowledge", "accept", "restart"]), st.just(1.0)),
)


@pytest.mark.files  # a database for each example would take the time
@given(st.lists(steps, max_size=20))
@settings(effort(1), max_examples=EXAMPLES)
def test_no_schedule_of_jumps_makes_anything_due_or_happen_twice(schedule: list[tuple[str, float]]) -> None:
    with scratch() as folder:
        keeps_time(folder, MONDAY, [*LIFE, *schedule])


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_while_timers_run_makes_none_of_them_due(jump: float) -> None:
    with scratch() as folder:
        keeps_time(folder, MONDAY, [*LIFE, ("jump", jump), ("fires", 3.0), ("pass", 200.0), ("jump", -jump), ("pass", 200.0), ("pass", 5 * HOUR)])


def changes(zone: str) -> list[datetime]:
    """The instants of 2026 at which the clocks of a zone are changed."""
    place, at = ZoneInfo(zone), datetime(2026, 1, 1, tzinfo=UTC)
    hours = [at + timedelta(hours=hour) for hour in range(365 * 24)]
    return [after for before, after in itertools.pairwise(hours) if before.astimezone(place).utcoffset() != after.astimezone(place).utcoffset()]


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/Santiago"])
def test_a_machine_whose_clock_is_set_by_hand_at_the_change_to_and_from_summer_time(zone: str) -> None:
    assert len(changes(zone)) == 2
    for instant, hour in ((instant, hour) for instant in changes(zone) for hour in (HOUR, -HOUR)):
        with scratch() as folder:
            keeps_time(folder, instant - timedelta(seconds=400), [*LIFE, ("pass", 100.0), ("jump", hour), ("fires", 3.0), ("pass", 700.0), ("pass", 2 * HOUR)])


def test_a_leap_day_is_a_day() -> None:
    with scratch() as folder:
        keeps_time(folder, datetime(2028, 2, 28, 23, 55, tzinfo=UTC), [*LIFE, ("pass", DAY), ("jump", DAY), ("fires", 3.0), ("pass", DAY)])
