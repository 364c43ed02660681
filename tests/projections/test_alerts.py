"""Alerts: episodes and occurrences, now and then."""

from datetime import UTC, datetime, timedelta

from engine.clock import SimulatedClock
from engine.observation import Severity
from projections.alert_page import AlertFilter, AlertRow, alert, alert_id, alerts
from projections.runner import Runner
from tests.projections.world import World, ends, fires, numbers

START = datetime(2026, 3, 2, 11, 40, tzinfo=UTC)


def one(runner: Runner, number: str, as_of: int | None = None) -> AlertRow | None:
    runner.catch_up()
    with runner.views.reader() as reader:
        return alert(reader, number, as_of=as_of)


def test_an_opening_counts_once_and_each_repeat_once_more(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("web-1"), fires("web-1"), fires("web-2"))
    world.deliver(fires("web-1", title="web-1 is down, 93 %", labels={"zone": "b"}))
    row, other = one(runner, "ALT-1"), one(runner, "ALT-2")
    assert row is not None
    assert other is not None
    assert (row.occurrences, other.occurrences) == (3, 1)
    assert (row.title, row.labels) == ("web-1 is down, 93 %", {"zone": "b"})
    assert row.firing
    assert row.incident == "INC-1"


def test_each_episode_keeps_its_own_count(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.source()
    world.deliver(fires("web-1"), fires("web-1"), ends("web-1"), fires("web-1"))
    clock.advance(60)
    world.deliver(ends("web-1"))
    clock.advance(60)
    world.deliver(fires("web-1"))
    world.deliver(fires("web-1"))
    world.deliver(fires("web-1"))
    row = one(runner, "ALT-1")
    assert row is not None
    assert [episode.occurrences for episode in row.episodes] == [2, 1, 3]
    assert (row.occurrences, row.episodes_total) == (3, 3)
    assert [episode.ended_at is None for episode in row.episodes] == [False, False, True]


def test_an_alert_as_of_a_position_counts_only_what_had_come_by_then(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.source()
    world.deliver(fires("web-1"))
    world.deliver(fires("web-1", title="web-1 is still down"))
    then = world.head
    clock.advance(60)
    world.deliver(fires("web-1", title="web-1 is down for good"))
    world.deliver(ends("web-1"), fires("web-1"))
    row = one(runner, "ALT-1", then)
    assert row is not None
    assert (row.occurrences, row.title, row.firing, row.episodes_total) == (2, "web-1 is still down", True, 1)
    assert row.reported_at == row.started_at


def test_an_episode_that_was_missed_first_is_listed_with_the_alert_s_first_number(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(ends("web-1", start=START, ended_at=START + timedelta(minutes=10)))
    runner.catch_up()
    with runner.views.reader() as reader:
        assert alerts(reader).items == []
    world.deliver(fires("web-1", start=START))
    row = one(runner, "ALT-1")
    assert row is not None
    assert (row.firing, row.occurrences, row.incident) == (False, 0, None)
    (episode,) = row.episodes
    assert (episode.started_at, episode.ended_at, episode.missed) == (START, START + timedelta(minutes=10), True)
    world.deliver(fires("web-1", start=START + timedelta(minutes=40)))
    row = one(runner, "ALT-1")
    assert row is not None
    assert (row.firing, row.occurrences, [episode.missed for episode in row.episodes]) == (True, 1, [True, False])


def test_lists_are_newest_first_and_filtered_now_and_then(world: World, runner: Runner) -> None:
    world.source()
    world.source("grafana")
    world.deliver(fires("web-1"), fires("db-1", service="db", severity=Severity.WARNING))
    world.deliver(fires("web-1"), source="grafana")
    then = world.head
    world.deliver(ends("web-1"))
    world.deliver(fires("late"))
    runner.catch_up()
    with runner.views.reader() as reader:
        def found(as_of: int | None = None, **asked: object) -> list[str]:
            return numbers(alerts(reader, filters=AlertFilter(**asked), as_of=as_of).items)  # type: ignore[arg-type]

        assert found() == ["ALT-4", "ALT-3", "ALT-2", "ALT-1"]
        assert found(firing=True) == ["ALT-4", "ALT-3", "ALT-2"]
        assert found(firing=False) == ["ALT-1"]
        assert found(severity="warning") == ["ALT-2"]
        assert found(service="db") == ["ALT-2"]
        assert found(source="grafana") == ["ALT-3"]
        assert found(incident="INC-1") == ["ALT-4", "ALT-3", "ALT-1"]
        assert found(incident="INC-9") == []
        assert found(then) == ["ALT-3", "ALT-2", "ALT-1"]
        assert found(then, firing=True, source="alertmanager") == ["ALT-2", "ALT-1"]
        page = alerts(reader, limit=3)
        assert numbers(alerts(reader, limit=3, cursor=page.next).items) == ["ALT-1"]
        page = alerts(reader, limit=2, as_of=then)
        assert numbers(alerts(reader, limit=2, cursor=page.next, as_of=then).items) == ["ALT-1"]
        assert alert_id(reader, "ALT-9") is None


def test_a_severity_that_rises_shows_and_joins_an_incident(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("web-1", severity=Severity.WARNING))
    then = world.head
    world.deliver(fires("web-1", severity=Severity.CRITICAL))
    before, after = one(runner, "ALT-1", then), one(runner, "ALT-1")
    assert before is not None
    assert after is not None
    assert (before.severity, before.incident) == ("warning", None)
    assert (after.severity, after.incident, after.occurrences) == ("critical", "INC-1", 2)
