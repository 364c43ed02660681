"""Deliveries and monitoring events: everything that arrived is listed, with what became of it."""

import pytest

from engine.errors import InvalidInput
from engine.observation import Observation, ObservationKind
from projections.delivery_page import MonitoringEventFilter, deliveries, delivery, disposition_counts, monitoring_events
from projections.runner import Runner
from tests.projections.world import World, ends, fires


def test_rejected_deliveries_are_each_listed_once_over_the_pages(world: World, runner: Runner) -> None:
    world.source()
    for path in ("alerts[0].labels", "$", "$", "$", "$"):
        world.reject(path=path)
    world.deliver(fires("web-1"))
    runner.catch_up()
    with runner.views.reader() as reader:
        found, cursor = [], None
        while True:
            page = deliveries(reader, rejected=True, limit=2, cursor=cursor)
            found += page.items
            cursor = page.next
            if cursor is None:
                break
        received = deliveries(reader, rejected=False).items
    assert [row.path for row in found] == ["$", "$", "$", "$", "alerts[0].labels"]
    assert len({row.id for row in found}) == 5
    assert {(row.source, row.state, row.status, row.reason) for row in found} == {
        ("alertmanager", "rejected", 422, "a JSON object")
    }
    assert [(row.state, row.monitoring_events) for row in received] == [("decided", 1)]


def test_a_delivery_says_what_was_made_of_it(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("web-1", title="web-1 is down"), ends("db-1"))
    rejected = world.reject()
    runner.catch_up()
    with runner.views.reader() as reader:
        (found,) = deliveries(reader, rejected=False).items
        detail = delivery(reader, found.id)
        other = delivery(reader, rejected)
    assert detail is not None
    assert other is not None
    assert [(said.disposition, said.alert, said.incident) for said in detail.observations] == [
        ("opened", "ALT-1", "INC-1"),
        ("unmatched", None, None),
    ]
    assert (other.delivery.state, other.observations, other.body) == ("rejected", [], None)


def test_monitoring_events_are_the_latest_first_and_filtered(world: World, runner: Runner) -> None:
    world.source()
    world.source("grafana")
    world.deliver(fires("web-1"), fires("web-2"))
    world.deliver(fires("web-1"), Observation(kind=ObservationKind.HEARTBEAT, dedup_key=None, title="alive"))
    then = world.head
    world.deliver(fires("web-1"), source="grafana")
    runner.catch_up()
    with runner.views.reader() as reader:
        def found(as_of: int | None = None, limit: int = 50, cursor: str | None = None, **asked: str) -> list[tuple[str, str]]:
            page = monitoring_events(
                reader, filters=MonitoringEventFilter(**asked), as_of=as_of, limit=limit, cursor=cursor
            )
            return [(row.title, row.disposition) for row in page.items]

        assert found() == [
            ("web-1 is down", "opened"), ("alive", "ignored"), ("web-1 is down", "repeated"), ("web-2 is down", "opened"),
            ("web-1 is down", "opened"),
        ]
        assert found(then)[0] == ("alive", "ignored")
        assert found(disposition="repeated") == [("web-1 is down", "repeated")]
        assert found(disposition="ignored") == [("alive", "ignored")]
        assert found(source="grafana") == [("web-1 is down", "opened")]
        assert found(alert="ALT-1") == [("web-1 is down", "repeated"), ("web-1 is down", "opened")]
        assert found(alert="ALT-99") == []
        first = monitoring_events(reader, limit=2)
        assert len(found(limit=2, cursor=first.next)) == 2
        assert disposition_counts(reader)["opened"] == 3
        with pytest.raises(InvalidInput, match="disposition"):
            MonitoringEventFilter(disposition="lost")
