"""The installation itself: what an operator decides about this store as a whole."""

from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID

from engine.aggregate import Aggregate, applies
from engine.event import Event
from engine.identity import stream_id

INSTALLATION: Final[UUID] = stream_id("installation")


class ClockAccepted(Event, frozen=True):
    """The wall clock was stepped, and an operator says that it is right now.

    Attributes:
        wall: what it shows.
        drift_seconds: how far it had come apart from the ledger's time.
    """

    TOPIC: ClassVar[str] = "installation.clock_accepted.v1"
    wall: datetime
    drift_seconds: float


class InstallationRestored(Event, frozen=True):
    """The store was restored from a backup: what was recorded after that is not here, and every session has ended.

    Attributes:
        position: of the last event that the backup held.
        digest: SHA-256 of that event's canonical bytes, hexadecimal.
        backed_up_at: when the backup was made.
    """

    TOPIC: ClassVar[str] = "installation.restored.v1"
    position: int
    digest: str
    backed_up_at: datetime


class Installation(Aggregate):
    """One store as a whole."""

    KIND: ClassVar[str] = "installation"

    @applies(ClockAccepted)
    def _clock_accepted(self, _: ClockAccepted) -> None:
        """Recorded for the auditor; the processes follow `meta`."""

    @applies(InstallationRestored)
    def _restored(self, _: InstallationRestored) -> None:
        """Recorded for the auditor."""
