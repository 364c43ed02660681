"""The portal: strangers and requesters open tickets once, are helped beforehand, follow them, and learn nothing else."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from api.app import create_app
from api.door import SESSION_COOKIE
from api.house import open_house
from api.portal.limit import GENEROUS, GUESSES, STRANGERS, Limiter, Neighbourhood
from api.settings import BadSettings, load_settings
from engine.attachment import attach_file, seal_file
from engine.clock import SimulatedClock
from engine.incident import Incident
from engine.person import Person, PersonRegistered
from engine.priority import Priority
from engine.service import Service, ServiceRegistered, service_id
from engine.ticket import Relation, TicketCommented, TicketFileAttached, TicketReported, Visibility
from engine.work import Unit
from projections.queue_page import ticket as row_of
from projections.runner import Runner
from tests.stores import settings_at

PASSWORD = "a long password"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
STRANGER = "203.0.113.7"
NEIGHBOUR = "10.3.0.9"
FILLED = {
    "kind": "incident", "title": "The coffee machine shows E7", "description": "Since this morning.", "name": "Greta Gast",
    "email": "greta@example.com", "website": "", "task_needed": "yes",
}


class Portal:
    """Somebody in front of the portal, at an address."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = SimulatedClock(NOON, running=False)
        self.house = open_house(settings_at(folder / "data", public_address="https://help.example.org", **settings), clock=self.clock)
        self.runner = Runner(self.house.ledger, folder / "data" / "views.db")
        self.app = create_app(self.house, self.runner, works=False)
        self.client = self.at(STRANGER)

    def at(self, address: str) -> TestClient:
        return TestClient(self.app, raise_server_exceptions=False, client=(address, 40_000))

    def caught_up(self) -> None:
        assert self.runner.wait_for(self.house.ledger.last_position, 10)

    def become(self, login: str, role: str = "requester", **more: str) -> TestClient:
        self.house.directory.open_account(login=login, name=f"{login.title()} Known", role=role, password=PASSWORD, **more)
        client = self.at(STRANGER)
        client.cookies.set(SESSION_COOKIE, self.sign_in(login))
        return client

    def sign_in(self, login: str) -> str:
        secret: str = self.client.portal.call(self.house.directory.sign_in, login, PASSWORD, "127.0.0.1").secret  # type: ignore[union-attr]  # inside the lifespan
        return secret

    def form(self, path: str = "/portal/new", client: TestClient | None = None, **headers: str) -> dict[str, str]:
        """The hidden fields of the last form of a page."""
        self.caught_up()
        page = (client or self.client).get(path, headers=headers)
        assert page.status_code == 200, page.text
        return hidden(page)

    def send(self, form: dict[str, str] | None = None, client: TestClient | None = None, **fields: str) -> Response:
        client = client or self.client
        data = {**FILLED, **(form or self.form(client=client)), **fields}
        return client.post("/portal/new", data=data, follow_redirects=False)

    def report(self, client: TestClient | None = None, **fields: str) -> str:
        """Send a report; the address of its answer."""
        answer = self.send(None, client, **fields)
        assert answer.status_code == 303, answer.text
        self.caught_up()
        return answer.headers["location"]

    def count(self, kind: type) -> int:
        return sum(isinstance(fact.event, kind) for fact in self.house.ledger.read(0, 100_000))

    def ticket(self, number: str) -> Incident:
        self.caught_up()
        with self.runner.views.reader() as reader:
            row = row_of(reader, number)
        assert row is not None
        return self.house.ledger.get(Incident, row.id)

    def act(self, number: str, command: str, actor: str = "user:00000000-0000-4000-8000-0000000000aa", **values: Any) -> None:
        stream = self.ticket(number).id
        self.house.ledger.run(Unit(lambda work: getattr(work.load(Incident, stream), command)(**values), actor=actor))
        self.caught_up()

    def event(self, kind: type) -> Any:
        """The last event of this kind."""
        return [fact.event for fact in self.house.ledger.read(0, 100_000) if isinstance(fact.event, kind)][-1]


def hidden(page: Response) -> dict[str, str]:
    body = re.sub(r'<form class="language".*?</form>', "", page.text, flags=re.DOTALL).rpartition("<form")[2]
    return {name: unescape(value) for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', body)}


def words(page: Response) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.text))


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    portal = Portal(tmp_path)
    with portal.client:
        yield portal


@pytest.fixture
def set_so(tmp_path: Path) -> Iterator[Callable[..., Portal]]:
    made: list[Portal] = []

    def make(**settings: Any) -> Portal:
        portal = Portal(tmp_path, **settings)
        portal.client.__enter__()
        made.append(portal)
        return portal

    yield make
    for portal in made:
        portal.client.__exit__(None, None, None)


# -- who may use it ----------------------------------------------------------------------------------------------------


