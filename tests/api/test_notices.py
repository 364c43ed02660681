"""Notices over HTTP, on the console and in the terminal."""

import json
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.command.root import main
from api.door import SESSION_COOKIE
from api.house import House
from engine.recipient import Channel, Recipient, Shape, recipient_id
from engine.rulebook import RULEBOOK, NoticeRule, Rulebook, RulebookPublished
from engine.work import Unit
from projections.runner import Runner
from tests.api.conftest import Headers
from tests.notices.post import PATIENCE, PostOffice, Receiver, verified

HeadersOf = Callable[[str], Headers]
URL = "https://127.0.0.1/s3cr3t-path"


@pytest.fixture
def dead(house: House, client: TestClient, headers: HeadersOf) -> str:
    """The id of a dead letter: its recipient's address is an inner one, which is not allowed."""
    values = {"name": "on-call", "channel": Channel.WEBHOOK, "target": URL, "secret": "", "shape": Shape.TOCSIN, "language": "en"}
    rules = RulebookPublished(notices=(NoticeRule(name="all", when="true", to=("on-call",)),), text="all")
    house.ledger.run(Unit(lambda work: work.load(Recipient, recipient_id("on-call")).add(**values), actor="tocsin"))  # type: ignore[arg-type]  # values of several kinds
    house.ledger.run(Unit(lambda work: work.load(Rulebook, RULEBOOK).publish(rules), actor="tocsin"))
    client.post("/api/v1/incidents", json={"title": "It <b>is</b> slow"}, headers=headers("agent"))
    return until_dead(client, headers)


def until_dead(client: TestClient, headers: HeadersOf) -> str:
    """Wait until there is a dead letter."""
    runner: Runner = client.app.state.runner  # type: ignore[attr-defined]
    changed = threading.Event()
    end = runner.subscribe(lambda _: changed.set())
    try:
        while not (items := client.get("/api/v1/notices?status=dead", headers=headers("agent")).json()["items"]):
            assert changed.wait(PATIENCE)
            changed.clear()
    finally:
        end()
    found: str = items[0]["id"]
    return found


def test_the_list_tells_of_every_notice_and_of_no_address(client: TestClient, headers: HeadersOf, dead: str) -> None:
    (item,) = client.get("/api/v1/notices", headers=headers("agent")).json()["items"]
    assert (item["id"], item["number"], item["recipient"], item["purpose"], item["rule"]) == (dead, "INC-1", "on-call", "firing", "all")
    assert (item["status"], item["due_at"], item["attempts"]) == ("dead", None, 1)
    assert "TOCSIN_ALLOWED_NETWORKS" in item["said"]
    assert client.get("/api/v1/notices?recipient=nobody", headers=headers("agent")).json()["items"] == []
    assert client.get("/api/v1/notices?status=lost", headers=headers("agent")).status_code == 422
    everything = client.get("/api/v1/log?limit=1000", headers=headers("admin")).text
    everything += client.get("/api/v1/tickets/INC-1/history", headers=headers("agent")).text + client.get("/metrics").text
    assert "s3cr3t" not in everything
    assert "recipient.added.v1" in everything


def test_a_dead_letter_is_tried_again_once(client: TestClient, house: House, headers: HeadersOf, dead: str) -> None:
    address = f"/api/v1/notices/{dead}/retry"
    answer = client.post(address, headers={**headers("admin"), "Idempotency-Key": "1"})
    assert (answer.status_code, answer.json()) == (200, {"notice": dead, "ticket": "INC-1", "status": "waiting"})
    assert client.post(address, headers={**headers("admin"), "Idempotency-Key": "1"}).json() == answer.json()
    assert [fact.type for fact in house.ledger.read(0, 1_000)].count("notice.retried.v1") == 1
    assert client.post("/api/v1/notices/00000000-0000-4000-8000-000000000000/retry", headers=headers("admin")).status_code == 404


def test_a_notice_that_is_no_dead_letter_is_not_tried_again(client: TestClient, house: House, headers: HeadersOf, dead: str) -> None:
    client.post(f"/api/v1/notices/{dead}/retry", headers=headers("admin"))
    answers = [client.post(f"/api/v1/notices/{dead}/retry", headers=headers("admin")).status_code for _ in range(2)]
    assert set(answers) <= {200, 409}  # it may have died again meanwhile
    assert [fact.type for fact in house.ledger.read(0, 1_000)].count("notice.retried.v1") == 1 + answers.count(200)


def test_the_history_of_a_ticket_tells_of_its_notices(client: TestClient, headers: HeadersOf, dead: str) -> None:
    items = client.get("/api/v1/tickets/INC-1/history", headers=headers("agent")).json()["items"]
    said = [item["summary"] for item in items]
    assert said[-3:-1] == ["Notice rule “all” (rulebook version 2) holds", "on-call is to be told"]
    assert said[-1].startswith("on-call could not be told, and it is not tried again: 127.0.0.1 is an inner address")


def test_metrics_count_attempts_and_what_waits(client: TestClient, dead: str) -> None:
    text = client.get("/metrics").text
    assert re.search(r'^tocsin_notices_sent_total\{channel="tocsin",outcome="refused"\} [1-9]', text, re.MULTILINE)
    assert re.search(r"^tocsin_notices_dead 1.0$", text, re.MULTILINE)


