"""Durable timers: set, cancelled and fired as events. The id of a firing is computed, so a second one collides.

The ledger keeps an index of due times (`timers`), written in the same commit; `engine/policy.py` says what a firing does.
"""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.clock import rfc3339
from engine.event import Event, Fact
from engine.identity import stream_id as computed_id


class TimerSet(Event, frozen=True):
    """Something is to happen at `due_at`, unless it is cancelled."""

    TOPIC: ClassVar[str] = "timer.set.v1"
    owner: UUID
    purpose: str
    due_at: datetime


class TimerCancelled(Event, frozen=True):
    """It is not to happen after all."""

    TOPIC: ClassVar[str] = "timer.cancelled.v1"


class TimerFired(Event, frozen=True):
    """It was due. `firing` is UUIDv5 of timer and due time."""

    TOPIC: ClassVar[str] = "timer.fired.v1"
    firing: UUID
    due_at: datetime


class Timer(Aggregate):
    """One timer of one owner for one purpose; it can be set again after it fired."""

    KIND: ClassVar[str] = "timer"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.owner: UUID | None = None
        self.purpose = ""
        self.due_at: datetime | None = None

    def set(self, *, owner: UUID, purpose: str, due_at: datetime) -> Fact | None:
        """Set or move it; None where it stands there already."""
        if self.due_at == due_at:
            return None
        return self.record(TimerSet(owner=owner, purpose=purpose, due_at=due_at))

    def cancel(self) -> Fact | None:
        """None where it is not set."""
        return None if self.due_at is None else self.record(TimerCancelled())

    def fire(self, now: datetime) -> Fact | None:
        """None where it is not set (any more) or not yet due."""
        if self.due_at is None or self.due_at > now:
            return None
        return self.fired_for(self.due_at)

    def fired_for(self, due_at: datetime) -> Fact:
        """It was due at `due_at`; for a timer that is set by a fact elsewhere (a lease, by the delivery that renewed it)."""
        return self.record(TimerFired(firing=computed_id("firing", str(self.id), rfc3339(due_at)), due_at=due_at))

    @applies(TimerSet)
    def _set(self, event: TimerSet) -> None:
        self.owner, self.purpose, self.due_at = event.owner, event.purpose, event.due_at

    @applies(TimerCancelled)
    def _cancelled(self, _: TimerCancelled) -> None:
        self.due_at = None

    @applies(TimerFired)
    def _fired(self, _: TimerFired) -> None:
        self.due_at = None