def test_a_stranger_opens_a_ticket_and_follows_it_by_its_private_link(portal: Portal) -> None:
    assert "Something does not work" in portal.client.get("/portal").text
    address = portal.report()
    assert re.fullmatch(r"/portal/sent/INC-1/[\w-]{43}", address)
    for _reload in range(2):
        answer = portal.client.get(address)
        assert answer.status_code == 200
        assert "<b>INC-1</b>" in answer.text
        assert "Somebody looks at it. You hear from us by 16:00." in words(answer)
        assert "Hello Greta Gast" in answer.text
    secret = address.rpartition("/")[2]
    assert f"https://help.example.org/portal/t/INC-1/{secret}" in answer.text
    page = portal.client.get(f"/portal/t/INC-1/{secret}")
    assert "The coffee machine shows E7" in page.text
    assert "Since this morning." in page.text
    assert "Nobody has taken it up yet" in page.text


def test_private_pages_are_kept_and_passed_on_by_nobody(portal: Portal) -> None:
    sent = portal.report()
    secret = sent.rpartition("/")[2]
    for path in (sent, f"/portal/t/INC-1/{secret}", "/portal/t/INC-1", "/portal/t/INC-1/wrong"):
        answer = portal.client.get(path)
        assert answer.headers.get_list("referrer-policy") == ["no-referrer"], path
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-robots-tag"] == "noindex"
        assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_signed_in_people_find_what_they_opened_open_ones_first(portal: Portal) -> None:
    rita = portal.become("rita")
    assert "Nothing yet." in rita.get("/portal").text
    assert portal.report(rita, title="First") == "/portal/sent/INC-1"
    portal.report(rita, title="Second")
    portal.report(title="Of a stranger")
    portal.act("INC-2", "resolve", code="solved", solution="done", now=NOON)
    page = rita.get("/portal").text
    assert page.index("First") < page.index("Second")
    assert "Of a stranger" not in page
    assert "new" in page
    assert rita.get("/portal/t/INC-1").status_code == 200
    assert "name=\"email\"" not in rita.get("/portal/new").text
    assert "Your private link" not in rita.get("/portal/sent/INC-1").text
    assert rita.get("/portal/t/INC-3").status_code == 404


def test_a_requester_is_at_home_in_the_portal_and_never_sees_the_console(portal: Portal) -> None:
    rita = portal.become("rita")
    for path in ("/console", "/console/tickets/INC-1", "/console/search?q=x"):
        answer = rita.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/portal")
    assert rita.post("/console/tickets/INC-1/acknowledge", data={}).status_code == 403
    fresh = portal.at(STRANGER)
    form = hidden(fresh.get("/console/sign-in"))
    signed = fresh.post("/console/sign-in", data={**form, "login": "rita", "password": PASSWORD}, follow_redirects=False)
    assert signed.headers["location"] == "/portal"
    assert "Sign out" in fresh.get("/portal").text
    assert "/console\"" not in fresh.get("/portal").text


def test_an_agent_goes_from_the_answers_link_to_the_ticket_they_work_on(portal: Portal) -> None:
    portal.report()
    nora = portal.become("nora", "agent")
    assert nora.get("/portal/t/INC-1", follow_redirects=False).headers["location"] == "/console/tickets/INC-1"
    assert "To the queue" in nora.get("/portal").text


def test_the_setting_says_who_may_come(set_so: Callable[..., Portal]) -> None:
    portal = set_so(portal="signed-in")
    answer = portal.client.get("/portal/new", follow_redirects=False)
    assert answer.headers["location"] == "/console/sign-in?next=%2Fportal%2Fnew"
    assert portal.client.post("/portal/new", data=FILLED, follow_redirects=False).status_code == 303
    assert portal.count(TicketReported) == 0
    assert portal.become("rita").get("/portal/new").status_code == 200


def test_switched_off_there_is_no_portal(set_so: Callable[..., Portal]) -> None:
    portal = set_so(portal="off")
    rita = portal.become("rita")
    for client in (portal.client, rita):
        for path in ("/portal", "/portal/new", "/portal/t/INC-1", "/portal/t/INC-1/x", "/portal/sent/INC-1", "/portal/else"):
            assert client.get(path, follow_redirects=False).status_code == 404, path
        assert client.post("/portal/new", data=FILLED).status_code == 404
    assert rita.get("/console", follow_redirects=False).status_code == 403


def test_a_setting_that_cannot_be_is_named() -> None:
    with pytest.raises(BadSettings, match="TOCSIN_PORTAL"):
        load_settings({"TOCSIN_PORTAL": "sometimes"})
    with pytest.raises(BadSettings, match="TOCSIN_PORTAL_NETWORKS"):
        load_settings({"TOCSIN_PORTAL_NETWORKS": "the office"})
    assert load_settings({"TOCSIN_PORTAL_NETWORKS": "198.51.100.0/24"}).portal_networks == ("198.51.100.0/24",)


# -- the form ----------------------------------------------------------------------------------------------------------


def test_what_was_wrong_is_named_and_what_was_typed_is_kept(portal: Portal) -> None:
    form = portal.form()
    answer = portal.send(form, title=" ", email="greta", name="", kind="", service="nothing")
    assert answer.status_code == 422
    for name in ("kind", "title", "service", "name", "email"):
        assert f'href="#{name}"' in answer.text, name
        assert f'id="{name}"' in answer.text, name
    assert 'value="greta"' in answer.text
    assert "Since this morning." in answer.text
    assert 'name="task_needed" value="yes" checked' in answer.text
    assert portal.count(TicketReported) == 0
    assert portal.send(hidden(answer)).status_code == 303


