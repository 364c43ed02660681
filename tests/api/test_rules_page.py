"""The rules page: rulebook and targets are read by everybody and changed by leads and administrators."""

import re
from html import unescape

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from api.door import SESSION_COOKIE
from api.house import House
from engine.priority import Priority
from engine.rulebook import RULEBOOK, Rulebook
from engine.target import TARGETS, Targets

PASSWORD = "a long enough one"


class Visitor:
    """Somebody signed in who reads the page and sends its forms."""

    def __init__(self, house: House, client: TestClient, role: str) -> None:
        self.house, self.client = house, client
        house.directory.open_account(login=role, name=role.title(), role=role, password=PASSWORD)
        page = client.get("/console/sign-in")
        form = {"csrf_token": field(page, "csrf_token"), "login": role, "password": PASSWORD}
        assert client.post("/console/sign-in", data=form, follow_redirects=False).status_code == 303
        assert SESSION_COOKIE in client.cookies

    def page(self) -> Response:
        return self.client.get("/console/rules")

    def send(self, form: str, **values: str) -> Response:
        page = self.page()
        section = page.text[page.text.index(f"/console/rules/{form}") :] if form in page.text else page.text
        version = re.search(r'name="version" value="(\d+)"', section)
        sent = {"csrf_token": field(page, "csrf_token"), "version": version[1] if version else "0", **values}
        return self.client.post(f"/console/rules/{form}", data=sent, follow_redirects=False)


def field(page: Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found is not None
    return unescape(found[1])


def times(**changed: str) -> dict[str, str]:
    return {f"{priority}.{part}": text for priority in Priority for part, text in (("response", "15m"), ("resolution", "4h"))} | changed


@pytest.fixture
def lead(house: House, client: TestClient) -> Visitor:
    return Visitor(house, client, "lead")


def test_a_lead_publishes_a_rulebook(house: House, lead: Visitor) -> None:
    text = "[[decision]]\r\nname = 'all'\r\nwhen = 'true'\r\nteam = 'desk'\r\n"
    assert lead.send("rulebook", text=text).status_code == 303
    book = house.ledger.get(Rulebook, RULEBOOK)
    assert (book.version, [decision.team for decision in book.decisions]) == (2, ["desk"])


def test_a_faulty_rulebook_is_shown_again_with_its_line_and_nothing_is_in_force(house: House, lead: Visitor) -> None:
    answer = lead.send("rulebook", text="[[decision]]\nname = 'a'\nwhen = \"ticket.colour == 'red'\"\n")
    assert answer.status_code == 422
    assert "line 3, column 16" in answer.text
    assert "ticket.colour" in answer.text
    assert house.ledger.get(Rulebook, RULEBOOK).version == 1


def test_of_two_who_change_the_rulebook_the_second_is_told(house: House, lead: Visitor) -> None:
    assert lead.send("rulebook", text="[[decision]]\nname = 'a'\nwhen = 'true'\nteam = 'x'\n").status_code == 303
    answer = lead.send("rulebook", text="[[decision]]\nname = 'b'\nwhen = 'true'\nteam = 'y'\n", version="1")
    assert answer.status_code == 409
    assert house.ledger.get(Rulebook, RULEBOOK).version == 2


def test_a_lead_sets_the_targets(house: House, lead: Visitor) -> None:
    assert lead.send("targets", **times(**{"P1.response": "5m"})).status_code == 303
    assert house.ledger.get(Targets, TARGETS).table[Priority.P1].response_seconds == 300


@pytest.mark.parametrize("wrong", ["soon", "-5m", "", "9h", "99999999d"])
def test_a_time_that_cannot_be_is_named_and_what_was_typed_is_kept(house: House, lead: Visitor, wrong: str) -> None:
    answer = lead.send("targets", **times(**{"P2.response": wrong, "P3.resolution": "77h"}))
    assert answer.status_code == 422
    assert "P2.response" in answer.text
    assert "77h" in answer.text
    assert house.ledger.get(Targets, TARGETS).version == 1


def test_an_agent_reads_the_rules_and_changes_none(house: House, client: TestClient) -> None:
    agent = Visitor(house, client, "agent")
    page = agent.page()
    assert page.status_code == 200
    assert "answered by a document" in unescape(page.text)
    assert "/console/rules/rulebook" not in page.text
    sent = {"csrf_token": field(page, "csrf_token"), "version": "1", "text": ""}
    assert client.post("/console/rules/rulebook", data=sent).status_code == 403
