"""The rulebook: what a condition may ask, how rows decide, and what becomes of a report."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.rulebook_file import SHIPPED, FaultyRulebook, read_rulebook
from engine.alert import AlertEpisodeOpened
from engine.attachment import read_file, seal_file
from engine.errors import InvalidInput
from engine.event import Event
from engine.incident import Incident, IncidentOpened, IncidentResolved
from engine.ledger import Ledger
from engine.person import Person
from engine.priority import Level, Priority
from engine.report import Report, open_incident, submit_request
from engine.rulebook import (
    FIELDS,
    RULEBOOK,
    Decision,
    Origin,
    Outcome,
    Rulebook,
    RulebookPublished,
    fault_of,
    matches,
    record_of,
)
from engine.service import Service, service_id
from engine.team import Team, team_id
from engine.ticket import TicketClosed, TicketCommented, TicketFileAttached, TicketReported, TicketTriaged
from engine.triage import decide
from engine.work import Unit, Work
from tests.conftest import Bell

VPN = record_of(origin=Origin.PERSON, ticket={"title": "VPN is down", "kind": "incident"})


@pytest.mark.parametrize(
    ("when", "column"),
    [
        ("ticket.prio == 'P1'", 8),
        ("tickets.priority == 'P1'", 1),
        ("'vpn' in words && ticket.colour == 'red'", 26),
        ("ticket.priority ==", 19),
        ("words", 1),
        ("ticket.level > 'a'", 1),
        ("", 1),
    ],
)
def test_a_condition_that_cannot_hold_is_named_by_column(when: str, column: int) -> None:
    fault = fault_of(when)
    assert fault is not None
    assert fault[0] == column


@pytest.mark.parametrize(
    "when",
    [
        "ticket.priority == 'P1'", "'ticket.colour' in words", "words.exists(w, w in ['vpn'])", "alert.labels.team == 'web'",
        "has(ticket.fields.room) && ticket.fields.room == '12'", "report.talk_needed || text.contains('urgent')",
    ],
)
def test_a_condition_over_what_is_there_is_right(when: str) -> None:
    assert fault_of(when) is None


@given(st.text(max_size=60))
def test_any_text_at_all_is_a_condition_or_is_refused_and_never_an_error(when: str) -> None:
    assert fault_of(when) is None or not matches(when, VPN) or "ticket" not in when


def test_a_condition_that_divides_by_nothing_is_refused_and_never_holds() -> None:
    assert fault_of("1 / 0 == 1") is not None
    assert not matches("1 / 0 == 1", VPN)


def test_every_field_is_there_whatever_is_known() -> None:
    record = record_of(origin=Origin.ALERT, ticket={})
    for room, fields in FIELDS.items():
        assert tuple(record.values[room]) == fields


def test_a_condition_that_asks_for_a_missing_label_does_not_hold() -> None:
    assert not matches("alert.labels.team == 'web'", VPN)


def test_for_each_effect_the_first_row_that_has_it_decides() -> None:
    rows = (
        Decision(name="first", when="'vpn' in words", category="network"),
        Decision(name="second", when="true", category="other", team="desk"),
        Decision(name="third", when="false", level=3),
    )
    triage = decide(rows, 7, VPN)
    assert (triage.value("category"), triage.value("team"), triage.value("level")) == ("network", "desk", None)
    assert [(row.name, row.decided) for row in triage.applied] == [("first", {"category": "network"}), ("second", {"team": "desk"})]


def test_what_a_person_said_is_never_overruled() -> None:
    rows = (Decision(name="route", when="true", team="desk", category="other"),)
    triage = decide(rows, 1, VPN, given={"team"})
    assert triage.value("team") is None
    assert triage.value("category") == "other"


class TestReports:
    """A person's report, decided on by the shipped rulebook."""

    @pytest.fixture(autouse=True)
    def _house(self, ledger: Ledger) -> None:
        self.ledger = ledger
        ledger.run(Unit(lambda work: work.load(Rulebook, RULEBOOK).publish(read_rulebook(SHIPPED.read_text())), actor="tocsin"))

    def open(self, **said: Any) -> tuple[Incident, list[Event]]:
        def act(work: Work) -> Incident:
            return open_incident(work, Report(**{"title": "It does not work", "channel": "portal", **said}))

        incident = self.ledger.run(Unit(act, actor="tocsin"))
        return incident, [fact.event for fact in self.ledger.stream(incident.id)]

    @pytest.mark.parametrize("answer", ["talk_needed", "task_needed", "work_affected"])
    def test_it_stays_open_where_somebody_is_needed(self, answer: str) -> None:
        incident, events = self.open(told=TicketReported(answers=(answer, "restarted")))
        assert incident.is_open
        assert not any(isinstance(event, IncidentResolved) for event in events)

    @pytest.mark.parametrize(("answer", "code"), [("answered_by_document", "answered_by_document"), ("restarted", "restart")])
    def test_it_is_closed_at_once_where_nobody_is_and_the_report_is_kept(self, answer: str, code: str) -> None:
        incident, events = self.open(description="my words", told=TicketReported(answers=(answer,), document="Restarting", seconds=40))
        assert incident.state_name == "closed"
        opened = events[0]
        assert isinstance(opened, IncidentOpened)
        assert (opened.title, opened.description) == ("It does not work", "my words")
        resolved = next(event for event in events if isinstance(event, IncidentResolved))
        assert (resolved.code, resolved.automatic) == (code, True)
        assert resolved.solution
        kinds = [type(event) for event in events]
        assert kinds.index(TicketReported) < kinds.index(TicketTriaged) < kinds.index(IncidentResolved) < kinds.index(TicketClosed)

    def test_its_files_are_there_although_it_is_closed_at_once(self) -> None:
        file = seal_file(self.ledger.vault, name="screen.png", media_type="image/png", content=b"pixels")
        incident, events = self.open(told=TicketReported(answers=("restarted",)), files=(file,))
        assert incident.state_name == "closed"
        (attached,) = (event for event in events if isinstance(event, TicketFileAttached))
        assert read_file(self.ledger.store, self.ledger.vault, attached.digest) == b"pixels"

    def test_it_is_answered_in_the_language_of_who_wrote(self) -> None:
        _, events = self.open(language="sv", link="https://help.example/t/1", told=TicketReported(answers=("talk_needed",)))
        answer = next(event for event in events if isinstance(event, TicketCommented))
        assert answer.template == "received"
        assert "INC-1" in answer.text
        assert "https://help.example/t/1" in answer.text
        assert answer.text.strip().startswith("Hej")

    def test_it_goes_to_the_team_that_owns_the_service_at_that_teams_level(self) -> None:
        def register(work: Work) -> None:
            work.load(Team, team_id("network")).register(name="network", level=2)
            work.load(Service, service_id("vpn")).register(name="vpn", owner_team="network", tier=1)

        self.ledger.run(Unit(register, actor="tocsin"))
        incident, events = self.open(service="vpn", channel="console")
        assert (incident.team, incident.level, incident.impact, incident.priority) == ("network", 2, Level.HIGH, Priority.P2)
        assert not incident.touched
        triaged = next(event for event in events if isinstance(event, TicketTriaged))
        assert {row.name for row in triaged.decisions} == {"the most important services", "its owner"}

    def test_a_request_that_is_closed_at_once_asks_for_no_approval(self) -> None:
        def act(work: Work) -> str:
            person = work.fresh(Person, work.new_id())
            person.register(name="Rita", email=None)
            told = TicketReported(requester=person.id, answers=("answered_by_document",))
            return submit_request(work, Report(title="New licence", channel="portal", requester=person.id, told=told)).state_name

        assert self.ledger.run(Unit(act, actor="tocsin")) == "closed"


