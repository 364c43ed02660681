"""Judgement: what each observation of a delivery means, decided on the streams as they stand.

    trigger      an episode begins, is repeated, or the statement is late
    resolve      the episode ends; when it was the last of its incident, the incident recovers and, after settling, is resolved
    acknowledge  the open episode is acknowledged

Which alerts are worth an incident and which belong together is the ticket rule's business (`engine/rule.py`); the
correlation stream is the arbiter. DESIGN: "From a bell to a ticket".
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from engine.alert import (
    Alert,
    AlertEpisodeMissed,
    AlertEpisodeOpened,
    AlertHeardAgain,
    AlertListed,
    AlertSenderJoined,
    AlertSenderLeft,
    AlertSeverityChanged,
    AlertSourceJoined,
    AlertSourceLeft,
    Place,
)
from engine.change import Change, ChangeRecorded
from engine.clock import micros
from engine.correlation import Correlation
from engine.delivery import Disposition, MonitoringEvent
from engine.event import Fact
from engine.identity import alert_id, correlation_id, incident_id, rule_id, source_id, timer_id
from engine.incident import Incident
from engine.observation import Observation, ObservationKind, Severity, SourceProfile
from engine.rule import ASSESSMENT, Rule, TicketRule
from engine.rulebook import Outcome, Rulebook
from engine.source import Source
from engine.store import DueTimer
from engine.ticket import Meaning, Relation
from engine.timer import Timer
from engine.triage import NOTHING, Triage, apply_to, decide, record_of_alert, rulebook_in, with_service
from engine.work import Work

CHANNEL: Final = "monitoring"

# A lease by repeat interval is written again only when it moved by this part of its length: a storm of repeats must not
# become a storm of writes. The due time has the same slack on top, so a lease may end late by it, never early.
LEASE_SLACK: Final = 0.1
LEASE: Final = "lease"        # by the source's repeat interval: ends in stale, then in a resolve
ENDS_AT: Final = "ends_at"    # by the sender's own word (Alertmanager API): ends at once
STALE: Final = "stale"
SETTLE: Final = "settle"


class LeasePolicy:
    """How long a source's word holds.

    Attributes:
        repeat_seconds: the source repeats this often; its lease is twice that. None: it does not repeat.
        explicit_seconds: where an observation could carry `lease_until` and does not. None: the format has no such thing.
    """

    __slots__ = ("explicit_seconds", "repeat_seconds")

    def __init__(self, *, repeat_seconds: float | None = None, explicit_seconds: float | None = None) -> None:
        self.repeat_seconds, self.explicit_seconds = repeat_seconds, explicit_seconds

    def unless_said(self, now: datetime) -> tuple[datetime | None, bool]:
        """(end of the lease of what was heard now and does not say it itself, or None; whether its format has such a word)."""
        if self.explicit_seconds is not None:
            return now + timedelta(seconds=self.explicit_seconds), True
        if self.repeat_seconds is not None:
            return now + timedelta(seconds=2 * self.repeat_seconds), False
        return None, False


def lease_timer(alert: Alert, holder: str) -> UUID:
    """The timer of one holder's lease: each has its own, so that a short one ends no other."""
    return timer_id(alert.id, LEASE if holder == alert.source else f"{LEASE}:{holder}")


def holder_of(alert: Alert, timer: UUID) -> str | None:
    """Whose lease the timer is; None: of nobody who holds the alert (any more)."""
    return next((holder for holder in alert.holders if lease_timer(alert, holder) == timer), None)


