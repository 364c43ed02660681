"""Any order of commands leaves a ticket's stream that replays to the same state, and a refusal says what is possible."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID, uuid4

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

from engine.aggregate import Journal, replay
from engine.codec import Codec
from engine.errors import IllegalTransition, InvalidInput, NotAllowed
from engine.event import Fact
from engine.incident import RESOLUTION_CODES, Incident
from engine.priority import DEFAULT_MATRIX, Level, Priority, priority_of
from engine.request import ServiceRequest
from engine.ticket import MEANINGS, OPEN, Meaning, Relation, Ticket, Visibility
from engine.vault import Vault
from tests.conftest import NOON
from tests.engine.belfry import effort
from tests.stores import keyring_at

NORA, IDA = UUID(int=1), UUID(int=2)
LATER: Final = NOON + timedelta(hours=1)

Command = Callable[[Any], Fact]

# Each command with arguments that are right in any state that allows it.
COMMANDS: Final[Mapping[str, Command]] = {
    "acknowledge": lambda ticket: ticket.acknowledge(by=IDA),
    "assign": lambda ticket: ticket.assign(team="service desk", assignee=IDA),
    "categorise": lambda ticket: ticket.categorise(category="network"),
    "comment": lambda ticket: ticket.comment(text="looking", visibility=Visibility.PUBLIC, author=IDA),
    "attach": lambda ticket: ticket.attach(
        file=uuid4(), name="screen.png", media_type="image/png", length=7, digest="00" * 32, visibility=Visibility.PUBLIC, by=IDA,
    ),
    "escalate": lambda ticket: ticket.escalate(level=2, team=None, reason="needs the network team"),
    "hold": lambda ticket: ticket.hold(reason="waits for the vendor"),
    "resume": lambda ticket: ticket.resume(),
    "set-priority": lambda ticket: ticket.set_priority(priority=Priority.P1, reason="the board looks at it"),
    "reopen": lambda ticket: ticket.reopen(reason="back again"),
    "close": lambda ticket: ticket.close(),
    "cancel": lambda ticket: ticket.cancel(reason="a drill"),
    "link": lambda ticket: ticket.link(to=uuid4(), relation=Relation.RELATED),
    "renew-link": lambda ticket: ticket.renew_link(),
}
OF_INCIDENTS: Final[Mapping[str, Command]] = {
    **COMMANDS,
    "set-impact": lambda ticket: ticket.set_impact(impact=Level.LOW, urgency=Level.HIGH),
    "resolve": lambda ticket: ticket.resolve(code="solved", solution="replaced the disk", now=LATER),
}
OF_REQUESTS: Final[Mapping[str, Command]] = {
    **COMMANDS,
    "approve": lambda ticket: ticket.approve(by=IDA),
    "decline": lambda ticket: ticket.decline(reason="no budget", by=IDA),
    "fulfil": lambda ticket: ticket.fulfil(note="on your desk", now=LATER),
}


def journal() -> Journal:
    return Journal(actor="user:ida", correlation_id=NORA)


def incident(*, correlation: UUID | None = None, requester: UUID | None = None) -> Incident:
    return Incident.open(
        uuid4(), journal(), number="INC-1", title="Shop is down", impact=Level.HIGH, urgency=Level.HIGH, now=NOON, channel="web",
        correlation=correlation, requester=requester,
    )


def request(*, needs_approval: bool) -> ServiceRequest:
    return ServiceRequest.submit(
        uuid4(), journal(), number="REQ-1", title="A badge", requester=NORA, now=NOON, channel="portal", needs_approval=needs_approval,
    )


def copy(ticket: Ticket) -> Ticket:
    """The same ticket, read from its stream."""
    return replay(type(ticket), ticket.journal.facts)


def refusal_of(ticket: Ticket, command: Command) -> IllegalTransition | None:
    try:
        command(ticket)
    except IllegalTransition as error:
        return error
    return None


def check_truthful(ticket: Ticket, commands: Mapping[str, Command]) -> None:
    """`legal_commands` names what succeeds, and nothing else; whatever is refused names exactly those and records nothing."""
    legal = ticket.legal_commands()
    assert set(legal) <= set(commands) == set(ticket.LEGAL)
    for name, command in commands.items():
        tried = copy(ticket)
        refusal = refusal_of(tried, command)
        if name in legal:
            assert refusal is None, f"{name} of {ticket.state_name}"
            assert tried.version == ticket.version + 1
            continue
        assert refusal is not None, f"{name} of {ticket.state_name}"
        assert (refusal.legal, refusal.command, refusal.state) == (legal, name, ticket.state_name)
        assert tried.state() == ticket.state()
        for possible in legal:
            assert possible in str(refusal)


class TicketLife(RuleBasedStateMachine):
    """What incidents and requests share."""

    ticket: Ticket
    commands: Mapping[str, Command] = {}

    @rule(data=st.data())
    def something_legal_is_done(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.ticket.legal_commands()))
        before = self.ticket.version
        fact = self.commands[name](self.ticket)
        assert (fact.version, self.ticket.version) == (before + 1, before + 1)

    @rule(data=st.data())
    def something_else_is_refused(self, data: st.DataObject) -> None:
        others = [name for name in self.commands if name not in self.ticket.legal_commands()]
        if others:
            before, length = self.ticket.state(), len(self.ticket.journal.facts)
            assert refusal_of(self.ticket, self.commands[data.draw(st.sampled_from(others))]) is not None
            assert (self.ticket.state(), len(self.ticket.journal.facts)) == (before, length)

    @invariant()
    def replay_agrees(self) -> None:
        assert copy(self.ticket).state() == self.ticket.state()

    @invariant()
    def what_is_legal_is_said_truly(self) -> None:
        check_truthful(self.ticket, self.commands)

    @invariant()
    def the_end_is_the_end(self) -> None:
        if self.ticket.meaning in (Meaning.CLOSED, Meaning.CANCELLED):
            assert self.ticket.legal_commands() == (("link", "renew-link") if self.ticket.requester else ("link",))

    @invariant()
    def it_has_a_time_of_resolution_exactly_while_it_is_done(self) -> None:
        done = self.ticket.meaning in (Meaning.RESOLVED, Meaning.CLOSED)
        assert (self.ticket.resolved_at is not None) == done


class IncidentLife(TicketLife):
    """Also with what correlation does to an incident."""

    commands = OF_INCIDENTS
    ticket: Incident

    @initialize(automatic=st.booleans(), reported=st.booleans())
    def opened(self, automatic: bool, reported: bool) -> None:  # drawn
        self.ticket = incident(correlation=uuid4() if automatic else None, requester=NORA if reported else None)

    @rule(minutes=st.integers(-90, 90))
    def its_alerts_end(self, minutes: int) -> None:
        was = (self.ticket.is_open, self.ticket.recovered)
        recorded = self.ticket.recover(ended_at=NOON + timedelta(minutes=minutes))
        assert (recorded is not None) == (was == (True, False))
        assert self.ticket.recovered == (was[1] or recorded is not None)

    @rule()
    def an_alert_comes_back(self) -> None:
        was = (self.ticket.is_open, self.ticket.recovered)
        assert (self.ticket.relapse(alert=uuid4()) is not None) == (was == (True, True))

    @rule(minutes=st.integers(-90, 90))
    def it_settles(self, minutes: int) -> None:
        may = self.ticket.is_open and self.ticket.recovered and not self.ticket.touched
        recorded = self.ticket.settle(ended_at=NOON + timedelta(minutes=minutes), rule="reference", rule_version=1)
        assert (recorded is not None) == may
        if recorded is not None:
            assert self.ticket.resolved_at == NOON + timedelta(minutes=max(0, minutes))  # never before it was opened

    @precondition(lambda self: self.ticket.meaning is Meaning.RESOLVED)
    @rule()
    def it_is_reopened_by_a_rule(self) -> None:
        touched = self.ticket.touched
        self.ticket.reopen(reason="fires again", automatic=True)
        assert (self.ticket.touched, self.ticket.recovered) == (touched, False)


class RequestLife(TicketLife):
    """Also with the yes or no that it needs."""

    commands = OF_REQUESTS
    ticket: ServiceRequest

    @initialize(needs_approval=st.booleans())
    def submitted(self, needs_approval: bool) -> None:  # drawn
        self.ticket = request(needs_approval=needs_approval)

    @rule()
    def its_requester_approves_it(self) -> None:
        before = self.ticket.state()
        with pytest.raises((NotAllowed, IllegalTransition)):
            self.ticket.approve(by=NORA)
        assert self.ticket.state() == before

    @invariant()
    def nothing_is_fulfilled_that_was_not_approved(self) -> None:
        assert self.ticket.approved or self.ticket.state_name not in ("approved", "assigned", "fulfilled")


@pytest.mark.law
@pytest.mark.parametrize("life", [IncidentLife, RequestLife])
def test_any_order_of_commands_leaves_a_stream_that_replays_to_the_same_state(life: type[TicketLife]) -> None:
    run_state_machine_as_test(life, settings=effort(150, steps=30))


def shape(ticket: Ticket) -> tuple[Any, ...]:
    """What the rules look at: two tickets of one shape allow the same."""
    extra = (getattr(ticket, "approved", None), getattr(ticket, "recovered", None))
    return (ticket.state_name, ticket.before_hold, ticket.acknowledged, ticket.touched, ticket.level, bool(ticket.team), *extra)


@pytest.mark.parametrize(
    ("begin", "commands"),
    [
        (incident, OF_INCIDENTS), (lambda: request(needs_approval=True), OF_REQUESTS),
        (lambda: request(needs_approval=False), OF_REQUESTS),
    ],
    ids=["incident", "request", "request without approval"],
)
def test_in_every_state_that_can_be_reached_the_legal_commands_are_said_truly(
    begin: Callable[[], Ticket], commands: Mapping[str, Command]
) -> None:
    first = begin()
    reached, open_ends = {shape(first)}, [first]
    while open_ends:
        ticket = open_ends.pop()
        check_truthful(ticket, commands)
        for name in ticket.legal_commands():
            following = copy(ticket)
            following.journal.facts[:0] = ticket.journal.facts
            commands[name](following)
            if shape(following) not in reached:
                reached.add(shape(following))
                open_ends.append(following)
    states = {state for state, *_ in reached}
    assert states >= {"assigned", "in_progress", "pending", "closed", "cancelled"}
    if isinstance(first, ServiceRequest):
        assert {"submitted", "declined"} <= states or first.approved
        assert {"approved", "fulfilled"} <= states
    assert states <= MEANINGS.keys()


def test_a_refusal_reads_as_a_sentence() -> None:
    ticket = incident()
    ticket.resolve(code="solved", solution="restarted", now=LATER)
    with pytest.raises(IllegalTransition) as refused:
        ticket.resolve(code="solved", solution="restarted", now=LATER)
    assert str(refused.value) == "cannot resolve INC-1: it is resolved; possible now: comment, attach, reopen, close, link"


@pytest.mark.parametrize(
    ("field", "command"),
    [
        ("text", lambda ticket: ticket.comment(text=" \n", visibility=Visibility.PUBLIC, author=None)),
        ("reason", lambda ticket: ticket.escalate(level=None, team=None, reason="")),
        ("level", lambda ticket: ticket.escalate(level=4, team=None, reason="up")),
        ("reason", lambda ticket: ticket.hold(reason="  ")),
        ("reason", lambda ticket: ticket.set_priority(priority=Priority.P1, reason="")),
        ("reason", lambda ticket: ticket.cancel(reason="")),
        ("to", lambda ticket: ticket.link(to=ticket.id, relation=Relation.RELATED)),
        ("code", lambda ticket: ticket.resolve(code="magic", solution="restarted", now=LATER)),
        ("solution", lambda ticket: ticket.resolve(code=RESOLUTION_CODES[0], solution=" ", now=LATER)),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_recorded(field: str, command: Command) -> None:
    ticket = incident()
    before = ticket.state()
    with pytest.raises(InvalidInput) as refused:
        command(ticket)
    assert refused.value.field == field
    assert ticket.state() == before


def test_the_same_link_twice_is_refused_and_the_other_relation_is_not() -> None:
    ticket, other = incident(), uuid4()
    ticket.link(to=other, relation=Relation.RELATED)
    with pytest.raises(InvalidInput, match="not linked as related already"):
        ticket.link(to=other, relation=Relation.RELATED)
    ticket.link(to=other, relation=Relation.CAUSED_BY)
    assert ticket.links == ((other, "related"), (other, "caused_by"))


def test_a_level_is_given_up_to_three_and_then_a_team_is_needed() -> None:
    ticket = incident()
    ticket.assign(team="service desk", assignee=IDA)
    for level in (2, 3):
        ticket.escalate(level=None, team=None, reason="stuck")
        assert (ticket.level, ticket.assignee) == (level, None)
    with pytest.raises(InvalidInput, match="support level 3 already"):
        ticket.escalate(level=None, team=None, reason="stuck")
    ticket.escalate(level=None, team="vendor", reason="stuck")
    assert (ticket.level, ticket.team) == (3, "vendor")


def test_impact_and_urgency_give_the_priority_and_a_hand_overrides_it() -> None:
    assert DEFAULT_MATRIX.keys() == {(impact, urgency) for impact in Level for urgency in Level}
    ticket = incident()
    assert ticket.priority is Priority.P1
    ticket.set_impact(impact=Level.LOW, urgency=Level.LOW)
    assert ticket.priority is priority_of(Level.LOW, Level.LOW) is Priority.P5
    ticket.set_priority(priority=Priority.P2, reason="a fair")
    assert (ticket.priority, ticket.impact) == (Priority.P2, Level.LOW)


@pytest.mark.parametrize(
    ("command", "touches"),
    [
        ("acknowledge", False), ("comment", False), ("assign", True), ("escalate", True), ("hold", True), ("set-priority", True),
        ("set-impact", True), ("link", True), ("resolve", True),
    ],
)
def test_who_takes_an_incident_in_hand_takes_it_from_the_automation(command: str, *, touches: bool) -> None:
    ticket = incident(correlation=uuid4())
    OF_INCIDENTS[command](ticket)
    assert ticket.touched is touches


def test_a_hold_goes_on_where_it_was(tmp_path: Path) -> None:
    for before in ("assign", "acknowledge"):
        ticket = incident()
        COMMANDS[before](ticket)
        state = ticket.state_name
        ticket.hold(reason="waits")
        assert ticket.meaning is Meaning.WAITING
        ticket.resume()
        assert ticket.state_name == state


def test_a_request_that_is_given_to_somebody_is_assigned_once_it_is_approved() -> None:
    for needs_approval in (True, False):
        for given_first in (True, False):
            ticket = request(needs_approval=needs_approval)
            steps = ["assign", "approve"] if given_first else ["approve", "assign"]
            for name in steps if needs_approval else ["assign"]:
                assert ticket.state_name in ("submitted", "approved")
                OF_REQUESTS[name](ticket)
            assert ticket.state_name == "assigned"


def test_approval_while_it_waits_is_kept_for_afterwards() -> None:
    ticket = request(needs_approval=True)
    ticket.hold(reason="is on leave")
    ticket.approve(by=IDA)
    assert ticket.state_name == "pending"
    ticket.resume()
    assert ticket.state_name == "approved"


def test_every_state_has_a_meaning_and_open_is_what_is_not_done() -> None:
    assert set(MEANINGS.values()) == set(Meaning)
    assert {name for name, meaning in MEANINGS.items() if meaning in OPEN} == {
        "new", "submitted", "approved", "assigned", "in_progress", "pending",
    }


def test_a_tickets_stream_survives_being_stored(tmp_path: Path) -> None:
    codec = Codec(Vault(keyring_at(tmp_path), b"k" * 32))
    tickets: list[Ticket] = [incident(requester=NORA), request(needs_approval=True)]
    for ticket in tickets:
        commands = OF_INCIDENTS if isinstance(ticket, Incident) else OF_REQUESTS
        for name in ("approve", "assign", "comment", "escalate", "hold", "resume", "set-priority", "set-impact", "link", "resolve", "fulfil", "reopen"):
            if name in commands:
                commands[name](ticket)
        stored = [codec.to_stored_event(cast("Any", fact)) for fact in ticket.journal.facts]
        facts: list[Fact] = [codec.to_domain_event(event) for event in stored]
        assert replay(type(ticket), facts).state() == ticket.state()


def test_a_fact_that_is_not_the_next_one_of_the_stream_is_not_applied() -> None:
    ticket = incident()
    ticket.hold(reason="waits")
    first, second = ticket.journal.facts
    with pytest.raises(ValueError, match="does not follow"):
        replay(Incident, [first, first])
    with pytest.raises(ValueError, match="does not follow"):
        replay(Incident, [second])
    with pytest.raises(ValueError, match="does not follow"):
        Incident(uuid4()).apply(first)


def test_the_time_of_the_first_resolution_is_not_moved_by_a_second_one() -> None:
    ticket = incident()
    ticket.resolve(code="workaround", solution="uses the old one", now=NOON + timedelta(minutes=10))
    refused = refusal_of(ticket, OF_INCIDENTS["resolve"])
    assert refused is not None
    resolved_at: datetime | None = ticket.resolved_at
    assert resolved_at == NOON + timedelta(minutes=10)
