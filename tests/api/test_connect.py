"""Connecting a monitor: the block of each sender, a token that is shown once, and what the first delivery became."""

import asyncio
import json
import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from api import connecting
from api.console.forms import masked
from api.door import SESSION_COOKIE
from api.house import House
from engine.errors import Conflict, InvalidInput, NotFound
from engine.source import SourceAdded
from monitors.integrations.registry import ADAPTERS
from projections.runner import Runner

PASSWORD = "a long enough one"
HERE = "/console/connect"


class Office:
    """Ada, an administrator, at the console of a fresh store."""

    def __init__(self, client: TestClient, house: House) -> None:
        self.client, self.house = client, house
        house.directory.open_account(login="ada", name="Ada Admin", role="admin", password=PASSWORD)
        house.directory.open_account(login="nora", name="Nora Berg", role="agent", password=PASSWORD)
        self.become("ada")

    def become(self, login: str) -> Response:
        self.client.cookies.clear()
        page = self.client.get("/console/sign-in")
        found = re.search(r'name="csrf_token" value="([^"]*)"', page.text)
        assert found
        form = {"csrf_token": unescape(found[1]), "login": login, "password": PASSWORD}
        answer = self.client.post("/console/sign-in", data=form, follow_redirects=False)
        assert answer.status_code == 303
        principal = asyncio.run(self.house.directory.whose_session(self.client.cookies[SESSION_COOKIE], self.house.clock.now()))
        assert principal
        self.csrf = principal.csrf
        return answer

    def page(self, path: str = HERE, status: int = 200) -> str:
        answer = self.client.get(path, follow_redirects=False)
        assert answer.status_code == status, answer.text
        return answer.text

    def send(self, path: str = HERE, **fields: str) -> Response:
        return self.client.post(path, data={"csrf_token": masked(self.csrf), **fields}, follow_redirects=False)

    def settle(self) -> None:
        runner: Runner = self.client.app.state.runner  # type: ignore[attr-defined]  # a FastAPI application
        assert runner.wait_for(self.house.ledger.last_position, 10)


@pytest.fixture
def office(client: TestClient, house: House) -> Office:
    return Office(client, house)


