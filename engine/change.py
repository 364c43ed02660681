"""Changes that were reported to us: something was altered on purpose, at a time that may explain an incident. CHG-"""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.event import Event, Fact


class ChangeRecorded(Event, frozen=True):
    """A source told of a change."""

    TOPIC: ClassVar[str] = "change.recorded.v1"
    number: str
    title: str
    source: str
    occurred_at: datetime
    service: str | None = None
    resource: str | None = None
    details: dict[str, str] = {}
    link: str | None = None


class Change(Aggregate):
    """One recorded change."""

    KIND: ClassVar[str] = "change"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.number = ""

    def report(self, event: ChangeRecorded) -> Fact:
        return self.record(event)

    @applies(ChangeRecorded)
    def _recorded(self, event: ChangeRecorded) -> None:
        self.number = event.number
