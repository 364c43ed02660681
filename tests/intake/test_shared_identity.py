"""Two sources that report the same alerts: one alert, which fires while any of them holds it, and ends with a resolve by any."""

import json
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.alert import Alert, AlertEpisodeEnded, AlertSourceJoined, AlertSourceLeft, AlertWentStale
from engine.clock import rfc3339
from engine.delivery import Disposition
from engine.judgement import LEASE
from engine.source import SourceAdded
from tests.conftest import Bell
from tests.engine.belfry import Belfry, effort, member, notice, told, with_belfry

REPEAT: Final = 600.0


def paired(bell: Bell) -> None:
    """Alertmanager's webhook, and the Prometheus behind it that posts as well."""
    bell.add_source(SourceAdded(name="am", adapter="alertmanager", repeat_interval_seconds=REPEAT))
    bell.add_source(SourceAdded(name="prom", adapter="prometheus", identity="am"))


@pytest.fixture
def pair(bell: Bell) -> Bell:
    paired(bell)
    return bell


def by_webhook(bell: Bell, start_offset: float = 0.0, *, ends: bool = False, source: str = "am") -> str:
    start = bell.clock.now() + timedelta(seconds=start_offset)
    sent = notice(member(start, bell.clock.now())) if ends else notice(member(start))
    (said,) = bell.ring(source, json.dumps(sent).encode()).monitoring_events
    return said.disposition


def by_api(bell: Bell, start_offset: float = 0.0, *, holds: float = 240.0, source: str = "prom", adapter: str | None = None) -> str:
    now = bell.clock.now()
    start = now + timedelta(seconds=start_offset)
    (labelled,) = notice(member(start))["alerts"]
    alert = {"labels": labelled["labels"], "startsAt": rfc3339(start), "endsAt": rfc3339(now + timedelta(seconds=holds))}
    (said,) = bell.ring(source, json.dumps([alert]).encode(), adapter=adapter).monitoring_events
    return said.disposition


def only(bell: Bell) -> Alert:
    (alert,) = bell.alerts
    return alert


def test_the_same_alert_of_both_is_one_and_its_source_is_the_one_that_opened_it(pair: Bell) -> None:
    assert by_webhook(pair) == Disposition.OPENED
    assert by_api(pair) == Disposition.REPEATED
    assert by_api(pair) == Disposition.REPEATED
    assert (only(pair).source, only(pair).holders) == ("am", ("am", "prom"))
    assert len(pair.incidents) == 1
    assert [event.source for event in told(pair, AlertSourceJoined)] == ["prom"]


def test_without_a_shared_identity_they_are_two(bell: Bell) -> None:
    by_webhook(bell, source="alertmanager")
    by_api(bell, source="prometheus")
    assert [alert.source for alert in bell.alerts] == ["alertmanager", "prometheus"]


def test_the_other_one_resolves_it_and_nothing_stays_due(pair: Bell) -> None:
    by_webhook(pair)
    by_api(pair)
    pair.clock.advance(60)
    assert by_api(pair, -60, holds=-1) == Disposition.RESOLVED
    assert not only(pair).firing
    assert pair.ledger.store.due_timers(2**62, 10) == []
    assert by_webhook(pair, -60, ends=True) == Disposition.LATE


def test_a_new_episode_is_of_the_one_that_opens_it(pair: Bell) -> None:
    by_webhook(pair)
    by_webhook(pair, ends=True)
    pair.clock.advance(60)
    assert by_api(pair) == Disposition.OPENED
    assert (only(pair).source, only(pair).holders) == ("prom", ("prom",))


def test_the_end_of_the_apis_lease_does_not_end_what_the_webhook_holds(pair: Bell) -> None:
    by_webhook(pair)
    by_api(pair, holds=240)
    pair.clock.advance(300)
    assert pair.run_due() == 1
    assert (only(pair).firing, only(pair).stale_since, only(pair).holders) == (True, None, ("am",))
    assert [event.source for event in told(pair, AlertSourceLeft)] == ["prom"]
    # The webhook's own silence is still noticed, in its own time.
    assert [timer.purpose for timer in pair.ledger.store.due_timers(2**62, 10)] == [LEASE]
    pair.clock.advance(2 * REPEAT * 1.1)
    pair.run_due()
    assert only(pair).stale_since is not None
    pair.clock.advance(REPEAT)
    pair.run_due()
    assert [event.cause for event in told(pair, AlertEpisodeEnded)] == ["no_longer_reported"]