class Staging:
    """One critical alert of a staging machine, and one of a machine that matters."""

    BODY = {
        "version": "4",
        "alerts": [
            {"status": "firing", "labels": {"alertname": "Down", "severity": severity, "env": env}, "startsAt": "2026-03-02T10:00:00Z"}
            for env, severity in (("staging", "critical"), ("live", "warning"))
        ],
    }

    @classmethod
    def ring(cls, bell: Bell) -> None:
        bell.ring("alertmanager", msgspec.json.encode(cls.BODY))


def test_a_row_says_against_the_severity_which_alerts_are_worth_an_incident(bell: Bell) -> None:
    publish(
        bell.ledger,
        Decision(name="not staging", on=(Origin.ALERT,), when="has(alert.labels.env) && alert.labels.env == 'staging'", outcome=Outcome.IGNORE),
        Decision(name="live", on=(Origin.ALERT,), when="alert.labels.env == 'live'", outcome=Outcome.OPEN, category="live", priority=Priority.P1),
    )
    Staging.ring(bell)
    (incident,) = bell.incidents
    assert (incident.category, incident.priority) == ("live", Priority.P1)
    opened = {event.labels["env"]: event for event in bell.events(AlertEpisodeOpened) if isinstance(event, AlertEpisodeOpened)}
    assert (opened["staging"].incident, opened["staging"].decision, opened["staging"].rulebook_version) == (None, "not staging", 1)
    assert opened["live"].incident == incident.id


