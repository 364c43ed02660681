"""When the last alert of an incident ends: it recovers, settles, and is resolved, unless a person has it in hand."""

import json
from datetime import timedelta
from typing import Any, Final

import pytest

from engine.correlation import Correlation
from engine.delivery import Disposition
from engine.incident import Incident, IncidentRecovered, IncidentRelapsed, IncidentResolved
from engine.rule import TicketRule
from engine.source import SourceAdded
from engine.ticket import Meaning, Relation, TicketReopened, Visibility
from engine.timer import TimerCancelled, TimerFired
from tests.conftest import Bell
from tests.engine.belfry import statement, told

SETTLE: Final = 300.0


@pytest.fixture
def town(bell: Bell) -> Bell:
    """A source whose rule waits five minutes before it resolves, and reopens within ten."""
    bell.publish(TicketRule(name="calm", settle_seconds=SETTLE, reopen_window_seconds=600))
    bell.add_source(SourceAdded(name="town", adapter="generic", rule="calm"))
    return bell


def says(bell: Bell, key: str, *, firing: bool) -> Any:
    """Told by a source without episode starts."""
    body = json.dumps(statement(key, firing=firing, service="bread")).encode()
    return bell.ring("town", body).monitoring_events[0]


def only(bell: Bell) -> Incident:
    (incident,) = bell.incidents
    return incident


def test_an_incident_is_resolved_at_the_end_of_its_last_alert_once_that_has_lasted(town: Bell) -> None:
    says(town, "mill", firing=True)
    says(town, "well", firing=True)
    town.clock.advance(60)
    says(town, "mill", firing=False)
    assert not only(town).recovered
    town.clock.advance(60)
    ended_at = town.clock.now()
    says(town, "well", firing=False)
    assert (only(town).recovered, only(town).meaning) == (True, Meaning.NEW)
    town.clock.advance(SETTLE - 1)
    assert town.run_due() == 0
    assert only(town).is_open
    town.clock.advance(1)
    assert town.run_due() == 1
    assert (only(town).meaning, only(town).resolved_at) == (Meaning.RESOLVED, ended_at)
    (resolved,) = told(town, IncidentResolved)
    assert (resolved.automatic, resolved.rule, resolved.rule_version, resolved.code) == (True, "calm", 1, "solved")


def test_an_alert_that_fires_meanwhile_joins_and_cancels_settling(town: Bell) -> None:
    says(town, "mill", firing=True)
    says(town, "mill", firing=False)
    town.clock.advance(SETTLE - 10)
    assert says(town, "well", firing=True).incident == only(town).id
    assert len(town.events(TimerCancelled)) == len(town.events(IncidentRelapsed)) == 1
    town.clock.advance(SETTLE)
    assert town.run_due() == 0
    assert (only(town).is_open, only(town).recovered) == (True, False)
    says(town, "well", firing=False)
    town.clock.advance(SETTLE)
    assert town.run_due() == 1
    assert only(town).meaning is Meaning.RESOLVED


@pytest.mark.parametrize("before_the_end", [True, False])
@pytest.mark.parametrize(
    ("command", "values", "acts"),
    [
        ("acknowledge", {"by": None}, True), ("comment", {"text": "on it", "visibility": Visibility.PUBLIC, "author": None}, True),
        ("assign", {"team": "watch", "assignee": None}, False), ("hold", {"reason": "waits"}, False),
    ],
)
def test_what_a_person_has_in_hand_is_only_proposed(
    town: Bell, command: str, values: dict[str, Any], *, acts: bool, before_the_end: bool
) -> None:
    says(town, "mill", firing=True)
    if before_the_end:
        town.act(only(town), command, **values)
    says(town, "mill", firing=False)
    if not before_the_end:
        town.act(only(town), command, **values)
    town.clock.advance(SETTLE)
    town.run_due()
    assert only(town).recovered
    assert only(town).is_open is not acts
    (recovered,) = told(town, IncidentRecovered)
    assert recovered.proposed is (before_the_end and not acts)


def resolved_by_itself(town: Bell) -> Incident:
    says(town, "mill", firing=True)
    says(town, "mill", firing=False)
    town.clock.advance(SETTLE)
    town.run_due()
    assert only(town).meaning is Meaning.RESOLVED
    return only(town)


