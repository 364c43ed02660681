"""Whatever a client sends, it is never answered 5xx, and every refusal is a problem document."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from api.app import create_app
from api.house import open_house
from projections.runner import Runner
from tests.stores import settings_at

pytestmark = pytest.mark.law

TEXT = st.text(st.characters(blacklist_categories=()), max_size=20)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
NAMES = st.sampled_from(
    ["title", "impact", "urgency", "requester", "team", "assignee", "text", "visibility", "reason", "level", "code", "solution", "to",
     "relation", "priority", "note", "fields", "item", "alerts", "labels", "status", "startsAt", "endsAt", "annotations", "payload",
     "severity", "source", "summary", "event_action", "dedup_key", "routing_key", "timestamp", "evalMatches", "ruleId", "state"]
) | TEXT
VALUES = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20)
POSTS = st.sampled_from(
    ["/hooks/alertmanager", "/hooks/grafana", "/hooks/pagerduty", "/hooks/generic", "/hooks/prometheus", "/api/v2/alerts", "/v2/enqueue",
     "/v2/change/enqueue", "/api/v1/incidents", "/api/v1/requests", "/api/v1/incidents/INC-1/assign", "/api/v1/incidents/INC-1/comment",
     "/api/v1/incidents/INC-1/link", "/api/v1/incidents/INC-1/set-impact", "/api/v1/requests/REQ-1/fulfil"]
)
GETS = st.sampled_from(
    ["/api/v1/queue", "/api/v1/incidents", "/api/v1/requests", "/api/v1/alerts", "/api/v1/deliveries", "/api/v1/monitoring-events",
     "/api/v1/changes", "/api/v1/kpis", "/api/v1/kpis/tickets", "/api/v1/log", "/api/v1/tickets/INC-1", "/api/v1/tickets/INC-1/history",
     "/api/v1/tickets/INC-1/why"]
)
PARAMETERS = st.dictionaries(
    st.sampled_from(["as_of", "cursor", "limit", "sort", "kind", "priority", "service", "assignee", "state", "meaning", "firing", "from",
                     "to", "zone", "basis", "group_by", "metric", "field", "after", "source", "disposition", "alert", "agent", "team"]),
    st.sampled_from(["", "now", "0", "-1", "99999999999999999999", "INC-1", "nobody", "P1", "\x00", "2026-03-02T10:00:00Z", "9999-12-31T23:59:59+00:00",
                     "0001-01-01T00:00:00+14:00", "WyJwcmlvcml0eSIsMSwxLDFd", "Europe/Paris", "../etc", "day", "occurred", "true"]) | TEXT,
    max_size=4,
)


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A client with an administrator's token, on a store with one ticket of each kind."""
    data: Path = tmp_path_factory.mktemp("fuzz") / "data"
    house = open_house(settings_at(data))
    headers = {"Authorization": f"Bearer {house.directory.create_token(role='admin')}"}
    with TestClient(create_app(house, Runner(house.ledger, data / "views.db")), raise_server_exceptions=False) as client:
        client.post("/api/v1/incidents", json={"title": "one"}, headers=headers)
        client.post("/api/v1/requests", json={"title": "one", "requester": "anna@example.com"}, headers=headers)
        yield client, headers


def check(answer: Any, asked: object) -> None:
    assert answer.status_code < 500 or answer.headers.get("retry-after"), (asked, answer.status_code, answer.text[:300])
    if answer.status_code >= 400 and not str(answer.url.path).startswith(("/v2/", "/api/v2/")):
        assert answer.headers["content-type"] == "application/problem+json", asked


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=POSTS, value=VALUES)
def test_any_json_is_answered(answering: tuple[TestClient, dict[str, str]], path: str, value: Any) -> None:
    client, headers = answering
    body = json.dumps(value).encode()
    check(client.post(path, content=body, headers={"Content-Type": "application/json", **headers}), (path, body))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=POSTS, body=st.binary(max_size=60))
def test_any_bytes_are_answered(answering: tuple[TestClient, dict[str, str]], path: str, body: bytes) -> None:
    client, headers = answering
    check(client.post(path, content=body, headers={"Content-Type": "application/json", **headers}), (path, body))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=GETS, parameters=PARAMETERS)
def test_any_question_is_answered(answering: tuple[TestClient, dict[str, str]], path: str, parameters: dict[str, str]) -> None:
    client, headers = answering
    sent = {name: value.encode("utf-8", "surrogatepass").decode("latin-1") for name, value in parameters.items()}
    check(client.get(path, params=sent, headers=headers), (path, parameters))
