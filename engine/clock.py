"""The only place that reads a clock. Everything else is handed an instant.

A process's clock is wall time at start plus monotonic time, so that a step of the wall clock never reaches the log;
`drift_seconds` says how far the two have come apart (over 60 s `/readyz` turns red).
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

# An event has no time until the ledger stamps it under the append lock.
UNSTAMPED: Final = datetime.min.replace(tzinfo=UTC)
MAX_DRIFT_SECONDS: Final = 60.0


class Clock(Protocol):
    """Tells the instant (aware, UTC)."""

    simulated: bool

    def now(self) -> datetime: ...

    def drift_seconds(self) -> float: ...


class SystemClock:
    """Wall time at start, carried on by the monotonic clock."""

    simulated = False

    def __init__(self) -> None:
        self._origin = datetime.now(UTC)
        self._monotonic = time.monotonic()

    def now(self) -> datetime:
        return self._origin + timedelta(seconds=time.monotonic() - self._monotonic)

    def drift_seconds(self) -> float:
        """Wall clock minus this clock."""
        return (datetime.now(UTC) - self.now()).total_seconds()


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


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(instant: datetime) -> str:
    """UTC with microseconds and Z: the one text form of an instant in Tocsin's interfaces."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
