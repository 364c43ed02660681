"""Alerts: a condition that is or was abnormal, identified by (source name, dedup key). ALT-

Where several sources share an identity, or one reports by two formats, each that fires it holds it: a resolve by any of
them ends the episode, the end of a lease only that one's hold.

The stream holds transitions only; repeats are counted by a projection. What an observation means for an alert is decided
in `engine/judgement.py`; this module keeps the episodes straight.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.event import Event, Fact
from engine.observation import Severity

# Starts of ended episodes that are remembered one by one. An older start than all of them is late in any case.
REMEMBERED_STARTS: Final = 64


class AlertEpisodeOpened(Event, frozen=True):
    """The condition began (again).

    Attributes:
        number: stamped with the alert's first episode or firing; later ones repeat it.
        started_at: the start that the format declares, else receipt.
        declared: whether the format declared it.
        incident: the incident that it joined or opened; None: not worth one.
        rule, rule_version: the rule that decided that.
        decision, rulebook_version: the row of the rulebook that decided against its severity.
        holder: who holds it, where that is not simply its source (`AlertSourceJoined`).
    """

    TOPIC: ClassVar[str] = "alert.episode_opened.v1"
    number: str
    source: str
    dedup_key: str
    title: str
    severity: Severity
    started_at: datetime
    declared: bool = False
    service: str | None = None
    resource: str | None = None
    labels: dict[str, str] = {}
    sender: str | None = None
    link: str | None = None
    incident: UUID | None = None
    rule: str | None = None
    rule_version: int | None = None
    decision: str | None = None
    rulebook_version: int | None = None
    holder: str | None = None


class AlertEpisodeEnded(Event, frozen=True):
    """The condition is over.

    Attributes:
        ended_at: never before the episode's start (`clamped` says that the sender's clock said so).
        cause: `resolved` (its senders said so), `no_longer_reported` (a lease ended) or `newer_episode`.
    """

    TOPIC: ClassVar[str] = "alert.episode_ended.v1"
    ended_at: datetime
    cause: str = "resolved"
    clamped: bool = False


class AlertEpisodeMissed(Event, frozen=True):
    """A resolve told of an episode whose firing never arrived: recorded as closed, so that the late firing opens nothing."""

    TOPIC: ClassVar[str] = "alert.episode_missed.v1"
    source: str
    dedup_key: str
    title: str
    severity: Severity
    started_at: datetime
    ended_at: datetime
    clamped: bool = False


class AlertListed(Event, frozen=True):
    """A firing of an episode that had ended already arrived late: the alert gets its number and is listed from here on."""

    TOPIC: ClassVar[str] = "alert.listed.v1"
    number: str


class AlertAcknowledged(Event, frozen=True):
    """The sender's side says that somebody is on it."""

    TOPIC: ClassVar[str] = "alert.acknowledged.v1"


class AlertSeverityChanged(Event, frozen=True):
    """The same episode became better or worse."""

    TOPIC: ClassVar[str] = "alert.severity_changed.v1"
    severity: Severity
    incident: UUID | None = None


class AlertSenderJoined(Event, frozen=True):
    """Another reporter of the same condition fires it too (or anew); the episode ends when all of them have resolved it.

    Attributes:
        started_at: since when, by its own account; None: the format declares no start.
    """

    TOPIC: ClassVar[str] = "alert.sender_joined.v1"
    sender: str
    started_at: datetime | None = None


class AlertSenderLeft(Event, frozen=True):
    """One of several reporters resolved it, maybe before its own firing arrived."""

    TOPIC: ClassVar[str] = "alert.sender_left.v1"
    sender: str
    started_at: datetime | None = None
    ended_at: datetime | None = None


class AlertSourceJoined(Event, frozen=True):
    """Another source of the same identity, or the same one by another format, reports the open episode too.

    Attributes:
        source: its name, with the format after a slash where that is not its own (`alertmanager/prometheus`).
    """

    TOPIC: ClassVar[str] = "alert.source_joined.v1"
    source: str


