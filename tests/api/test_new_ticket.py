"""Opening a ticket at the desk: for whom it is, what a refused form keeps, and one ticket for a form however often it is sent."""

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from api.app import create_app
from api.door import SESSION_COOKIE
from api.house import open_house
from engine.attachment import read_file
from engine.clock import SimulatedClock
from engine.incident import Incident, IncidentOpened
from engine.person import Person, PersonRegistered
from engine.priority import Level
from engine.request import RequestSubmitted
from engine.service import Service, service_id
from engine.team import Team, team_id
from engine.ticket import TicketCategorised, TicketFileAttached, TicketReported, Visibility
from engine.work import Unit, Work
from projections.runner import Runner
from tests.api.test_console import Desk, field, words
from tests.conftest import NOON
from tests.stores import settings_at

PNG = b"\x89PNG\r\n\x1a\n" + bytes(2_000)
Sent = list[tuple[str, tuple[str, bytes]]]


class Counter(Desk):
    """Nora at the desk, with the form for a new ticket."""

    def form(self) -> dict[str, str]:
        """The hidden fields of a page that was just loaded."""
        page = self.page("/console/new")
        return {name: field(page, name) for name in ("csrf_token", "form", "opened", "page")}

    def post(self, form: Mapping[str, str], files: Sent | None = None) -> Response:
        sent: Any = files or [("files", ("", b""))]
        return self.client.post("/console/new", data=dict(form), files=sent, follow_redirects=False)

    def open_one(self, files: Sent | None = None, **fields: str) -> Response:
        return self.post({**self.form(), **fields}, files)

    def opened(self) -> list[Any]:
        """The openings, oldest first."""
        facts = self.house.ledger.read(0, 10_000)
        return [fact for fact in facts if isinstance(fact.event, IncidentOpened | RequestSubmitted)]

    def events(self, kind: type) -> list[Any]:
        return [fact.event for fact in self.house.ledger.read(0, 10_000) if isinstance(fact.event, kind)]

    def know(self, name: str, email: str | None = None) -> UUID:
        """A contact without an account."""

        def decide(work: Work) -> UUID:
            person = work.fresh(Person, work.new_id())
            person.register(name=name, email=email)
            if email:
                handle = self.house.directory.handle(email)
                work.after.append(lambda store: store.set_handle(handle, person.id.bytes))
            return person.id

        known = self.house.ledger.run(Unit(decide, actor="tocsin"))
        self.settle()
        return known

    def person(self, login: str) -> UUID:
        found = self.house.directory.person_of(login)
        assert found is not None
        return found


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    clock = SimulatedClock(NOON, running=False)
    house = open_house(settings_at(tmp_path / "data", clock=NOON), clock=clock)
    app = create_app(house, Runner(house.ledger, tmp_path / "data" / "views.db"), works=False)
    with TestClient(app) as client:
        counter = Counter(house, client, clock)

        def register(work: Work) -> None:
            work.load(Team, team_id("Network")).register(name="Network", level=2)
            work.load(Service, service_id("vpn")).register(name="vpn", tier=2)

        house.ledger.run(Unit(register, actor="tocsin"))
        counter.become("nora")
        counter.settle()
        yield counter


def fault(answer: Response) -> str:
    """What the page says is wrong."""
    found = re.search(r'<p class="fault"[^>]*>(.*?)</p>', answer.text, re.DOTALL)
    assert found, answer.text
    return html.unescape(re.sub(r"<[^>]+>", "", found[1]))