def sign_in(client: TestClient, house: House, login: str, role: str) -> None:
    house.directory.open_account(login=login, name=login.title(), role=role, password="a long password")
    signed = client.portal.call(house.directory.sign_in, login, "a long password", "127.0.0.1")  # type: ignore[union-attr]  # inside the lifespan
    client.cookies.set(SESSION_COOKIE, signed.secret)


def test_the_page_shows_what_could_not_be_sent_and_an_administrator_tries_it_again(client: TestClient, house: House, dead: str) -> None:
    sign_in(client, house, "nora", "agent")
    page = client.get("/console/notices").text
    assert "dead letter" in page
    assert "Try again" not in page
    client.cookies.clear()
    sign_in(client, house, "ada", "admin")
    page = client.get("/console/notices?status=dead").text
    token = re.search(r'/retry"><input type="hidden" name="csrf_token" value="([^"]*)"', page)
    assert token is not None
    form = {"csrf_token": token[1], "next": "/console/notices?status=dead"}
    answer = client.post(f"/console/notices/{dead}/retry", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/notices?status=dead")
    assert client.post(f"/console/notices/{dead}/retry", data={**form, "csrf_token": "x"}, follow_redirects=False).status_code == 403
    assert "s3cr3t" not in page


def test_an_empty_outbox_says_how_it_is_filled(client: TestClient, house: House) -> None:
    sign_in(client, house, "nora", "agent")
    assert "tocsin recipient add" in client.get("/console/notices").text


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A command's arguments to (exit code, standard output, standard error), on a store of its own."""
    monkeypatch.setattr("api.command.serving.configure_logs", lambda: None)  # it would outlive what is captured here
    monkeypatch.setenv("COLUMNS", "200")

    def of(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tocsin", *arguments, "--data", str(tmp_path / "store" / "data")])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return of


def test_a_recipient_is_added_tested_and_removed_in_the_terminal(run: Run, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_ALLOWED_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("TOCSIN_PLAIN_WEBHOOKS", "true")
    code, out, _ = run("recipient", "add", "on-call", "--webhook", receiver.url)
    secret = re.search(r"whsec_\S+", out)
    assert (code, "s3cr3t" in out) == (0, False)
    assert secret is not None
    receiver.answers = [(200, {}, b"ok"), (500, {}, b"boom")]
    assert run("notify", "test", "on-call")[1] == f"sent to on-call (http://127.0.0.1:{receiver.port}/…): 200 ok\n"
    (heard,) = receiver.heard
    assert verified(secret[0], heard)
    assert heard.document["type"] == "notice.test"
    code, out, said = run("notify", "test", "on-call")
    assert (code, out) == (1, "")
    assert "500 boom" in said
    rows = json.loads(run("recipient", "list", "--json")[1])
    assert rows == [{"name": "on-call", "channel": "webhook", "shape": "tocsin", "place": f"http://127.0.0.1:{receiver.port}/…", "language": "en"}]
    assert run("recipient", "remove", "on-call")[0] == 0
    assert run("notify", "test", "on-call")[2] == "tocsin: no recipient on-call\n"


def test_a_test_by_mail_reaches_the_mail_server(run: Run, post_office: PostOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_SMTP", f"smtp://127.0.0.1:{post_office.port}")
    run("recipient", "add", "nora", "--mail", "nora@example.org")
    assert run("notify", "test", "nora")[1].startswith("sent to nora (n…@example.org): ")
    assert post_office.mails[0]["Subject"] == "A test of Tocsin’s notices"


@pytest.mark.parametrize(("arguments", "told"), [
    (("recipient", "add", "a", "--mail", "no address"), "mail: expected an address such as on-call@example.org"),
    (("recipient", "add", "a", "--mail", "a@example.org\nBcc: b@example.org"), "mail: expected"),
    (("recipient", "add", "a", "--webhook", "ftp://example.org/"), "webhook: expected an address such as https://example.org/hook"),
    (("recipient", "add", "a", "--webhook", "https://example.org/\r\nX: y"), "webhook: expected"),
    (("recipient", "add", "a"), "either --mail ADDRESS or --webhook URL"),
    (("recipient", "add", " ", "--mail", "a@example.org"), "name: expected"),
    (("recipient", "add", "a", "--webhook", "https://example.org/", "--secret", "abc"), "secret: expected whsec_"),
    (("recipient", "change", "a", "--mail", "a@example.org"), "no recipient a"),
    (("notify", "retry"), "either a notice's ID or --all"),
])
def test_what_cannot_be_is_said_in_one_line(run: Run, arguments: tuple[str, ...], told: str) -> None:
    run("migrate")
    code, out, said = run(*arguments)
    assert (code, out) == (1, "")
    assert told in said
    assert said.count("\n") == 1


def test_dead_letters_are_listed_and_tried_again_in_the_terminal(run: Run, tmp_path: Path) -> None:
    run("migrate")
    assert run("notify", "retry", "--all")[1] == "0 tried again\n"
    assert json.loads(run("notify", "list", "--dead", "--json")[1]) == []
    assert run("notify", "retry", "nonsense")[2] == "tocsin: no notice nonsense\n"
