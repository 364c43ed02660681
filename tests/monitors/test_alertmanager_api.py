"""The Alertmanager API: alerts without a status, whose end is a lease until it has passed."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.errors import MalformedDelivery
from engine.observation import Observation, ObservationKind, SourceProfile
from monitors.integrations import alertmanager
from monitors.integrations.alertmanager_api import ADAPTER, parse

SOURCE = SourceProfile(name="prometheus", adapter="prometheus")
NOW = datetime(2026, 3, 2, 10, 0, 30, tzinfo=UTC)
LABELS = {"alertname": "A", "instance": "i", "severity": "critical"}


def received(*alerts: Any) -> list[Observation]:
    parsed = parse(json.dumps(alerts).encode(), "application/json", SOURCE)
    return list(ADAPTER.received(parsed, SOURCE, NOW).observations)


def test_without_an_end_it_holds_for_five_minutes() -> None:
    [observation] = received({"labels": LABELS, "startsAt": "2026-03-02T09:58:00Z", "endsAt": "0001-01-01T00:00:00Z"})
    assert (observation.kind, observation.lease_until) == (ObservationKind.TRIGGER, NOW + timedelta(minutes=5))
    assert observation.episode_start == datetime(2026, 3, 2, 9, 58, tzinfo=UTC)


def test_a_future_end_is_a_lease() -> None:
    [observation] = received({"labels": LABELS, "endsAt": "2026-03-02T10:00:31Z"})
    assert (observation.kind, observation.lease_until) == (ObservationKind.TRIGGER, NOW + timedelta(seconds=1))
    assert observation.episode_start is None


@pytest.mark.parametrize("end", ["2026-03-02T10:00:30Z", "2026-03-02T09:59:00Z"])
def test_an_end_that_has_passed_is_a_resolve(end: str) -> None:
    [observation] = received({"labels": LABELS, "startsAt": "2026-03-02T09:58:00Z", "endsAt": end})
    assert (observation.kind, observation.lease_until) == (ObservationKind.RESOLVE, None)
    assert observation.ended_at == datetime.fromisoformat(end)


def test_an_end_before_the_start_is_clamped_and_flagged() -> None:
    [observation] = received({"labels": LABELS, "startsAt": "2026-03-02T09:58:00Z", "endsAt": "2026-03-02T09:57:00Z"})
    assert (observation.ended_at, observation.flags) == (observation.episode_start, ("ends_before_start",))


def test_the_same_alert_by_webhook_is_the_same_alert() -> None:
    [observation] = received({"labels": dict(reversed(LABELS.items())) | {"empty": ""}})
    body = json.dumps({"alerts": [{"status": "firing", "labels": LABELS}]}).encode()
    [other] = alertmanager.parse(body, "", SOURCE).observations
    assert observation.dedup_key == other.dedup_key


@pytest.mark.parametrize(
    ("body", "path"),
    [(b"null", "$"), (b"{}", "$"), (b"[null]", "[0]"), (b"[{}]", "[0].labels"), (b'[{"labels":{"a":"b"}},{"labels":{}}]', "[1].labels"),
     (b'[{"labels":{"a":{}}}]', "[0].labels.a"), (b'[{"labels":{"a":"b"},"endsAt":"x"}]', "[0].endsAt")],
)
def test_a_wrong_shape_is_refused_naming_its_place(body: bytes, path: str) -> None:
    with pytest.raises(MalformedDelivery) as caught:
        parse(body, "", SOURCE)
    assert (caught.value.path, caught.value.status) == (path, 422)


def test_an_empty_array_is_accepted_as_by_alertmanager() -> None:
    assert received() == []