def test_an_incident_is_reported_in_one_commit_with_all_that_was_said(counter: Counter) -> None:
    form = counter.form()
    counter.clock.advance(95)
    answer = counter.post(
        {**form, "kind": "incident", "title": "VPN drops", "description": "Every ten minutes.\nSince Monday.", "requester": "rita",
         "service": "vpn", "team": "Network", "category": "network", "impact": "high", "urgency": "low"},
        [("files", ("screen.png", PNG)), ("files", ("vpn.log", b"lost"))],
    )
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == "/console/tickets/INC-1?told=opened%3AINC-1"
    (fact,) = counter.opened()
    rita, nora = counter.person("rita"), counter.person("nora")
    opened = fact.event
    assert (opened.title, opened.description, opened.requester) == ("VPN drops", "Every ten minutes.\nSince Monday.", rita)
    assert (opened.service, opened.team, opened.impact, opened.urgency, opened.channel) == ("vpn", "Network", Level.HIGH, Level.LOW, "console")
    (told,) = counter.events(TicketReported)
    assert (told.requester, told.seconds) == (rita, 95.0)
    assert [event.category for event in counter.events(TicketCategorised)] == ["network"]
    files = counter.events(TicketFileAttached)
    assert [(file.name, file.by, file.subject, file.visibility) for file in files] == [
        ("screen.png", nora, rita, Visibility.PUBLIC), ("vpn.log", nora, rita, Visibility.PUBLIC),
    ]
    assert read_file(counter.house.store, counter.house.vault, files[0].digest) == PNG
    facts = [each for each in counter.house.ledger.stream(fact.stream_id) if each.actor == f"user:{nora}"]
    assert len({each.correlation_id for each in facts}) == 1
    page = counter.page(answer.headers["location"])
    assert "INC-1 is open." in page
    assert "screen.png" in page


def test_a_request_is_somebodys_and_an_incident_may_be_nobodys(counter: Counter) -> None:
    refused = counter.open_one(kind="request", title="A badge")
    assert (refused.status_code, fault(refused)) == (422, "For whom: expected whose request it is.")
    assert counter.opened() == []
    assert counter.open_one(kind="request", title="A badge", requester="rita").headers["location"].startswith("/console/tickets/REQ-1?")
    assert counter.open_one(title="The door is stuck").headers["location"].startswith("/console/tickets/INC-1?")
    assert [fact.event.requester for fact in counter.opened()] == [counter.person("rita"), None]


@pytest.mark.parametrize("typed", ["rita", "RITA", "Rita Requester", "rita requester", " req ", "marín", "MARÍN", "karl@example.org"])
def test_a_login_an_address_a_name_or_the_beginning_of_one_is_enough_where_it_fits_one_person(counter: Counter, typed: str) -> None:
    karl = counter.know("Karl Karlsson", "karl@example.org")
    answer = counter.open_one(title="x", requester=typed)
    assert answer.status_code == 303, fault(answer)
    expected = {"k": karl, "m": counter.person("luis")}.get(typed.lower()[0], counter.person("rita"))
    assert counter.opened()[-1].event.requester == expected


def test_where_several_fit_the_page_asks_who_and_keeps_what_was_typed(counter: Counter) -> None:
    ids = {counter.know("Anna Berg"), counter.know("Anna-Lena Holm")}
    form = {**counter.form(), "title": "Mouse <b>", "description": "It is dead.", "requester": "anna", "impact": "low"}
    asked = counter.post(form, [("files", ("screen.png", PNG))])
    assert asked.status_code == 422
    assert fault(asked) == (
        "For whom: expected one person; “anna” fits more than one. Nothing is recorded yet. Please choose the files again."
    )
    assert counter.opened() == []
    shown = re.findall(r'name="person" value="([0-9a-f-]{36})"', asked.text)
    assert {UUID(each) for each in shown} == ids
    for kept in ('value="Mouse &lt;b&gt;"', "It is dead.</textarea>", '<option value="low" selected>'):
        assert kept in asked.text
    chosen = {**form, "csrf_token": field(asked.text, "csrf_token"), "asked": field(asked.text, "asked"), "person": shown[1]}
    # Another field is wrong: who it is stays settled.
    wrong = counter.post({**chosen, "service": "nothing"})
    assert fault(wrong) == "Service: expected a registered service; nothing is none."
    assert (field(wrong.text, "person"), field(wrong.text, "asked")) == (shown[1], "anna")
    assert counter.post(chosen).status_code == 303
    assert counter.opened()[-1].event.requester == UUID(shown[1])


