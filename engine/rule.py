"""Ticket rules: which alerts are worth an incident, which ones belong together, and when it is over.

A rule is data, published as an event with a version, and every decision names both.
"""

from typing import ClassVar, Final
from uuid import UUID

import msgspec

from engine.aggregate import Aggregate, Journal, applies
from engine.errors import InvalidInput
from engine.event import Event, Fact
from engine.observation import Observation, Severity
from engine.priority import Level


class TicketRule(msgspec.Struct, frozen=True, kw_only=True):
    """When alerts open an incident.

    Attributes:
        opens_at: severities that are worth an incident.
        group_by: an alert joins the open incident of the first of these that it has: `service`, `resource` or a label.
            An alert that has none of them is a group of its own.
        settle_seconds: how long its alerts must stay ended before the incident is resolved.
        reopen_window_seconds: within it a new occurrence reopens the resolved incident; after it, a linked successor opens.
    """

    name: str
    version: int = 1
    opens_at: tuple[Severity, ...] = (Severity.CRITICAL, Severity.HIGH)
    group_by: tuple[str, ...] = ("service", "resource")
    settle_seconds: float = 0.0
    reopen_window_seconds: float = 0.0

    def group_of(self, observation: Observation) -> tuple[str, str] | None:
        """(field, value) of the group that the alert belongs to; None: it stands alone."""
        for field in self.group_by:
            value = getattr(observation, field) if field in ("service", "resource") else observation.labels.get(field)
            if value:
                return field, value
        return None


# Impact and urgency of an incident that intake opens, from the severity of its first alert.
ASSESSMENT: Final[dict[Severity, tuple[Level, Level]]] = {
    Severity.CRITICAL: (Level.HIGH, Level.HIGH),
    Severity.HIGH: (Level.MEDIUM, Level.HIGH),
    Severity.WARNING: (Level.MEDIUM, Level.MEDIUM),
    Severity.INFO: (Level.LOW, Level.LOW),
}

REFERENCE: Final = TicketRule(name="reference")


class RulePublished(Event, frozen=True):
    """A rule, or a new version of it, is in force from here on."""

    TOPIC: ClassVar[str] = "rule.published.v1"
    rule: TicketRule


class Rule(Aggregate):
    """The versions of one ticket rule; the latest is in force."""

    KIND: ClassVar[str] = "rule"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.current = REFERENCE

    def publish(self, rule: TicketRule) -> Fact:
        """Put a new version in force; its number is counted here, whatever `rule` says.

        Raises:
            InvalidInput: negative times, or nothing to group by.
        """
        for field in ("settle_seconds", "reopen_window_seconds"):
            if not 0 <= getattr(rule, field) <= 366 * 86_400:
                raise InvalidInput(field, "seconds from 0 to a year")
        return self.record(RulePublished(rule=msgspec.structs.replace(rule, version=self.version + 1)))

    @applies(RulePublished)
    def _published(self, event: RulePublished) -> None:
        self.current = event.rule
