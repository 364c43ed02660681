"""A resolve may never come: a source that repeats is taken at its silence; never early, little late, and once."""

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.alert import Alert, AlertEpisodeEnded, AlertHeardAgain, AlertWentStale
from engine.clock import SimulatedClock, micros, rfc3339
from engine.incident import IncidentResolved
from engine.judgement import LEASE, SETTLE, STALE
from engine.ledger import Ledger
from engine.policy import fire
from engine.rule import TicketRule
from engine.source import SourceAdded
from engine.store import DueTimer
from engine.ticket import Meaning
from engine.timer import TimerFired
from engine.vault import Vault
from monitors.intake import Intake, lease_policy
from monitors.integrations.registry import adapter_named
from tests.conftest import NOON, Bell
from tests.engine.belfry import Belfry, effort, member, notice, told, with_belfry
from tests.stores import keyring_at, store_at

REPEAT: Final = 600.0
LABELS: Final = {"alertname": "DiskFull", "severity": "critical", "instance": "db1"}


def api_alert(start: datetime, ends_at: datetime | None) -> list[dict[str, object]]:
    """What Prometheus posts to an Alertmanager."""
    alert: dict[str, object] = {"labels": LABELS, "annotations": {}, "startsAt": rfc3339(start)}
    return [alert if ends_at is None else {**alert, "endsAt": rfc3339(ends_at)}]


def only_alert(bell: Bell) -> Alert:
    (alert,) = bell.alerts
    return alert


def due(bell: Bell) -> list[str]:
    """What is still to happen, by purpose."""
    return [timer.purpose for timer in bell.ledger.store.due_timers(2**62, 100)]


def causes(bell: Bell) -> list[str]:
    """Why each episode ended."""
    return [event.cause for event in told(bell, AlertEpisodeEnded)]


# -- the sender says how long ----------------------------------------------------------------------------------------------


@pytest.mark.law
@given(steps=st.lists(st.tuples(st.integers(1, 400), st.booleans(), st.none() | st.integers(1, 600)), min_size=1, max_size=12))
@effort(40)
def test_an_end_that_the_sender_gave_ends_the_alert_then_and_never_before(steps: list[tuple[int, bool, int | None]]) -> None:
    def example(belfry: Belfry) -> None:
        start = belfry.clock.now()
        until = start + timedelta(seconds=300)
        belfry.post("prometheus", api_alert(start, None))
        for seconds, repeats, holds in steps:
            belfry.clock.advance(seconds)
            now = belfry.clock.now()
            belfry.run_due()
            alert = only_alert(belfry)
            assert alert.firing == (now < until)
            if not alert.firing:
                assert alert.ended_at == until
                return
            if repeats:
                belfry.post("prometheus", api_alert(start, None if holds is None else now + timedelta(seconds=holds)))
                until = now + timedelta(seconds=300 if holds is None else holds)

    with_belfry(example)


def test_an_alert_whose_end_is_reached_takes_its_incident_along(bell: Bell) -> None:
    start = bell.clock.now()
    bell.ring("prometheus", _json(api_alert(start, start + timedelta(seconds=90))))
    bell.clock.advance(120)
    assert bell.run_due() == 1
    alert, (incident,) = only_alert(bell), bell.incidents
    assert alert.ended_at == start + timedelta(seconds=90)
    assert (incident.meaning, incident.resolved_at) == (Meaning.RESOLVED, start + timedelta(seconds=90))
    assert causes(bell) == ["no_longer_reported"]
    assert due(bell) == []


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


# -- the source repeats ----------------------------------------------------------------------------------------------------


def repeating(belfry: Bell) -> None:
    belfry.add_source(SourceAdded(name="repeater", adapter="alertmanager", repeat_interval_seconds=REPEAT))


@pytest.mark.law
@given(steps=st.lists(st.tuples(st.integers(1, 700), st.sampled_from(["repeat", "repeat", "look"])), min_size=1, max_size=20))
@effort(40)
def test_silence_for_two_intervals_makes_it_stale_never_early_and_a_tenth_late_at_most(steps: list[tuple[int, str]]) -> None:
    def example(belfry: Belfry) -> None:
        repeating(belfry)
        start = belfry.clock.now()
        heard = start
        belfry.post("repeater", notice(member(start)))
        for seconds, what in steps:
            belfry.clock.advance(seconds)
            belfry.run_due()
            alert, silence = only_alert(belfry), (belfry.clock.now() - heard).total_seconds()
            if silence < 2 * REPEAT:
                assert alert.stale_since is None
            if silence >= 2 * REPEAT * 1.1:
                assert alert.stale_since is not None or not alert.firing
            if alert.stale_since is not None:
                assert 2 * REPEAT <= (alert.stale_since - heard).total_seconds() <= 2 * REPEAT * 1.1
            if not alert.firing:
                return
            if what == "repeat":
                belfry.post("repeater", notice(member(start)))
                heard = belfry.clock.now()
                assert only_alert(belfry).stale_since is None
        belfry.check_replay()

    with_belfry(example)