@pytest.mark.parametrize(("field", "length"), [("title", 301), ("description", 20_001), ("name", 201), ("email", 300)])
def test_nothing_is_longer_than_its_field(portal: Portal, field: str, length: int) -> None:
    answer = portal.send(None, None, **{field: "x" * length})
    assert answer.status_code == 422
    assert f'id="{field}-fault"' in answer.text


def test_a_title_is_one_line_and_the_portal_has_one_address(portal: Portal) -> None:
    portal.report(title=" Two\r\nlines\t of it ")
    assert portal.ticket("INC-1").title == "Two lines of it"
    assert portal.client.get("/portal/", follow_redirects=False).headers["location"] == "/portal"
    assert portal.client.get("/portal/elsewhere").status_code == 404


def test_hostile_text_is_shown_as_text(portal: Portal) -> None:
    address = portal.report(title='<script>alert(1)</script>"', description="</textarea><b>\x1b[31m\u202egnp")
    page = portal.client.get(address.replace("/sent/", "/t/")).text
    assert "<script>alert" not in page
    assert "<b>\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_report_says_what_was_answered_where_from_and_how_long_it_took(portal: Portal) -> None:
    form = portal.form("/portal/new?from=/intranet/printers")
    portal.clock.advance(95.0)
    portal.send(form, work_affected="yes")
    told = portal.event(TicketReported)
    assert told.answers == ("work_affected", "task_needed")
    assert (told.page, told.seconds, told.language) == ("/intranet/printers", 95.0, "en")
    portal.send(portal.form(referer="http://testserver/help/coffee?secret=1"))
    assert portal.event(TicketReported).page == "/help/coffee"
    portal.send(portal.form(referer="https://elsewhere.example/page"))
    assert portal.event(TicketReported).page == ""
    portal.send(portal.form(f"/portal/new?from=/portal/t/INC-1/{'s' * 43}"))
    assert portal.event(TicketReported).page == "/portal"
    portal.send(portal.form(f"/portal/new?from=/{'x' * 900}%0a"))
    assert len(portal.event(TicketReported).page) == 200


def test_the_yes_questions_decide_by_the_shipped_rules(portal: Portal) -> None:
    portal.report(work_affected="yes")
    assert portal.ticket("INC-1").urgency == "high"
    portal.report(kind="request", title="A second screen")
    assert "somebody who may has to approve it" in portal.client.get(portal.report(kind="request", title="A chair")).text


def test_a_known_address_is_used_and_never_changed_and_nobody_can_tell(portal: Portal) -> None:
    portal.become("karl", email="karl@example.com", team="Board")
    known = portal.client.get(portal.report(name="Mallory Mean", email="Karl@example.com"))
    unknown = portal.client.get(portal.report(name="Mallory Mean", email="new@example.com"))
    assert "Karl Known" not in known.text
    assert "Hello Mallory Mean" in known.text

    def same(page: Response) -> str:
        return re.sub(r"INC-\d|/[\w-]{43}", "·", page.text)

    assert same(known) == same(unknown)
    karl = portal.house.directory.person_of("karl@example.com")
    assert portal.ticket("INC-1").requester == karl
    assert karl is not None
    assert portal.house.ledger.get(Person, karl).name == "Karl Known"
    new = portal.house.directory.person_of("new@example.com")
    assert new == portal.ticket("INC-2").requester
    assert new is not None
    assert (portal.house.ledger.get(Person, new).name, portal.house.ledger.get(Person, new).role) == ("Mallory Mean", None)
    # Whoever has the account sees what was reported in their name.
    client = portal.at(STRANGER)
    client.cookies.set(SESSION_COOKIE, portal.sign_in("karl"))
    assert "INC-1" in client.get("/portal").text


def test_an_unproven_name_opens_no_door_of_the_rulebook(portal: Portal) -> None:
    rules = '[[decision]]\nname = "board"\non = ["person"]\nwhen = "requester.team == \'Board\'"\npriority = "P1"\n'
    publish(portal, rules)
    board = portal.become("karl", email="karl@example.com", team="Board")
    portal.report(email="karl@example.com")
    portal.report(board)
    assert (portal.ticket("INC-1").priority, portal.ticket("INC-2").priority) == ("P3", "P1")


def publish(portal: Portal, rules: str) -> None:
    from api.rulebook_file import read_rulebook
    from engine.rulebook import RULEBOOK, Rulebook

    edition = read_rulebook(rules)
    portal.house.ledger.run(Unit(lambda work: work.load(Rulebook, RULEBOOK).publish(edition), actor="tocsin"))


