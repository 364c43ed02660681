"""Commands over HTTP: guards, versions, idempotency, and clear answers to bad input."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.house import House

Headers = Callable[[str], dict[str, str]]
INCIDENT = {"title": "Printer on fire", "impact": "high", "urgency": "medium", "service": "Printing"}


def opened(client: TestClient, headers: Headers, **more: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/incidents", json={**INCIDENT, **more}, headers=headers("agent"))
    assert answer.status_code == 201, answer.text
    shape: dict[str, Any] = answer.json()
    return shape


def act(client: TestClient, headers: Headers, number: str, name: str, body: dict[str, Any] | None = None, **more: str) -> Any:
    kind = "requests" if number.startswith("REQ") else "incidents"
    return client.post(f"/api/v1/{kind}/{number}/{name}", json=body or {}, headers={**headers("agent"), **more})


def incidents_in(house: House) -> int:
    """How many were ever opened."""
    return len(house.store.log(0, 1_000, types=("incident.opened.v1",)))


def test_an_incident_gets_number_priority_and_location(client: TestClient, headers: Headers) -> None:
    answer = client.post("/api/v1/incidents", json=INCIDENT, headers=headers("agent"))
    assert answer.status_code == 201
    ticket = answer.json()
    assert (ticket["number"], ticket["priority"], ticket["state"], ticket["meaning"]) == ("INC-1", "P2", "new", "new")
    assert answer.headers["Location"] == "/api/v1/incidents/INC-1"
    assert answer.headers["ETag"] == '"1"'
    read = client.get("/api/v1/incidents/INC-1", headers={"Tocsin-Position": answer.headers["Tocsin-Position"], **headers("agent")})
    assert read.json()["title"] == INCIDENT["title"]
    assert read.headers["ETag"] == '"1"'


def test_an_incident_is_worked_from_report_to_closure(client: TestClient, headers: Headers, house: House) -> None:
    house.directory.open_account(login="nora", name="Nora Berg", role="agent", password="a long password")
    number = opened(client, headers)["number"]
    steps: list[tuple[str, dict[str, Any], str]] = [
        ("acknowledge", {}, "in_progress"),
        ("assign", {"team": "Workplace", "assignee": "nora"}, "in_progress"),
        ("comment", {"text": "on my way", "visibility": "public"}, "in_progress"),
        ("hold", {"reason": "waiting for foam"}, "pending"),
        ("resume", {}, "in_progress"),
        ("escalate", {"reason": "bigger fire"}, "in_progress"),
        ("set-impact", {"impact": "high", "urgency": "high"}, "in_progress"),
        ("set-priority", {"priority": "P3", "reason": "only one printer"}, "in_progress"),
        ("resolve", {"code": "solved", "solution": "foam"}, "resolved"),
        ("reopen", {"reason": "it burns again"}, "in_progress"),
        ("resolve", {"code": "workaround", "solution": "another printer"}, "resolved"),
        ("close", {}, "closed"),
    ]
    for version, (name, body, state) in enumerate(steps, start=2):
        answer = act(client, headers, number, name, body)
        assert answer.status_code == 200, (name, answer.text)
        assert (answer.json()["state"], answer.json()["version"]) == (state, version), name
    history = client.get(
        f"/api/v1/tickets/{number}/history", headers={"Tocsin-Position": answer.headers["Tocsin-Position"], **headers("agent")}
    ).json()
    assert [item["type"].split(".")[1] for item in history["items"]] == [
        "opened", "acknowledged", "assigned", "commented", "held", "resumed", "escalated", "impact_set", "priority_set", "resolved",
        "reopened", "resolved", "closed",
    ]


def test_a_request_is_approved_by_somebody_else_and_fulfilled(client: TestClient, headers: Headers) -> None:
    body = {"title": "Access to the ledger", "requester": "anna@example.com", "item": "access"}
    number = client.post("/api/v1/requests", json=body, headers=headers("agent")).json()["number"]
    assert act(client, headers, number, "fulfil").status_code == 409
    for name, state in (("approve", "approved"), ("fulfil", "fulfilled"), ("close", "closed")):
        answer = act(client, headers, number, name)
        assert (answer.status_code, answer.json()["state"]) == (200, state)


def test_assigning_leaves_alone_what_it_does_not_name(client: TestClient, headers: Headers, house: House) -> None:
    house.directory.open_account(login="ida", name="Ida", role="agent", password="a long enough one")
    number = opened(client, headers)["number"]

    def assigned(**to: str | None) -> tuple[str | None, str | None]:
        shape = act(client, headers, number, "assign", dict(to)).json()
        return shape["team"], shape["assignee"]

    assert assigned(team="Print") == ("Print", None)
    assert assigned(assignee="ida") == ("Print", "Ida")
    assert assigned(team="Shop") == ("Shop", "Ida")
    assert assigned(assignee=None) == ("Shop", None)
    assert act(client, headers, number, "assign").json()["field"] == "team"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_a_body_is_json_whatever_the_client_calls_it(client: TestClient, headers: Headers, kind: str) -> None:
    answer = client.post("/api/v1/incidents", content=b'{"title":"x"}', headers={**headers("agent"), "Content-Type": kind})
    assert answer.status_code == 201, answer.text


def test_a_refused_command_names_the_legal_ones_and_records_nothing(client: TestClient, headers: Headers, house: House) -> None:
    number = opened(client, headers)["number"]
    head = house.ledger.last_position
    answer = act(client, headers, number, "close")
    assert answer.status_code == 409
    assert "resolve" in answer.json()["legal"]
    assert "close" not in answer.json()["legal"]
    assert house.ledger.last_position == head


def test_a_stale_version_is_told_what_changed(client: TestClient, headers: Headers) -> None:
    number = opened(client, headers)["number"]
    act(client, headers, number, "acknowledge")
    answer = act(client, headers, number, "hold", {"reason": "lunch"}, **{"If-Match": '"1"'})
    assert answer.status_code == 412
    assert [change["type"] for change in answer.json()["changes"]] == ["ticket.acknowledged.v1"]
    assert act(client, headers, number, "hold", {"reason": "lunch"}, **{"If-Match": '"2"'}).status_code == 200
    assert act(client, headers, number, "resume", None, **{"If-Match": "yesterday's"}).status_code == 422


def test_of_writers_on_one_version_exactly_one_wins(client: TestClient, headers: Headers, house: House) -> None:
    number = opened(client, headers)["number"]
    for version in range(1, 60):
        answers = [
            act(client, headers, number, "comment", {"text": f"{who}"}, **{"If-Match": f'"{version}"'}).status_code for who in range(2)
        ]
        assert sorted(answers) == [200, 412]


def test_an_idempotency_key_makes_one_effect_and_a_byte_equal_answer(client: TestClient, headers: Headers, house: House) -> None:
    key = {"Idempotency-Key": "form-42", **headers("agent")}
    answers = [client.post("/api/v1/incidents", json=INCIDENT, headers=key) for _ in range(3)]
    assert len({answer.content for answer in answers}) == 1
    assert len({(answer.status_code, answer.headers["ETag"], answer.headers["Tocsin-Position"]) for answer in answers}) == 1
    assert incidents_in(house) == 1
    other = client.post("/api/v1/incidents", json={**INCIDENT, "title": "another"}, headers=key)
    assert other.status_code == 422
    assert other.json()["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("incidents", {}, "title"),
        ("incidents", {"title": "x", "impact": "huge"}, "impact"),
        ("incidents", {"title": "   "}, "title"),
        ("incidents", {"title": "x", "titel": "y"}, "titel"),
        ("requests", {"title": "x"}, "requester"),
        ("incidents/INC-1/resolve", {"code": "magic", "solution": "x"}, "code"),
        ("incidents/INC-1/resolve", {"code": "solved"}, "solution"),
        ("incidents/INC-1/assign", {"assignee": "nobody-we-know"}, "assignee"),
        ("incidents/INC-1/link", {"to": "INC-99"}, "to"),
        ("incidents/INC-1/link", {"to": "INC-1"}, "to"),
        ("incidents/INC-1/set-priority", {"priority": "P9", "reason": "x"}, "priority"),
        ("incidents/INC-1/escalate", {"reason": "x", "level": 7}, "level"),
    ],
)
def test_bad_input_names_its_field(client: TestClient, headers: Headers, path: str, body: dict[str, Any], field: str) -> None:
    opened(client, headers)
    answer = client.post(f"/api/v1/{path}", json=body, headers=headers("agent"))
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field
    assert answer.json()["expected"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"title":"a","title":"b"}', "title"), (b'{"title":"\\ud800"}', "title"), (b'{"title":"a\\u0000"}', "title"),
        (b"{", "$"), (b"\xff", "$"), (b"[]", "body"),
    ],
)
def test_json_is_read_strictly_everywhere(client: TestClient, headers: Headers, body: bytes, field: str) -> None:
    answer = client.post("/api/v1/incidents", content=body, headers={"Content-Type": "application/json", **headers("agent")})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] == field
    assert answer.json()["field"]


def test_what_is_not_there_is_not_found(client: TestClient, headers: Headers) -> None:
    opened(client, headers)
    for method, path in (
        ("GET", "/api/v1/tickets/INC-9"), ("GET", "/api/v1/requests/INC-1"), ("POST", "/api/v1/incidents/INC-9/close"),
        ("POST", "/api/v1/incidents/INC-1/explode"), ("GET", "/api/v1/alerts/ALT-1"), ("GET", "/nowhere"),
        ("GET", "/api/v1/tickets/INC-9/history"), ("GET", "/api/v1/tickets/INC-9/why"),
    ):
        answer = client.request(method, path, headers=headers("agent"))
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"


def test_concurrent_retries_of_one_key_take_effect_once(house: House, client: TestClient, headers: Headers) -> None:
    key = {"Idempotency-Key": "at-once", **headers("agent")}

    async def many() -> list[bytes]:
        return [
            answer.content
            for answer in await asyncio.gather(
                *(asyncio.to_thread(client.post, "/api/v1/incidents", json=INCIDENT, headers=key) for _ in range(12))
            )
        ]

    assert len(set(asyncio.run(many()))) == 1
    assert incidents_in(house) == 1