def test_a_choice_holds_only_for_the_name_that_it_was_made_for(counter: Counter) -> None:
    anna = counter.know("Anna Berg")
    counter.know("Anna Holm")
    assert counter.open_one(title="x", requester="rita", asked="anna", person=str(anna)).status_code == 303
    assert counter.opened()[-1].event.requester == counter.person("rita")
    for person in ("nonsense", str(UUID(int=5))):
        refused = counter.open_one(title="x", requester="anna", asked="anna", person=person)
        assert fault(refused) == "For whom: expected one of those that are shown."


def test_a_name_that_two_have_is_asked_about_although_one_was_known_by_it_and_a_login_is_not(counter: Counter) -> None:
    counter.open("incidents", title="by a program", requester="Sam Doe")  # known by this name from then on
    counter.know("Sam Doe")
    asked = counter.open_one(title="x", requester="Sam Doe")
    assert len(re.findall(r'name="person" value="[0-9a-f-]{36}"', asked.text)) == 2
    counter.know("Rita")
    assert counter.open_one(title="x", requester="rita").status_code == 303
    assert counter.opened()[-1].event.requester == counter.person("rita")


def test_who_is_not_known_is_registered_with_the_ticket_or_not_at_all(counter: Counter) -> None:
    form = {**counter.form(), "title": "No mail", "requester": "karl@example.org"}
    asked = counter.post(form)
    assert fault(asked) == "For whom: expected the login, mail address or name of somebody; nobody is known as “karl@example.org”."
    assert 'name="new_email" maxlength="254" value="karl@example.org"' in asked.text
    new = {**form, "person": "new", "asked": "karl@example.org", "new_email": "karl@example.org"}
    before = len(counter.events(PersonRegistered))
    refused = counter.post({**new, "new_name": ""})
    assert fault(refused).startswith("Name: expected the person's name")
    refused = counter.post({**new, "new_name": "Karl", "new_email": "no address"})
    assert fault(refused) == "Mail address: expected an address such as nora@example.org."
    assert len(counter.events(PersonRegistered)) == before
    assert counter.post({**new, "new_name": "Karl May"}).status_code == 303
    karl = counter.person("karl@example.org")
    assert counter.opened()[-1].event.requester == karl
    again = counter.open_one(title="y", requester="karl@example.org")
    assert again.status_code == 303
    taken = counter.open_one(title="z", requester="?", person="new", asked="?", new_name="Kurt", new_email="KARL@example.org")
    assert fault(taken) == "Mail address: expected an address that nobody else has."


def test_a_form_that_is_sent_twice_makes_one_ticket(counter: Counter) -> None:
    form = {**counter.form(), "title": "Twice", "requester": "karl", "person": "new", "asked": "karl", "new_name": "Karl"}
    files: Sent = [("files", ("screen.png", PNG))]
    first = counter.post(form, files)
    again = counter.post({**form, "csrf_token": field(counter.page("/console/new"), "csrf_token")}, files)
    assert first.status_code == again.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    assert (len(counter.opened()), len(counter.events(TicketFileAttached))) == (1, 1)
    other = counter.post({**form, "title": "Something else"})
    assert other.status_code == 422
    assert fault(other).startswith("Expected a form that was not sent before with something else in it")
    assert field(other.text, "form") != form["form"]
    assert counter.post({**form, "title": "Something else", "form": field(other.text, "form"), "requester": ""}).status_code == 303
    assert len(counter.opened()) == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"title": "  "}, "Title: expected one line that says what it is about."),
        ({"title": "x" * 301}, "Title: expected String should have at most 300 characters."),
        ({"kind": "problem"}, "What it is: expected Input should be 'incident' or 'request'."),
        ({"service": "no such"}, "Service: expected a registered service; no such is none."),
        ({"team": "no such"}, "Team: expected a team that is known; no such is none."),
        ({"impact": "huge"}, "Impact: expected Input should be 'high', 'medium' or 'low'."),
    ],
)
def test_a_wrong_field_is_named_and_the_others_are_kept(counter: Counter, fields: dict[str, str], said: str) -> None:
    answer = counter.post({**counter.form(), "title": "It is dark", "description": "All of it.", **fields})
    assert (answer.status_code, fault(answer)) == (422, said)
    assert "All of it.</textarea>" in answer.text
    assert 'aria-invalid="true"' in answer.text or "kind" in fields
    assert counter.opened() == []


