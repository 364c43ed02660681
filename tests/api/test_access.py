"""Who may do what: every route with every role, sign-in, and that no secret is ever written down."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import portal
from api.door import SESSION_COOKIE
from api.house import House
from engine.errors import Conflict, InvalidInput, NotFound
from engine.person import Role

Headers = Callable[[str], dict[str, str]]

EVERYBODY = frozenset(Role)
READERS = frozenset({Role.AGENT, Role.LEAD, Role.AUDITOR, Role.ADMIN})
WORKERS = frozenset({Role.AGENT, Role.LEAD, Role.ADMIN})
PEOPLE = READERS | {Role.REQUESTER}
SENDERS = frozenset({Role.MONITOR, Role.ADMIN})
OPEN = "open"          # answers anybody
OTHERWISE = "its own"  # authenticates in its own way: a routing key in the body, a page's session

# Every route of the interface and who may use it. A new route without a row here fails.
MATRIX: dict[tuple[str, str], frozenset[Role] | str] = {
    ("POST", "/hooks/{source}"): SENDERS,
    ("POST", "/api/v2/alerts"): SENDERS,
    ("POST", "/v2/enqueue"): OTHERWISE,
    ("POST", "/v2/change/enqueue"): OTHERWISE,
    ("GET", "/api/v1/queue"): READERS,
    ("GET", "/api/v1/tickets/{number}"): PEOPLE,
    ("GET", "/api/v1/tickets/{number}/files/{file}"): PEOPLE,
    ("POST", "/api/v1/tickets/{number}/files"): WORKERS,
    ("GET", "/api/v1/tickets/{number}/history"): PEOPLE,
    ("GET", "/api/v1/tickets/{number}/why"): READERS,
    ("GET", "/api/v1/tickets/{number}/similar"): READERS,
    ("GET", "/api/v1/search"): READERS,
    ("GET", "/api/v1/workload"): READERS,
    ("GET", "/api/v1/incidents"): READERS,
    ("GET", "/api/v1/incidents/{number}"): PEOPLE,
    ("POST", "/api/v1/incidents"): WORKERS,
    ("POST", "/api/v1/incidents/{number}/{name}"): WORKERS,
    ("GET", "/api/v1/requests"): READERS,
    ("GET", "/api/v1/requests/{number}"): PEOPLE,
    ("POST", "/api/v1/requests"): PEOPLE - {Role.AUDITOR},
    ("POST", "/api/v1/requests/{number}/{name}"): WORKERS,
    ("GET", "/api/v1/alerts"): READERS,
    ("GET", "/api/v1/alerts/{number}"): READERS,
    ("GET", "/api/v1/alerts/{number}/history"): READERS,
    ("GET", "/api/v1/deliveries"): READERS,
    ("GET", "/api/v1/deliveries/{delivery}"): READERS | {Role.MONITOR},
    ("GET", "/api/v1/deliveries/{delivery}/body"): frozenset({Role.ADMIN}),
    ("GET", "/api/v1/monitoring-events"): READERS,
    ("GET", "/api/v1/changes"): READERS,
    ("GET", "/api/v1/changes/{number}"): READERS,
    ("GET", "/api/v1/sources"): READERS,
    ("GET", "/api/v1/sources/{name}"): READERS,
    ("GET", "/api/v1/users"): READERS,
    ("GET", "/api/v1/kpis"): READERS,
    ("GET", "/api/v1/kpis/tickets"): READERS,
    ("GET", "/api/v1/log"): frozenset({Role.AUDITOR, Role.ADMIN}),
    ("GET", "/api/v1/notices"): READERS,
    ("POST", "/api/v1/notices/{notice}/retry"): frozenset({Role.ADMIN}),
    ("GET", "/api/v1/services"): READERS,
    ("GET", "/api/v1/services/{name}"): READERS,
    ("GET", "/api/v1/teams"): READERS,
    ("GET", "/api/v1/views"): READERS,
    ("GET", "/api/v1/views/{view}"): READERS,
    ("POST", "/api/v1/views"): WORKERS,
    ("DELETE", "/api/v1/views/{view}"): WORKERS,
    ("POST", "/api/v1/services"): frozenset({Role.LEAD, Role.ADMIN}),
    ("POST", "/api/v1/teams"): frozenset({Role.LEAD, Role.ADMIN}),
    ("GET", "/metrics"): OPEN,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
}
# The pages of the portal answer anybody while it is open; what each of them shows to whom is in tests/api/test_portal.py.
PORTAL: dict[tuple[str, str], int] = {  # with what a stranger without a link is answered
    ("GET", "/portal"): 200,
    ("GET", "/portal/new"): 200,
    ("POST", "/portal/new"): 422,
    ("GET", "/portal/t/{number}"): 200,
    ("GET", "/portal/t/{number}/{secret}"): 404,
    ("GET", "/portal/sent/{number}"): 200,
    ("GET", "/portal/sent/{number}/{secret}"): 404,
    ("GET", "/portal/t/{number}/files/{file}"): 404,
    ("GET", "/portal/t/{number}/{secret}/files/{file}"): 404,
    ("POST", "/portal/t/{number}"): 404,
    ("POST", "/portal/t/{number}/{secret}"): 404,
    ("GET", "/portal/{path}"): 404,
}
# A live stream would not end; its route is checked by the reader's roles in tests/api/test_watch.py.
STREAMS = {("GET", "/api/v1/stream")}
FILLED = {"source": "alertmanager", "number": "INC-1", "name": "acknowledge", "delivery": "00000000-0000-4000-8000-000000000000", "notice": "00000000-0000-4000-8000-000000000000", "file": "00000000-0000-4000-8000-000000000000", "view": "00000000-0000-4000-8000-000000000000"}


def routes(client: TestClient) -> Iterator[tuple[str, str]]:
    """(method, path) of every route that is not a page of the console."""
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        if not path.startswith("/console") and path != "/":
            yield from ((method.upper(), path) for method in operations)


def test_every_route_has_its_row_in_the_matrix(client: TestClient) -> None:
    assert set(routes(client)) == set(MATRIX) | STREAMS


@pytest.mark.parametrize("role", [None, *Role])
def test_the_matrix_holds_for_every_route(client: TestClient, headers: Headers, role: Role | None) -> None:
    sent = {} if role is None else headers("monitor:alertmanager" if role is Role.MONITOR else role.value)
    for (method, path), allowed in MATRIX.items():
        address = re.sub(r"{(\w+)}", lambda match: FILLED[match[1]], path)
        answer = client.request(method, address, headers=sent, json={} if method == "POST" else None)
        cell = f"{role} {method} {path}: {answer.status_code} {answer.text[:200]}"
        if allowed in (OPEN, OTHERWISE):
            assert answer.status_code not in (401, 403), cell
        elif role is None:
            assert answer.status_code == 401, cell
        elif role in allowed:
            assert answer.status_code not in (401, 403), cell
        elif (method, path) == ("POST", "/api/v1/requests"):
            assert answer.status_code in (403, 422), cell  # an empty body may be refused before the auditor is
        else:
            assert answer.status_code == 403, cell


def test_every_page_of_the_portal_has_its_row_and_shows_strangers_nothing(client: TestClient, headers: Headers) -> None:
    assert client.post("/api/v1/incidents", json={"title": "theirs", "requester": "x@example.com"}, headers=headers("agent")).status_code == 201
    pages = {(method, route.path.replace(":path", "")) for route in pages_of(portal.router) for method in route.methods}
    assert pages == set(PORTAL)
    for (method, path), expected in PORTAL.items():
        address = re.sub(r"{(\w+)}", lambda match: (FILLED | {"secret": "s", "file": FILLED["delivery"], "path": "else"})[match[1]], path)
        answer = client.request(method, address)
        assert answer.status_code == expected, (method, path)
        assert "theirs" not in answer.text


def pages_of(router: Any) -> Iterator[Any]:
    """The routes of a router and of those within it."""
    for route in router.routes:
        if hasattr(route, "methods"):
            yield route
        else:
            yield from pages_of(route.original_router)


def test_a_refusal_is_an_event(client: TestClient, headers: Headers, house: House) -> None:
    head = house.ledger.last_position
    monitor = headers("monitor:alertmanager")
    client.get("/api/v1/queue", headers=monitor)
    kinds = [fact.type for fact in house.ledger.read(head, 10)]
    assert kinds == ["token.created.v1", "access.refused.v1"]


def test_a_token_of_another_kind_of_value_is_no_token(client: TestClient) -> None:
    for value in ("Bearer nothing", "Bearer ", "Basic !!!", "Basic " + "AAAA", "Digest x", "Bearer " + "x" * 5_000):
        assert client.get("/api/v1/queue", headers={"Authorization": value}).status_code == 401


def test_a_revoked_token_is_void_at_once(client: TestClient, house: House) -> None:
    token = house.directory.create_token(role="agent")
    sent = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/v1/queue", headers=sent).status_code == 200
    house.directory.revoke_token(token)
    assert client.get("/api/v1/queue", headers=sent).status_code == 401


def test_a_given_value_is_registered_once(house: House) -> None:
    house.directory.create_token(role="monitor", source="pagerduty", value="0123456789abcdef")
    with pytest.raises(Conflict):
        house.directory.create_token(role="monitor", source="pagerduty", value="0123456789abcdef")
    with pytest.raises(InvalidInput, match="source"):
        house.directory.create_token(role="monitor")
    with pytest.raises(NotFound):
        house.directory.create_token(role="monitor", source="carrier-pigeon")


def test_the_first_administrator_signs_in_and_out(client: TestClient, house: House) -> None:
    assert house.first_admin is not None
    login, password = house.first_admin
    signed = client.portal.call(house.directory.sign_in, login, password, "127.0.0.1")  # type: ignore[union-attr]  # inside the lifespan
    client.cookies.set(SESSION_COOKIE, signed.secret)
    assert client.get("/api/v1/users").json()["items"][0]["login"] == login
    without = client.post("/api/v1/incidents", json={"title": "x"})
    assert without.status_code == 403
    assert client.post("/api/v1/incidents", json={"title": "x"}, headers={"X-CSRF-Token": signed.csrf}).status_code == 201
    principal = asyncio.run(house.directory.whose_session(signed.secret, house.clock.now()))
    assert principal is not None
    client.portal.call(house.directory.sign_out, signed.secret, principal)  # type: ignore[union-attr]  # inside the lifespan
    assert client.get("/api/v1/users").status_code == 401


def test_secrets_are_in_no_event_and_no_file_in_plain(client: TestClient, house: House, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    canary = "canary-" + "7f3a" * 8
    house.directory.open_account(login="carla", name="Carla", role="agent", password=canary)
    token = house.directory.create_token(role="agent", value=canary + "-token")
    client.get("/api/v1/queue", headers={"Authorization": f"Bearer {token}"})
    client.get(f"/api/v1/queue?token={canary}-wrong")
    client.post("/console/sign-in", data={"login": "carla", "password": canary + "-wrong"})
    assert canary not in "".join(capfd.readouterr())
    for file in (tmp_path / "data").iterdir():
        assert canary.encode() not in file.read_bytes(), file.name


def test_role_changes_hold_at_once_and_are_events(client: TestClient, house: House) -> None:
    house.directory.open_account(login="dora", name="Dora", role="agent", password="a long password")
    signed = client.portal.call(house.directory.sign_in, "dora", "a long password", "127.0.0.1")  # type: ignore[union-attr]  # inside the lifespan
    client.cookies.set(SESSION_COOKIE, signed.secret)
    assert client.get("/api/v1/log").status_code == 403
    house.directory.change_role("dora", "auditor")
    assert client.get("/api/v1/log").status_code == 200
    assert "account.role_changed.v1" in {fact.type for fact in house.ledger.read(0, 1_000)}


def test_a_requester_sees_their_own_tickets_without_internal_words(client: TestClient, headers: Headers, house: House) -> None:
    house.directory.open_account(login="rita", name="Rita", role="requester", password="a long password")
    mine = client.post("/api/v1/incidents", json={"title": "mine", "requester": "rita"}, headers=headers("agent")).json()["number"]
    theirs = client.post("/api/v1/incidents", json={"title": "theirs"}, headers=headers("agent")).json()["number"]
    for visibility in ("internal", "public"):
        body = {"text": f"{visibility} word", "visibility": visibility}
        last = client.post(f"/api/v1/incidents/{mine}/comment", json=body, headers=headers("agent"))
    signed = client.portal.call(house.directory.sign_in, "rita", "a long password", "127.0.0.1")  # type: ignore[union-attr]  # inside the lifespan
    client.cookies.set(SESSION_COOKIE, signed.secret)
    position = {"Tocsin-Position": last.headers["Tocsin-Position"]}
    assert client.get(f"/api/v1/tickets/{mine}", headers=position).status_code == 200
    assert client.get(f"/api/v1/tickets/{theirs}").status_code == 404
    words = client.get(f"/api/v1/tickets/{mine}/history").text
    assert "public word" in words
    assert "internal word" not in words