class AlertSourceLeft(Event, frozen=True):
    """One of several sources has stopped reporting it; the others hold it."""

    TOPIC: ClassVar[str] = "alert.source_left.v1"
    source: str
    lease_until: datetime


class AlertWentStale(Event, frozen=True):
    """Its source repeats, and has stopped repeating it."""

    TOPIC: ClassVar[str] = "alert.went_stale.v1"
    lease_until: datetime


class AlertHeardAgain(Event, frozen=True):
    """Its source repeats it after all."""

    TOPIC: ClassVar[str] = "alert.heard_again.v1"


class Place(StrEnum):
    """Where a statement with a declared start stands to the open episode."""

    OLDER = "older"
    SAME = "same"
    NEWER = "newer"


class Alert(Aggregate):
    """One condition over all of its episodes.

    Attributes:
        number: empty until the first firing: a resolve alone lists nothing.
        started_at, severity, acknowledged, incident: of the current (or last) episode.
        senders: who fires it, where several report it, and since when by their own accounts (their clocks differ).
        left: who of them has resolved it, and the start that this spoke of; `left_at` is the latest end that they told.
        holders: the sources that report the current (or last) episode, its opener first; see `AlertSourceJoined`.
        ended: starts of ended episodes, latest last, as many as are remembered.
        stale_since: the end of the lease after which its source fell silent; None: it has not.
    """

    KIND: ClassVar[str] = "alert"
    REMEMBERS: ClassVar[dict[str, Any]] = {
        "number": str, "source": str, "dedup_key": str, "title": str, "firing": bool, "stale_since": datetime | None,
        "acknowledged": bool, "severity": Severity, "started_at": datetime | None, "ended_at": datetime | None, "declared": bool,
        "service": str | None, "resource": str | None, "incident": UUID | None, "senders": dict[str, datetime | None],
        "left": dict[str, datetime], "left_at": datetime | None, "ended": tuple[datetime, ...], "holders": tuple[str, ...],
    }

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.number = ""
        self.source = ""
        self.dedup_key = ""
        self.title = ""
        self.firing = False
        self.stale_since: datetime | None = None
        self.acknowledged = False
        self.severity = Severity.INFO
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.declared = False
        self.service: str | None = None
        self.resource: str | None = None
        self.incident: UUID | None = None
        self.senders: dict[str, datetime | None] = {}
        self.left: dict[str, datetime] = {}
        self.left_at: datetime | None = None
        self.ended: tuple[datetime, ...] = ()
        self.holders: tuple[str, ...] = ()
        # The furthest due time (µs) that this process put into the index for it; see `engine/judgement.py`.
        self._lease_written = 0

    def belongs_to_ended(self, start: datetime) -> bool:
        """Whether an episode that began at `start` has ended (or is older than any that we know)."""
        if start in self.ended:
            return True
        newest = self.started_at if self.firing else (self.ended[-1] if self.ended else None)
        return newest is not None and start < newest

    def since(self, sender: str | None) -> datetime | None:
        """The start of the open episode, by the sender's own account where several report it."""
        return (self.senders.get(sender) if sender else None) or self.started_at

    def place_of(self, start: datetime | None, sender: str | None) -> Place:
        """Where a statement about the firing that began at `start` stands to the open episode.

        Of several reporters only the last one that fires can begin a newer one: while others fire, it is still the same.
        """
        since = self.since(sender)
        if start is None or since is None or not self.declared:
            return Place.SAME
        if sender and self.senders and sender not in self.senders:
            resolved = self.left.get(sender)
            older = start <= resolved if resolved is not None else bool(self.ended) and start <= self.ended[-1]
            return Place.OLDER if older else Place.SAME
        if start < since:
            return Place.OLDER
        return Place.NEWER if start > since and len(self.senders) < 2 else Place.SAME

    def open_episode(self, event: AlertEpisodeOpened) -> Fact:
        """The condition begins; an older episode that is still open must have been ended before."""
        return self.record(event)

    def end_episode(self, *, ended_at: datetime, cause: str = "resolved") -> Fact:
        """The condition is over; an end before the start is clamped to it and flagged."""
        assert self.started_at is not None
        if cause == "resolved" and self.left_at is not None:
            ended_at = max(ended_at, self.left_at)
        clamped = ended_at < self.started_at
        return self.record(AlertEpisodeEnded(ended_at=max(ended_at, self.started_at), cause=cause, clamped=clamped))

    def acknowledge(self) -> Fact | None:
        """Once an episode."""
        return None if self.acknowledged else self.record(AlertAcknowledged())

    @applies(AlertEpisodeOpened)
    def _episode_opened(self, event: AlertEpisodeOpened) -> None:
        self.number, self.source, self.dedup_key, self.title = event.number, event.source, event.dedup_key, event.title
        self.firing, self.stale_since, self.acknowledged = True, None, False
        self.severity, self.started_at, self.ended_at = event.severity, event.started_at, None
        self.declared, self.service, self.resource, self.incident = event.declared, event.service, event.resource, event.incident
        self.senders = {event.sender: event.started_at if event.declared else None} if event.sender else {}
        self.left, self.left_at = {}, None
        self.holders = (event.holder or event.source,)

    @applies(AlertEpisodeEnded)
    def _episode_ended(self, event: AlertEpisodeEnded) -> None:
        assert self.started_at is not None
        self.firing, self.stale_since, self.ended_at = False, None, event.ended_at
        self._remember(self.started_at, *filter(None, self.senders.values()), *self.left.values())
        self.senders, self.left, self.left_at = {}, {}, None

    @applies(AlertEpisodeMissed)
    def _episode_missed(self, event: AlertEpisodeMissed) -> None:
        if not self.exists:
            self.source, self.dedup_key, self.title = event.source, event.dedup_key, event.title
        self.severity, self.acknowledged = event.severity, False
        self.started_at, self.ended_at = event.started_at, event.ended_at
        self._remember(event.started_at)

    def _remember(self, *starts: datetime) -> None:
        self.ended = tuple(sorted({*self.ended, *starts}))[-REMEMBERED_STARTS:]

    @applies(AlertListed)
    def _listed(self, event: AlertListed) -> None:
        self.number = event.number

    @applies(AlertAcknowledged)
    def _acknowledged(self, _: AlertAcknowledged) -> None:
        self.acknowledged = True

    @applies(AlertSeverityChanged)
    def _severity_changed(self, event: AlertSeverityChanged) -> None:
        self.severity = event.severity
        self.incident = event.incident or self.incident

    @applies(AlertSenderJoined)
    def _sender_joined(self, event: AlertSenderJoined) -> None:
        self.senders = {**self.senders, event.sender: event.started_at}

    @applies(AlertSenderLeft)
    def _sender_left(self, event: AlertSenderLeft) -> None:
        self.senders = {sender: start for sender, start in self.senders.items() if sender != event.sender}
        if event.started_at is not None:
            self.left = {**self.left, event.sender: event.started_at}
        if event.ended_at is not None:
            self.left_at = max(self.left_at or event.ended_at, event.ended_at)

    @applies(AlertSourceJoined)
    def _source_joined(self, event: AlertSourceJoined) -> None:
        self.holders = (*self.holders, event.source)

    @applies(AlertSourceLeft)
    def _source_left(self, event: AlertSourceLeft) -> None:
        self.holders = tuple(holder for holder in self.holders if holder != event.source)

    @applies(AlertWentStale)
    def _went_stale(self, event: AlertWentStale) -> None:
        self.stale_since = event.lease_until

    @applies(AlertHeardAgain)
    def _heard_again(self, _: AlertHeardAgain) -> None:
        self.stale_since = None