def test_a_wrong_file_is_named_and_nothing_is_recorded(counter: Counter) -> None:
    answer = counter.open_one([("files", ("setup.exe", b"MZ"))], title="It is dark", requester="rita")
    assert answer.status_code == 422
    assert fault(answer).startswith("Files: expected other files than “setup.exe”")
    many = counter.open_one([("files", (f"{place}.txt", b"x")) for place in range(6)], title="It is dark")
    assert many.status_code == 413
    assert "“5.txt” is one file too many: at most 5 at once" in fault(many)
    assert "It is dark" in many.text
    assert counter.opened() == []


def test_a_form_of_nobody_of_another_page_or_of_who_may_not_opens_nothing(counter: Counter) -> None:
    form = {**counter.form(), "title": "x"}
    assert counter.post({**form, "csrf_token": ""}).status_code == 403
    assert counter.post({**form, "form": "../../x"}).status_code == 422
    for login in ("ines", "rita"):
        counter.become(login)
        assert counter.post(form).status_code == 403
        for path in ("/console/new", "/console/contacts?q=rita"):  # a requester is led to the portal
            assert counter.client.get(path, follow_redirects=False).status_code == (403 if login == "ines" else 303)
    assert counter.opened() == []


def test_who_fits_what_is_typed_is_offered_eight_at_most_and_told_apart(counter: Counter) -> None:
    for place in range(12):
        counter.know(f"Petra {chr(65 + place)}")
    assert counter.page("/console/contacts?q=petra").count("<option") == 8
    assert words(counter.page("/console/contacts?q=Rit")).strip() == "rita"
    assert '<option value="Luis Marín">luis · Network</option>' in counter.page("/console/contacts?q=luis")
    counter.house.directory.open_account(login="luis2", name="Luis Marín", role="requester", password="a long enough one")
    counter.settle()
    twice = counter.page("/console/contacts?q=mar%C3%ADn")
    assert ('value="luis"' in twice, 'value="luis2"' in twice) == (True, True)
    assert "<option" not in counter.page("/console/contacts?q=%25")
    assert "<option" not in counter.page("/console/contacts?q=")


def test_the_past_offers_no_new_ticket_and_the_present_does(counter: Counter) -> None:
    assert 'href="/console/new"' in counter.page("/console")
    assert 'href="/console/new"' not in counter.page("/console?as_of_position=3")
    counter.become("ines")
    assert 'href="/console/new"' not in counter.page("/console")


def test_where_the_form_was_opened_from_is_told_if_it_was_a_page_of_ours(counter: Counter) -> None:
    for referer, page in (
        ("http://testserver/console/tickets/INC-9?x=1", "/console/tickets/INC-9"), ("http://elsewhere/console", ""), ("http://[", ""),
    ):
        answer = counter.client.get("/console/new", headers={"Referer": referer})
        assert field(answer.text, "page") == page
    assert counter.open_one(title="x", page="/console/alerts").status_code == 303
    assert [event.page for event in counter.events(TicketReported)] == ["/console/alerts"]
    assert counter.house.ledger.get(Incident, counter.opened()[0].stream_id).number == "INC-1"
    assert SESSION_COOKIE in counter.client.cookies