class Judgement:
    """Judges the observations of one source within one unit of work.

    Args:
        holder: who holds the alerts that it reports; None: the source, in its own format.
    """

    def __init__(
        self, work: Work, profile: SourceProfile, rule: TicketRule, lease: LeasePolicy | None = None, holder: str | None = None
    ) -> None:
        self.work, self.profile, self.rule, self.lease = work, profile, rule, lease or LeasePolicy()
        self.holder = holder or profile.name
        # The same for all observations of a unit that do not say it themselves, so it is worked out once.
        self._until, self._explicit = self.lease.unless_said(work.now)
        self._due = micros(self._until) if self._until is not None else 0

    @classmethod
    def for_source(cls, work: Work, name: str, lease: LeasePolicy | None = None, holder: str | None = None) -> "Judgement":
        """With the source's profile and the rule version in force.

        Raises:
            LookupError: no such source.
        """
        source = work.load(Source, source_id(name))
        if source.profile is None:
            raise LookupError(name)
        return cls(work, source.profile, work.load(Rule, rule_id(source.rule)).current, lease, holder)

    def judge(self, observation: Observation) -> MonitoringEvent:
        """Decide what one observation means, record what follows, and say what was decided."""
        match observation.kind:
            case ObservationKind.TRIGGER:
                return self._trigger(observation)
            case ObservationKind.RESOLVE:
                return self._resolve(observation)
            case ObservationKind.ACKNOWLEDGE:
                return self._acknowledge(observation)
            case ObservationKind.CHANGE:
                return self._change(observation)
            case _:
                return MonitoringEvent(observation=observation, disposition=Disposition.IGNORED, dedup_key=observation.dedup_key)

    # -- trigger -------------------------------------------------------------------------------------------------------

    def _trigger(self, observation: Observation) -> MonitoringEvent:
        key = observation.dedup_key
        if key is None:
            # The imitated format says that a statement without a key is a new condition each time.
            key = uuid4().hex
            alert = self.work.fresh(Alert, alert_id(self.profile.space, key))
        else:
            alert = self.work.load(Alert, alert_id(self.profile.space, key))
        start, kept = observation.episode_start, None
        if alert.firing:
            place = alert.place_of(start, observation.sender)
            if place is Place.SAME:
                self._repeat(alert, observation)
                return self._said(observation, key, alert, Disposition.REPEATED)
            if place is Place.OLDER:
                return self._said(observation, key, alert, Disposition.LATE)
            assert start is not None
            kept = self._supersede(alert, start)
        elif start is not None and alert.belongs_to_ended(start):
            if not alert.number:
                alert.record(AlertListed(number=self.work.number("ALT")))
            return self._said(observation, key, alert, Disposition.LATE)
        self._open(alert, key, observation, kept)
        return self._said(observation, key, alert, Disposition.OPENED)

    def _supersede(self, alert: Alert, start: datetime) -> UUID | None:
        """End the open episode where a newer one begins. Its incident, while open, keeps the alert: then this one's id."""
        incident = self.work.load(Incident, alert.incident) if alert.incident else None
        alert.end_episode(ended_at=start, cause="newer_episode")
        if alert.holders != (self.holder,):
            self._drop_lease(alert)
        if incident is not None and incident.is_open and incident.correlation is not None:
            correlation = self.work.load(Correlation, incident.correlation)
            if correlation.incident == incident.id and alert.id in correlation.firing:
                return incident.id
        assert alert.ended_at is not None
        self.follow_end(alert, alert.ended_at)
        return None

    def _open(self, alert: Alert, key: str, observation: Observation, kept: UUID | None) -> None:
        severity = observation.severity or self.profile.severity
        triage = self._triage(observation, severity)
        worth = kept is None and self._worth(severity, triage)
        plan = self._plan(alert, observation) if worth else None
        opened = alert.open_episode(
            AlertEpisodeOpened(
                number=alert.number or self.work.number("ALT"),
                source=self.profile.name,
                dedup_key=key,
                title=observation.title,
                severity=severity,
                started_at=self._start_of(alert, observation),
                declared=observation.episode_start is not None,
                service=observation.service,
                resource=observation.resource,
                labels=observation.labels,
                sender=observation.sender,
                link=observation.link,
                incident=plan.incident if plan else kept,
                rule=self.rule.name,
                rule_version=self.rule.version,
                decision=triage.decided_by("outcome"),
                rulebook_version=triage.version if triage.decided_by("outcome") else None,
                holder=self.holder if self.holder != self.profile.name else None,
            )
        )
        if plan:
            self._attach(plan, alert, observation, severity, opened, triage)
        self._renew_lease(alert, observation)

    def _triage(self, observation: Observation, severity: Severity) -> Triage:
        """What the rulebook says of an alert, where it says at all which alerts are worth an incident."""
        book = rulebook_in(self.work)
        return self._decided(book, observation, severity) if book.judges_alerts else NOTHING

    def _decided(self, book: Rulebook, observation: Observation, severity: Severity) -> Triage:
        if not book.for_alerts:
            return NOTHING
        return decide(book.for_alerts, book.version, record_of_alert(self.work, self.profile.name, observation, severity))

    def _worth(self, severity: Severity, triage: Triage) -> bool:
        """Whether it is worth an incident: as the rulebook says, else by its severity."""
        outcome = triage.value("outcome")
        return severity in self.rule.opens_at if outcome is None else outcome is Outcome.OPEN

    def _start_of(self, alert: Alert, observation: Observation) -> datetime:
        """The declared start, else the claimed time where that is plausible, else receipt."""
        if observation.episode_start is not None:
            return observation.episode_start
        claimed, now = observation.occurred_at, self.work.now
        if claimed is None or claimed > now or (alert.ended_at is not None and claimed <= alert.ended_at):
            return now
        return claimed

    def _repeat(self, alert: Alert, observation: Observation) -> None:
        """Nothing is recorded for a mere repeat; counting is a projection."""
        severity = observation.severity or self.profile.severity
        sender, start = observation.sender, observation.episode_start
        if sender and alert.senders:
            moved = start is not None and alert.declared and start != alert.since(sender)
            if moved or sender not in alert.senders:
                alert.record(AlertSenderJoined(sender=sender, started_at=start))
        if self.holder not in alert.holders:
            alert.record(AlertSourceJoined(source=self.holder))
        if severity is not alert.severity:
            self._change_severity(alert, observation, severity)
        stale_since = alert.stale_since
        if stale_since is not None:
            alert.record(AlertHeardAgain())
            for silent in alert.holders:
                if silent != self.holder:
                    alert.record(AlertSourceLeft(source=silent, lease_until=stale_since))
            self.work.load(Timer, timer_id(alert.id, STALE)).cancel()
        self._renew_lease(alert, observation)

    def _change_severity(self, alert: Alert, observation: Observation, severity: Severity) -> None:
        """It got better or worse; worse may make it worth an incident after all."""
        triage = self._triage(observation, severity)
        worth = self._worth(severity, triage) and alert.incident is None
        plan = self._plan(alert, observation) if worth else None
        changed = alert.record(AlertSeverityChanged(severity=severity, incident=plan.incident if plan else None))
        if plan:
            self._attach(plan, alert, observation, severity, changed, triage)

    # -- resolve -------------------------------------------------------------------------------------------------------

    def _resolve(self, observation: Observation) -> MonitoringEvent:
        key = observation.dedup_key
        if key is None:
            return MonitoringEvent(observation=observation, disposition=Disposition.UNMATCHED)
        alert = self.work.load(Alert, alert_id(self.profile.space, key))
        start, ended_at = observation.episode_start, observation.ended_at or self.work.now
        if not alert.firing:
            return self._said(observation, key, alert, self._resolve_unopened(alert, key, observation, ended_at))
        if observation.sender and alert.senders:
            held = self._leave(alert, observation, observation.sender, ended_at)
            if held is not None:
                return self._said(observation, key, alert, held)
        match alert.place_of(start, observation.sender):
            case Place.OLDER:
                return self._said(observation, key, alert, Disposition.LATE)
            case Place.NEWER:
                # A newer episode came and went unseen: the open one ended when it began.
                assert start is not None
                alert.end_episode(ended_at=start, cause="newer_episode")
                self._miss(alert, key, observation, start, ended_at)
            case Place.SAME:
                if alert.stale_since is not None:
                    self.work.load(Timer, timer_id(alert.id, STALE)).cancel()
                alert.end_episode(ended_at=ended_at)
        assert alert.ended_at is not None
        self.follow_end(alert, alert.ended_at)
        return self._said(observation, key, alert, Disposition.RESOLVED)

    def _leave(self, alert: Alert, observation: Observation, sender: str, ended_at: datetime) -> Disposition | None:
        """One of several reporters resolves: what that comes to while others fire; None: it was the last that fired."""
        start = observation.episode_start if alert.declared else None
        known = sender in alert.senders
        if not known and start is None:
            return Disposition.UNMATCHED
        if alert.place_of(start, sender) is Place.OLDER:
            return Disposition.LATE
        if known and len(alert.senders) == 1:
            return None
        # Also where its firing has not arrived yet, so that it opens nothing when it comes.
        alert.record(AlertSenderLeft(sender=sender, started_at=start or alert.senders.get(sender), ended_at=ended_at))
        return Disposition.HELD

    def _resolve_unopened(self, alert: Alert, key: str, observation: Observation, ended_at: datetime) -> Disposition:
        start = observation.episode_start
        if start is None:
            return Disposition.UNMATCHED
        if alert.belongs_to_ended(start):
            return Disposition.LATE
        self._miss(alert, key, observation, start, ended_at)
        return Disposition.RESOLVED

    def _miss(self, alert: Alert, key: str, observation: Observation, start: datetime, ended_at: datetime) -> None:
        alert.record(
            AlertEpisodeMissed(
                source=self.profile.name, dedup_key=key, title=observation.title,
                severity=observation.severity or self.profile.severity, started_at=start, ended_at=max(start, ended_at),
                clamped=ended_at < start,
            )
        )

    def _acknowledge(self, observation: Observation) -> MonitoringEvent:
        key = observation.dedup_key
        alert = self.work.load(Alert, alert_id(self.profile.space, key)) if key is not None else None
        if alert is None or not alert.firing:
            return MonitoringEvent(observation=observation, disposition=Disposition.UNMATCHED, dedup_key=key)
        alert.acknowledge()
        return self._said(observation, key, alert, Disposition.ACKNOWLEDGED)

    def _change(self, observation: Observation) -> MonitoringEvent:
        change = self.work.fresh(Change, self.work.new_id())
        number = self.work.number("CHG")
        change.report(
            ChangeRecorded(
                number=number, title=observation.title, source=self.profile.name,
                occurred_at=observation.occurred_at or self.work.now, service=observation.service,
                resource=observation.resource, details=observation.details, link=observation.link,
            )
        )
        return MonitoringEvent(observation=observation, disposition=Disposition.IGNORED, number=number)

    # -- incidents -----------------------------------------------------------------------------------------------------

    def _plan(self, alert: Alert, observation: Observation) -> "_Plan":
        """Which incident this alert belongs to: read from the arbiter, nothing recorded yet."""
        field, value = self.rule.group_of(observation) or ("alert", str(alert.id))
        correlation = self.work.load(Correlation, correlation_id(self.rule.name, field, value))
        current = self.work.load(Incident, correlation.incident) if correlation.incident else None
        if current is not None and (current.is_open or self._within_reopen_window(current)):
            return _Plan(correlation, field, value, current.id, current, None)
        return _Plan(correlation, field, value, incident_id(correlation.id, correlation.ordinal + 1), None, current)

    def _within_reopen_window(self, incident: Incident) -> bool:
        if incident.meaning is not Meaning.RESOLVED or incident.resolved_at is None:
            return False
        age = (self.work.now - incident.resolved_at).total_seconds()
        return self.rule.reopen_window_seconds > 0 and age <= self.rule.reopen_window_seconds

    def _attach(
        self, plan: "_Plan", alert: Alert, observation: Observation, severity: Severity, led_by: Fact, triage: Triage
    ) -> None:
        """Join the planned incident, or open it."""
        work, journal = self.work, self.work.journal
        actor, journal.actor = journal.actor, "tocsin"
        with work.caused_by(led_by):
            if plan.current is None:
                self._open_incident(plan, alert, observation, severity, triage)
            else:
                if alert.id not in plan.correlation.firing:
                    plan.correlation.join(alert.id)
                if not plan.current.is_open:
                    plan.current.reopen(reason=f"{alert.number} fires again within the reopen window", automatic=True)
                elif plan.current.relapse(alert=alert.id):
                    work.load(Timer, timer_id(plan.current.id, SETTLE)).cancel()
        journal.actor = actor

    def _open_incident(self, plan: "_Plan", alert: Alert, observation: Observation, severity: Severity, triage: Triage) -> None:
        opened = plan.correlation.open_incident(
            rule=self.rule.name, rule_version=self.rule.version, field=plan.field, value=plan.value, incident=plan.incident,
            alert=alert.id,
        )
        if triage is NOTHING:
            triage = self._decided(rulebook_in(self.work), observation, severity)
        impact, urgency = ASSESSMENT[severity]
        with self.work.caused_by(opened):
            incident = Incident.open(
                plan.incident, self.work.journal,
                number=self.work.number("INC"), title=observation.title, impact=impact, urgency=urgency, now=self.work.now,
                channel=CHANNEL, description=observation.details.get("description", ""),
                service=with_service(triage, observation.service),
                correlation=plan.correlation.id, rule=self.rule.name, rule_version=self.rule.version, alert=alert.id,
            )
            self.work.adopt(incident)
            apply_to(self.work, incident, triage)
            if plan.predecessor is not None:
                incident.link(to=plan.predecessor.id, relation=Relation.SUCCESSOR_OF, by_hand=False)

    def follow_end(self, alert: Alert, ended_at: datetime, *, code: str = "solved") -> None:
        """An alert's episode ended: let its incident recover and settle when it was the last one."""
        self._drop_lease(alert)
        if alert.incident is None:
            return
        work, journal = self.work, self.work.journal
        incident = work.load(Incident, alert.incident)
        if incident.correlation is None:
            return
        correlation = work.load(Correlation, incident.correlation)
        actor, journal.actor = journal.actor, "tocsin"
        with work.caused_by(f"{alert.id}:{alert.version}"):
            ended = correlation.end(alert.id, ended_at=ended_at)
            if ended is not None and not correlation.firing and correlation.incident == incident.id:
                assert correlation.last_end is not None
                with work.caused_by(ended):
                    recovered = incident.recover(ended_at=correlation.last_end, code=code)
                if recovered is not None:
                    with work.caused_by(recovered):
                        self._settle(incident, correlation.last_end)
        journal.actor = actor

    def _settle(self, incident: Incident, ended_at: datetime) -> None:
        if self.rule.settle_seconds == 0:
            incident.settle(ended_at=ended_at, rule=self.rule.name, rule_version=self.rule.version)
            return
        due_at = self.work.now + timedelta(seconds=self.rule.settle_seconds)
        self.work.load(Timer, timer_id(incident.id, SETTLE)).set(owner=incident.id, purpose=SETTLE, due_at=due_at)

    # -- leases --------------------------------------------------------------------------------------------------------

    def _renew_lease(self, alert: Alert, observation: Observation) -> None:
        said = observation.lease_until
        if said is None and self._until is None:
            return
        due, explicit = (self._due, self._explicit) if said is None else (micros(said), True)
        if not explicit:
            if due <= self._written(alert):
                return
            due += int(LEASE_SLACK * (due - micros(self.work.now)))
        if self.holder == alert.source:
            alert._lease_written = due
        purpose = ENDS_AT if explicit else LEASE
        self.work.set_timer(DueTimer(lease_timer(alert, self.holder).bytes, alert.id.bytes, purpose, due))

    def _written(self, alert: Alert) -> int:
        """Until when this holder's lease is known to hold (µs); the opener's is remembered, since it is asked with every repeat."""
        if self.holder == alert.source:
            return alert._lease_written
        stored = self.work.due_timer(lease_timer(alert, self.holder).bytes)
        return stored.due_at if stored is not None else 0

    def _drop_lease(self, alert: Alert) -> None:
        """Nothing is due any more for an alert that fires no longer."""
        leased = self.lease.repeat_seconds is not None or self.lease.explicit_seconds is not None or alert._lease_written
        if leased or alert.holders != (self.holder,):
            alert._lease_written = 0
            for holder in alert.holders:
                self.work.clear_timer(lease_timer(alert, holder).bytes)

    def _said(self, observation: Observation, key: str | None, alert: Alert, disposition: Disposition) -> MonitoringEvent:
        incident = alert.incident if alert.number else None
        until = None
        if disposition in (Disposition.OPENED, Disposition.REPEATED):
            until = observation.lease_until or self._until
        return MonitoringEvent(
            observation=observation,
            disposition=disposition,
            dedup_key=key if observation.dedup_key is None else None,
            alert=alert.id if alert.exists else None,
            alert_number=alert.number or None,
            incident=incident,
            incident_number=self.work.load(Incident, incident).number if incident else None,
            rule=self.rule.name if disposition is Disposition.OPENED else None,
            rule_version=self.rule.version if disposition is Disposition.OPENED else None,
            lease_until=until,
        )


class _Plan:
    """The incident that an alert will join or open."""

    __slots__ = ("correlation", "current", "field", "incident", "predecessor", "value")

    def __init__(
        self, correlation: Correlation, field: str, value: str, incident: UUID, current: Incident | None, predecessor: Incident | None
    ) -> None:
        self.correlation, self.field, self.value = correlation, field, value
        self.incident, self.current, self.predecessor = incident, current, predecessor
