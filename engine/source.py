"""Sources: configured senders. A source's name, not its credential, is part of an alert's identity; or that of the source
whose alerts it reports too, such as the Prometheus behind an Alertmanager."""

from typing import ClassVar
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.event import Event, Fact
from engine.observation import Severity, SourceProfile


class SourceAdded(Event, frozen=True):
    """A sender was configured.

    Attributes:
        repeat_interval_seconds: how often it repeats what still fires; None: it does not, or the adapter's default holds.
        ignored_labels: labels that name the reporter (a replica) and not the condition.
        rule: the ticket rule that decides about its alerts.
        identity: the source that reports the same alerts: what has one dedup key is one alert of both. None: of its own.
    """

    TOPIC: ClassVar[str] = "source.added.v1"
    name: str
    adapter: str
    zone: str = "UTC"
    severity: Severity = Severity.WARNING
    mapping: str | None = None
    ignored_labels: tuple[str, ...] = ()
    repeat_interval_seconds: float | None = None
    rule: str = "reference"
    identity: str | None = None


class Source(Aggregate):
    """One configured sender."""

    KIND: ClassVar[str] = "source"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.profile: SourceProfile | None = None
        self.rule = "reference"

    def add(self, event: SourceAdded) -> Fact:
        return self.record(event)

    @applies(SourceAdded)
    def _added(self, event: SourceAdded) -> None:
        self.rule = event.rule
        self.profile = SourceProfile(
            name=event.name, adapter=event.adapter, zone=event.zone, severity=event.severity, mapping=event.mapping,
            ignored_labels=event.ignored_labels, repeat_interval_seconds=event.repeat_interval_seconds,
            identity=event.identity,
        )
