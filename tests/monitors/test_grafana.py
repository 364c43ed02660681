"""Grafana's two forms at one address."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.errors import MalformedDelivery
from engine.observation import Observation, ObservationKind, Severity, SourceProfile
from monitors.integrations.grafana import parse

SOURCE = SourceProfile(name="grafana", adapter="grafana")
Payload = Callable[[str], bytes]


def only(body: bytes | dict[str, Any]) -> Observation:
    [observation] = parse(body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json", SOURCE).observations
    return observation


def test_a_firing_alert_is_read(payload: Payload) -> None:
    observation = only(payload("grafana/firing.json"))
    assert (observation.kind, observation.severity, observation.service) == (ObservationKind.TRIGGER, Severity.CRITICAL, "shop")
    assert observation.episode_start == datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    assert observation.title == "Memory over 90 % in eu-1"
    assert observation.link == "https://grafana.example.com/alerting/grafana/abc123/view?orgId=1"
    assert json.loads(observation.details["values"]) == {"B": 93.2391, "C": 1}
    assert "dashboardURL" not in observation.details


def test_values_are_no_part_of_identity_and_may_be_null(payload: Payload) -> None:
    firing, resolved = only(payload("grafana/firing.json")), only(payload("grafana/resolved-null-values.json"))
    assert (resolved.kind, resolved.dedup_key, resolved.episode_start) == (ObservationKind.RESOLVE, firing.dedup_key, firing.episode_start)
    assert resolved.ended_at == datetime(2026, 3, 2, 10, 9, tzinfo=UTC)


def test_the_test_button_opens_an_alert_without_a_link(payload: Payload) -> None:
    observation = only(payload("grafana/test-button-relative-url.json"))
    assert (observation.kind, observation.severity, observation.link) == (ObservationKind.TRIGGER, None, None)
    assert observation.details["generatorURL"] == "?orgId=1"
    assert observation.episode_start == datetime(2026, 3, 2, 10, 0, 0, 123456, tzinfo=UTC)


def test_no_data_is_an_alert_of_its_own(payload: Payload) -> None:
    observation = only(payload("grafana/datasource-nodata.json"))
    assert observation.dedup_key != only(payload("grafana/firing.json")).dedup_key
    assert (observation.kind, observation.severity) == (ObservationKind.TRIGGER, None)


def test_the_legacy_form_is_known_by_its_shape_and_identified_by_its_rule(payload: Payload) -> None:
    alerting, ok = only(payload("grafana/legacy-alerting.json")), only(payload("grafana/legacy-ok.json"))
    assert (alerting.kind, ok.kind) == (ObservationKind.TRIGGER, ObservationKind.RESOLVE)
    assert alerting.dedup_key == ok.dedup_key == '["1","7"]'
    assert (alerting.title, alerting.resource, alerting.episode_start) == ("CPU alert", "srv-web-01", None)


def test_legacy_ids_that_are_zero_or_missing_are_values_of_their_own() -> None:
    keys = [only({"state": "alerting", "ruleName": "x", **ids}).dedup_key for ids in ({"ruleId": 0}, {"ruleId": 0, "orgId": 0}, {"ruleId": 1})]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"state": "alerting", "ruleName": "x"}, "ruleId"),
        ({"state": "odd", "ruleId": 1}, "state"),
        ({"ruleId": 1}, "state"),
        ({"state": "ok", "ruleId": []}, "ruleId[1]"),
        ({"state": "alerting", "title": "x"}, "alerts"),
        ({"alerts": [{"labels": {"a": "b"}}]}, "alerts[0].status"),
        ({"alerts": [{"labels": None}], "ruleId": 1}, "alerts[0].labels"),
    ],
)
def test_a_wrong_shape_is_refused_naming_its_place(body: dict[str, Any], path: str) -> None:
    with pytest.raises(MalformedDelivery) as caught:
        only(body)
    assert (caught.value.path, caught.value.status) == (path, 422)


def test_a_group_without_status_has_its_states() -> None:
    assert only({"state": "alerting", "alerts": [{"labels": {"a": "b"}}]}).kind is ObservationKind.TRIGGER
    assert only({"state": "ok", "alerts": [{"labels": {"a": "b"}}]}).kind is ObservationKind.RESOLVE


@pytest.mark.parametrize("state", ["pending", "paused"])
def test_legacy_states_that_are_neither_alerting_nor_ok_are_information(state: str) -> None:
    assert only({"state": state, "ruleId": 1, "tags": None, "evalMatches": None}).kind is ObservationKind.INFORMATION