def test_within_the_window_the_same_incident_is_reopened_and_may_be_resolved_by_itself_again(town: Bell) -> None:
    incident = resolved_by_itself(town)
    town.clock.advance(600 - SETTLE)
    assert says(town, "mill", firing=True).incident == incident.id
    assert (only(town).is_open, only(town).recovered, only(town).resolved_at) == (True, False, None)
    (reopened,) = told(town, TicketReopened)
    assert reopened.automatic
    says(town, "mill", firing=False)
    town.clock.advance(SETTLE)
    assert town.run_due() == 1
    assert only(town).meaning is Meaning.RESOLVED


def test_after_the_window_a_linked_successor_is_opened(town: Bell) -> None:
    incident = resolved_by_itself(town)
    town.clock.advance(601 - SETTLE)
    said = says(town, "mill", firing=True)
    first, second = town.incidents
    assert (said.disposition, said.incident) == (Disposition.OPENED, second.id)
    assert second.links == ((first.id, Relation.SUCCESSOR_OF.value),)
    assert not second.touched  # a rule linked it
    assert (first.id, first.meaning, first.resolved_at) == (incident.id, Meaning.RESOLVED, incident.resolved_at)


def test_what_a_person_had_resolved_is_reopened_within_the_window_and_then_left_to_people(town: Bell) -> None:
    says(town, "mill", firing=True)
    town.act(only(town), "resolve", code="solved", solution="put out", now=town.clock.now())
    says(town, "mill", firing=False)
    town.clock.advance(60)
    says(town, "mill", firing=True)
    assert only(town).is_open
    says(town, "mill", firing=False)
    town.clock.advance(SETTLE)
    town.run_due()
    assert (only(town).recovered, only(town).is_open) == (True, True)


@pytest.mark.parametrize("end", ["close", "cancel"])
def test_what_is_closed_or_cancelled_is_not_reopened_by_a_rule(town: Bell, end: str) -> None:
    says(town, "mill", firing=True)
    if end == "close":
        town.act(only(town), "resolve", code="solved", solution="put out", now=town.clock.now())
    town.act(only(town), end, **({} if end == "close" else {"reason": "a drill"}))
    says(town, "mill", firing=False)
    says(town, "mill", firing=True)
    first, second = town.incidents
    assert (first.is_open, second.is_open) == (False, True)


def test_a_resolve_by_hand_while_it_settles_is_not_followed_by_another(town: Bell) -> None:
    says(town, "mill", firing=True)
    says(town, "mill", firing=False)
    town.act(only(town), "resolve", code="workaround", solution="put out", now=town.clock.now())
    town.clock.advance(SETTLE)
    assert town.run_due() == 1
    assert len(town.events(IncidentResolved)) == len(town.events(TimerFired)) == 1


def test_a_new_episode_of_the_same_alert_stays_in_its_open_incident_however_bad_it_is(bell: Bell) -> None:
    """Else the incident would keep an alert that nobody can end any more."""
    bell.add_source(SourceAdded(name="town", adapter="generic"))
    start = bell.clock.now()

    def tell(minute: int, severity: str, service: str, *, firing: bool = True) -> None:
        at = start + timedelta(minutes=minute)
        ended = {} if firing else {"ended_at": at + timedelta(seconds=30)}
        body = statement("mill", firing=firing, severity=severity, service=service, episode_start=at, **ended)
        bell.ring("town", json.dumps(body).encode())

    tell(0, "critical", "bread")
    tell(1, "warning", "bread")
    tell(2, "critical", "water")
    alert, incident = bell.alert("town", "mill"), only(bell)
    assert alert.incident == incident.id
    assert incident.correlation is not None
    assert bell.ledger.get(Correlation, incident.correlation).firing == {alert.id}
    tell(2, "critical", "water", firing=False)
    assert only(bell).meaning is Meaning.RESOLVED


def test_a_new_episode_after_its_incident_was_resolved_by_hand_leaves_the_old_group_clean(bell: Bell) -> None:
    bell.add_source(SourceAdded(name="town", adapter="generic"))
    start = bell.clock.now()
    for minute, service in ((0, "bread"), (1, "water")):
        body = statement("mill", service=service, episode_start=start + timedelta(minutes=minute))
        bell.ring("town", json.dumps(body).encode())
        if minute == 0:
            bell.act(only(bell), "resolve", code="solved", solution="put out", now=bell.clock.now())
    first, second = bell.incidents
    assert first.correlation is not None
    assert second.correlation is not None
    assert first.correlation != second.correlation
    assert bell.ledger.get(Correlation, first.correlation).firing == set()
    assert bell.ledger.get(Correlation, second.correlation).firing == {bell.alert("town", "mill").id}
