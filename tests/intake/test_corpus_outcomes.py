"""What each payload of the corpus comes to: delivered to an empty store, with the reference rule."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from api.hooks import PAGERDUTY_CHANGES
from engine.alert import AlertSeverityChanged
from engine.change import ChangeRecorded
from engine.delivery import DeliveryReceived, DeliveryRejected, Disposition
from engine.incident import Incident
from engine.observation import Severity
from engine.source import SourceAdded
from engine.ticket import Meaning
from monitors.intake import Receipt, Rejected
from tests.conftest import PAYLOADS, Bell
from tests.engine.belfry import told

AM = "prometheus-alertmanager"
PD = "pagerduty-events-v2"


def said(receipt: Receipt) -> list[str]:
    return [event.disposition.value for event in receipt.monitoring_events]


def test_a_firing_alert_opens_one_alert_and_one_incident_however_often_it_is_delivered(bell: Bell) -> None:
    first = bell.ring("alertmanager", f"{AM}/firing.json")
    again = [bell.ring("alertmanager", f"{AM}/firing.json") for _ in range(4)]
    assert said(first) == ["opened"]
    assert [said(receipt) for receipt in again] == [["repeated"]] * 4
    (alert,) = bell.alerts
    (incident,) = bell.incidents
    assert alert.firing
    assert alert.severity is Severity.CRITICAL
    assert alert.ended_at is None
    assert first.monitoring_events[0].alert_number == alert.number == "ALT-1"
    assert first.monitoring_events[0].incident_number == incident.number == "INC-1"
    assert incident.meaning is Meaning.NEW


def test_its_resolve_ends_it_at_the_sources_time_and_resolves_the_incident(bell: Bell) -> None:
    bell.ring("alertmanager", f"{AM}/firing.json")
    resolved = bell.ring("alertmanager", f"{AM}/resolved.json")
    twice = bell.ring("alertmanager", f"{AM}/resolved.json")
    (alert,) = bell.alerts
    (incident,) = bell.incidents
    assert said(resolved) == ["resolved"]
    assert said(twice) == ["late"]
    assert alert.started_at is not None
    assert alert.ended_at == alert.started_at + timedelta(minutes=23)
    assert incident.meaning is Meaning.RESOLVED
    assert incident.resolved_at == alert.ended_at


def test_each_member_of_a_group_counts(bell: Bell) -> None:
    bell.ring("alertmanager", f"{AM}/grouped-many.json")
    assert len(bell.firing) == 5
    by_service = {incident.service: incident for incident in bell.incidents}
    assert set(by_service) == {"shop", "mail"}
    assert sum(alert.incident == by_service["shop"].id for alert in bell.alerts) == 3
    assert sum(alert.incident == by_service["mail"].id for alert in bell.alerts) == 1
    bell.ring("alertmanager", f"{AM}/mixed-status-in-group.json")
    assert len(bell.firing) == 4
    assert bell.ledger.get(Incident, by_service["shop"].id).is_open


@pytest.mark.parametrize(
    ("first", "second"),
    [("empty-label-value.json", "empty-label-absent.json")],
)
def test_an_empty_label_is_an_absent_one(bell: Bell, first: str, second: str) -> None:
    bell.ring("alertmanager", f"{AM}/{first}")
    assert said(bell.ring("alertmanager", f"{AM}/{second}")) == ["repeated"]
    assert len(bell.alerts) == 1


@pytest.mark.parametrize(
    ("file", "alerts"),
    [
        ("truncated.json", 2), ("no-fingerprint.json", 1), ("v3-numeric-groupkey.json", 1), ("empty-alerts.json", 0),
        ("non-string-labels.json", 1), ("same-summary-different-labels.json", 2), ("firing-future-endsat.json", 1),
        ("watchdog.json", 1), ("unknown-new-fields.json", 1), ("unicode-labels.json", 1),
    ],
)
def test_what_is_special_about_it_does_not_change_how_many_alerts_fire(bell: Bell, file: str, alerts: int) -> None:
    receipt = bell.ring("alertmanager", f"{AM}/{file}")
    assert said(receipt) == ["opened"] * alerts
    assert len(bell.firing) == alerts
    assert bell.run_due() == 0


def test_a_truncated_notice_says_how_many_were_left_out(bell: Bell) -> None:
    bell.ring("alertmanager", f"{AM}/truncated.json")
    (delivery,) = told(bell, DeliveryReceived)
    assert delivery.lost == 37


def test_a_missing_label_rejects_the_whole_delivery_and_keeps_it(bell: Bell) -> None:
    with pytest.raises(Rejected, match=r"alerts\[1\]\.labels") as rejected:
        bell.ring("alertmanager", f"{AM}/missing-labels-second.json")
    assert rejected.value.status == 422
    assert bell.alerts == []
    (kept,) = told(bell, DeliveryRejected)
    assert kept.path == "alerts[1].labels"
    assert kept.body is not None
    assert bell.intake.body(kept.body) == (PAYLOADS / AM / "missing-labels-second.json").read_bytes()


def test_a_duplicate_key_is_rejected_by_name(bell: Bell) -> None:
    with pytest.raises(Rejected) as rejected:
        bell.ring("alertmanager", f"{AM}/duplicate-label-keys.json")
    assert rejected.value.path == "alerts[0].labels.instance"


def test_an_end_before_the_start_is_clamped_and_flagged(bell: Bell) -> None:
    body = (PAYLOADS / AM / "resolved-ends-before-starts.json").read_bytes()
    firing = body.replace(b'"status": "resolved"', b'"status": "firing"').replace(b'"status":"resolved"', b'"status":"firing"')
    bell.ring("alertmanager", firing)
    bell.ring("alertmanager", body)
    (alert,) = bell.alerts
    assert not alert.firing
    assert alert.ended_at == alert.started_at
    flags = [event.observation.flags for delivery in told(bell, DeliveryReceived) for event in delivery.monitoring_events]
    assert flags[-1] == ("ends_before_start",)


def test_a_heartbeat_alert_of_severity_none_opens_no_incident(bell: Bell) -> None:
    bell.ring("alertmanager", f"{AM}/watchdog.json")
    assert bell.alerts[0].severity is Severity.INFO
    assert bell.incidents == []


def test_grafana_fires_and_resolves_with_null_values(bell: Bell) -> None:
    bell.ring("grafana", "grafana/firing.json")
    assert [incident.service for incident in bell.incidents] == ["shop"]
    assert said(bell.ring("grafana", "grafana/datasource-nodata.json")) == ["opened"]
    assert said(bell.ring("grafana", "grafana/resolved-null-values.json")) == ["resolved"]
    assert len(bell.firing) == 1
    assert bell.firing[0].severity is Severity.WARNING


def test_grafanas_test_button_is_an_alert_without_a_link(bell: Bell) -> None:
    receipt = bell.ring("grafana", "grafana/test-button-relative-url.json")
    assert said(receipt) == ["opened"]
    assert receipt.monitoring_events[0].observation.link is None


def test_grafanas_legacy_format_is_told_by_its_shape(bell: Bell) -> None:
    bell.ring("grafana", "grafana/legacy-alerting.json")
    assert len(bell.firing) == 1
    assert said(bell.ring("grafana", "grafana/legacy-ok.json")) == ["resolved"]
    assert bell.firing == []


def test_pagerduty_trigger_again_updates_the_same_alert(bell: Bell) -> None:
    bell.ring("pagerduty", f"{PD}/trigger.json")
    assert said(bell.ring("pagerduty", f"{PD}/trigger-again-lower-severity.json")) == ["repeated"]
    (alert,) = bell.alerts
    assert alert.severity is Severity.WARNING
    assert [event.severity for event in told(bell, AlertSeverityChanged)] == [Severity.WARNING]
    assert [incident.is_open for incident in bell.incidents] == [True]


def test_pagerduty_acknowledges_resolves_and_opens_a_new_episode(bell: Bell) -> None:
    bell.ring("pagerduty", f"{PD}/trigger.json")
    assert said(bell.ring("pagerduty", f"{PD}/acknowledge.json")) == ["acknowledged"]
    assert bell.alerts[0].acknowledged
    bell.clock.advance(60)
    assert said(bell.ring("pagerduty", f"{PD}/resolve.json")) == ["resolved"]
    assert bell.alerts[0].ended_at == datetime(2026, 3, 2, 10, 1, 30, tzinfo=UTC)
    bell.clock.advance(60)
    assert said(bell.ring("pagerduty", f"{PD}/trigger.json")) == ["opened"]
    (alert,) = bell.alerts
    assert alert.number == "ALT-1"
    assert alert.firing
    assert not alert.acknowledged
    assert alert.started_at == datetime(2026, 3, 2, 10, 2, 30, tzinfo=UTC)
    assert [incident.meaning for incident in bell.incidents] == [Meaning.RESOLVED, Meaning.NEW]


def test_pagerduty_keys_belong_to_their_source(bell: Bell) -> None:
    bell.add_source(SourceAdded(name="pagerduty-2", adapter="pagerduty"))
    bell.ring("pagerduty", f"{PD}/trigger.json")
    assert said(bell.ring("pagerduty-2", f"{PD}/resolve-other-routing-key.json")) == ["unmatched"]
    assert said(bell.ring("pagerduty", f"{PD}/resolve-unknown.json")) == ["unmatched"]
    assert len(bell.firing) == 1


def test_pagerduty_without_a_dedup_key_is_a_new_alert_each_time(bell: Bell) -> None:
    receipts = [bell.ring("pagerduty", f"{PD}/trigger-no-dedup-key.json") for _ in range(2)]
    keys = {receipt.monitoring_events[0].dedup_key for receipt in receipts}
    assert len(keys) == 2
    assert len(bell.firing) == 2
    same = [bell.ring("pagerduty", f"{PD}/trigger-no-dedup-key.json", identity="retry-1") for _ in range(2)]
    assert same[0].monitoring_events == same[1].monitoring_events
    assert same[1].again
    assert len(bell.firing) == 3


def test_pagerduty_names_the_bad_severity(bell: Bell) -> None:
    with pytest.raises(Rejected, match=r"payload\.severity"):
        bell.ring("pagerduty", f"{PD}/bad-severity.json")


def test_a_change_event_is_a_change_and_nothing_else(bell: Bell) -> None:
    body = (PAYLOADS / PD / "change-event.json").read_bytes()
    receipt = asyncio.run(bell.intake.receive("pagerduty", body, adapter=PAGERDUTY_CHANGES))
    assert receipt.monitoring_events[0].disposition is Disposition.IGNORED
    assert receipt.monitoring_events[0].number == "CHG-1"
    assert [change.number for change in told(bell, ChangeRecorded)] == ["CHG-1"]
    assert bell.alerts == []
    with pytest.raises(Rejected, match="event_action"):
        bell.ring("pagerduty", body)
