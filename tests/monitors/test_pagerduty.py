"""PagerDuty's Events API v2: what it accepts, and the faults of what it does not."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.observation import Observation, ObservationKind, Severity, SourceProfile
from monitors.integrations.pagerduty import InvalidEvent, parse, parse_change

SOURCE = SourceProfile(name="pagerduty", adapter="pagerduty")
KEY = "R0000000000000000000000000000001"
Payload = Callable[[str], bytes]


def only(body: bytes | dict[str, Any]) -> Observation:
    [observation] = parse(body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json", SOURCE).observations
    return observation


def faults(body: bytes | dict[str, Any], read: Any = parse) -> list[str]:
    with pytest.raises(InvalidEvent) as caught:
        read(body if isinstance(body, bytes) else json.dumps(body).encode(), "", SOURCE)
    assert caught.value.status == 400
    assert caught.value.errors[0].startswith(caught.value.path + ": ")
    return [error.partition(": ")[0] for error in caught.value.errors]


def trigger(**fields: Any) -> dict[str, Any]:
    return {"routing_key": KEY, "event_action": "trigger", "payload": {"summary": "s", "source": "o", "severity": "error"} | fields}


def test_a_trigger_is_read_whole(payload: Payload) -> None:
    observation = only(payload("pagerduty-events-v2/trigger.json"))
    assert (observation.kind, observation.dedup_key) == (ObservationKind.TRIGGER, "srv-web-01/http")
    assert (observation.title, observation.severity) == ("HTTP check failed on srv-web-01", Severity.CRITICAL)
    assert (observation.resource, observation.service) == ("srv-web-01.example.com", None)
    assert observation.labels == {"component": "nginx", "group": "shop", "class": "http"}
    assert observation.details["response time"] == "1812ms"
    assert observation.details["error rate"] == "0.31"
    assert (observation.occurred_at, observation.episode_start) == (datetime(2026, 3, 2, 10, 0, 0, 315000, tzinfo=UTC), None)
    assert observation.link == "https://probe.example.com"


def test_a_later_trigger_has_the_same_key_and_its_own_severity(payload: Payload) -> None:
    observation = only(payload("pagerduty-events-v2/trigger-again-lower-severity.json"))
    assert (observation.dedup_key, observation.severity) == ("srv-web-01/http", Severity.WARNING)


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [
        ("acknowledge", ObservationKind.ACKNOWLEDGE, "srv-web-01/http"),
        ("resolve", ObservationKind.RESOLVE, "srv-web-01/http"),
        ("resolve-other-routing-key", ObservationKind.RESOLVE, "srv-web-01/http"),
        ("resolve-unknown", ObservationKind.RESOLVE, "never-seen"),
    ],
)
def test_acknowledge_and_resolve_need_no_payload(payload: Payload, name: str, kind: ObservationKind, key: str) -> None:
    observation = only(payload(f"pagerduty-events-v2/{name}.json"))
    assert (observation.kind, observation.dedup_key, observation.ended_at) == (kind, key, None)


@pytest.mark.parametrize("key", [None, ""])
def test_a_trigger_without_a_key_has_none(payload: Payload, key: str | None) -> None:
    assert only(payload("pagerduty-events-v2/trigger-no-dedup-key.json")).dedup_key is None
    assert only(trigger() | {"dedup_key": key}).dedup_key is None


def test_the_routing_key_goes_nowhere(payload: Payload) -> None:
    for name in ("trigger", "resolve", "acknowledge"):
        assert KEY not in repr(only(payload(f"pagerduty-events-v2/{name}.json")))
    with pytest.raises(InvalidEvent) as caught:
        parse(json.dumps({"routing_key": KEY}).encode(), "", SOURCE)
    assert KEY not in str(caught.value)


def test_an_unknown_severity_is_named(payload: Payload) -> None:
    assert faults(payload("pagerduty-events-v2/bad-severity.json")) == ["payload.severity"]


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b"", ["$"]), (b"{", ["$"]), (b"null", ["$"]), (b"[]", ["$"]), (b'{"a":1,"a":2}', ["a"]),
        ({}, ["routing_key", "event_action", "payload"]),
        ({"routing_key": " ", "event_action": "open", "payload": {}}, ["routing_key", "event_action", "payload.summary", "payload.source", "payload.severity"]),
        ({"routing_key": KEY, "event_action": "resolve"}, ["dedup_key"]),
        ({"routing_key": KEY, "event_action": "acknowledge", "dedup_key": ""}, ["dedup_key"]),
        ({"routing_key": KEY, "event_action": "resolve", "dedup_key": 5}, ["dedup_key"]),
        (trigger() | {"dedup_key": "x" * 256}, ["dedup_key"]),
        (trigger(summary="x" * 1025), ["payload.summary"]),
        (trigger(summary=""), ["payload.summary"]),
        (trigger(source=5), ["payload.source"]),
        (trigger(severity="Critical"), ["payload.severity"]),
        (trigger(severity=["critical"]), ["payload.severity"]),
        (trigger(timestamp="2026-13-01T00:00:00Z"), ["payload.timestamp"]),
        (trigger(component={}), ["payload.component"]),
    ],
)
def test_every_fault_is_listed(body: bytes | dict[str, Any], paths: list[str]) -> None:
    assert faults(body) == paths


def test_limits_are_inclusive() -> None:
    observation = only(trigger(summary="é" * 1024) | {"dedup_key": "x" * 255})
    assert (len(observation.title), len(observation.dedup_key or "")) == (1024, 255)


def test_the_service_is_the_custom_details_one_if_it_is_text() -> None:
    assert only(trigger(custom_details={"service": "shop"})).service == "shop"
    assert only(trigger(custom_details={"service": {"name": "shop"}})).service is None
    assert only(trigger(custom_details="text", timestamp=None, group=None)).details == {"custom_details": "text"}


def test_a_broken_link_loses_no_alert() -> None:
    observation = only(trigger() | {"client_url": "probe", "links": [None, {"href": 5}, {"href": "https://example.com/run"}], "images": 5})
    assert observation.link == "https://example.com/run"


def test_a_change_event_is_a_record_of_a_change(payload: Payload) -> None:
    body = payload("pagerduty-events-v2/change-event.json")
    [observation] = parse_change(body, "", SOURCE).observations
    assert (observation.kind, observation.dedup_key) == (ObservationKind.CHANGE, None)
    assert (observation.title, observation.resource) == ("Build 1042 deployed to shop", "ci.example.com")
    assert observation.occurred_at == datetime(2026, 3, 2, 9, 55, tzinfo=UTC)
    assert observation.link == "https://ci.example.com/1042"
    assert "event_action" in faults(body)


def test_a_change_event_needs_a_key_and_a_summary() -> None:
    assert faults({}, parse_change) == ["routing_key", "payload"]
    assert faults({"routing_key": KEY, "payload": {}}, parse_change) == ["payload.summary"]
