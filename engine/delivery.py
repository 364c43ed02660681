"""Deliveries: one message from a source as it arrived, and what was made of it. One stream each, one event mostly.

A hundred repeats in one call cost one row. The body lies in a table of its own, under its digest (`engine/vault.py`).
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

import msgspec

from engine.aggregate import Aggregate, applies
from engine.event import Event
from engine.observation import Observation


class Disposition(StrEnum):
    """What intake decided for a monitoring event."""

    OPENED = "opened"              # an episode begins
    REPEATED = "repeated"          # one more occurrence of the open episode
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"
    SUPPRESSED = "suppressed"
    INHIBITED = "inhibited"
    HELD = "held"
    LATE = "late"                  # belongs to an episode that has ended: recorded, changes nothing
    UNMATCHED = "unmatched"        # nothing open that it could speak of
    IGNORED = "ignored"            # not about a condition
    REJECTED = "rejected"


class MonitoringEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The ITIL event: an observation as recorded in its delivery, with what was decided.

    Attributes:
        alert, incident: streams; None where there is none.
        alert_number, incident_number: as answered to the sender.
        number: of another record that it made (a change).
        lease_until: until when the sender's word holds; it sets the alert's lease timer.
        dedup_key: the one in force, also where the sender gave none.
    """

    observation: Observation
    disposition: Disposition
    dedup_key: str | None = None
    alert: UUID | None = None
    alert_number: str | None = None
    incident: UUID | None = None
    incident_number: str | None = None
    number: str | None = None
    rule: str | None = None
    rule_version: int | None = None
    lease_until: datetime | None = None


class DeliveryReceived(Event, frozen=True):
    """A message arrived and was decided upon.

    Attributes:
        identity: the identity that the sender gave it.
        body: keyed digest of the exact bytes; None where they were not kept.
        lost: alerts that the sender says it left out.
    """

    TOPIC: ClassVar[str] = "delivery.received.v1"
    source: str
    adapter: str
    received_at: datetime
    length: int
    monitoring_events: tuple[MonitoringEvent, ...] = ()
    identity: str | None = None
    body: str | None = None
    content_type: str = ""
    lost: int = 0


class DeliveryRejected(Event, frozen=True):
    """A message arrived that could not be read; kept with the reason.

    Attributes:
        path, reason: the first place that is wrong and what was expected there.
        length: of the whole body, also where only its beginning was kept (`truncated`).
    """

    TOPIC: ClassVar[str] = "delivery.rejected.v1"
    source: str
    adapter: str
    received_at: datetime
    length: int
    path: str
    reason: str
    status: int
    body: str | None = None
    content_type: str = ""
    truncated: bool = False


class Delivery(Aggregate):
    """What became of one delivery."""

    KIND: ClassVar[str] = "delivery"
    received: DeliveryReceived | None = None
    rejected: DeliveryRejected | None = None

    @applies(DeliveryReceived)
    def _received(self, event: DeliveryReceived) -> None:
        self.received = event

    @applies(DeliveryRejected)
    def _rejected(self, event: DeliveryRejected) -> None:
        self.rejected = event
