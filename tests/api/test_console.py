"""The console without a browser: pages answer, forms act, and what stands in the way is said in words."""

import gc
import gzip
import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec
import pytest
from fastapi.routing import APIRoute
from httpx2 import Response
from starlette.testclient import TestClient

from api import console
from api.access import ADMINS, AUDITORS, MANAGERS, PEOPLE, READERS, WORKERS
from api.app import create_app
from api.console import instants, language
from api.console.forms import masked, unmasked
from api.console.work_queue import Row
from api.door import SESSION_COOKIE
from api.house import House, open_house
from engine.clock import SimulatedClock
from engine.person import AccessRefused, Person, Role
from engine.work import Unit
from projections.runner import Runner
from tests.stores import settings_at

TUESDAY = datetime(2026, 3, 3, 2, 0, 0, tzinfo=UTC)
PASSWORD = "a long enough one"
PEOPLE_OF_THE_HOUSE = {
    "nora": ("Nora Berg", "agent", "Shop"), "luis": ("Luis Marín", "lead", "Network"), "ines": ("Inès Caron", "auditor", None),
    "ada": ("Ada Admin", "admin", None), "rita": ("Rita Requester", "requester", None),
}
MOST_COMPRESSED = 60 * 1024


class Desk:
    """An application with people, a monitor that rings, and eyes for its pages."""

    def __init__(self, house: House, client: TestClient, clock: SimulatedClock) -> None:
        self.house, self.client, self.clock = house, client, clock
        self.sessions: dict[str, str] = {}
        self.token = house.directory.create_token(role="monitor", source="alertmanager")
        for login, (name, role, team) in PEOPLE_OF_THE_HOUSE.items():
            house.directory.open_account(login=login, name=name, role=role, password=PASSWORD, team=team)

    def sign_in(self, login: str, password: str = PASSWORD, **more: str) -> Response:
        self.client.cookies.clear()
        page = self.client.get("/console/sign-in")
        form = {"csrf_token": field(page.text, "csrf_token"), "login": login, "password": password, **more}
        return self.client.post("/console/sign-in", data=form, follow_redirects=False)

    def become(self, login: str) -> None:
        if login not in self.sessions:
            assert self.sign_in(login).status_code == 303
            self.sessions[login] = self.client.cookies[SESSION_COOKIE]
        self.client.cookies.clear()
        self.client.cookies.set(SESSION_COOKIE, self.sessions[login])

    def ring(self, **labels: str) -> str:
        """An alert fires; the number of its incident."""
        labels = {"alertname": f"Bell{self.house.ledger.last_position}", "severity": "critical", **labels}
        alert = {
            "status": "firing", "labels": labels, "annotations": {"summary": labels.get("summary", labels["alertname"])},
            "startsAt": self.clock.now().isoformat().replace("+00:00", "Z"),
        }
        body = {"version": "4", "status": "firing", "groupKey": "{}", "alerts": [alert]}
        answer = self.client.post("/hooks/alertmanager", json=body, headers={"Authorization": f"Bearer {self.token}"})
        number = answer.json()["observations"][0]["incident"]
        assert isinstance(number, str), answer.text
        self.settle()
        return number

    def settle(self) -> None:
        """The views hold everything."""
        runner: Runner = self.client.app.state.runner  # type: ignore[attr-defined]
        assert runner.wait_for(self.house.ledger.last_position, 10)

    def open(self, kind: str, **body: Any) -> str:
        token = self.house.directory.create_token(role="agent")
        answer = self.client.post(f"/api/v1/{kind}", json=body, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 201, answer.text
        self.settle()
        number: str = answer.json()["number"]
        return number

    def page(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path, follow_redirects=False)
        assert answer.status_code == status, answer.text
        return answer.text

    def send(self, number: str, command: str, **fields: str) -> Response:
        """Post a command's form as it stands on the ticket's page."""
        page = self.page(f"/console/tickets/{number}")
        form = {"csrf_token": field(page, "csrf_token"), "version": field(page, "version"), **fields}
        return self.client.post(f"/console/tickets/{number}/{command}", data=form, follow_redirects=False)

    def state(self, number: str) -> str:
        found = re.search(r'<dt>State</dt><dd><span class="state[^"]*">([^<]+)', self.page(f"/console/tickets/{number}"))
        assert found
        return found[1]


def field(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return html.unescape(found[1])


def words(page: str) -> str:
    """A page as it reads."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


@pytest.fixture(scope="module")
def desk_of_the_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    data = tmp_path_factory.mktemp("console") / "data"
    clock = SimulatedClock(TUESDAY, running=False)
    house = open_house(settings_at(data, clock=TUESDAY), clock=clock)
    app = create_app(house, Runner(house.ledger, data / "views.db"), works=False)
    with TestClient(app) as client:
        yield Desk(house, client, clock)


@pytest.fixture
def desk(desk_of_the_module: Desk) -> Desk:
    """Signed in as Nora, an agent; each test opens tickets of its own."""
    desk_of_the_module.clock.advance(60)
    desk_of_the_module.become("nora")
    return desk_of_the_module


# -- signing in ------------------------------------------------------------------------------------------------------


def test_a_page_lets_go_of_its_rows_without_the_collector(desk: Desk) -> None:
    desk.ring()
    desk.become("nora")
    assert desk.client.get("/console").status_code == 200  # what is kept from page to page is made
    gc.collect()
    gc.disable()
    try:
        assert "INC-1" in desk.client.get("/console").text
        assert not [each for each in gc.get_objects() if isinstance(each, Row)]
    finally:
        gc.enable()


def test_a_page_sends_who_is_unknown_to_the_sign_in_and_back(desk: Desk) -> None:
    desk.client.cookies.clear()
    answer = desk.client.get("/console/alerts?firing=1", follow_redirects=False)
    assert answer.status_code == 303
    address = urlsplit(answer.headers["location"])
    assert (address.path, parse_qs(address.query)) == ("/console/sign-in", {"next": ["/console/alerts?firing=1"]})
    there = desk.sign_in("luis", next="/console/alerts?firing=1")
    assert (there.status_code, there.headers["location"]) == (303, "/console/alerts?firing=1")


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(desk: Desk) -> None:
    cookie = next(line for line in desk.sign_in("luis").headers.get_list("set-cookie") if line.startswith(SESSION_COOKIE)).lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_a_wrong_password_keeps_the_name_and_not_the_password(desk: Desk) -> None:
    answer = desk.sign_in("nora", "not this one")
    assert answer.status_code == 403
    assert "Name or password is wrong." in answer.text
    assert 'value="nora"' in answer.text
    assert "not this one" not in answer.text


def test_a_sign_in_that_no_page_of_ours_made_is_refused(desk: Desk) -> None:
    desk.client.cookies.clear()
    form = {"login": "nora", "password": PASSWORD, "csrf_token": masked("made up")}
    assert desk.client.post("/console/sign-in", data=form, follow_redirects=False).status_code == 403
    desk.client.get("/console/sign-in")
    other = desk.client.post("/console/sign-in", data=form, headers={"Sec-Fetch-Site": "cross-site"}, follow_redirects=False)
    assert other.status_code == 403
    assert SESSION_COOKIE not in desk.client.cookies


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example/console", "/console\\..\\x", "/console//evil", "/docs"])
def test_one_is_never_sent_to_another_place_than_the_console(desk: Desk, elsewhere: str) -> None:
    assert desk.sign_in("luis", next=elsewhere).headers["location"] == "/console"


def test_signing_out_ends_the_session_everywhere(desk: Desk) -> None:
    desk.sign_in("ada")
    secret = desk.client.cookies[SESSION_COOKIE]
    token = field(desk.page("/console/alerts"), "csrf_token")
    assert desk.client.post("/console/sign-out", data={"csrf_token": token}, follow_redirects=False).status_code == 303
    desk.client.cookies.set(SESSION_COOKIE, secret)
    assert desk.client.get("/console", follow_redirects=False).status_code == 303


def test_demo_accounts_are_shown_only_where_there_are_some(desk: Desk) -> None:
    desk.client.cookies.clear()
    assert "demonstration" not in desk.page("/console/sign-in")
    desk.client.app.state.demo_accounts = [("nora", "tocsin-demo", "agent")]  # type: ignore[attr-defined]
    try:
        assert "tocsin-demo" in desk.page("/console/sign-in")
    finally:
        desk.client.app.state.demo_accounts = []  # type: ignore[attr-defined]


def test_a_masked_token_differs_each_time_and_reads_the_same() -> None:
    assert masked("secret") != masked("secret")
    assert unmasked(masked("secret")) == "secret"
    assert unmasked("é") == unmasked("AAA") == unmasked("") == ""


# -- who may do what -------------------------------------------------------------------------------------------------

PAGES = {
    "/console": READERS, "/console/requests": READERS, "/console/incidents": READERS, "/console/alerts": READERS,
    "/console/deliveries": READERS, "/console/changes": READERS, "/console/measures": READERS,
    "/console/measures/tickets": READERS, "/console/log": AUDITORS, "/console/nowhere": READERS,
    "/console/search": READERS, "/console/workload": READERS,
    "/console/services": READERS, "/console/teams": READERS, "/console/people": READERS,
}


@pytest.mark.parametrize(("login", "role"), [(login, Role(role)) for login, (_, role, _) in PEOPLE_OF_THE_HOUSE.items()])
def test_each_role_sees_its_pages_and_no_others(desk: Desk, login: str, role: Role) -> None:
    desk.become(login)
    for path, allowed in PAGES.items():
        if role is Role.REQUESTER:  # is at home elsewhere
            assert desk.client.get(path, follow_redirects=False).headers["location"] == "/portal", path
            continue
        status = desk.client.get(path).status_code
        expected = 404 if path == "/console/nowhere" else 200
        assert status == (expected if role in allowed else 403), path


def test_every_route_of_the_console_says_whom_it_allows() -> None:
    routes = [route for page in console.PAGES for route in page.router.routes if isinstance(route, APIRoute)]
    assert len(routes) > 15
    for route in routes:
        if route.path in ("/console/sign-in", "/language"):  # for nobody too
            continue
        called = [each.call for each in route.dependant.dependencies]
        allowed = [roles for each in called if (roles := getattr(each, "roles", None)) is not None]
        assert allowed, route.path
        assert allowed[0] in (READERS, WORKERS, MANAGERS, AUDITORS, PEOPLE, ADMINS)


def test_an_auditor_is_offered_no_form_and_may_send_none(desk: Desk) -> None:
    number = desk.ring(service="Shop")
    desk.become("ines")
    page = desk.page(f"/console/tickets/{number}")
    assert "/acknowledge" not in page
    head = desk.house.ledger.last_position
    form = {"csrf_token": field(page, "csrf_token"), "version": "1"}
    assert desk.client.post(f"/console/tickets/{number}/acknowledge", data=form).status_code == 403
    assert [type(fact.event) for fact in desk.house.ledger.read(head, 10)] == [AccessRefused]


def test_a_form_without_the_session_token_does_nothing(desk: Desk) -> None:
    number = desk.ring(service="Forged")
    for form, headers in (
        ({"version": "1"}, {}),
        ({"version": "1", "csrf_token": masked("another session's")}, {}),
        ({"version": "1", "csrf_token": field(desk.page("/console"), "csrf_token")}, {"Origin": "https://evil.example"}),
        ({"version": "1", "csrf_token": field(desk.page("/console"), "csrf_token")}, {"Sec-Fetch-Site": "same-site"}),
    ):
        assert desk.client.post(f"/console/tickets/{number}/acknowledge", data=form, headers=headers).status_code == 403
    assert desk.state(number) == "new"


# -- the queue -------------------------------------------------------------------------------------------------------


def test_a_row_says_why_it_is_there(desk: Desk) -> None:
    number = desk.ring(service="Why", summary="Checkout answers 502")
    row = re.search(rf'<tr id="{number}".*?</tr>', desk.page("/console"), re.DOTALL)
    assert row
    assert "Checkout answers 502" in row[0]
    assert "1 alert firing · opened by rule “reference”" in words(row[0])
    assert "P1" in row[0]


def test_filters_and_their_way_back_stand_in_the_address(desk: Desk) -> None:
    mine, other = desk.ring(service="Mine"), desk.ring(service="Other")
    desk.send(mine, "take")
    page = desk.page("/console?assignee=me")
    assert f'id="{mine}"' in page
    assert f'id="{other}"' not in page
    page = desk.page("/console?assignee=nobody&service=Other")
    assert f'id="{other}"' in page
    assert f'id="{mine}"' not in page
    assert "Service: Other ✕" in page
    assert "No open ticket fits these filters." in desk.page("/console?service=Nowhere")


def test_a_long_queue_goes_on_where_the_page_ended(desk: Desk) -> None:
    for number in range(55):
        desk.open("incidents", title=f"Number {number}", service="Paging", impact="low", urgency="low")
    page = desk.page("/console?service=Paging")
    following = re.search(r'rel="next" href="([^"]+)"', page)
    assert following
    seen = re.findall(r'<tr id="(INC-\d+)"', page) + re.findall(r'<tr id="(INC-\d+)"', desk.page(html.unescape(following[1])))
    assert len(seen) == len(set(seen)) == 55


def test_the_fragment_is_the_rows_alone(desk: Desk) -> None:
    desk.ring(service="Fragment")
    fragment = desk.page("/console?fragment=rows")
    assert "data-rows" in fragment
    assert "<html" not in fragment
    desk.client.cookies.clear()
    assert desk.client.get("/console?fragment=rows", follow_redirects=False).status_code == 401


@pytest.mark.parametrize(
    "query", ["as_of=yesterday", "as_of=2026-13-01", "as_of=0001-01-01T00:00%2B23:59", "as_of_position=x", "priority=P9", "sort=colour", "cursor=!", "assignee=x", "state=x", "meaning=x"]
)
def test_a_senseless_address_is_a_page_that_says_what_is_wrong(desk: Desk, query: str) -> None:
    page = desk.page(f"/console?{query}", 422)
    assert "A value is missing or wrong" in page
    assert "expected" in page


def test_the_past_is_a_place(desk: Desk) -> None:
    number = desk.ring(service="Past")
    opened = desk.clock.now()
    desk.clock.advance(600)
    desk.send(number, "resolve", code="solved", solution="restarted")
    assert f'id="{number}"' not in desk.page("/console?service=Past")
    then = desk.page(f"/console?service=Past&as_of={opened:%Y-%m-%dT%H:%M:%S}")
    assert f'id="{number}"' in then
    assert "You are looking at Tuesday, 3 March 2026" in then
    assert 'href="/console?service=Past">Back to now' in then
    # Whichever way one goes on, it is still the past, and nothing can be written there.
    link = re.search(rf'href="(/console/tickets/{number}[^"]*)"', then)
    assert link
    ticket = desk.page(html.unescape(link[1]))
    assert "You are looking at" in ticket
    assert 'method="post" action="/console/tickets/' not in ticket
    assert "in progress" not in ticket
    assert 'id="row-act"' not in then


def test_a_ticket_before_its_time_is_a_page_of_the_past_too(desk: Desk) -> None:
    number = desk.ring(service="Later")
    page = desk.page(f"/console/tickets/{number}?as_of={desk.clock.now() - timedelta(hours=1):%Y-%m-%dT%H:%M:%S}", 404)
    assert "It was not known then" in page
    assert "You are looking at" in page
    assert f'href="/console/tickets/{number}">Back to now' in page


def test_filters_add_up_and_each_is_taken_away_again(desk: Desk) -> None:
    page = desk.page("/console?assignee=nobody&priority=P1")
    assert '<a href="/console?priority=P1" aria-current="true">Nobody&#39;s' in page
    assert '<a href="/console?assignee=nobody" aria-current="true">P1 ✕' in page
    assert '<a href="/console?assignee=nobody&amp;priority=P1&amp;kind=incident">Incidents' in page
    assert '<a href="/console">All open' in page


def test_the_urgent_ones_are_the_head_of_the_queue(desk: Desk) -> None:
    desk.ring(service="Urgent one", severity="critical")
    desk.ring(service="Urgent two", severity="high")
    desk.open("incidents", title="Not urgent", impact="low", urgency="low")
    page = desk.page("/console?priority=P1-P2")
    assert {"P1", "P2"} == set(re.findall(r'class="prio p\d">(P\d)', page[page.index("<tbody") :]))
    assert 'aria-current="true">P1–P2' in page
    assert 'rel="next"' not in desk.page("/console?priority=P1-P2&as_of=2026-03-03T02:00:30")


def test_the_order_is_a_link_in_the_heading(desk: Desk) -> None:
    for number in (desk.ring(service="Zebra"), desk.ring(service="Aardvark")):
        assert number
    page = desk.page("/console?sort=service&priority=P1")
    assert page.index("Aardvark") < page.index("Zebra")
    assert '<th scope="col" aria-sort="ascending"><a class="quiet" href="/console?sort=service&amp;priority=P1">Service' in page


@pytest.mark.parametrize("path", [path for path in PAGES if path not in ("/console/nowhere", "/console/log")])
def test_every_page_of_the_past_says_so_and_offers_no_form_that_writes(desk: Desk, path: str) -> None:
    page = desk.page(f"{path}?as_of=2026-03-03T02:00:30Z")
    assert "You are looking at Tuesday, 3 March 2026, 02:00:30 UTC." in page
    assert re.findall(r'method="post" action="([^"]+)"', page) == ["/language", "/console/sign-out"]
    # Wherever one goes from there, it is the same moment.
    for link in re.findall(r'<a href="(/console[^"]*)"', page[page.index("<nav") : page.index("</nav>")]):
        assert "as_of=2026-03-03T02%3A00%3A30.000000Z" in link


def test_an_instant_in_the_future_is_now(desk: Desk) -> None:
    assert "You are looking at" not in desk.page("/console?as_of=2099-01-01T00:00")


def test_before_the_first_event_nothing_was_open(desk: Desk) -> None:
    assert "Nothing was open then." in desk.page("/console?as_of=2001-01-01T00:00")


# -- a ticket --------------------------------------------------------------------------------------------------------


def test_a_form_acts_and_says_so(desk: Desk) -> None:
    number = desk.ring(service="Forms")
    answer = desk.send(number, "acknowledge")
    assert answer.status_code == 303
    page = desk.page(answer.headers["location"])
    assert f"{number} is acknowledged" in page
    assert desk.state(number) == "in progress"
    assert "Acknowledged by Nora Berg" in words(page)


def test_a_form_goes_back_to_where_one_came_from(desk: Desk) -> None:
    number = desk.ring(service="Back")
    answer = desk.send(number, "take", next="/console?service=Back")
    assert answer.headers["location"] == f"/console?service=Back&told=take%3A{number}"
    assert "Nora Berg" in desk.page(answer.headers["location"])


def test_an_assignment_takes_away_what_its_form_leaves_empty(desk: Desk) -> None:
    number = desk.ring(service="Given back")
    desk.send(number, "assign", team="Network", assignee="luis")
    assert f'id="{number}"' not in desk.page("/console?assignee=nobody")
    desk.send(number, "assign", team="Network", assignee="")
    assert f'id="{number}"' in desk.page("/console?assignee=nobody&team=Network")


def test_a_reply_is_prepared_in_the_requesters_language(desk: Desk) -> None:
    number = desk.open("requests", title="Second screen", requester="rita")
    page = desk.page(f"/console/tickets/{number}?reply=more")
    assert "Hello Rita Requester," in words(page)
    assert re.search(r'value="public" checked', page)
    rita = UUID(bytes=desk.house.ledger.store.account(desk.house.directory.handle("rita")).person)  # type: ignore[union-attr]  # she has one
    desk.house.ledger.run(Unit(lambda work: work.load(Person, rita).choose_language("sv"), actor="tocsin"))
    answer = desk.client.get(f"/console/tickets/{number}/reply/more")
    assert answer.text.startswith("Hej Rita Requester!")
    assert answer.headers["content-type"].startswith("text/plain")
    assert desk.client.get(f"/console/tickets/{number}/reply/less").status_code == 404


def test_a_category_is_given_and_taken_away(desk: Desk) -> None:
    number = desk.ring(service="Shelves")
    assert desk.send(number, "categorise", category="printing").status_code == 303
    assert "<dt>Category</dt><dd><bdi>printing</bdi>" in desk.page(f"/console/tickets/{number}")
    assert desk.send(number, "categorise", category="").status_code == 303
    assert "<dt>Category</dt>" not in desk.page(f"/console/tickets/{number}")


def test_a_whole_life_is_worked_with_forms(desk: Desk) -> None:
    number, other = desk.ring(service="Life"), desk.ring(service="Other life")
    steps: list[tuple[str, dict[str, str], str]] = [
        ("take", {}, "assigned"),
        ("acknowledge", {}, "in progress"),
        ("assign", {"team": "Network", "assignee": "luis"}, "in progress"),
        ("comment", {"text": "Seen.\nTwice.", "visibility": "public"}, "in progress"),
        ("comment", {"text": "Do not tell.", "visibility": "internal"}, "in progress"),
        ("escalate", {"level": "", "team": "", "reason": "too hard"}, "in progress"),
        ("hold", {"reason": "the carrier calls back"}, "pending"),
        ("resume", {}, "in progress"),
        ("set-priority", {"priority": "P4", "reason": "at night"}, "in progress"),
        ("set-impact", {"impact": "low", "urgency": "low"}, "in progress"),
        ("link", {"to": other, "relation": "caused_by"}, "in progress"),
        ("resolve", {"code": "workaround", "solution": "restarted"}, "resolved"),
        ("reopen", {"reason": "again"}, "in progress"),
        ("resolve", {"code": "solved", "solution": "replaced"}, "resolved"),
        ("close", {}, "closed"),
    ]
    for command, fields, state in steps:
        page = desk.page(f"/console/tickets/{number}")
        assert f'action="/console/tickets/{number}/{command}"' in page, command
        answer = desk.send(number, command, **fields)
        assert answer.status_code == 303, words(answer.text)
        assert desk.state(number) == state, command
    page = desk.page(f"/console/tickets/{number}")
    assert "caused by" in page
    assert 'class="said outer"><bdi dir="auto">Seen.\nTwice.' in page
    assert 'class="said inner"><bdi>Do not tell.' in page
    # Only linking makes sense on what is closed.
    assert set(re.findall(rf'action="/console/tickets/{number}/([a-z-]+)"', page)) == {"link"}


def test_taking_a_ticket_keeps_its_team(desk: Desk) -> None:
    number = desk.open("incidents", title="With a team", team="Databases")
    desk.send(number, "take")
    assert "Databases" in desk.page(f"/console/tickets/{number}")


def test_a_stale_form_does_nothing_says_what_changed_and_keeps_what_was_typed(desk: Desk) -> None:
    number = desk.ring(service="Stale")
    page = desk.page(f"/console/tickets/{number}")
    seen = {"csrf_token": field(page, "csrf_token"), "version": field(page, "version")}
    desk.become("luis")
    desk.send(number, "set-priority", priority="P4", reason="it is night")
    desk.become("nora")
    head = desk.house.ledger.last_position
    form = {**seen, "code": "workaround", "solution": "I turned it off and on"}
    answer = desk.client.post(f"/console/tickets/{number}/resolve", data=form)
    assert answer.status_code == 412
    assert "has changed since you opened it" in answer.text
    assert "Priority set to P4: it is night Luis Marín" in words(answer.text)
    assert '<option value="workaround" selected>' in answer.text
    assert "I turned it off and on</textarea>" in answer.text
    assert desk.house.ledger.last_position == head
    # What the page links to are addresses of the ticket, not of the form that was refused.
    assert f"/console/tickets/{number}/resolve?" not in answer.text
    # The page is of the new version: sent again, it is done.
    form["version"] = field(answer.text, "version")
    assert desk.client.post(f"/console/tickets/{number}/resolve", data=form, follow_redirects=False).status_code == 303


def test_a_comment_brings_files_along_and_needs_no_word_then(desk: Desk) -> None:
    number = desk.ring(service="Files")
    picture = b"\x89PNG\r\n\x1a\n" + bytes(1_500)

    def send(files: list[tuple[str, tuple[str, bytes]]], **fields: str) -> Response:
        page = desk.page(f"/console/tickets/{number}")
        form = {"csrf_token": field(page, "csrf_token"), "version": field(page, "version"), "visibility": "internal", **fields}
        return desk.client.post(f"/console/tickets/{number}/comment", data=form, files=files, follow_redirects=False)

    empty = ("files", ("", b""))  # what a browser sends for an input that was left empty
    assert send([empty], text="only words").status_code == 303
    assert send([("files", ("<b>1.png", picture)), ("files", ("error.log", b"it broke"))], text="").status_code == 303
    assert send([("files", ("plan.pdf", b"%PDF-1.7"))], text="see the plan", visibility="public").status_code == 303
    page = desk.page(f"/console/tickets/{number}")
    link = re.search(rf'<a href="(/console/tickets/{number}/files/[^"]+)" download><bdi>&lt;b&gt;1.png</bdi></a> <span class="soft">1.5 KB', page)
    assert link
    assert desk.client.get(link[1]).content == picture
    assert "attached a file, for the team" in page
    assert "attached a file, for the requester too" in page
    assert [name in page for name in ("only words", "see the plan", "error.log", "plan.pdf")] == [True] * 4
    bad = send([("files", ("setup.exe", b"MZ"))], text="what I had typed")
    assert bad.status_code == 422
    assert "other files than “setup.exe”" in words(bad.text)
    assert "what I had typed</textarea>" in bad.text
    assert send([empty], text="").status_code == 422
    assert send([("files", ("x.png", picture))], csrf_token="").status_code == 403
    desk.become("ines")
    assert desk.client.get(link[1]).status_code == 200
    assert desk.client.get(link[1][:-4] + "0000").status_code == 404
    desk.become("rita")
    assert desk.client.get(link[1], follow_redirects=False).headers["location"] == "/portal"
    desk.become("nora")


def test_an_illegal_transition_names_what_is_possible_and_keeps_what_was_typed(desk: Desk) -> None:
    number = desk.ring(service="Illegal")
    desk.send(number, "resolve", code="solved", solution="done")
    answer = desk.send(number, "hold", reason="a long story")
    assert answer.status_code == 409
    assert "Possible now: Comment, Attach a file, Reopen, Close, Link" in words(answer.text)
    assert "a long story" in answer.text


@pytest.mark.parametrize(
    ("command", "fields", "expected"),
    [
        ("resolve", {"code": "solved", "solution": "  "}, "solution"),
        ("resolve", {"code": "magic", "solution": "x"}, "code: expected one of"),
        ("set-priority", {"priority": "P0", "reason": "x"}, "priority"),
        ("assign", {"assignee": "nobody-here"}, "assignee"),
        ("link", {"to": "INC-99999"}, "there is no INC-99999"),
        ("escalate", {"level": "9", "reason": "x"}, "level"),
    ],
)
def test_a_form_with_a_fault_is_shown_again(desk: Desk, command: str, fields: dict[str, str], expected: str) -> None:
    number = desk.ring(service=f"Fault {command} {expected}")
    answer = desk.send(number, command, **fields)
    assert answer.status_code == 422
    assert expected in words(answer.text)
    for name in ("solution", "reason", "to", "assignee"):  # of a list, only what is in it can be chosen again
        assert html.escape(fields.get(name, "").strip()) in answer.text


def test_a_request_is_approved_by_somebody_else_and_fulfilled(desk: Desk) -> None:
    number = desk.open("requests", title="A laptop", requester="greta@example.com", fields={"size": "13 inch"})
    page = words(desk.page(f"/console/tickets/{number}"))
    assert "13 inch" in page
    assert "waits for approval" in words(desk.page("/console?kind=request"))
    assert desk.send(number, "fulfil", note="too early").status_code == 409
    assert desk.send(number, "approve").status_code == 303
    assert desk.send(number, "fulfil", note="on your desk").status_code == 303
    assert desk.state(number) == "fulfilled"
    own = desk.open("requests", title="My own", requester="nora")
    assert "/approve" not in desk.page(f"/console/tickets/{own}")
    assert desk.send(own, "approve").status_code == 403
    assert desk.send(own, "decline", reason="no").status_code == 303


def test_what_is_final_asks_once_and_names_the_number(desk: Desk) -> None:
    number = desk.ring(service="Final")
    assert f"Cancel {number} without doing it?" in desk.page(f"/console/tickets/{number}")


def test_each_event_is_a_step_of_the_replay(desk: Desk) -> None:
    number = desk.ring(service="Replay")
    desk.clock.advance(60)
    desk.send(number, "acknowledge")
    page = desk.page(f"/console/tickets/{number}")
    positions = re.search(r'data-positions="([\d ]+)"', page)
    assert positions
    first, last = positions[1].split()  # opened and acknowledged; the alert's own firing came before there was a ticket
    then = desk.page(f"/console/tickets/{number}?as_of_position={int(last) - 1}")
    assert "<b>Acknowledged by" not in then.replace("<bdi>", "")
    assert "<b>Acknowledged by" in page.replace("<bdi>", "")
    assert 'rel="next"' in then
    assert "You are looking at" in then
    parts = desk.page(f"/console/tickets/{number}?as_of_position={int(last) - 1}&fragment=1")
    assert {"band", "head", "line", "facts", "nav", "when", "steps", "replay"} == set(re.findall(r'data-part="(\w+)"', parts))
    assert "<form method=\"post\"" not in parts
    assert desk.client.get(f"/console/tickets/{number}?as_of_position={int(first) - 1}").status_code == 404


def test_what_others_wrote_can_neither_run_nor_turn_the_page_around(desk: Desk) -> None:
    title = "<script>alert(1)</script> \u202egnp.exe\u202c \u0007 \u200bnothing"
    number = desk.open("incidents", title=title, description="<img src=x onerror=alert(1)>")
    for path in ("/console", f"/console/tickets/{number}"):
        page = desk.page(path)
        assert "<script>alert" not in page
        assert "<img" not in page
        assert not set("\u202e\u202c\u0007\u200b") & set(page)
        assert '<span class="ctl">U+202E</span>' in page
        assert '<span class="ctl">␇</span>' in page


def test_why_ends_in_something_from_outside(desk: Desk) -> None:
    number = desk.ring(service="Chain")
    page = desk.page(f"/console/why/{number}?field=priority")
    assert "Priority: P1" in words(page)
    assert "rule “reference”, version 1" in words(page)
    assert page.count("from outside: nothing in the log led to it") == 1
    delivery = re.search(r'href="(/console/deliveries/[0-9a-f-]+)"', page)
    assert delivery
    assert "opened" in desk.page(delivery[1])
    event = re.search(r'href="(/console/why/[^"]*event=[^"]+)"', desk.page(f"/console/tickets/{number}"))
    assert event
    assert "Why this happened" in desk.page(html.unescape(event[1]))
    assert desk.client.get(f"/console/why/{number}?event=x").status_code == 422
    assert desk.client.get(f"/console/why/{number}?field=colour").status_code == 422
    assert desk.client.get("/console/why/INC-0").status_code == 404


def test_links_between_tickets_read_from_both_ends(desk: Desk) -> None:
    number, other = desk.ring(service="One"), desk.ring(service="Two")
    desk.send(number, "link", to=other.lower(), relation="duplicate_of")
    assert "duplicate of" in desk.page(f"/console/tickets/{number}")
    assert "has the duplicate" in desk.page(f"/console/tickets/{other}")


def test_a_change_shortly_before_stands_beside_the_incident(desk: Desk) -> None:
    key = "0123456789abcdef0123456789abcdef"
    desk.house.directory.create_token(role="monitor", source="pagerduty", value=key)
    payload = {"summary": "Deployed 4.12", "timestamp": desk.clock.now().isoformat(), "custom_details": {"service": "Deployed"}}
    assert desk.client.post("/v2/change/enqueue", json={"routing_key": key, "payload": payload}).status_code == 202
    desk.clock.advance(14 * 60)
    page = words(desk.page(f"/console/tickets/{desk.ring(service='Deployed')}"))
    assert re.search(r"CHG-\d+ Deployed 4.12 .*14 min before", page)


# -- monitors, log, measures -----------------------------------------------------------------------------------------


def test_an_alert_shows_its_episodes_labels_and_what_was_said_of_it(desk: Desk) -> None:
    number = desk.ring(service="Alerts", instance="srv-1")
    link = re.search(r'href="(/console/alerts/ALT-\d+)"', desk.page(f"/console/tickets/{number}"))
    assert link
    page = words(desk.page(link[1]))
    for text in ("1 episode", "srv-1", "opened", "alertmanager", number):
        assert text in page
    assert number in desk.page("/console/alerts?firing=1&service=Alerts")


def test_a_rejected_delivery_says_where_and_why(desk: Desk) -> None:
    body = {"version": "4", "alerts": [{"labels": "none"}]}
    headers = {"Authorization": f"Bearer {desk.token}"}
    answer = desk.client.post("/hooks/alertmanager", json=body, headers=headers)
    assert answer.status_code == 422
    desk.settle()
    page = desk.page("/console/deliveries?rejected=1")
    assert answer.json()["field"] in page
    detail = desk.page(f"/console/deliveries/{answer.json()['delivery']}")
    assert "It could not be read" in detail
    assert html.escape(answer.json()["field"]) in detail
    assert desk.client.get("/console/deliveries/none").status_code == 404


def test_the_log_reads_newest_first_and_pages(desk: Desk) -> None:
    desk.ring(service="Log")
    desk.become("ines")
    page = desk.page("/console/log")
    assert "incident.opened.v1" in page
    older = re.search(r'rel="next" href="([^"]+)"', page)
    assert older
    positions = [int(found) for found in re.findall(r'<tr id="e(\d+)"', page + desk.page(html.unescape(older[1])))]
    assert positions == sorted(set(positions), reverse=True)


def test_each_number_of_the_measures_opens_its_tickets(desk: Desk) -> None:
    number = desk.ring(service="Measured")
    desk.clock.advance(120)
    desk.send(number, "acknowledge")
    desk.clock.advance(600)
    desk.send(number, "resolve", code="solved", solution="done")
    page = desk.page("/console/measures?service=Measured")
    assert "12 min" in page
    links = {html.unescape(link) for link in re.findall(r'href="(/console/measures/tickets\?[^"]+)"', page)}
    assert len(links) > 4
    resolved = next(link for link in links if "metric=resolved" in link and "service=Measured" in link)
    tickets = desk.page(resolved)
    assert number in tickets
    assert "12 min" in tickets
    assert page.count('<svg viewBox="0 0 400') == 6
    assert page.count("<desc ") == 6


@pytest.mark.parametrize(
    "query", ["days=90", "days=1&kind=request", "from=2026-03-01&to=2026-03-05&zone=Europe/Stockholm", "basis=occurred", "group=agent", "group=day"]
)
def test_measures_of_any_window(desk: Desk, query: str) -> None:
    desk.page(f"/console/measures?{query}", 422 if query == "group=day" else 200)


@pytest.mark.parametrize("query", ["days=x", "zone=Mars/Olympus", "from=2026-03-05&to=2026-03-01", "basis=felt", "agent=x", "group=colour"])
def test_a_senseless_window_is_refused_in_words(desk: Desk, query: str) -> None:
    assert "expected" in desk.page(f"/console/measures?{query}", 422)


# -- every page ------------------------------------------------------------------------------------------------------


def test_every_page_is_strict_light_and_well_formed(desk: Desk) -> None:
    number = desk.ring(service="Every page")
    alert = re.search(r"/console/(alerts/ALT-\d+)", desk.page(f"/console/tickets/{number}"))
    assert alert
    desk.become("ada")
    paths = [*PAGES, f"/console/tickets/{number}", f"/console/{alert[1]}", f"/console/why/{number}", "/console?as_of=2026-03-03T02:00:30"]
    for path in paths:
        answer = desk.client.get(path, headers={"Accept-Encoding": "gzip"})
        page = answer.text
        assert len(gzip.compress(page.encode())) < MOST_COMPRESSED, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert len(re.findall(r"<h1[ >]", page)) == 1, path
        assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", page), path
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style", page), path
        assert not re.search(r'(src|href)="https?://(?!127)', page), path
        assert len(re.findall(r'rel="stylesheet"', page)) == 1
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids)), path
        for control in re.findall(r"<(?:input|select|textarea)(?![^>]*type=\"hidden\")[^>]*>", page):
            assert "aria-label" in control or "id=" in control or labelled(page, control), control


def labelled(page: str, control: str) -> bool:
    """Whether a control stands inside a label."""
    before = page[: page.index(control)]
    return before.rfind("<label") > before.rfind("</label>")


def test_a_page_is_compressed_where_that_is_taken(desk: Desk) -> None:
    answer = desk.client.get("/console", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in desk.client.get("/console", headers={"Accept-Encoding": "identity"}).headers


def test_static_files_are_kept_for_ever_and_their_address_changes_with_them(desk: Desk) -> None:
    sheet = re.search(r'rel="stylesheet" href="([^"]+)"', desk.page("/console"))
    assert sheet
    answer = desk.client.get(sheet[1])
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    for module in re.findall(r'from "\./(\w+\.js)"', desk.client.get(sheet[1].replace("console.css", "console.js")).text):
        assert desk.client.get(sheet[1].replace("console.css", module)).status_code == 200


def test_the_home_of_the_address_is_the_console(desk: Desk) -> None:
    assert desk.client.get("/", follow_redirects=False).headers["location"] == "/console"
    assert desk.client.get("/console/", follow_redirects=False).headers["location"] == "/console"


def test_an_unknown_number_is_a_page(desk: Desk) -> None:
    assert "no ticket INC-0" in desk.page("/console/tickets/INC-0", 404)
    assert "no alert ALT-0" in desk.page("/console/alerts/ALT-0", 404)
    assert "no change CHG-0" in desk.page("/console/changes/CHG-0", 404)


def test_too_large_a_form_is_refused_before_it_is_read(desk: Desk) -> None:
    number = desk.ring(service="Large")
    assert desk.send(number, "comment", text="x" * 600_000).status_code == 413


def test_raw_events_are_shown_as_they_are(desk: Desk) -> None:
    number = desk.ring(service="Raw")
    raws = re.findall(r"<pre>(.*?)</pre>", desk.page(f"/console/tickets/{number}"), re.DOTALL)
    kinds = [msgspec.json.decode(html.unescape(raw))["type"] for raw in raws]
    assert "incident.opened.v1" in kinds


# -- languages -------------------------------------------------------------------------------------------------------


def html_language(page: str) -> str:
    return page.partition('<html lang="')[2][:2]


@pytest.mark.parametrize(
    ("accepted", "spoken"),
    [
        ("fr-CH, fr;q=0.9, en;q=0.8", "fr"), ("sv-SE", "sv"), ("de, es;q=0.5", "es"), ("de", "en"), ("en, fr", "en"), ("fr;q=0, sv;q=0.1", "sv"),
        ("*", "en"), ("fr;q=often", "en"), ("", "en"), ("\x00, fr", "fr"),
    ],
)
def test_a_page_is_in_the_language_that_the_browser_asks_for(desk: Desk, accepted: str, spoken: str) -> None:
    assert html_language(desk.client.get("/console", headers={"Accept-Language": accepted}).text) == spoken


def test_a_chosen_language_goes_along_with_the_person_to_every_browser(desk: Desk) -> None:
    page = desk.page("/console")
    form = {"csrf_token": field(page, "csrf_token"), "language": "sv", "next": "/console/alerts"}
    answer = desk.client.post("/language", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/alerts")
    assert [fact.type for fact in desk.house.ledger.read(desk.house.ledger.last_position - 1, 1)] == ["person.language_chosen.v1"]
    assert html_language(desk.page("/console")) == "sv"
    desk.client.cookies.delete("tocsin_language")
    assert html_language(desk.page("/console")) == "sv"


def test_a_language_that_we_do_not_speak_is_refused(desk: Desk) -> None:
    form = {"csrf_token": field(desk.page("/console"), "csrf_token"), "language": "tlh"}
    answer = desk.client.post("/language", data=form)
    assert answer.status_code == 422
    assert "language: expected one of en, es, fr, sv" in html.unescape(answer.text)


def test_dates_and_figures_are_written_as_the_language_does() -> None:
    instant, now = datetime(2026, 3, 3, 2, 0, 30, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC)
    shown = {}
    for name in language.LANGUAGES:
        language.choose(name)
        shown[name] = (instants.long_form(instant), instants.short_form(instant, now), language.figure(12345.5, 1))
    language.choose("en")
    assert shown == {
        "en": ("Tuesday, 3 March 2026, 02:00:30 UTC", "Tue 3 Mar, 02:00", "12,345.5"),
        "es": ("martes, 3 de marzo de 2026, 02:00:30 UTC", "mar, 3 mar, 02:00", "12.345,5"),
        "fr": ("mardi 3 mars 2026, 02:00:30 UTC", "mar. 3 mars, 02:00", "12\u202f345,5"),
        "sv": ("tisdag 3 mars 2026, 02:00:30 UTC", "tis 3 mars, 02:00", "12\xa0345,5"),
    }


def test_what_was_expected_is_said_in_the_readers_language_values_included(desk: Desk) -> None:
    page = desk.page("/console")
    answer = desk.client.get("/console?sort=luck", headers={"Accept-Language": "sv"})
    assert "sort: " in html.unescape(answer.text)
    assert "en av priority, " in html.unescape(answer.text)
    assert "one of" not in html.unescape(answer.text)
    assert "one of priority, " in desk.client.get("/api/v1/queue?sort=luck", headers={"Accept-Language": "sv"}).json()["detail"]
    assert page
