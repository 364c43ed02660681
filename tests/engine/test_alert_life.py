"""Any history of deliveries, commands and time leaves alerts and incidents that keep the rules of the engine."""

from datetime import datetime, timedelta
from typing import Any, Final, Literal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.aggregate import replay
from engine.alert import Alert
from engine.correlation import Correlation
from engine.delivery import DeliveryReceived, Disposition
from engine.identity import alert_id, incident_id, source_id
from engine.incident import Incident, IncidentResolved
from engine.observation import Severity
from engine.rule import TicketRule
from engine.source import SourceAdded
from engine.ticket import Meaning, Relation
from monitors.intake import Receipt
from tests.engine.belfry import Belfry, effort, statement

SOURCE: Final = "town"
KEYS: Final[tuple[str, ...]] = ("mill", "gate", "well")
# A condition may be told of another service in another episode.
services = st.sampled_from(["bread", "water", None])

When = Literal["present", "next", "past"]
# One statement: of which condition, about which of its episodes, how bad, of which service (it may differ from episode to
# episode), firing or not.
statements = st.tuples(
    st.sampled_from(KEYS), st.sampled_from(["present", "present", "present", "next", "next", "past"]),
    st.sampled_from(["critical", "critical", "warning"]), st.sampled_from(["bread", "bread", "water", None]), st.booleans(),
)


class Expected:
    """What the rules of episodes say of one alert, in the simplest words: the start that is open, and those that are over."""

    def __init__(self) -> None:
        self.open: datetime | None = None
        self.over: set[datetime] = set()

    def _is_over(self, start: datetime) -> bool:
        return start in self.over or (bool(self.over) and start < max(self.over))

    def fires(self, start: datetime) -> Disposition:
        if self.open is None and self._is_over(start):
            return Disposition.LATE
        if self.open is not None and start <= self.open:
            return Disposition.REPEATED if start == self.open else Disposition.LATE
        if self.open is not None:
            self.over.add(self.open)
        self.open = start
        return Disposition.OPENED

    def resolves(self, start: datetime) -> Disposition:
        if (self.open is None and self._is_over(start)) or (self.open is not None and start < self.open):
            return Disposition.LATE
        if self.open is not None:
            self.over.add(self.open)
        self.over.add(start)
        self.open = None
        return Disposition.RESOLVED