def test_stale_is_told_first_and_then_it_is_no_longer_reported(bell: Bell) -> None:
    repeating(bell)
    start = bell.clock.now()
    bell.ring("repeater", _json(notice(member(start))))
    bell.clock.advance(2 * REPEAT * 1.1)
    assert bell.run_due() == 1
    alert = only_alert(bell)
    assert (alert.firing, alert.stale_since) == (True, bell.clock.now())
    assert bell.incidents[0].is_open
    bell.clock.advance(REPEAT - 1)
    assert bell.run_due() == 0
    bell.clock.advance(1)
    assert bell.run_due() == 1
    alert, (incident,) = only_alert(bell), bell.incidents
    assert alert.ended_at == start + timedelta(seconds=2 * REPEAT * 1.1)
    assert (incident.meaning, incident.resolved_at) == (Meaning.RESOLVED, alert.ended_at)
    assert due(bell) == []
    # Its own start is over: the same firing told again is late, and opens nothing.
    assert bell.ring("repeater", _json(notice(member(start)))).monitoring_events[0].disposition == "late"


def test_an_alert_that_is_heard_again_fires_on(bell: Bell) -> None:
    repeating(bell)
    start = bell.clock.now()
    bell.ring("repeater", _json(notice(member(start))))
    bell.clock.advance(3 * REPEAT)
    bell.run_due()
    bell.ring("repeater", _json(notice(member(start))))
    alert = only_alert(bell)
    assert (alert.firing, alert.stale_since) == (True, None)
    assert due(bell) == [LEASE]
    assert [type(event) for event in bell.events(AlertWentStale, AlertHeardAgain)] == [AlertWentStale, AlertHeardAgain]
    bell.clock.advance(REPEAT)
    assert bell.run_due() == 0
    assert only_alert(bell).firing


def test_a_resolve_leaves_no_lease_behind(bell: Bell) -> None:
    repeating(bell)
    start = bell.clock.now()
    bell.ring("repeater", _json(notice(member(start))))
    assert due(bell) == [LEASE]
    bell.ring("repeater", _json(notice(member(start, start + timedelta(minutes=1)))))
    assert due(bell) == []


def test_a_storm_of_repeats_does_not_become_a_storm_of_renewals(bell: Bell) -> None:
    repeating(bell)
    start = bell.clock.now()
    written: list[int] = []
    for _ in range(100):
        bell.clock.advance(1)
        bell.ring("repeater", _json(notice(member(start))))
        (timer,) = bell.ledger.store.due_timers(2**62, 10)
        written.append(timer.due_at)
    assert len(set(written)) == 1


def test_a_source_that_does_not_repeat_has_no_lease(bell: Bell) -> None:
    bell.ring("pagerduty", "pagerduty-events-v2/trigger.json")
    assert due(bell) == []


class BellBeside(Bell):
    """Of a second process: the sources are there already."""

    def __init__(self, ledger: Ledger, clock: SimulatedClock) -> None:
        self.ledger, self.clock, self.intake = ledger, clock, Intake(ledger)