def test_a_field_that_nobody_sees_is_refused_plainly_and_then_shown(portal: Portal) -> None:
    page = portal.client.get("/portal/new").text
    assert re.search(r'<p class="trap" aria-hidden="true">.*\n<input id="website"[^>]*tabindex="-1"', page)
    answer = portal.send(website="https://spam.example")
    assert answer.status_code == 422
    assert "leave it empty" in answer.text
    assert 'class="trap"' not in answer.text
    assert "Since this morning." in answer.text
    assert portal.count(TicketReported) == 0


# -- once ----------------------------------------------------------------------------------------------------------------


def test_a_form_sent_twice_is_one_ticket_and_one_answer(portal: Portal) -> None:
    form = portal.form()
    first, second = portal.send(form), portal.send(form)
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    assert portal.count(TicketReported) == 1
    # The same form with other words is not the same report: nothing of it is lost silently.
    changed = portal.send(form, title="Something else")
    assert changed.status_code == 422
    assert 'value="Something else"' in changed.text
    again = portal.send(hidden(changed), title="Something else")
    assert again.headers["location"] != first.headers["location"]
    assert portal.count(TicketReported) == 2


def test_a_form_is_signed_and_good_for_a_day(portal: Portal) -> None:
    form = portal.form()
    body, _dot, seal = form["form"].partition(".")
    for forged in ("", "x", f"{body}.", f"{body}.{seal[:-2]}AA", f"x{body}.{seal}", f"{body}.é", "." * 9_000):
        answer = portal.send({"form": forged})
        assert answer.status_code == 422
        assert "Since this morning." in answer.text
    portal.clock.advance(25 * 3_600.0)
    late = portal.send(form)
    assert late.status_code == 422
    assert portal.send(hidden(late)).status_code == 303


def test_another_site_cannot_send_a_form_and_another_session_cannot_send_mine(portal: Portal) -> None:
    form = portal.form()
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert portal.client.post("/portal/new", data={**FILLED, **form}, headers=headers).status_code == 403
    rita = portal.become("rita")
    assert rita.post("/portal/new", data={**FILLED, **form}).status_code == 422
    assert portal.count(TicketReported) == 0


# -- help before sending ---------------------------------------------------------------------------------------------------


def test_help_is_offered_once_and_a_document_that_answers_it_closes_the_report(portal: Portal) -> None:
    offered = portal.send(title="I have forgotten my password", task_needed="")
    assert offered.status_code == 200
    assert "Perhaps this helps" in offered.text
    assert "Forgotten your password?" in offered.text
    assert 'value="I have forgotten my password"' in offered.text
    assert portal.count(TicketReported) == 0
    sent = portal.send(hidden(offered), title="I have forgotten my password", task_needed="", document="password forgotten")
    told = portal.event(TicketReported)
    assert (told.document, told.suggestions) == ("password forgotten", ("Forgotten your password?",))
    assert told.answers == ("answered_by_document",)
    assert portal.ticket("INC-1").state_name == "closed"
    page = portal.client.get(sent.headers["location"])
    assert "It is noted" in page.text
    assert "Answered by a document" in page.text
    assert "Since this morning." in portal.client.get(sent.headers["location"].replace("/sent/", "/t/")).text


def test_sent_all_the_same_it_stays_open_and_says_what_was_shown(portal: Portal) -> None:
    offered = portal.send(title="The printer prints nothing")
    sent = portal.send(hidden(offered), title="The printer prints nothing", send="same")
    assert sent.status_code == 303
    assert portal.event(TicketReported).suggestions == ("The printer does not print?",)
    assert portal.ticket("INC-1").is_open


def test_only_what_was_offered_can_have_answered_it(portal: Portal) -> None:
    assert portal.send(document="password forgotten").status_code == 422
    assert portal.count(TicketReported) == 0


def test_enter_in_a_field_never_says_that_a_document_answered_it(portal: Portal) -> None:
    offered = portal.send(title="The printer prints nothing").text
    assert 'name="send"' in re.findall(r"<button[^>]*>", offered[offered.index('class="ask"'):])[0]


def test_a_disturbance_is_told_of_by_service_and_time_only_once_somebody_vouches_for_it(portal: Portal) -> None:
    mail = ServiceRegistered(name="Mail", owner_team=None, tier=1, description="inner words", depends_on=())
    portal.house.ledger.run(Unit(lambda work: work.load(Service, service_id("Mail")).record(mail), actor="tocsin"))
    portal.report(title="inner title", service="Mail", work_affected="yes")
    assert portal.ticket("INC-1").priority == "P1"
    portal.clock.advance(720.0)
    assert portal.send(title="No mail", service="Mail").status_code == 303  # a stranger's word alone
    portal.act("INC-1", "acknowledge", by=None)
    offered = portal.send(title="No mail", service="Mail")
    assert "Mail is disturbed since 12:00 UTC. We are working on it." in words(offered)
    assert "inner title" not in offered.text
    portal.send(hidden(offered), title="No mail", service="Mail")
    assert portal.event(TicketReported).suggestions == ("Mail is disturbed since 12:00 UTC. We are working on it.",)
    assert portal.send(title="No mail", service="").status_code == 303


