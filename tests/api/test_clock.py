"""The wall clock: small corrections are followed slowly, steps only when an operator accepts them."""

from datetime import UTC, datetime
from pathlib import Path

from api.house import open_house
from engine.clock import SystemClock
from engine.installation import ClockAccepted
from tests.stores import settings_at

EPOCH = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()


class Hands:
    """A wall clock and a monotonic one, moved by hand."""

    def __init__(self) -> None:
        self.wall_seconds, self.monotonic_seconds = EPOCH, 1_000.0

    def pass_time(self, seconds: float) -> None:
        self.wall_seconds += seconds
        self.monotonic_seconds += seconds

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall_seconds, lambda: self.monotonic_seconds)


def test_a_small_correction_is_followed_slowly_and_never_backwards() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall_seconds -= 2.0
    last = clock.now()
    for _ in range(5_000):
        hands.pass_time(1.0)
        now = clock.now()
        assert 0.999 <= (now - last).total_seconds() <= 1.001
        last = now
    assert abs(clock.drift_seconds()) < 0.01


def test_a_step_is_not_followed_until_it_is_accepted() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall_seconds += 3_600
    hands.pass_time(10.0)
    assert (clock.now() - datetime.fromtimestamp(EPOCH, UTC)).total_seconds() < 11
    assert clock.drift_seconds() > 3_590
    clock.accept()
    assert abs(clock.drift_seconds()) < 0.001


def test_a_log_from_the_future_turns_the_store_red_until_the_clock_is_accepted(tmp_path: Path) -> None:
    hands = Hands()
    settings = settings_at(tmp_path / "data")
    house = open_house(settings, clock=hands.clock())
    head = house.store.head()
    house.close()
    hands.wall_seconds -= 86_400
    house = open_house(settings, clock=hands.clock())
    assert "behind the log" in (house.clock_trouble() or "")
    house.accept_clock()
    assert house.clock_trouble() is None
    assert isinstance(house.ledger.read(head.position, 100)[-1].event, ClockAccepted)
    assert house.store.head().recorded_at >= head.recorded_at
    house.close()