def test_the_end_of_the_webhooks_lease_does_not_end_what_the_api_holds(pair: Bell) -> None:
    by_webhook(pair)
    elapsed = 0.0
    while elapsed < 3 * REPEAT:
        by_api(pair, -elapsed)
        pair.clock.advance(120)
        elapsed += 120
        pair.run_due()
    assert (only(pair).firing, only(pair).holders) == (True, ("prom",))
    assert told(pair, AlertWentStale) == []
    pair.clock.advance(240)
    pair.run_due()
    assert [event.cause for event in told(pair, AlertEpisodeEnded)] == ["no_longer_reported"]


def test_one_that_never_repeats_holds_it_until_somebody_resolves_it(pair: Bell) -> None:
    pair.add_source(SourceAdded(name="hand", adapter="grafana", identity="am"))
    by_api(pair, holds=240)
    by_webhook(pair, source="hand")
    pair.clock.advance(100_000)
    pair.run_due()
    assert (only(pair).firing, only(pair).holders) == (True, ("hand",))


def test_whoever_is_heard_after_all_fell_silent_holds_it_alone(pair: Bell) -> None:
    by_webhook(pair)
    pair.clock.advance(2 * REPEAT * 1.1)
    pair.run_due()
    assert only(pair).stale_since is not None
    by_api(pair, -2 * REPEAT * 1.1, holds=60)
    assert (only(pair).stale_since, only(pair).holders) == (None, ("prom",))
    pair.clock.advance(61)
    pair.run_due()
    assert not only(pair).firing


def test_one_source_by_two_formats_holds_it_by_both(pair: Bell) -> None:
    """A webhook's token opens Alertmanager's API as well; its five minutes do not end what the webhook holds for hours."""
    by_webhook(pair)
    by_api(pair, source="am", adapter="prometheus", holds=60)
    pair.clock.advance(90)
    pair.run_due()
    assert (only(pair).firing, only(pair).holders) == (True, ("am",))


def test_a_lease_of_an_episode_that_a_newer_one_took_over_ends_nothing(pair: Bell) -> None:
    by_webhook(pair)
    by_api(pair, holds=60)
    pair.clock.advance(30)
    assert by_webhook(pair) == Disposition.OPENED
    pair.clock.advance(60)
    assert pair.run_due() == 0
    assert only(pair).firing


@pytest.mark.law
@given(
    first=st.sampled_from(["webhook", "api"]),
    steps=st.lists(st.tuples(st.integers(1, 700), st.sampled_from(["webhook", "api", "nothing"])), max_size=20),
    holds=st.integers(30, 2_000),
)
@effort(40)
def test_in_any_order_it_fires_while_either_holds_it_and_ends_when_both_are_silent(
    first: str, steps: list[tuple[int, str]], holds: int
) -> None:
    def example(belfry: Belfry) -> None:
        paired(belfry)
        start = belfry.clock.now()

        def say(what: str) -> float:
            elapsed = (belfry.clock.now() - start).total_seconds()
            if what == "webhook":
                by_webhook(belfry, -elapsed)
                return elapsed + 2 * REPEAT
            if what == "api":
                by_api(belfry, -elapsed, holds=holds)
                return elapsed + holds
            return 0.0

        said = {first: say(first)}
        for seconds, what in steps:
            belfry.clock.advance(seconds)
            belfry.run_due()
            alert, elapsed = only(belfry), (belfry.clock.now() - start).total_seconds()
            if elapsed < max(said.values()):
                assert (alert.firing, alert.stale_since) == (True, None)
            if not alert.firing:
                break
            if what != "nothing":
                said[what] = say(what)
        for _ in range(4):
            belfry.clock.advance(4 * REPEAT)
            belfry.run_due()
        assert not only(belfry).firing
        assert belfry.ledger.store.due_timers(2**62, 10) == []
        belfry.check_replay()

    with_belfry(example)
