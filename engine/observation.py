"""An observation: one normalised statement of a monitoring system, not yet decided.

Adapters (`monitors/integrations/`) make them out of native payloads; `engine/judgement.py` decides what each one means.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec


class Severity(StrEnum):
    """How bad a condition is, from worst to mildest."""

    CRITICAL = "critical"
    HIGH = "high"
    WARNING = "warning"
    INFO = "info"


class ObservationKind(StrEnum):
    """What the sender says about the condition."""

    TRIGGER = "trigger"
    RESOLVE = "resolve"
    ACKNOWLEDGE = "acknowledge"
    HEARTBEAT = "heartbeat"
    INFORMATION = "information"
    CHANGE = "change"          # something was changed on purpose (PagerDuty change events): a record, never an alert


class Observation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One statement about one condition.

    Attributes:
        dedup_key: identifies the condition within its source. None: the sender gave no identity and the imitated
            format says that each such statement is a new condition; intake then makes a unique key.
        title: one line for people.
        severity: None where the sender gave none; the source's default then holds.
        service, resource: what is affected; `resource` is host, instance or the like.
        labels: the sender's own identifying or describing names, values as text; empty and null ones dropped.
        details: descriptive text that may change from one repeat to the next (annotations, values, custom details).
        episode_start: only where the format declares the start of the episode itself (Alertmanager `startsAt`).
        occurred_at: when the sender says that it saw this; None: not said.
        ended_at: for a resolve, when the condition ended; None: at receipt.
        lease_until: the sender says that the statement holds no longer than this (Alertmanager API `endsAt`).
        sender: names the reporter where several report one condition (an ignored replica label); it resolves only its own.
        fingerprint: the sender's own identity of the condition; data, never our key.
        link: an absolute http(s) address of the condition at the sender.
        flags: oddities worth an auditor's look, such as `ends_before_start`.
    """

    kind: ObservationKind
    dedup_key: str | None
    title: str
    severity: Severity | None = None
    service: str | None = None
    resource: str | None = None
    labels: dict[str, str] = {}
    details: dict[str, str] = {}
    episode_start: datetime | None = None
    occurred_at: datetime | None = None
    ended_at: datetime | None = None
    lease_until: datetime | None = None
    sender: str | None = None
    fingerprint: str | None = None
    link: str | None = None
    flags: tuple[str, ...] = ()


class SourceProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter must know of the source that it parses for (a value; the record is `engine/source.py`)."""

    name: str
    adapter: str
    zone: str = "UTC"                       # IANA zone of timestamps that carry none
    severity: Severity = Severity.WARNING   # where the sender gives none
    mapping: str | None = None              # TOML text; the generic adapter's mapping
    ignored_labels: tuple[str, ...] = ()    # labels that name the reporter, not the condition
    repeat_interval_seconds: float | None = None
    identity: str | None = None             # the source whose alerts these are too; None: they are its own

    @property
    def space(self) -> str:
        """The name that makes an alert's identity together with its dedup key."""
        return self.identity or self.name


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter made of one body.

    Attributes:
        identity: the identity that the sender gave the delivery itself (CloudEvents source + id, …); None: every receipt is a new delivery.
        lost: how many alerts the sender says that it left out (`truncatedAlerts`).
        group: the sender's name for what it notifies of together; its deliveries are kept in order. None: it has none.
    """

    observations: tuple[Observation, ...]
    identity: str | None = None
    lost: int = 0
    group: str | None = None


SEVERITY_WORDS: Final[dict[str, Severity]] = {
    word: severity
    for severity, words in {
        Severity.CRITICAL: "critical crit page fatal emergency emerg disaster p1 sev1 blocker alert",
        Severity.HIGH: "high error err major p2 sev2 severe",
        Severity.WARNING: "warning warn minor average medium moderate p3 sev3",
        Severity.INFO: "info information informational none notice low debug ok p4 p5 sev4 sev5",
    }.items()
    for word in words.split()
}


def severity_of(word: object) -> Severity | None:
    """The severity that a sender's word stands for (any case); None for an unknown or missing word."""
    return SEVERITY_WORDS.get(word.strip().lower()) if isinstance(word, str) else None
