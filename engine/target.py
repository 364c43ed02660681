"""Targets: by when a ticket is to be answered and resolved.

A table gives each priority a response and a resolution target in clock time. It is published as an event; a ticket keeps the
edition that was in force when it opened or last changed its priority, so a new table never moves a promise that was made.
Whatever replaces the table later (calendars, pauses, policies) answers the same question: `due`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar, Final
from uuid import UUID

import msgspec

from engine.aggregate import Aggregate, Journal, applies
from engine.errors import InvalidInput
from engine.event import Event, Fact
from engine.identity import stream_id
from engine.priority import Priority

TARGETS: Final = stream_id("targets")
SHORTEST_SECONDS: Final = 60.0
LONGEST_SECONDS: Final = 366 * 86_400.0
# The last part of a target's time, in which a ticket is at risk.
AT_RISK: Final = 0.25


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised for one priority, in seconds of clock time from the opening."""

    response_seconds: float
    resolution_seconds: float


_HOUR: Final = 3_600.0
DEFAULT_TARGETS: Final[Mapping[Priority, Target]] = {
    Priority.P1: Target(response_seconds=_HOUR / 4, resolution_seconds=4 * _HOUR),
    Priority.P2: Target(response_seconds=_HOUR / 2, resolution_seconds=8 * _HOUR),
    Priority.P3: Target(response_seconds=4 * _HOUR, resolution_seconds=24 * _HOUR),
    Priority.P4: Target(response_seconds=8 * _HOUR, resolution_seconds=72 * _HOUR),
    Priority.P5: Target(response_seconds=24 * _HOUR, resolution_seconds=168 * _HOUR),
}


class TargetsSet(Event, frozen=True):
    """A table of targets is in force from here on; by priority (`P1` to `P5`)."""

    TOPIC: ClassVar[str] = "targets.set.v1"
    table: dict[str, Target]


class Targets(Aggregate):
    """The editions of the table; the latest is in force. Its version is that of its stream."""

    KIND: ClassVar[str] = "targets"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.table: Mapping[Priority, Target] = DEFAULT_TARGETS

    def set(self, table: Mapping[Priority, Target]) -> Fact | None:
        """Put a table in force; None where it is in force already.

        Raises:
            InvalidInput: a priority is missing, a time is too short or too long, or the response is later than the resolution.
        """
        for priority in Priority:
            target = table.get(priority)
            if target is None:
                raise InvalidInput(priority.value, "response_seconds and resolution_seconds")
            for name in ("response_seconds", "resolution_seconds"):
                if not SHORTEST_SECONDS <= getattr(target, name) <= LONGEST_SECONDS:
                    raise InvalidInput(f"{priority.value}.{name}", "seconds from a minute to a year")
            if target.response_seconds > target.resolution_seconds:
                raise InvalidInput(f"{priority.value}.response_seconds", "not more than resolution_seconds")
        if self.exists and dict(table) == self.table:
            return None
        return self.record(TargetsSet(table={priority.value: table[priority] for priority in Priority}))

    @applies(TargetsSet)
    def _set(self, event: TargetsSet) -> None:
        self.table = {Priority(name): target for name, target in event.table.items() if name in Priority.__members__}


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """By when a ticket is to be answered and resolved; aware, UTC."""

    response_at: datetime
    resolution_at: datetime


def due(table: Mapping[Priority, Target], priority: Priority, opened_at: datetime) -> Due:
    """The due times that a table gives a ticket of this priority."""
    target = table[priority]
    return Due(
        response_at=opened_at + timedelta(seconds=target.response_seconds),
        resolution_at=opened_at + timedelta(seconds=target.resolution_seconds),
    )
