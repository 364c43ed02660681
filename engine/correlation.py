"""The arbiter of a correlation: which incident is the current one of a rule and a group value, and whose alerts it holds.

Every join reads this stream, and opening an incident appends to it, so two alerts of one group can't open two incidents.
"""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.event import Event, Fact


class CorrelationIncidentOpened(Event, frozen=True):
    """This alert had no open incident to join: the `ordinal`-th one of this group was opened."""

    TOPIC: ClassVar[str] = "correlation.incident_opened.v1"
    rule: str
    field: str
    value: str
    incident: UUID
    ordinal: int
    alert: UUID
    rule_version: int | None = None


class CorrelationAlertJoined(Event, frozen=True):
    """An alert fires and belongs to the current incident."""

    TOPIC: ClassVar[str] = "correlation.alert_joined.v1"
    incident: UUID
    alert: UUID


class CorrelationAlertEnded(Event, frozen=True):
    """An alert of the current incident fires no more; `ended_at` is its episode's."""

    TOPIC: ClassVar[str] = "correlation.alert_ended.v1"
    incident: UUID
    alert: UUID
    ended_at: datetime


class Correlation(Aggregate):
    """The current incident of one group and its firing alerts.

    Attributes:
        firing: alerts of the current incident that fire.
        last_end: the latest end among those that ended.
    """

    KIND: ClassVar[str] = "correlation"
    REMEMBERS: ClassVar[dict[str, Any]] = {
        "incident": UUID | None, "ordinal": int, "rule": str, "firing": set[UUID], "last_end": datetime | None,
    }

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.incident: UUID | None = None
        self.ordinal = 0
        self.rule = ""
        self.firing: set[UUID] = set()
        self.last_end: datetime | None = None

    def open_incident(
        self, *, rule: str, rule_version: int, field: str, value: str, incident: UUID, alert: UUID
    ) -> Fact:
        return self.record(
            CorrelationIncidentOpened(
                rule=rule, rule_version=rule_version, field=field, value=value, incident=incident, ordinal=self.ordinal + 1,
                alert=alert,
            )
        )

    def join(self, alert: UUID) -> Fact:
        assert self.incident is not None
        return self.record(CorrelationAlertJoined(incident=self.incident, alert=alert))

    def end(self, alert: UUID, *, ended_at: datetime) -> Fact | None:
        """None where the alert is not one of the current incident."""
        if alert not in self.firing or self.incident is None:
            return None
        return self.record(CorrelationAlertEnded(incident=self.incident, alert=alert, ended_at=ended_at))

    @applies(CorrelationIncidentOpened)
    def _incident_opened(self, event: CorrelationIncidentOpened) -> None:
        self.rule, self.incident, self.ordinal = event.rule, event.incident, event.ordinal
        self.firing, self.last_end = {event.alert}, None

    @applies(CorrelationAlertJoined)
    def _joined(self, event: CorrelationAlertJoined) -> None:
        self.firing.add(event.alert)

    @applies(CorrelationAlertEnded)
    def _ended(self, event: CorrelationAlertEnded) -> None:
        self.firing.discard(event.alert)
        self.last_end = max(self.last_end or event.ended_at, event.ended_at)