def test_a_lease_is_renewed_by_another_process_as_well(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("leases")
    clock = SimulatedClock(NOON, running=False)
    ledgers = [Ledger(store_at(folder), Vault(keyring_at(folder), b"k" * 32), clock) for _ in range(2)]
    bells = [Bell(ledgers[0], clock), BellBeside(ledgers[1], clock)]
    repeating(bells[0])
    start = clock.now()
    for turn in range(12):
        bells[turn % 2].ring("repeater", _json(notice(member(start))))
        clock.advance(REPEAT)
        assert bells[(turn + 1) % 2].run_due() == 0
    clock.advance(2 * REPEAT)
    assert sum(bell.run_due() for bell in bells) == 1
    assert only_alert(bells[0]).stale_since is not None
    for ledger in ledgers:
        ledger.close()
        ledger.store.close()
        ledger.vault.close()


# -- exactly once ----------------------------------------------------------------------------------------------------------


def both_fire(bell: Bell, other: Ledger, timer: DueTimer, source: str) -> list[bool]:
    """Two schedulers fire the same due timer at the same moment."""
    profile = bell.intake.profile(source)
    policy = lease_policy(profile, adapter_named(profile.adapter))
    ready = threading.Barrier(4)
    fired: list[bool] = []

    def scheduler(ledger: Ledger) -> None:
        ready.wait(30)
        fired.append(ledger.run(fire(timer, policy)))

    threads = [threading.Thread(target=scheduler, args=(ledger,)) for ledger in (bell.ledger, bell.ledger, other, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return sorted(fired)


@pytest.fixture
def other(bell: Bell, tmp_path: Path) -> Iterator[Ledger]:
    """Another process's ledger on the bell's store."""
    ledger = Ledger(store_at(tmp_path), Vault(keyring_at(tmp_path), b"k" * 32), bell.clock)
    yield ledger
    ledger.close()
    ledger.store.close()
    ledger.vault.close()


def test_a_timer_that_several_schedulers_fire_does_its_work_once(bell: Bell, other: Ledger) -> None:
    repeating(bell)
    rule = TicketRule(name="settling", settle_seconds=60)
    bell.publish(rule)
    bell.add_source(SourceAdded(name="settler", adapter="alertmanager", rule="settling"))
    start = bell.clock.now()
    bell.ring("repeater", _json(notice(member(start, instance="a"))))
    bell.ring("settler", _json(notice(member(start, instance="b"))))
    bell.ring("settler", _json(notice(member(start, start + timedelta(seconds=1), instance="b"))))
    for purpose, source, wait in ((SETTLE, "settler", 60.0), (LEASE, "repeater", 2 * REPEAT * 1.1), (STALE, "repeater", REPEAT)):
        bell.clock.advance(wait)
        (timer,) = [each for each in bell.ledger.store.due_timers(micros(bell.clock.now()), 10) if each.purpose == purpose]
        assert both_fire(bell, other, timer, source) == [False, False, False, True]
    fired = [fact for fact in bell.ledger.read(0, 1_000) if isinstance(fact.event, TimerFired)]
    assert len({fact.event.firing for fact in fired if isinstance(fact.event, TimerFired)}) == len(fired) == 3
    assert len(bell.events(AlertWentStale)) == 1
    assert causes(bell) == ["resolved", "no_longer_reported"]


def test_a_timer_fires_not_before_its_time_and_not_after_it_was_moved_or_cancelled(bell: Bell) -> None:
    repeating(bell)
    start = bell.clock.now()
    bell.ring("repeater", _json(notice(member(start))))
    (timer,) = bell.ledger.store.due_timers(2**62, 10)
    profile = bell.intake.profile("repeater")
    policy = lease_policy(profile, adapter_named(profile.adapter))
    assert bell.ledger.run(fire(timer, policy)) is False  # not yet
    bell.clock.advance(REPEAT)
    bell.ring("repeater", _json(notice(member(start))))
    bell.clock.advance(1.3 * REPEAT)
    assert bell.ledger.run(fire(timer, policy)) is False  # moved
    bell.ring("repeater", _json(notice(member(start, bell.clock.now()))))
    bell.clock.advance(5 * REPEAT)
    assert bell.ledger.run(fire(timer, policy)) is False  # cancelled
    assert bell.events(TimerFired) == []


def test_an_incident_that_settles_after_a_lease_is_resolved_as_no_longer_reported(bell: Bell) -> None:
    bell.publish(TicketRule(name="reference", settle_seconds=60))
    start = bell.clock.now()
    bell.ring("prometheus", json.dumps(api_alert(start, start + timedelta(seconds=90))).encode(), adapter="prometheus")
    for _ in range(4):
        bell.clock.advance(60)
        bell.run_due()
    (incident,) = bell.incidents
    assert incident.meaning is Meaning.RESOLVED
    assert [event.code for event in told(bell, IncidentResolved)] == ["no_longer_reported"]


def test_a_resolve_of_a_stale_alert_leaves_nothing_due(bell: Bell) -> None:
    bell.add_source(SourceAdded(name="quiet", adapter="alertmanager", repeat_interval_seconds=REPEAT))
    start = bell.clock.now()
    bell.ring("quiet", json.dumps(notice(member(start))).encode())
    bell.clock.advance(2.3 * REPEAT)
    bell.run_due()
    assert due(bell) == [STALE]
    bell.ring("quiet", json.dumps(notice(member(start, bell.clock.now()))).encode())
    assert due(bell) == []
