"""What a due timer does. Timers are fired by a scheduler (`api/scheduler.py`); every firing is decided like any command."""

from datetime import timedelta
from uuid import UUID

from engine import notice
from engine.alert import Alert, AlertSourceLeft, AlertWentStale
from engine.clock import from_micros
from engine.correlation import Correlation
from engine.event import Fact
from engine.identity import rule_id, timer_id
from engine.incident import Incident
from engine.judgement import ENDS_AT, LEASE, SETTLE, STALE, Judgement, LeasePolicy, holder_of
from engine.rule import Rule
from engine.store import DueTimer
from engine.timer import Timer
from engine.work import Unit, Work


def fire(due: DueTimer, lease: LeasePolicy) -> Unit[bool]:
    """The unit that fires one due timer; its answer says whether it was still due.

    Args:
        lease: how long the word of the lease's holder holds (only asked for timers of alerts).
    """
    return Unit(lambda work: _fire(work, due, lease), actor="timer")


def _fire(work: Work, due: DueTimer, lease: LeasePolicy) -> bool:
    stored = work.due_timer(due.timer)
    if stored is None or stored.due_at != due.due_at or from_micros(due.due_at) > work.now:
        return False  # moved, cancelled or fired by another scheduler meanwhile
    timer = work.load(Timer, UUID(bytes=due.timer))
    owner = UUID(bytes=due.owner)
    if due.purpose in (LEASE, ENDS_AT):
        fired: Fact | None = timer.fired_for(from_micros(due.due_at))
    else:
        fired = timer.fire(work.now)
    if fired is None:
        return False
    work.journal.actor = "tocsin"
    with work.caused_by(fired):
        if due.purpose == SETTLE:
            _settle(work, owner)
        elif due.purpose in (LEASE, ENDS_AT):
            _end_lease(work, owner, due, lease)
        elif due.purpose == STALE:
            _no_longer_reported(work, owner, lease)
        elif due.purpose.startswith((notice.THEN, notice.AGAIN)):
            notice.fire(work, owner, due.purpose, from_micros(due.due_at))
    return True


def _settle(work: Work, owner: UUID) -> None:
    incident = work.load(Incident, owner)
    if incident.correlation is None:
        return
    correlation = work.load(Correlation, incident.correlation)
    rule = work.load(Rule, rule_id(correlation.rule)).current
    if not correlation.firing and correlation.last_end is not None:
        incident.settle(ended_at=correlation.last_end, rule=rule.name, rule_version=rule.version)


def _end_lease(work: Work, owner: UUID, due: DueTimer, lease: LeasePolicy) -> None:
    alert = work.load(Alert, owner)
    holder, ended = holder_of(alert, UUID(bytes=due.timer)), from_micros(due.due_at)
    if holder == alert.source:
        alert._lease_written = 0
    if holder is None or not alert.firing or alert.stale_since is not None:
        return
    if len(alert.holders) > 1:
        alert.record(AlertSourceLeft(source=holder, lease_until=ended))
        return
    stale = alert.record(AlertWentStale(lease_until=ended))
    with work.caused_by(stale):
        if due.purpose == ENDS_AT:
            # The sender said how long its word holds: nothing more to wait for.
            _no_longer_reported(work, owner, lease)
            return
        grace = timedelta(seconds=lease.repeat_seconds or 0.0)
        work.load(Timer, timer_id(owner, STALE)).set(owner=owner, purpose=STALE, due_at=work.now + grace)


def _no_longer_reported(work: Work, owner: UUID, lease: LeasePolicy) -> None:
    alert = work.load(Alert, owner)
    if not alert.firing or alert.stale_since is None:
        return
    ended = alert.end_episode(ended_at=alert.stale_since, cause="no_longer_reported")
    assert alert.ended_at is not None
    with work.caused_by(ended):
        Judgement.for_source(work, alert.source, lease).follow_end(alert, alert.ended_at, code="no_longer_reported")
