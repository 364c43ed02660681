"""The only place that reads a clock. Everything else is handed an instant.

A process's clock is wall time at start plus monotonic time. It follows small corrections of the wall clock slowly; a step of
over 60 s is not followed, turns `/readyz` red, and is accepted only by `tocsin clock accept`, which is an event.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

# An event has no time until the ledger stamps it under the append lock.
UNSTAMPED: Final = datetime.min.replace(tzinfo=UTC)
MAX_DRIFT_SECONDS: Final = 60.0
SLEW: Final = 0.0005  # seconds a second: as the kernel slews, so intervals stay true to half a thousandth
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Tells the instant (aware, UTC)."""

    simulated: bool

    def now(self) -> datetime: ...

    def drift_seconds(self) -> float: ...

    def accept(self) -> None: ...


class SystemClock:
    """Wall time at start, carried on by the monotonic clock and slewed to the wall clock.

    Args:
        wall, monotonic: seconds since 1970, and seconds since whenever; for tests.
    """

    simulated = False

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._lock = threading.Lock()
        self._offset = wall() - monotonic()
        self._slewed_at = monotonic()

    def now(self) -> datetime:
        with self._lock:
            here = self._monotonic()
            drift = self._wall() - here - self._offset
            if abs(drift) <= MAX_DRIFT_SECONDS:
                most = max(0.0, here - self._slewed_at) * SLEW
                self._offset += min(most, max(-most, drift))
            self._slewed_at = here
            return _EPOCH + timedelta(seconds=here + self._offset)

    def drift_seconds(self) -> float:
        """Wall clock minus this clock."""
        return self._wall() - self._monotonic() - self._offset

    def accept(self) -> None:
        """Follow the wall clock to wherever it was stepped."""
        with self._lock:
            self._offset = self._wall() - self._monotonic()


class SimulatedClock:
    """Starts at a given instant (`TOCSIN_CLOCK`, the demo week, tests); runs on in real time unless it stands still."""

    simulated = True

    def __init__(self, start: datetime, *, running: bool = True) -> None:
        if start.tzinfo is None:
            raise ValueError("the clock's start needs a zone")
        self._origin = start.astimezone(UTC)
        self._monotonic = time.monotonic()
        self._running = running

    def now(self) -> datetime:
        if not self._running:
            return self._origin
        return self._origin + timedelta(seconds=time.monotonic() - self._monotonic)

    def drift_seconds(self) -> float:
        return 0.0

    def accept(self) -> None:
        """It has no wall clock to follow."""

    def set(self, instant: datetime) -> None:
        """Move to `instant`; a running clock goes on from there."""
        self._origin, self._monotonic = instant.astimezone(UTC), time.monotonic()

    def advance(self, seconds: float) -> None:
        self.set(self.now() + timedelta(seconds=seconds))


def micros(instant: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z, exact."""
    delta = instant - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def rfc3339(instant: datetime) -> str:
    """UTC with microseconds and Z: the one text form of an instant in Tocsin's interfaces."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