def block(page: str, name: str) -> str:
    found = re.search(rf'<pre id="{name}"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert found
    return unescape(found[1])


def place(page: str) -> str:
    found = re.search(r'data-fragment-url="([^"]*)"', page)
    assert found
    return unescape(found[1])


def words(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def posted(client: TestClient, command: str) -> Response:
    """What a shell would do with a command of ours."""
    lines = "\n".join(line for line in command.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    parts = shlex.split(lines)
    headers = dict(parts[at + 1].split(": ", 1) for at, part in enumerate(parts) if part == "-H")
    cookies, client.cookies = client.cookies, type(client.cookies)()
    try:
        return client.post(parts[2], content=parts[parts.index("-d") + 1], headers=headers)
    finally:
        client.cookies = cookies


# -- the blocks ------------------------------------------------------------------------------------------------------


def lines_of(block: str) -> list[tuple[int, str]]:
    """A block of YAML by its structure: depth of each line, and the line without comments."""
    kept = [re.sub(r"\s+#.*", "", line) for line in block.splitlines() if line.strip() and not line.startswith("#")]
    return [(len(line) - len(line.lstrip()), line.strip()) for line in kept]


def test_the_block_of_alertmanager_is_a_receiver_with_its_token() -> None:
    made = connecting.sheet("alertmanager", "am", "https://tocsin.example/", "tok")
    assert made.address == "https://tocsin.example/hooks/am"
    assert lines_of(made.block) == [
        (0, "route:"), (2, "receiver: tocsin"), (0, "receivers:"), (2, "- name: tocsin"), (4, "webhook_configs:"),
        (6, '- url: "https://tocsin.example/hooks/am"'), (8, "send_resolved: true"), (8, "http_config:"), (10, "authorization:"),
        (12, "type: Bearer"), (12, 'credentials: "tok"'),
    ]


def test_the_block_of_prometheus_leaves_out_what_it_adds_itself() -> None:
    made = connecting.sheet("prometheus", "prom", "https://tocsin.example:8443/itsm", "tok")
    assert lines_of(made.block) == [
        (0, "alerting:"), (2, "alertmanagers:"), (4, "- scheme: https"), (6, 'path_prefix: "/itsm"'), (6, "api_version: v2"),
        (6, "authorization:"), (8, "type: Bearer"), (8, 'credentials: "tok"'), (6, "static_configs:"),
        (8, '- targets: ["tocsin.example:8443"]'),
    ]


def test_the_block_of_grafana_is_a_contact_point() -> None:
    made = connecting.sheet("grafana", "graf", "https://tocsin.example", "tok")
    assert lines_of(made.block) == [
        (0, "apiVersion: 1"), (0, "contactPoints:"), (2, "- orgId: 1"), (4, "name: tocsin"), (4, "receivers:"), (6, "- uid: tocsin"),
        (8, "type: webhook"), (8, "disableResolveMessage: false"), (8, "settings:"), (10, 'url: "https://tocsin.example/hooks/graf"'),
        (10, "httpMethod: POST"), (10, "authorization_scheme: Bearer"), (10, 'authorization_credentials: "tok"'),
    ]


def test_the_block_of_pagerduty_names_address_and_routing_key() -> None:
    made = connecting.sheet("pagerduty", "pd", "https://tocsin.example", "a" * 32)
    assert re.search(r"events address +https://tocsin.example/v2/enqueue\n", made.block)
    assert re.search(rf"routing key \(integration key\) +{'a' * 32}\n", made.block)
    assert "https://tocsin.example/v2/change/enqueue" in made.block


def test_a_name_is_a_part_of_an_address() -> None:
    assert connecting.sheet("generic", "Zürich", "http://h:1", "t").address == "http://h:1/hooks/Z%C3%BCrich"


@pytest.mark.parametrize("name", [adapter.name for adapter in ADAPTERS])
def test_the_trial_command_is_heard(client: TestClient, house: House, name: str) -> None:
    made = connecting.connect(house, name, "http://testserver", actor="tocsin")
    answer = posted(client, made.trial)
    assert answer.status_code in (200, 202), answer.text
    assert house.store.head().position > 0
    told = [row for row in house.store.log(0, 1_000) if row.type == "alert.episode_opened.v1"]
    assert len(told) == 1


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://127.0.0.1:8800/hooks/x", True), ("http://localhost/", True), ("http://[::1]:8800/", True), ("http://0.0.0.0:80/", True),
        ("https://tocsin.example/", False), ("http://10.0.0.7:8800/", False),
    ],
)
def test_an_address_that_only_the_machine_itself_reaches_is_known(address: str, here: bool) -> None:
    assert connecting.only_from_here(address) is here


def test_a_source_that_cannot_be_is_refused_by_its_field(house: House, client: TestClient) -> None:
    def add(**fields: Any) -> None:
        connecting.add_source(house, SourceAdded(**{"name": "x", "adapter": "generic", **fields}), actor="tocsin")

    for field, fields in (
        ("name", {"name": "a/b"}), ("zone", {"zone": "Mars"}), ("mapping", {"mapping": "= ="}),
        ("mapping", {"adapter": "grafana", "mapping": "title = 'item.x'"}),
    ):
        with pytest.raises(InvalidInput, match=field):
            add(**fields)
    with pytest.raises(NotFound, match="nobody"):
        add(identity="nobody")
    with pytest.raises(NotFound, match="x"):
        add(identity="x")
    with pytest.raises(Conflict):
        add(name="grafana")


def test_a_third_source_shares_the_identity_of_the_first_whichever_it_names(house: House, client: TestClient) -> None:
    connecting.add_source(house, SourceAdded(name="second", adapter="prometheus", identity="alertmanager"), actor="tocsin")
    connecting.add_source(house, SourceAdded(name="third", adapter="prometheus", identity="second"), actor="tocsin")
    assert house.intake.profile("third").space == "alertmanager"


# -- the page --------------------------------------------------------------------------------------------------------


def test_an_administrator_begins_here_while_nothing_was_ever_heard(office: Office) -> None:
    answer = office.client.get("/console", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, HERE)
    assert 'href="/console?sort=priority"' in office.page()
    assert "Queue" in office.page("/console?sort=priority")
    office.become("nora")
    assert office.client.get("/console", follow_redirects=False).status_code == 200
    assert office.client.get(HERE, follow_redirects=False).status_code == 403


@pytest.mark.parametrize("what", ["a delivery", "a rejected delivery", "a ticket"])
def test_after_that_the_queue_is_what_one_begins_with(office: Office, what: str) -> None:
    if what == "a ticket":
        token = office.house.directory.create_token(role="agent")
        office.client.post("/api/v1/incidents", json={"title": "x"}, headers={"Authorization": f"Bearer {token}"})
    else:
        token = office.house.directory.create_token(role="monitor", source="generic")
        body = b'{"title": "x"}' if what == "a delivery" else b"{"
        office.client.post("/hooks/generic", content=body, headers={"Authorization": f"Bearer {token}"})
    office.settle()
    assert office.client.get("/console", follow_redirects=False).status_code == 200


def test_the_token_is_in_the_answer_of_the_form_and_nowhere_else(office: Office, tmp_path: Path) -> None:
    assert 'name="kind" value="alertmanager"' in office.page(f"{HERE}?kind=alertmanager")
    answer = office.send(kind="alertmanager", name="alertmanager", once="1")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    found = re.search(r'credentials: "(tcs_[^"]+)"', block(answer.text, "block"))
    assert found
    token = found[1]
    again = office.page(place(answer.text))
    assert token not in again
    assert "The token is not shown again" in words(again)
    assert token not in place(answer.text)
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes(), file


def test_a_form_that_is_sent_again_by_a_reload_makes_no_further_token(office: Office) -> None:
    fields = {"kind": "grafana", "name": "graf", "once": "a-form"}
    assert office.send(**fields).status_code == 200
    head = office.house.ledger.last_position
    answer = office.send(**fields)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{HERE}/graf")
    assert office.house.ledger.last_position == head


def test_a_new_token_is_offered_and_the_old_one_stays_good(office: Office) -> None:
    first = office.send(kind="generic", name="checks", once="1").text
    second = office.send(f"{HERE}/checks", once="2").text
    assert block(first, "block") != block(second, "block")
    for page in (first, second):
        assert posted(office.client, block(page, "trial")).status_code == 202


def test_a_faulty_form_keeps_what_was_typed(office: Office) -> None:
    answer = office.send(kind="generic", name="a b", zone="UTC", mapping="title = 'item.<x>'", once="1")
    assert answer.status_code == 422
    assert 'value="a b"' in answer.text
    assert "title = &#39;item.&lt;x&gt;&#39;" in answer.text
    assert "name" in words(answer.text)
    assert office.send(kind="grafana", name="alertmanager", once="1").status_code == 422
    assert office.send(kind="nonsense", name="x").status_code == 422
    assert office.send(kind="grafana", name="x", severity="dreadful").status_code == 422
    assert office.send(kind="grafana", name="x", same_as="nobody").status_code == 422
    assert office.client.post(HERE, data={"kind": "grafana", "name": "x"}).status_code == 403


def test_a_source_may_be_made_that_reports_the_same_alerts(office: Office) -> None:
    page = office.send(kind="prometheus", name="prom-api", same_as="alertmanager", severity="info", zone="Europe/Madrid", once="1").text
    assert "Same alerts as alertmanager" in words(page)
    profile = office.house.intake.profile("prom-api")
    assert (profile.space, profile.severity, profile.zone) == ("alertmanager", "info", "Europe/Madrid")


def test_the_first_delivery_after_it_is_told_with_what_it_became(office: Office) -> None:
    page = office.send(kind="alertmanager", name="alertmanager", once="1").text
    fragment = place(page) + "&fragment=rows"
    assert "Nothing yet from alertmanager" in words(office.page(fragment))
    alerts = [
        {"status": "firing", "labels": {"alertname": name, "severity": severity}}
        for name, severity in (("A", "critical"), ("B", "info"), ("A", "critical"))
    ]
    body = json.dumps({"version": "4", "status": "firing", "alerts": alerts})
    command = re.sub(r"-d '.*'", lambda _: f"-d {shlex.quote(body)}", block(page, "trial"))
    assert posted(office.client, command).status_code == 202
    office.settle()
    told = office.page(fragment)
    assert re.search(r"Heard you at \d\d:\d\d:\d\d : 3 observations, 2 opened, 1 repeated\.", words(told))
    assert re.findall(r'href="/console/(?:alerts|tickets)/([^"]+)"', told) == ["ALT-1", "ALT-2", "INC-1"]
    delivery = re.search(r'href="(/console/deliveries/[^"]+)"', told)
    assert delivery
    office.page(delivery[1])
    # One that came before does not count for who begins to wait now.
    later = office.page(f"{HERE}/alertmanager")
    assert "Nothing yet from alertmanager" in words(later)


def test_a_rejected_delivery_says_what_was_wrong_and_where_until_one_is_read(office: Office) -> None:
    page = office.send(kind="alertmanager", name="alertmanager", once="1").text
    wrong = re.sub(r'"labels": {[^}]*}', '"labels": 7', block(page, "trial"))
    assert posted(office.client, wrong).status_code == 422
    office.settle()
    told = words(office.page(place(page) + "&fragment=rows"))
    assert "could not be read" in told
    assert "alerts[0].labels" in told
    posted(office.client, block(page, "trial"))
    office.settle()
    assert "Heard you at" in words(office.page(place(page) + "&fragment=rows"))


def test_an_address_that_only_this_machine_reaches_is_warned_of(office: Office) -> None:
    assert "leads to the machine itself" not in words(office.send(kind="generic", name="generic", once="1").text)
    local = office.client.post(
        HERE, data={"csrf_token": masked(office.csrf), "kind": "generic", "name": "generic", "once": "2"},
        headers={"host": "127.0.0.1:8800"},
    )
    assert "leads to the machine itself" in words(local.text)


def test_what_is_no_source_or_no_position_is_told(office: Office) -> None:
    office.page(f"{HERE}/nobody", 404)
    office.page(f"{HERE}/alertmanager?since=x", 422)
    assert office.send(f"{HERE}/nobody", once="1").status_code == 404
