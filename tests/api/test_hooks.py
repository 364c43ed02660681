"""Intake over HTTP: what senders are answered, and that nothing is lost or half done."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.house import House
from engine.delivery import DeliveryRejected
from monitors.intake import KEPT_OF_TOO_LARGE

Headers = Callable[[str], dict[str, str]]
PAYLOADS = Path(__file__).parents[1] / "payloads"
AM = "prometheus-alertmanager"
PD = "pagerduty-events-v2"
KEY = "R0UTINGKEY0000000000000000000001"


def payload(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def post(client: TestClient, headers: Headers, source: str, body: bytes, **more: str) -> Any:
    return client.post(f"/hooks/{source}", content=body, headers={**headers(f"monitor:{source}"), **more})


def rejected(house: House) -> list[DeliveryRejected]:
    facts = house.ledger.read(0, 100_000)
    return [fact.event for fact in facts if isinstance(fact.event, DeliveryRejected)]


def test_a_delivery_is_answered_with_what_was_made_of_it(client: TestClient, headers: Headers) -> None:
    answer = post(client, headers, "alertmanager", payload(f"{AM}/firing.json"))
    assert answer.status_code == 202
    assert answer.json()["observations"] == [{"disposition": "opened", "alert": "ALT-1", "incident": "INC-1"}]
    position = {"Tocsin-Position": answer.headers["Tocsin-Position"], **headers("agent")}
    delivery = client.get(answer.headers["Location"], headers=headers("agent")).json()
    assert delivery["state"] == "decided"
    assert delivery["observations"][0]["disposition"] == "opened"
    ticket = client.get("/api/v1/incidents/INC-1", headers=position).json()
    assert (ticket["meaning"], ticket["alerts"], ticket["channel"]) == ("new", ["ALT-1"], "monitoring")
    alert = client.get("/api/v1/alerts/ALT-1", headers=position).json()
    assert (alert["firing"], alert["occurrences"], alert["ended_at"]) == (True, 1, None)


def test_repeats_count_and_change_nothing_else(client: TestClient, headers: Headers) -> None:
    for _ in range(5):
        answer = post(client, headers, "alertmanager", payload(f"{AM}/firing.json"))
    position = {"Tocsin-Position": answer.headers["Tocsin-Position"], **headers("agent")}
    assert client.get("/api/v1/alerts/ALT-1", headers=position).json()["occurrences"] == 5
    assert len(client.get("/api/v1/incidents", headers=position).json()["items"]) == 1


def test_the_same_idempotency_key_is_the_same_delivery(client: TestClient, headers: Headers) -> None:
    body, key = payload(f"{PD}/trigger-no-dedup-key.json"), {"Idempotency-Key": "retry-7"}
    first, second = (post(client, headers, "pagerduty", body, **key) for _ in range(2))
    assert first.content == second.content
    other = post(client, headers, "pagerduty", payload(f"{PD}/trigger.json"), **key)
    assert other.status_code == 422
    assert other.json()["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (payload(f"{AM}/missing-labels-second.json"), 422, "alerts[1].labels"),
        (payload(f"{AM}/duplicate-label-keys.json"), 422, "alerts[0].labels.instance"),
        (b'{"alerts":[{"status":null,"labels":null,"annotations":null,"startsAt":null}],"status":null}', 422, "alerts[0].labels"),
        (b"null", 422, "$"), (b"[]", 422, "$"), (b'"text"', 422, "$"), (b"42", 422, "$"), (b"", 400, "$"), (b"{", 400, "$"),
        ('{"alerts": []}'.encode("utf-16"), 400, "$"),
        (b'{"alerts":[{"status":"firing","labels":{"a":"\\u0000"}}]}', 422, "alerts[0].labels.a"),
        (b'{"alerts":[{"status":"firing","labels":{"a":"\\ud800"}}]}', 422, "alerts[0].labels.a"),
        (b'{"alerts":' + b"[" * 5_000 + b"]" * 5_000 + b"}", 422, None),
        (b'{"alerts":[{"status":"firing","labels":{"a":"b"},"startsAt":"99999-01-01T00:00:00Z"}]}', 422, "alerts[0].startsAt"),
    ],
)
def test_what_cannot_be_read_is_named_kept_and_opens_nothing(
    client: TestClient, headers: Headers, house: House, body: bytes, status: int, field: str | None
) -> None:
    answer = post(client, headers, "alertmanager", body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if field is not None:
        assert answer.json()["field"] == field
    (kept,) = rejected(house)
    assert kept.path == answer.json()["field"]
    delivery = client.get(f"/api/v1/deliveries/{answer.json()['delivery']}", headers=headers("auditor")).json()
    assert delivery["state"] == "rejected"
    stored = client.get(f"/api/v1/deliveries/{answer.json()['delivery']}/body", headers=headers("admin"))
    assert (stored.status_code, stored.content) == (200, body)
    assert client.get("/api/v1/alerts", headers=headers("agent")).json()["items"] == []
    assert post(client, headers, "alertmanager", payload(f"{AM}/firing.json")).status_code == 202


def test_rejected_deliveries_are_listed_once_over_all_pages(client: TestClient, headers: Headers, house: House) -> None:
    bodies = [b"null", b"[]", b'"text"', b"42", b"", b"{", b"\xff\xfe{\x00"]
    ids = {post(client, headers, "alertmanager", body).json()["delivery"] for body in bodies}
    stored = {"Tocsin-Position": str(house.ledger.last_position), **headers("agent")}
    seen: list[str] = []
    cursor = ""
    while True:
        page = client.get(f"/api/v1/deliveries?rejected=true&limit=2{cursor}", headers=stored).json()
        seen += [item["id"] for item in page["items"]]
        assert all(item["reason"] for item in page["items"])
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(seen) == sorted(ids)


def test_a_body_over_the_limit_keeps_its_beginning_and_size(client: TestClient, headers: Headers, house: House) -> None:
    limit = house.settings.max_body_bytes
    answer = post(client, headers, "alertmanager", b"x" * (limit + 1))
    assert answer.status_code == 413
    (kept,) = rejected(house)
    assert kept.truncated
    assert (kept.length, kept.adapter) == (limit + 1, "alertmanager")
    assert kept.body is not None
    assert len(house.intake.body(kept.body) or b"") == KEPT_OF_TOO_LARGE


def test_an_unauthenticated_body_is_not_kept(client: TestClient, house: House) -> None:
    head = house.ledger.last_position
    assert client.post("/hooks/alertmanager", content=b"{").status_code == 401
    assert client.post("/hooks/alertmanager?token=guess", content=b"{").status_code == 401
    assert rejected(house) == []
    assert [fact.type for fact in house.ledger.read(head, 10)] == ["access.refused.v1"]


def test_a_token_opens_its_own_source_only(client: TestClient, headers: Headers) -> None:
    answer = client.post("/hooks/grafana", content=payload(f"{AM}/firing.json"), headers=headers("monitor:alertmanager"))
    assert answer.status_code == 403
    assert client.get("/api/v1/queue", headers=headers("monitor:alertmanager")).status_code == 403


def test_tokens_come_by_header_basic_password_or_query(client: TestClient, headers: Headers, house: House) -> None:
    token = headers("monitor:alertmanager")["Authorization"].removeprefix("Bearer ")
    body = payload(f"{AM}/firing.json")
    assert client.post("/hooks/alertmanager", content=body, auth=("anybody", token)).status_code == 202
    assert client.post(f"/hooks/alertmanager?token={token}", content=body).status_code == 202


def test_an_unknown_source_is_not_found(client: TestClient, headers: Headers) -> None:
    assert client.post("/hooks/nagios-of-old", content=b"{}", headers=headers("admin")).status_code == 404


class TestAlertmanagersOwnApi:
    """POST /api/v2/alerts, so that Prometheus points straight at Tocsin."""

    def test_the_same_alert_by_webhook_and_by_api_is_one(self, client: TestClient, headers: Headers) -> None:
        sent = post(client, headers, "alertmanager", payload(f"{AM}/firing.json"))
        position = {"Tocsin-Position": sent.headers["Tocsin-Position"], **headers("agent")}
        labels = client.get("/api/v1/monitoring-events", headers=position).json()["items"][0]["labels"]
        body = [{"labels": labels, "startsAt": "2026-03-02T10:00:00.123Z", "annotations": {"summary": "again"}}]
        answer = client.post("/api/v2/alerts", json=body, headers=headers("monitor:alertmanager"))
        assert answer.status_code == 200
        position = {"Tocsin-Position": answer.headers["Tocsin-Position"], **headers("agent")}
        assert len(client.get("/api/v1/alerts", headers=position).json()["items"]) == 1

    def test_a_client_error_is_400(self, client: TestClient, headers: Headers) -> None:
        assert client.post("/api/v2/alerts", content=b'[{"labels":{}}]', headers=headers("monitor:prometheus")).status_code == 400


class TestPagerDuty:
    """Events API v2, as its clients know it."""

    @pytest.fixture(autouse=True)
    def key(self, house: House) -> None:
        house.directory.create_token(role="monitor", source="pagerduty", value=KEY)

    def send(self, client: TestClient, body: dict[str, Any], path: str = "/v2/enqueue") -> Any:
        return client.post(path, json={"routing_key": KEY, **body})

    def test_trigger_acknowledge_resolve(self, client: TestClient) -> None:
        event = {"event_action": "trigger", "dedup_key": "k", "payload": {"summary": "s", "source": "h", "severity": "critical"}}
        answer = self.send(client, event)
        assert (answer.status_code, answer.json()) == (
            202, {"status": "success", "message": "Event processed", "dedup_key": "k"}
        )
        for action in ("acknowledge", "resolve", "resolve"):
            assert self.send(client, {"event_action": action, "dedup_key": "k"}).status_code == 202

    def test_a_missing_key_is_made_and_told(self, client: TestClient) -> None:
        event = {"event_action": "trigger", "payload": {"summary": "s", "source": "h", "severity": "critical"}}
        keys = {self.send(client, event).json()["dedup_key"] for _ in range(2)}
        assert len(keys) == 2
        assert all(self.send(client, {"event_action": "resolve", "dedup_key": key}).status_code == 202 for key in keys)

    def test_faults_are_400_with_all_of_them(self, client: TestClient, house: House) -> None:
        answer = self.send(client, {"event_action": "trigger", "payload": {"summary": "s", "source": "h", "severity": "bad"}})
        assert answer.status_code == 400
        assert answer.json()["status"] == "invalid event"
        assert any("payload.severity" in fault for fault in answer.json()["errors"])
        assert [kept.status for kept in rejected(house)] == [400]

    def test_a_change_event_makes_a_change(self, client: TestClient, headers: Headers) -> None:
        body = {"payload": {"summary": "Deployed 1.2", "timestamp": "2026-03-02T09:50:00Z"}}
        answer = self.send(client, body, "/v2/change/enqueue")
        assert answer.status_code == 202
        position = {"Tocsin-Position": answer.headers["Tocsin-Position"], **headers("agent")}
        assert [item["number"] for item in client.get("/api/v1/changes", headers=position).json()["items"]] == ["CHG-1"]
        assert self.send(client, body).status_code == 400

    def test_an_unknown_key_is_refused_and_its_body_not_kept(self, client: TestClient, house: House) -> None:
        answer = client.post("/v2/enqueue", json={"routing_key": "nobody's", "event_action": "trigger"})
        assert answer.status_code == 400
        assert rejected(house) == []

    @pytest.mark.parametrize(
        ("body", "fault"),
        [
            (f'{{"routing_key":"{KEY}","event_action":"trigger","event_action":"resolve"}}', "event_action: duplicated key"),
            (f'{{"routing_key":"{KEY}","payload":{{"summary":"a\\u0000"}}}}', "payload.summary: expected text without"),
            (f'{{"routing_key":"{KEY}",', "$: expected JSON"),
        ],
    )
    def test_a_body_that_is_no_json_is_kept_as_its_keys_source(
        self, client: TestClient, house: House, body: str, fault: str
    ) -> None:
        answer = client.post("/v2/enqueue", content=body.encode())
        assert answer.status_code == 400
        assert answer.json()["errors"][0].startswith(fault)
        assert [(kept.source, kept.status) for kept in rejected(house)] == [("pagerduty", 400)]

    def test_what_is_no_json_and_nobodys_is_told_where(self, client: TestClient, house: House) -> None:
        answer = client.post("/v2/enqueue", content=b"{")
        assert (answer.status_code, answer.json()["errors"][0][:2]) == (400, "$:")
        assert rejected(house) == []

    def test_an_event_over_the_limit_keeps_its_beginning(self, client: TestClient, house: House) -> None:
        answer = self.send(client, {"event_action": "trigger", "payload": {"summary": "s" * 600_000}})
        assert answer.status_code == 413
        (kept,) = rejected(house)
        assert (kept.source, kept.adapter, kept.truncated) == ("pagerduty", "pagerduty", True)


def test_many_large_bodies_at_once_are_overload_and_not_memory(client: TestClient, headers: Headers) -> None:
    client.app.state.bodies.most = 1_000  # type: ignore[attr-defined]  # a FastAPI application
    answer = post(client, headers, "alertmanager", b"{" + b" " * 2_000)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert client.app.state.bodies.held == 0  # type: ignore[attr-defined]
    assert post(client, headers, "alertmanager", payload(f"{AM}/empty-alerts.json")).status_code == 202
    event = {"routing_key": "k", "event_action": "trigger", "custom": " " * 2_000}
    assert client.post("/v2/enqueue", json=event).status_code == 429


def test_a_command_has_no_use_for_a_megabyte(client: TestClient, headers: Headers) -> None:
    answer = client.post("/api/v1/incidents", json={"title": "x", "description": "y" * 2_000_000}, headers=headers("agent"))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
