"""The Alertmanager webhook: each member counts, by its own labels, state and times."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.errors import MalformedDelivery
from engine.observation import Observation, ObservationKind, Parsed, Severity, SourceProfile
from monitors.integrations.alertmanager import parse

SOURCE = SourceProfile(name="alertmanager", adapter="alertmanager")
START = datetime(2026, 3, 2, 9, 58, 30, 104000, tzinfo=UTC)
TRIGGER, RESOLVE = ObservationKind.TRIGGER, ObservationKind.RESOLVE

Payload = Callable[[str], bytes]


def read(body: bytes | dict[str, Any], source: SourceProfile = SOURCE) -> Parsed:
    return parse(body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json", source)


def only(body: bytes | dict[str, Any], source: SourceProfile = SOURCE) -> Observation:
    [observation] = read(body, source).observations
    return observation


def alert(**fields: Any) -> dict[str, Any]:
    return {"status": "firing", "labels": {"alertname": "A", "instance": "i"}, "startsAt": "2026-03-02T09:58:30.104Z"} | fields


def of(**fields: Any) -> dict[str, Any]:
    return {"status": "firing", "alerts": [alert(**fields)]}


def refused(body: bytes | dict[str, Any]) -> tuple[str, int]:
    with pytest.raises(MalformedDelivery) as caught:
        read(body)
    return caught.value.path, caught.value.status


def test_a_firing_alert_is_read_whole(payload: Payload) -> None:
    observation = only(payload("prometheus-alertmanager/firing.json"))
    assert observation == Observation(
        kind=TRIGGER,
        dedup_key="744693f6a710a6fc882691ebfba09a16",
        title="DiskAlmostFull on srv-db-01.example.com:9100",
        severity=Severity.CRITICAL,
        service="billing",
        resource="srv-db-01.example.com:9100",
        labels={
            "alertname": "DiskAlmostFull", "instance": "srv-db-01.example.com:9100", "severity": "critical",
            "service": "billing", "job": "node", "mountpoint": "/var/lib/data",
        },
        details={"summary": "DiskAlmostFull on srv-db-01.example.com:9100"},
        episode_start=START,
        fingerprint="3b1f0c9a77d2e410",
        link="http://prom-01.example.com:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
    )


def test_its_resolve_has_its_key_its_start_and_the_real_end(payload: Payload) -> None:
    firing, resolved = (only(payload(f"prometheus-alertmanager/{name}.json")) for name in ("firing", "resolved"))
    assert (resolved.kind, resolved.dedup_key, resolved.episode_start) == (RESOLVE, firing.dedup_key, firing.episode_start)
    assert resolved.ended_at is not None
    assert (resolved.ended_at - START).total_seconds() == 23 * 60


def test_a_group_is_many_alerts(payload: Payload) -> None:
    observations = read(payload("prometheus-alertmanager/grouped-many.json")).observations
    assert len({observation.dedup_key for observation in observations}) == 5
    assert [observation.service for observation in observations] == ["shop", "shop", "shop", "mail", "lab"]
    assert [observation.severity for observation in observations][-2:] == [Severity.CRITICAL, Severity.INFO]


def test_each_members_own_status_rules(payload: Payload) -> None:
    group = read(payload("prometheus-alertmanager/grouped-many.json")).observations
    mixed = read(payload("prometheus-alertmanager/mixed-status-in-group.json")).observations
    assert [observation.kind for observation in mixed] == [TRIGGER, RESOLVE, TRIGGER]
    assert [observation.dedup_key for observation in mixed] == [observation.dedup_key for observation in group[:3]]


def test_what_the_sender_left_out_is_counted(payload: Payload) -> None:
    parsed = read(payload("prometheus-alertmanager/truncated.json"))
    assert (len(parsed.observations), parsed.lost) == (2, 37)
    assert read(of()).lost == 0


def test_an_old_sender_needs_no_fingerprint(payload: Payload) -> None:
    observation = only(payload("prometheus-alertmanager/no-fingerprint.json"))
    assert observation.episode_start == datetime(2026, 3, 2, 9, 58, 37, 804000, tzinfo=UTC)
    assert (observation.fingerprint, observation.resource) == (None, None)
    body = json.loads(payload("prometheus-alertmanager/no-fingerprint.json"))
    body["alerts"][0]["fingerprint"] = "0123456789abcdef"
    body["alerts"][0]["labels"] = dict(reversed(body["alerts"][0]["labels"].items()))
    assert only(body).dedup_key == observation.dedup_key


def test_version_3_with_a_numeric_group_key_is_read(payload: Payload) -> None:
    observation = only(payload("prometheus-alertmanager/v3-numeric-groupkey.json"))
    assert (observation.resource, observation.episode_start) == ("srv-net-02", datetime(2026, 3, 2, 9, 58, 8, 8000, tzinfo=UTC))


def test_no_alerts_are_no_observations(payload: Payload) -> None:
    assert read(payload("prometheus-alertmanager/empty-alerts.json")) == Parsed(observations=(), group='{}:{alertname="x"}')


def test_an_empty_label_is_an_absent_one(payload: Payload) -> None:
    empty, absent = (only(payload(f"prometheus-alertmanager/empty-label-{name}.json")) for name in ("value", "absent"))
    assert empty == absent


def test_label_values_that_are_no_text_are_as_their_text(payload: Payload) -> None:
    body = json.loads(payload("prometheus-alertmanager/non-string-labels.json"))
    observation = only(body)
    assert observation.labels["code"] == "503"
    assert observation.labels["canary"] == "false"
    assert "owner" not in observation.labels
    labels = body["alerts"][0]["labels"]
    labels.update(code="503", canary="false")
    del labels["owner"]
    assert only(body) == observation


def test_identity_never_comes_from_the_summary(payload: Payload) -> None:
    one, other = read(payload("prometheus-alertmanager/same-summary-different-labels.json")).observations
    assert one.title == other.title == "Volume is filling up"
    assert one.dedup_key != other.dedup_key


def test_annotations_and_group_fields_are_no_part_of_identity() -> None:
    plain = only(of())
    body = of(annotations={"summary": "now 93 %"}, startsAt="2026-03-02T11:00:00Z", fingerprint=5, generatorURL="x")
    told = only(body | {"groupKey": 7, "receiver": "other", "externalURL": "http://am-02", "commonLabels": {"x": "y"}})
    assert plain.dedup_key == told.dedup_key
    assert told.fingerprint == "5"


@pytest.mark.parametrize(
    ("name", "path"),
    [("missing-labels-second", "alerts[1].labels"), ("duplicate-label-keys", "alerts[0].labels.instance")],
)
def test_a_broken_member_refuses_all_naming_its_place(payload: Payload, name: str, path: str) -> None:
    assert refused(payload(f"prometheus-alertmanager/{name}.json")) == (path, 422)


def test_a_firing_alerts_future_end_is_neither_an_end_nor_a_lease(payload: Payload) -> None:
    observation = only(payload("prometheus-alertmanager/firing-future-endsat.json"))
    assert (observation.kind, observation.ended_at, observation.lease_until) == (TRIGGER, None, None)


def test_an_end_before_the_start_is_clamped_and_flagged(payload: Payload) -> None:
    observation = only(payload("prometheus-alertmanager/resolved-ends-before-starts.json"))
    assert observation.kind is RESOLVE
    assert observation.ended_at == observation.episode_start == datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
    assert observation.flags == ("ends_before_start",)


def test_the_watchdog_is_informational_and_may_have_started_long_ago(payload: Payload) -> None:
    observation = only(payload("prometheus-alertmanager/watchdog.json"))
    assert (observation.severity, observation.episode_start) == (Severity.INFO, datetime(2026, 1, 5, 0, 0, 10, tzinfo=UTC))


def test_unknown_fields_change_nothing(payload: Payload) -> None:
    body = json.loads(payload("prometheus-alertmanager/unknown-new-fields.json"))
    observation = only(body)
    for name in ("notification_reason", "routeLabels", "futureThing"):
        del body[name]
    assert only(body) == observation


def test_every_code_point_survives(payload: Payload) -> None:
    body = payload("prometheus-alertmanager/unicode-labels.json")
    observation = only(body)
    assert observation.title == json.loads(body)["alerts"][0]["annotations"]["summary"]
    assert "\u202e" in observation.title
    assert observation.labels == json.loads(body)["alerts"][0]["labels"]
    assert observation.labels["nfd"] != observation.labels["nfc"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"alerts": [{"status": None, "labels": None, "annotations": None, "startsAt": None}], "status": None}, "alerts[0].labels"),
        ({}, "alerts"), ({"alerts": None}, "alerts"), ({"alerts": {}}, "alerts"), ({"alerts": [None]}, "alerts[0]"), ({"alerts": ["x"]}, "alerts[0]"),
        (of(labels={}), "alerts[0].labels"), (of(labels={"a": ""}), "alerts[0].labels"), (of(labels=[]), "alerts[0].labels"),
        (of(labels={"a": {"b": 1}}), "alerts[0].labels.a"), (of(labels={"a": ["b"]}), "alerts[0].labels.a"),
        (of(labels={"a b": [1]}), 'alerts[0].labels["a b"]'),
        (of(status="pending"), "alerts[0].status"), (of(status=5), "alerts[0].status"), (of(status=""), "alerts[0].status"),
        ({"alerts": [alert(status=None)]}, "alerts[0].status"),
        (of(annotations=[]), "alerts[0].annotations"), (of(annotations="x"), "alerts[0].annotations"),
        (of(startsAt="soon"), "alerts[0].startsAt"), (of(startsAt=5), "alerts[0].startsAt"), (of(endsAt="2026-13-01T00:00:00Z"), "alerts[0].endsAt"),
        (of(startsAt="99999-01-01T00:00:00Z"), "alerts[0].startsAt"),
    ],
)
def test_a_wrong_shape_is_refused_naming_its_place(body: dict[str, Any], path: str) -> None:
    assert refused(body) == (path, 422)


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"42", b"true"])
def test_what_is_no_notification_is_refused_as_a_whole(body: bytes) -> None:
    assert refused(body) == ("$", 422)


def test_a_member_without_status_has_its_groups() -> None:
    body = {"status": "resolved", "alerts": [alert(status=None), alert(status="firing")]}
    del body["alerts"][0]["status"]  # type: ignore[attr-defined]  # a test's own literal
    assert [observation.kind for observation in read(body).observations] == [RESOLVE, TRIGGER]


def test_null_decorations_are_none() -> None:
    observation = only(of(annotations=None, startsAt=None, endsAt=None, generatorURL=None, fingerprint=None))
    assert (observation.details, observation.episode_start, observation.link, observation.title) == ({}, None, None, "A on i")


def test_resolved_without_an_end_ends_at_receipt() -> None:
    assert only(of(status="resolved", endsAt="0001-01-01T00:00:00Z")).ended_at is None


@pytest.mark.parametrize(
    ("annotations", "labels", "title"),
    [
        ({"summary": "s", "description": "d"}, {}, "s"),
        ({"title": "t", "description": "d"}, {}, "t"),
        ({"description": "\n \n first\r\nsecond"}, {}, " first"),
        ({"summary": " ", "description": ""}, {}, "A on i"),
        ({"summary": "x" * 2000}, {}, "x" * 1023 + "…"),
        ({"summary": 5}, {}, "5"),
        ({}, {"instance": None}, "A"),
        ({}, {"instance": None, "alertname": None, "job": "node"}, "job=node"),
    ],
)
def test_the_title_is_one_line(annotations: dict[str, Any], labels: dict[str, Any], title: str) -> None:
    observation = only(of(annotations=annotations, labels={"alertname": "A", "instance": "i"} | labels))
    assert observation.title == title
    if annotations.get("summary") == "x" * 2000:
        assert observation.details["summary"] == "x" * 2000


@pytest.mark.parametrize(
    ("labels", "severity", "resource", "service"),
    [
        ({"severity": "Page", "host": "h", "instance": "i", "resource": "r"}, Severity.CRITICAL, "h", None),
        ({"severity": "error", "instance": "i", "resource": "r"}, Severity.HIGH, "i", None),
        ({"severity": "odd", "priority": "P4", "resource": "r", "service": 7}, Severity.INFO, "r", "7"),
        ({"severity": "odd", "service": "x" * 300}, None, None, "x" * 254 + "…"),
    ],
)
def test_what_labels_say_of_severity_resource_and_service(
    labels: dict[str, Any], severity: Severity | None, resource: str | None, service: str | None
) -> None:
    observation = only(of(labels=labels))
    assert (observation.severity, observation.resource, observation.service) == (severity, resource, service)


@pytest.mark.parametrize("address", ["?orgId=1", "/graph", "javascript:alert(1)", "http://", "http://a b", 'http://a"b', "ftp://x/y", "", None, 5])
def test_only_an_absolute_http_address_is_a_link(address: object) -> None:
    observation = only(of(generatorURL=address))
    assert observation.link is None
    assert observation.details.get("generatorURL") == (str(address) if address else None)


def test_a_replica_label_names_the_sender_and_not_the_condition() -> None:
    source = SourceProfile(name="a", adapter="alertmanager", ignored_labels=("replica", "prometheus"))
    one, two, none = (only(of(labels={"alertname": "A"} | more), source) for more in ({"replica": "a"}, {"replica": "b"}, {"replica": ""}))
    assert one.dedup_key == two.dedup_key == none.dedup_key
    assert [observation.sender for observation in (one, two, none)] == ['replica="a"', 'replica="b"', None]
    assert one.labels == two.labels == {"alertname": "A"}


def test_several_notifications_may_come_as_array_or_lines() -> None:
    one, two = of(labels={"a": "1"}), of(labels={"a": "2"})
    array = read(json.dumps([one, two]).encode())
    lines = read(f"{json.dumps(one)}\n{json.dumps(two)}".encode())
    assert array == lines
    assert len(array.observations) == 2
    assert refused(json.dumps([one, of(labels=None)]).encode()) == ("[1].alerts[0].labels", 422)


def test_every_captured_payload_has_an_expectation_here() -> None:
    from pathlib import Path

    told = Path(__file__).read_text()
    for file in (Path(__file__).parent.parent / "payloads" / "prometheus-alertmanager").iterdir():
        assert file.stem in told or file.stem.startswith("empty-label-")