# -- following -------------------------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_as_unknown_as_an_unknown_number(portal: Portal) -> None:
    address = portal.report()
    secret = address.rpartition("/")[2]
    other = portal.report().rpartition("/")[2]
    texts = {
        portal.client.get(path).text
        for path in (f"/portal/t/INC-1/{other}", f"/portal/t/INC-99/{secret}", f"/portal/t/REQ-1/{secret}", "/portal/t/x/y", "/portal/t/INC-1/é")
    }
    assert len(texts) == 1
    assert portal.client.get(f"/portal/t/inc-1/{secret}").status_code == 200
    assert portal.client.post(f"/portal/t/INC-1/{other}", data={"do": "say", "text": "x"}).status_code == 404


def test_guesses_meet_the_limit_and_the_right_link_waits_with_them(portal: Portal) -> None:
    secret = portal.report().rpartition("/")[2]
    for _guess in range(GUESSES.burst):
        assert portal.client.get("/portal/t/INC-1/guess").status_code == 404
    for path in ("/portal/t/INC-1/guess", f"/portal/t/INC-1/{secret}"):
        answer = portal.client.get(path)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) == GUESSES.seconds
    assert portal.at("198.51.100.1").get(f"/portal/t/INC-1/{secret}").status_code == 200
    portal.clock.advance(GUESSES.seconds)
    assert portal.client.get(f"/portal/t/INC-1/{secret}").status_code == 200


def test_the_plain_address_asks_strangers_for_their_link_whether_it_is_there_or_not(portal: Portal) -> None:
    portal.report()
    pages = {portal.client.get(f"/portal/t/{number}").text.replace(number, "·") for number in ("INC-1", "INC-9")}
    assert len(pages) == 1
    assert "private link" in pages.pop()


def test_nothing_inner_ever_appears(portal: Portal) -> None:
    address = portal.report(work_affected="yes").replace("/sent/", "/t/")
    nora = portal.become("nora", "agent")
    assert nora.get("/portal").status_code == 200
    agent = portal.house.directory.person_of("nora")
    other = portal.at(STRANGER)
    portal.report(other, title="Of somebody else", email="else@example.com", name="Else Where")
    elsewhere = portal.ticket("INC-2")
    by = f"user:{agent}"
    portal.act("INC-1", "assign", actor=by, team="SECRET-TEAM", assignee=agent)
    portal.act("INC-1", "acknowledge", actor=by, by=agent)
    portal.act("INC-1", "comment", actor=by, text="inner words", visibility=Visibility.INTERNAL, author=agent)
    portal.act("INC-1", "comment", actor=by, text="outer words", visibility=Visibility.PUBLIC, author=agent)
    portal.act("INC-1", "escalate", actor=by, level=2, team=None, reason="inner reason")
    portal.act("INC-1", "set_priority", actor=by, priority=Priority.P2, reason="inner priority")
    portal.act("INC-1", "categorise", actor=by, category="inner category")
    portal.act("INC-1", "link", actor=by, to=elsewhere.id, relation=Relation.RELATED)
    portal.act("INC-1", "hold", actor=by, reason="waits for a part")
    page = words(portal.client.get(address))
    for told in ("outer words", "waits for a part", "Somebody has taken it up", "On hold", "Opened"):
        assert told in page, told
    portal.act("INC-1", "resume", actor=by)
    portal.act("INC-1", "resolve", actor=by, code="workaround", solution="turned it off and on", now=NOON)
    portal.act("INC-1", "reopen", actor=by, reason="inner reopening")
    portal.act("INC-1", "cancel", actor=by, reason="inner cancelling")
    page = words(portal.client.get(address))
    assert "turned it off and on" in page
    assert "Opened again" in page
    for inner in (
        "inner", "nora", "Nora", "SECRET-TEAM", "Of somebody else", "INC-2", "else@", "Else Where", "greta@", "P2", "workaround",
        "rulebook", str(agent),
    ):
        assert inner not in page, inner


def test_what_they_add_is_public_theirs_and_said_once(portal: Portal) -> None:
    address = portal.report().replace("/sent/", "/t/")
    form = hidden(portal.client.get(address))
    assert form["do"] == "say"
    for _click in range(2):
        answer = portal.client.post(address, data={**form, "text": " It is E8 now. "}, follow_redirects=False)
        assert answer.headers["location"] == f"{address}#course"
    said = portal.event(TicketCommented)
    assert (said.text, said.visibility, said.author) == ("It is E8 now.", "public", portal.ticket("INC-1").requester)
    page = words(portal.client.get(address))
    assert page.count("It is E8 now.") == 1
    assert "You wrote" in page
    changed = portal.client.post(address, data={**form, "text": "Other words"})
    assert changed.status_code == 422
    assert "Other words" in changed.text
    empty = portal.client.post(address, data={**hidden(changed), "text": "  "})
    assert empty.status_code == 422
    stale = portal.client.post(address, data={"do": "say", "form": "x", "text": "kept words"})
    assert stale.status_code == 422
    assert "kept words" in stale.text
    assert portal.client.post(address, data={**form, "do": "close"}).status_code == 422