def test_an_incident_of_an_alert_is_routed_by_the_rulebook(bell: Bell) -> None:
    publish(bell.ledger, Decision(name="to web", on=(Origin.ALERT,), when="alert.severity == 'critical'", team="web"))
    Staging.ring(bell)
    (incident,) = bell.incidents
    assert (incident.team, incident.touched, incident.state_name) == ("web", False, "new")


def publish(ledger: Ledger, *decisions: Decision) -> None:
    edition = RulebookPublished(decisions=decisions, text=repr(decisions))
    ledger.run(Unit(lambda work: work.load(Rulebook, RULEBOOK).publish(edition), actor="tocsin"))


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("[[decision]]\nname = 'a'\nwhen = \"ticket.prio == 'P1'\"\n", 3, 16),
        ("[[decision]]\nname = 'a'\n", 1, 1),
        ("[[decision]]\nname = 'a'\nwhen = 'true'\ncolour = 1\n", 4, 10),
        ("[[decision]]\nname = 'a'\nwhen = 'true'\nlevel = 'high'\n", 4, 10),
        ("[[decisions]]\n", 1, 1),
        ("name =\n", 1, 7),
        ("[[template]]\nname = 't'\ntext = '{nummer}'\n", 3, 9),
        ("[[notice]]\nname = 'n'\nwhen = 'true'\nto = []\n", 4, 6),
        ("[[document]]\nname = 'd'\ntitle = 'T'\nwhen = 'true'\n", 1, 1),
        ("[[document]]\nname = 'd'\ntitle = 'T'\nwhen = 'true'\naddress = 'http://x.example/'\n", 5, 12),
        ("[[document]]\nname = 'd'\ntitle = 'T'\nwhen = 'true'\naddress = 'https:///nowhere'\n", 5, 12),
        ("[[document]]\nname = 'd'\ntitle = 'T'\nwhen = \"ticket.prio == 'P1'\"\ntext = 'x'\n", 4, 16),
        ("[[document]]\nname = 'd'\ntitle = ''\nwhen = 'true'\ntext = 'x'\n", 3, 10),
        (2 * "[[document]]\nname = 'd'\ntitle = 'T'\nwhen = 'true'\ntext = 'x'\n", 7, 9),
    ],
)
def test_a_fault_of_a_file_is_named_by_line_and_column(text: str, line: int, column: int) -> None:
    with pytest.raises(FaultyRulebook) as refused:
        read_rulebook(text)
    assert [(fault.line, fault.column) for fault in refused.value.faults] == [(line, column)]


def test_documents_are_those_whose_condition_holds_each_in_the_readers_language(ledger: Ledger) -> None:
    text = "".join(
        f"[[document]]\nname = '{name}'\ntitle = '{title}'\nwhen = \"{when}\"\ntext = 'x'\nlanguage = '{language}'\n"
        for name, title, when, language in (
            ("vpn", "English", "'vpn' in words", "en"), ("vpn", "svenska", "'vpn' in words", "sv"), ("mail", "No", "'mail' in words", "en"),
            ("any", "Any", "true", "en"),
        )
    )
    edition = read_rulebook(text)
    ledger.run(Unit(lambda work: work.load(Rulebook, RULEBOOK).publish(edition), actor="tocsin"))
    book = ledger.get(Rulebook, RULEBOOK)
    assert [document.title for document in book.documents_for(VPN, "en")] == ["English", "Any"]
    assert [document.title for document in book.documents_for(VPN, "sv")] == ["svenska", "Any"]
    assert [document.title for document in book.documents_for(VPN, "fr")] == ["English", "Any"]


def test_a_faulty_edition_changes_nothing(ledger: Ledger) -> None:
    with pytest.raises(InvalidInput):
        publish(ledger, Decision(name="a", when="nope"))
    assert not ledger.get(Rulebook, RULEBOOK).exists