class AlertLife(RuleBasedStateMachine):
    """Deliveries in any order, people's commands, time: the alerts are as expected, and each incident holds what it should."""

    def __init__(self) -> None:
        super().__init__()
        self.town = Belfry()
        self.base = self.town.clock.now()
        self.expected = {key: Expected() for key in KEYS}
        self.sent: list[tuple[str, list[dict[str, Any]], Receipt]] = []

    def teardown(self) -> None:
        self.town.check_log()
        self.town.close()

    @initialize(settle=st.sampled_from([0, 120]), reopen=st.sampled_from([0, 300]))
    def found(self, settle: float, reopen: float) -> None:
        self.town.publish(TicketRule(name="town", settle_seconds=settle, reopen_window_seconds=reopen))
        self.town.add_source(SourceAdded(name=SOURCE, adapter="generic", rule="town", repeat_interval_seconds=600))
        self.reopen_window = reopen
        self.town.news()

    def says(self, key: str, when: When, severity: str, service: str | None, firing: bool) -> dict[str, Any]:  # drawn as a tuple
        begins = self.start(self.expected[key], when)
        more: dict[str, Any] = {"episode_start": begins}
        if not firing:
            more["ended_at"] = begins + timedelta(seconds=30)
        if service:
            more["service"] = service
        return statement(key, firing=firing, severity=severity, **more)

    def start(self, known: Expected, when: When) -> datetime:
        newest = max([*known.over, known.open or self.base, self.base])
        minutes = {"present": 0, "next": 1, "past": -1}[when]
        return (known.open if known.open and when != "next" else newest) + timedelta(minutes=minutes)

    def deliver(self, *said: dict[str, Any]) -> None:
        identity = f"delivery-{len(self.sent)}"
        receipt = self.town.post(SOURCE, list(said), identity=identity)
        self.sent.append((identity, list(said), receipt))
        self.compare(said, receipt)

    def compare(self, said: Any, receipt: Receipt) -> None:
        """The dispositions are those that the plain words give."""
        expected = []
        for document in said:
            start = datetime.fromisoformat(document["episode_start"])
            alert = self.expected[document["key"]]
            expected.append(alert.fires(start) if document["firing"] else alert.resolves(start))
        assert [event.disposition for event in receipt.monitoring_events] == expected

    # -- what may happen -------------------------------------------------------------------------------------------------------

    @rule(said=statements)
    def one_is_told(self, said: Any) -> None:
        self.deliver(self.says(*said))

    @rule(said=statements)
    def another_is_told(self, said: Any) -> None:
        """The same again: what is told is most of what happens."""
        self.deliver(self.says(*said))

    @rule(members=st.lists(statements, min_size=2, max_size=4))
    def a_group_is_told(self, members: list[Any]) -> None:
        self.deliver(*(self.says(*said) for said in members))

    @rule(members=st.lists(statements, min_size=2, max_size=4))
    def another_group_is_told(self, members: list[Any]) -> None:
        self.deliver(*(self.says(*said) for said in members))

    @precondition(lambda self: any(alert.open for alert in self.expected.values()))
    @rule(service=st.sampled_from(["bread", "water"]))
    def all_ends_and_one_comes_back(self, service: str) -> None:
        open_ones = [key for key, alert in self.expected.items() if alert.open]
        self.deliver(*(self.says(key, "present", "critical", None, False) for key in open_ones))
        self.deliver(self.says(open_ones[0], "next", "critical", service, True))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def delivers_again(self, data: st.DataObject) -> None:
        """The same identified delivery: the same answer, and nothing is recorded."""
        identity, said, first = data.draw(st.sampled_from(self.sent))
        head = self.town.ledger.last_position
        again = self.town.post(SOURCE, said, identity=identity)
        assert again.again
        assert (again.delivery, again.monitoring_events) == (first.delivery, first.monitoring_events)
        assert self.town.ledger.last_position == head

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def says_the_same_again(self, data: st.DataObject) -> None:
        """The same bytes as a delivery of their own."""
        _, said, _ = data.draw(st.sampled_from(self.sent))
        self.compare(said, self.town.post(SOURCE, said))

    @rule(seconds=st.sampled_from([1, 60, 119, 121, 400]))
    def time_passes(self, seconds: int) -> None:
        self.town.clock.advance(seconds)

    @rule()
    def timers_fire(self) -> None:
        self.town.run_due()
        # A lease that ends is the source's silence: to the plain words it is a resolve of what was open.
        for key, alert in self.expected.items():
            stored = self.town.alert(SOURCE, key)
            if alert.open is not None and not stored.firing:
                assert stored.ended_at is not None
                alert.over.add(alert.open)
                alert.open = None

    def some_incident(self, data: st.DataObject, *meanings: Meaning) -> Incident | None:
        found = [incident for incident in self.town.incidents if incident.meaning in meanings]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(data=st.data(), command=st.sampled_from(["assign", "acknowledge", "hold", "resolve", "cancel", "link"]))
    def a_person_acts(self, data: st.DataObject, command: str) -> None:
        incident = self.some_incident(data, Meaning.NEW, Meaning.ACTIVE, Meaning.WAITING)
        if incident is None or command not in incident.legal_commands():
            return
        values: dict[str, dict[str, Any]] = {
            "assign": {"team": "watch", "assignee": None}, "acknowledge": {"by": None}, "hold": {"reason": "waits"},
            "resolve": {"code": "solved", "solution": "put out", "now": self.town.clock.now()}, "cancel": {"reason": "drill"},
            "link": {"to": incident_id(incident.id, self.town.seen + incident.version), "relation": Relation.RELATED},
        }
        self.town.act(incident, command, **values[command])

    @rule(data=st.data())
    def a_person_reopens(self, data: st.DataObject) -> None:
        """The current one of its group: an older one has a successor, and then there are two that a person wants open."""
        incident = self.some_incident(data, Meaning.RESOLVED)
        if incident is None or incident.correlation is None:
            return
        if self.town.ledger.get(Correlation, incident.correlation).incident == incident.id:
            self.town.act(incident, "reopen", reason="not out")

    # -- what always holds -----------------------------------------------------------------------------------------------------

    @invariant()
    def alerts_are_as_the_plain_words_say(self) -> None:
        for key, expected in self.expected.items():
            alert = self.town.alert(SOURCE, key)
            assert alert.firing == (expected.open is not None)
            if alert.firing:
                assert alert.started_at == expected.open
            assert set(alert.ended) == expected.over

    @invariant()
    def replay_gives_what_decisions_are_taken_on(self) -> None:
        self.town.check_replay()

    @invariant()
    def a_group_has_one_open_incident_at_most(self) -> None:
        open_ones = [incident.correlation for incident in self.town.incidents if incident.is_open]
        assert len(open_ones) == len(set(open_ones))

    @invariant()
    def every_firing_alert_worth_an_incident_is_in_exactly_one(self) -> None:
        groups = self.town.correlations()
        for key in KEYS:
            alert = self.town.alert(SOURCE, key)
            holding = [group for group in groups if alert.id in group.firing]
            if not alert.firing:
                assert holding == []
                continue
            if alert.severity is Severity.CRITICAL:
                assert alert.incident is not None
            if alert.incident is not None:
                incident = self.town.ledger.get(Incident, alert.incident)
                assert not incident.is_open or [group.incident for group in holding] == [alert.incident]
            open_holding = [group for group in holding if group.incident and self.town.ledger.get(Incident, group.incident).is_open]
            assert [group.incident for group in open_holding] == [alert.incident][: len(open_holding)]

    @invariant()
    def an_incident_is_resolved_by_itself_only_when_nothing_of_it_fires_and_nobody_has_it_in_hand(self) -> None:
        for fact in self.town.news():
            event = fact.event
            if isinstance(event, DeliveryReceived):
                assert len(event.monitoring_events) > 0
            if not isinstance(event, IncidentResolved) or not event.automatic:
                continue
            stream = [each for each in self.town.ledger.stream(fact.stream_id) if each.version < fact.version]
            before = replay(Incident, stream)
            assert not before.touched
            assert before.recovered
            assert before.opened_at is not None
            assert event.resolved_at >= before.opened_at
            assert before.correlation is not None
            facts = [each for each in self.town.ledger.stream(before.correlation) if each.position < fact.position]
            group = replay(Correlation, facts)
            assert group.incident != before.id or group.firing == set()

    @invariant()
    def an_open_incident_says_whether_it_is_recovered(self) -> None:
        for group in self.town.correlations():
            assert group.incident is not None
            incident = self.town.ledger.get(Incident, group.incident)
            if incident.is_open and group.firing:
                assert not incident.recovered


@pytest.mark.law
def test_any_history_of_deliveries_commands_and_time_keeps_the_rules() -> None:
    run_state_machine_as_test(AlertLife, settings=effort(200, steps=30))


def test_identity_is_computed() -> None:
    assert alert_id(SOURCE, "mill") == Alert(alert_id(SOURCE, "mill")).id
    assert alert_id("a", "bc") != alert_id("ab", "c")
    assert source_id("a") != alert_id("a", "")