def test_a_form_for_one_ticket_is_none_for_another(portal: Portal) -> None:
    first, second = (portal.report().replace("/sent/", "/t/") for _report in range(2))
    form = hidden(portal.client.get(first))
    assert portal.client.post(second, data={**form, "text": "x"}).status_code == 422
    unsolved = portal.client.post(first, data={**form, "do": "unsolved", "text": "x"})
    assert unsolved.status_code == 422


def test_this_is_not_solved_opens_it_again_with_the_reason(portal: Portal) -> None:
    address = portal.report().replace("/sent/", "/t/")
    portal.act("INC-1", "resolve", code="solved", solution="new water", now=NOON)
    page = portal.client.get(address)
    assert "It is solved." in page.text
    form = unsolved(page)
    for _click in range(2):
        assert portal.client.post(address, data={**form, "text": "E7 again"}, follow_redirects=False).status_code == 303
    assert portal.ticket("INC-1").state_name == "in_progress"
    page = portal.client.get(address)
    assert "You opened it again" in page.text
    assert page.text.count("E7 again") == 1
    assert "This is not solved" not in page.text


def unsolved(page: Response) -> dict[str, str]:
    """The hidden fields of the form that says so."""
    body = page.text[page.text.index('class="doubt"'):].partition("</form>")[0]
    return {name: unescape(value) for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', body)}


def test_what_is_closed_stays_so_and_a_new_ticket_follows_it_once(portal: Portal) -> None:
    address = portal.report().replace("/sent/", "/t/")
    portal.act("INC-1", "resolve", code="solved", solution="new water", now=NOON)
    portal.act("INC-1", "close")
    page = portal.client.get(address)
    assert "a new ticket will follow it" in page.text
    assert 'name="text" rows="4"' not in page.text
    form = unsolved(page)
    answers = [portal.client.post(address, data={**form, "text": "E7 again"}, follow_redirects=False) for _click in range(2)]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert answers[0].headers["location"].startswith("/portal/sent/INC-2/")
    following = portal.ticket("INC-2")
    assert following.links == ((portal.ticket("INC-1").id, "related"),)
    assert following.requester == portal.ticket("INC-1").requester
    answer = portal.client.get(answers[0].headers["location"])
    assert "Hello there" in answer.text
    assert "E7 again" in portal.client.get(answers[0].headers["location"].replace("/sent/", "/t/")).text


def test_who_is_signed_in_says_it_in_their_own_name(portal: Portal) -> None:
    rita = portal.become("rita")
    portal.report(rita)
    form = hidden(rita.get("/portal/t/INC-1"))
    rita.post("/portal/t/INC-1", data={**form, "text": "mine"})
    fact = portal.house.ledger.read(portal.house.ledger.last_position - 1, 1)[0]
    assert fact.actor == f"user:{portal.house.directory.person_of('rita')}"
    assert rita.post("/portal/t/INC-1", data={**form, "csrf_token": "x", "text": "more"}).status_code == 403
    mallory = portal.become("mallory")
    assert mallory.post("/portal/t/INC-1", data={**form, "text": "more"}).status_code in (403, 404)
    assert portal.client.post("/portal/t/INC-1", data={**form, "text": "more"}).status_code == 404
    assert portal.count(TicketCommented) == 2  # the automatic answer and this one


def test_a_comment_that_came_too_late_is_shown_again(portal: Portal) -> None:
    address = portal.report().replace("/sent/", "/t/")
    form = hidden(portal.client.get(address))
    portal.act("INC-1", "cancel", reason="a drill")
    late = portal.client.post(address, data={**form, "text": "kept words"})
    assert late.status_code == 409
    assert "kept words" in late.text


def test_a_renewed_link_makes_the_one_before_void(portal: Portal) -> None:
    address = portal.report().replace("/sent/", "/t/")
    token = portal.house.directory.create_token(role="agent")
    headers = {"Authorization": f"Bearer {token}"}
    renewed = portal.client.post("/api/v1/incidents/INC-1/renew-link", headers=headers)
    assert renewed.status_code == 200
    assert portal.client.get(address).status_code == 404
    assert portal.ticket("INC-1").link_generation == 1
    made = portal.client.post("/api/v1/incidents", json={"title": "of nobody"}, headers=headers).json()["number"]
    assert portal.client.post(f"/api/v1/incidents/{made}/renew-link", headers=headers).status_code == 409


def test_an_agent_renews_the_link_on_the_tickets_page_and_sees_no_secret(portal: Portal) -> None:
    address = portal.report().replace("/sent/", "/t/")
    nora = portal.become("nora", "agent")
    page = nora.get("/console/tickets/INC-1").text
    assert address.rpartition("/")[2] not in page
    form = re.search(r'action="(/console/tickets/INC-1/renew-link)"><input type="hidden" name="csrf_token" value="([^"]*)"><input type="hidden" name="version" value="(\d+)"', page)
    assert form is not None
    answer = nora.post(form[1], data={"csrf_token": form[2], "version": form[3]}, follow_redirects=False)
    assert answer.status_code == 303
    page = words(nora.get(answer.headers["location"]))
    assert "The private link to INC-1 is another one now" in page
    assert "private link was renewed" in page
    assert portal.client.get(address).status_code == 404


def test_the_secret_is_in_no_event_no_answer_of_the_interface_and_no_log(portal: Portal, capfd: pytest.CaptureFixture[str]) -> None:
    address = portal.report()
    secret = address.rpartition("/")[2]
    portal.client.get(f"/portal/t/INC-1/{secret}")
    form = hidden(portal.client.get(f"/portal/t/INC-1/{secret}"))
    portal.client.post(f"/portal/t/INC-1/{secret}", data={**form, "text": "words"})
    portal.send(portal.form(referer=f"http://testserver/portal/t/INC-1/{secret}"))
    headers = {"Authorization": f"Bearer {portal.house.directory.create_token(role='admin')}"}
    told = [portal.client.get(path, headers=headers).text for path in ("/api/v1/tickets/INC-1", "/api/v1/tickets/INC-1/history", "/api/v1/log", "/metrics")]
    told += [repr(fact.event) for fact in portal.house.ledger.read(0, 100_000)]
    told += capfd.readouterr()
    assert "https://help.example.org/portal/t/INC-1\n" in portal.event(TicketCommented).text or any("/portal/t/INC-1" in text for text in told)
    assert not any(secret in text for text in told)
    for file in (portal.house.settings.data).iterdir():
        assert secret.encode() not in file.read_bytes(), file.name


# -- files -----------------------------------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def test_files_come_with_a_report_and_with_words_and_are_given_out_again(portal: Portal) -> None:
    form = portal.form()
    sent = [
        portal.client.post(
            "/portal/new", data={**FILLED, **form}, files=[("files", ("screen.png", PNG, "image/png"))], follow_redirects=False
        )
        for _click in range(2)
    ]
    assert sent[0].headers["location"] == sent[1].headers["location"]
    address = sent[0].headers["location"].replace("/sent/", "/t/")
    portal.client.post(address, data={**hidden(portal.client.get(address)), "text": ""}, files={"files": ("more.txt", b"E7 E8")})
    page = portal.client.get(address)
    assert "You attached a file" in page.text
    first, second = (path for path in re.findall(r'<p class="attached"><a href="([^"]*)"', page.text))
    given = portal.client.get(second)
    assert given.content == PNG
    assert given.headers["content-disposition"].startswith("attachment; filename=\"screen.png\"")
    assert given.headers.get_list("referrer-policy") == ["no-referrer"]
    assert portal.client.get(first).content == b"E7 E8"
    wrong = re.sub(r"/[\w-]{43}/", "/" + "w" * 43 + "/", first)
    assert portal.client.get(wrong).status_code == 404
    assert portal.count(TicketFileAttached) == 2


def test_a_file_of_the_team_is_none_of_the_requesters(portal: Portal) -> None:
    address = portal.report().replace("/sent/", "/t/")
    stream = portal.ticket("INC-1").id
    file = seal_file(portal.house.vault, name="inner.txt", media_type="text/plain", content=b"inner words")
    portal.house.ledger.run(
        Unit(lambda work: attach_file(work, work.load(Incident, stream), file, visibility=Visibility.INTERNAL, by=None), actor="tocsin")
    )
    portal.caught_up()
    assert "inner" not in portal.client.get(address).text
    assert portal.client.get(f"{address}/files/{file.id}").status_code == 404


def test_a_file_that_is_not_taken_is_named_and_the_words_are_kept(portal: Portal) -> None:
    form = portal.form()
    bad = {"files": ("page.html", b"<html>")}
    refused = portal.client.post("/portal/new", data={**FILLED, **form}, files=bad)
    assert refused.status_code == 422
    assert 'id="files-fault"' in refused.text
    assert "page.html" in refused.text
    assert "choose your files once more" in refused.text
    assert "Since this morning." in refused.text
    address = portal.report().replace("/sent/", "/t/")
    refused = portal.client.post(address, data={**hidden(portal.client.get(address)), "text": "kept words"}, files=bad)
    assert refused.status_code == 422
    assert "kept words" in refused.text
    assert portal.count(TicketFileAttached) == 0
    offered = portal.client.post("/portal/new", data={**FILLED, **portal.form(), "title": "printer"}, files={"files": ("a.png", PNG)})
    assert "Perhaps this helps" in offered.text
    assert "choose your files once more" in offered.text


# -- limits ----------------------------------------------------------------------------------------------------------------


def test_a_stranger_who_floods_is_slowed_and_keeps_what_was_typed(portal: Portal) -> None:
    form = portal.form()
    assert portal.send(form).status_code == 303
    for _report in range(STRANGERS.burst - 1):
        assert portal.send().status_code == 303
    slowed = portal.send()
    assert slowed.status_code == 429
    assert int(slowed.headers["retry-after"]) == STRANGERS.seconds
    assert "Since this morning." in slowed.text
    assert portal.count(TicketReported) == STRANGERS.burst
    # What was sent before is answered as it was; others, and those who sign in, are not concerned.
    assert portal.send(form).status_code == 303
    assert portal.send(client=portal.at("198.51.100.1")).status_code == 303
    assert portal.send(client=portal.become("rita")).status_code == 303
    portal.clock.advance(STRANGERS.seconds)
    assert portal.send(hidden(slowed)).status_code == 303
    assert portal.send().status_code == 429


def test_a_mistake_and_a_second_click_cost_nothing(portal: Portal) -> None:
    for _mistake in range(STRANGERS.burst + 1):
        assert portal.send(title="").status_code == 422
    form = portal.form()
    for _click in range(STRANGERS.burst + 1):
        assert portal.send(form).status_code == 303
    for _report in range(STRANGERS.burst - 1):
        assert portal.send().status_code == 303
    assert portal.send().status_code == 429


def test_colleagues_behind_one_address_are_many(portal: Portal) -> None:
    office = portal.at(NEIGHBOUR)
    for _report in range(STRANGERS.burst + 5):
        assert portal.send(client=office).status_code == 303


def test_comments_meet_the_limit_too(portal: Portal) -> None:
    address = portal.report().replace("/sent/", "/t/")
    for count in range(GENEROUS.burst):
        form = hidden(portal.client.get(address))
        assert portal.client.post(address, data={**form, "text": f"words {count}"}, follow_redirects=False).status_code == 303
    slowed = portal.client.post(address, data={**hidden(portal.client.get(address)), "text": "one more"})
    assert slowed.status_code == 429
    assert "one more" in slowed.text
    assert "retry-after" in slowed.headers


def test_what_the_portal_took_and_slowed_is_counted(portal: Portal) -> None:
    def counted(outcome: str) -> float:
        found = re.search(rf'tocsin_portal_reports_total{{outcome="{outcome}"}} (\S+)', portal.client.get("/metrics").text)
        return float(found[1]) if found else 0.0

    before = {outcome: counted(outcome) for outcome in ("taken", "limited", "refused")}
    for _report in range(STRANGERS.burst + 2):
        portal.send()
    portal.send(website="x")
    assert {outcome: counted(outcome) - before[outcome] for outcome in before} == {"taken": STRANGERS.burst, "limited": 2.0, "refused": 1.0}


def test_addresses_count_as_whose_they_are() -> None:
    near = Neighbourhood(("10.0.0.0/8", "fc00::/7"))
    assert near.key("203.0.113.7") == ("address:203.0.113.7", STRANGERS)
    assert near.key("::ffff:203.0.113.7") == ("address:203.0.113.7", STRANGERS)
    assert near.key("2001:db8:1:2:3::4")[0] == near.key("2001:db8:1:2:ffff::1")[0]
    assert near.key("2001:db8:1:2::1")[0] != near.key("2001:db8:1:3::1")[0]
    assert near.key("fd00::1")[1] is near.key("10.9.9.9")[1] is GENEROUS
    assert near.key("fe80::1%eth0")[1] is STRANGERS
    assert near.key("a pipe")[1] is STRANGERS


def test_the_limiter_forgets_the_longest_unused_and_a_clock_set_back_gives_nothing() -> None:
    clock = SimulatedClock(NOON, running=False)
    now = [NOON]
    limiter = Limiter(lambda: now[0], most=3)
    for key in ("a", "b", "c", "d"):
        assert limiter.take(key, STRANGERS) == 0
    assert len(limiter) == 3
    for _take in range(STRANGERS.burst - 1):
        assert limiter.take("d", STRANGERS) == 0
    assert limiter.take("d", STRANGERS) == STRANGERS.seconds
    now[0] = NOON - timedelta(hours=1)
    assert limiter.take("d", STRANGERS) == STRANGERS.seconds
    assert limiter.wait("d", STRANGERS) == STRANGERS.seconds
    now[0] = NOON + timedelta(seconds=STRANGERS.seconds / 2)
    assert limiter.take("d", STRANGERS) == STRANGERS.seconds / 2
    limiter.give_back("d", STRANGERS)
    assert limiter.take("d", STRANGERS) == 0
    assert clock.now() == NOON


def test_people_of_the_console_read_who_said_what(portal: Portal) -> None:
    address = portal.report().replace("/sent/", "/t/")
    portal.client.post(address, data={**hidden(portal.client.get(address)), "text": "mine"})
    nora = portal.become("nora", "agent")
    page = words(nora.get("/console/tickets/INC-1"))
    assert "Greta Gast wrote, as the requester" in page
    assert "by the portal, not signed in" in page
    assert portal.count(PersonRegistered) == 3


@pytest.mark.parametrize(
    ("language", "title", "document"),
    [
        ("fr", "Mot de passe oublié", "Mot de passe oublié\u202f?"), ("sv", "Jag har glömt mitt lösenord", "Glömt lösenordet?"),
        ("es", "La impresora no imprime", "¿La impresora no imprime?"), ("en", "L’imprimante ne marche pas", "The printer does not print?"),
    ],
)
def test_help_is_offered_in_the_visitors_language(portal: Portal, language: str, title: str, document: str) -> None:
    portal.client.headers["Accept-Language"] = language
    offered = portal.send(title=title)
    assert offered.status_code == 200
    assert document in unescape(offered.text)
