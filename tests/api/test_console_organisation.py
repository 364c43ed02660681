"""The pages of services, teams and people: what they show, what their forms do, and for whom."""

import re

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from api.door import SESSION_COOKIE
from api.house import House
from engine.service import Service, service_id
from engine.team import Team, team_id
from projections.runner import Runner

PASSWORD = "a long password"


class Desk:
    """Somebody in front of the console."""

    def __init__(self, client: TestClient, house: House) -> None:
        self.client, self.house = client, house

    def become(self, role: str) -> None:
        self.house.directory.open_account(login=f"the-{role}", name=f"The {role}", role=role, password=PASSWORD, team="Web")
        signed = self.client.portal.call(self.house.directory.sign_in, f"the-{role}", PASSWORD, "127.0.0.1")  # type: ignore[union-attr]  # inside the lifespan
        self.client.cookies.clear()
        self.client.cookies.set(SESSION_COOKIE, signed.secret)

    def page(self, path: str) -> str:
        runner: Runner = self.client.app.state.runner  # type: ignore[attr-defined]
        assert runner.wait_for(self.house.ledger.last_position, 10)
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def send(self, path: str, **form: str) -> Response:
        token = re.search(r'name="csrf_token" value="([^"]*)"', self.page(path))
        assert token is not None
        return self.client.post(path, data={"csrf_token": token[1], **form}, follow_redirects=False)


@pytest.fixture
def desk(client: TestClient, house: House) -> Desk:
    return Desk(client, house)


def test_a_lead_adopts_a_name_that_was_heard_and_changes_it(desk: Desk, house: House) -> None:
    token = house.directory.create_token(role="agent")
    desk.client.post("/api/v1/incidents", json={"title": "x", "service": "ca<b>rt"}, headers={"Authorization": f"Bearer {token}"})
    desk.become("lead")
    page = desk.page("/console/services")
    assert "Heard of, not registered" in page
    assert "ca&lt;b&gt;rt" in page
    assert "<b>rt" not in page
    answer = desk.send("/console/services", name="ca<b>rt", tier="2", owner_team="Web")
    assert answer.status_code == 303
    page = desk.page(answer.headers["location"])
    assert "ca&lt;b&gt;rt is registered." in page
    assert "Heard of" not in page
    assert "/console?service=ca%3Cb%3Ert" in page
    answer = desk.send("/console/services", name="ca<b>rt", tier="1", owner_team="", depends_on="db, mail", description="Sells")
    assert answer.status_code == 303
    known = house.ledger.get(Service, service_id("ca<b>rt")).known
    assert known is not None
    assert (known.tier, known.owner_team, known.depends_on) == (1, None, ("db", "mail"))
    assert 'value="db, mail"' in desk.page("/console/services?change=ca%3Cb%3Ert")


def test_a_refused_form_keeps_what_was_typed_and_says_what_was_expected(desk: Desk) -> None:
    desk.become("lead")
    answer = desk.send("/console/services", name="shop", tier="3", depends_on="shop", description="Sells")
    assert answer.status_code == 422
    assert "depends_on: expected other services than itself" in answer.text
    assert 'value="Sells"' in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_teams_that_people_name_are_registered_with_their_level(desk: Desk, house: House) -> None:
    desk.become("admin")
    assert "People belong to these" in desk.page("/console/teams")
    assert desk.send("/console/teams", name="Web", level="2").status_code == 303
    known = house.ledger.get(Team, team_id("Web")).known
    assert known is not None
    assert known.level == 2
    page = desk.page("/console/teams")
    assert "People belong to these" not in page
    assert "Level 2" in page


def test_an_administrator_registers_somebody_who_then_signs_in(desk: Desk, house: House) -> None:
    desk.become("admin")
    short = desk.send("/console/people", login="nora", name="Nora", role="agent", password="short")
    assert (short.status_code, "password: expected at least 10 characters" in short.text) == (422, True)
    answer = desk.send("/console/people", login="nora", name="Nora", role="agent", email="nora@example.org", password=PASSWORD)
    assert answer.status_code == 303
    signed = desk.client.portal.call(house.directory.sign_in, "nora", PASSWORD, "127.0.0.1")  # type: ignore[union-attr]  # inside the lifespan
    assert signed.role == "agent"
    assert desk.send("/console/people", login="nora", name="Nora Berg", role="lead", team="Web", email="").status_code == 303
    assert house.directory.person_of("nora@example.org") == house.directory.person_of("nora")
    page = desk.page("/console/people?change=nora")
    assert 'value="Nora Berg"' in page
    assert PASSWORD not in page


@pytest.mark.parametrize(("role", "forms"), [
    ("agent", {"services": False, "teams": False, "people": False}),
    ("auditor", {"services": False, "teams": False, "people": False}),
    ("lead", {"services": True, "teams": True, "people": False}),
    ("admin", {"services": True, "teams": True, "people": True}),
])
def test_forms_are_offered_to_whom_they_are_allowed(desk: Desk, role: str, forms: dict[str, bool]) -> None:
    desk.become(role)
    for here, offered in forms.items():
        assert (f'method="post" action="/console/{here}"' in desk.page(f"/console/{here}")) is offered
        answer = desk.send(f"/console/{here}", name="x", login="x", role="admin")
        assert (answer.status_code != 403) is offered, here
    assert desk.client.post("/console/services", data={"name": "x", "csrf_token": "x"}).status_code == 403


def test_a_file_is_checked_and_then_applied_on_the_page(desk: Desk, house: House) -> None:
    desk.become("lead")
    before = house.ledger.last_position
    checked = desk.send("/console/teams", csv="name,level\nDesk,1\nNet,3\n", do="check")
    assert (checked.status_code, "nothing is applied yet" in checked.text) == (200, True)
    wrong = desk.send("/console/teams", csv="name,level\nDesk,1\nNet,7\n", do="apply")
    assert wrong.status_code == 422
    assert "column <bdi>level</bdi>, expected <bdi>a support level: 1, 2 or 3</bdi>" in wrong.text
    assert house.ledger.last_position == before
    answer = desk.send("/console/teams", csv="name,level\nDesk,1\nNet,3\n", do="apply")
    assert answer.status_code == 303
    assert "2 new, 0 changed, 0 as they are" in desk.page(answer.headers["location"])


def test_registered_teams_are_offered_on_a_ticket(desk: Desk, house: House) -> None:
    desk.become("lead")
    desk.send("/console/teams", name="Second line", level="2")
    token = house.directory.create_token(role="agent")
    desk.client.post("/api/v1/incidents", json={"title": "x"}, headers={"Authorization": f"Bearer {token}"})
    assert '<option value="Second line">' in desk.page("/console/tickets/INC-1")
