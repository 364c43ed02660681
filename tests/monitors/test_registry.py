"""What the registry promises of each adapter."""

from datetime import UTC, datetime, timedelta

import pytest

from engine.errors import NotFound
from engine.observation import Observation, ObservationKind, Parsed, SourceProfile
from monitors.adapter import Adapter
from monitors.integrations import pagerduty
from monitors.integrations.registry import ADAPTERS, adapter_named

NOW = datetime(2026, 3, 2, 10, 0, 30, tzinfo=UTC)
FIRING = Observation(kind=ObservationKind.TRIGGER, dedup_key="k", title="t")


def lease(adapter: Adapter, observation: Observation = FIRING, **profile: float) -> timedelta | None:
    source = SourceProfile(name="s", adapter=adapter.name, **profile)  # type: ignore[arg-type]  # floats only
    [received] = adapter.received(Parsed(observations=(observation,)), source, NOW).observations
    return None if received.lease_until is None else received.lease_until - NOW


def test_names_are_unique_and_found() -> None:
    assert len({adapter.name for adapter in ADAPTERS}) == len(ADAPTERS)
    for adapter in ADAPTERS:
        assert adapter_named(adapter.name) is adapter
    with pytest.raises(NotFound, match="no adapter zabix"):
        adapter_named("zabix")


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_the_snippet_holds_address_and_token(adapter: Adapter) -> None:
    text = adapter.snippet("https://tocsin.example:8443" + adapter.endpoint.format(source="am"), "tok-en_1")
    assert "tocsin.example:8443" in text
    assert "tok-en_1" in text


def test_prometheus_is_told_the_prefix_without_what_it_adds_itself() -> None:
    text = adapter_named("prometheus").snippet("http://tocsin.example/itsm/api/v2/alerts", "t")
    assert 'path_prefix: "/itsm"' in text
    assert '"tocsin.example:80"' in text
    assert "/api/v2" not in text


def test_only_a_sender_that_repeats_has_leases() -> None:
    assert lease(adapter_named("alertmanager")) == timedelta(hours=8)
    assert lease(adapter_named("alertmanager"), repeat_interval_seconds=60.0) == timedelta(minutes=2)
    assert lease(adapter_named("prometheus")) == timedelta(minutes=5)
    for name in ("grafana", "pagerduty", "generic"):
        assert lease(adapter_named(name)) is None
        assert not adapter_named(name).repeats(SourceProfile(name="s", adapter=name))
        assert lease(adapter_named(name), repeat_interval_seconds=60.0) == timedelta(minutes=2)


def test_a_resolve_has_no_lease() -> None:
    resolve = Observation(kind=ObservationKind.RESOLVE, dedup_key="k", title="t")
    assert lease(adapter_named("alertmanager"), resolve) is None


def test_change_events_have_an_endpoint_of_their_own() -> None:
    assert pagerduty.CHANGE_ENDPOINT == "/v2/change/enqueue"
    assert pagerduty.ADAPTER.endpoint == "/v2/enqueue"
    assert pagerduty.MAX_BODY_BYTES == 524_288
