"""Histories: what happened, in the order of the log, in words and as data."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.clock import SimulatedClock
from engine.errors import InvalidInput
from engine.event import REGISTRY
from engine.ledger import Ledger
from engine.priority import Priority
from engine.ticket import Relation, Visibility
from projections.history import ALERT_EVENTS, CORRELATION_EVENTS, NOTICE_EVENTS, TIMER_EVENTS
from projections.history_page import HistoryItem, history
from projections.page import Page
from projections.runner import Runner
from projections.ticket_fold import TICKET_EVENTS
from projections.words import SPOKEN
from tests.projections.world import World, ends, fires


def told(runner: Runner, number: str, **asked: object) -> Page[HistoryItem]:
    runner.catch_up()
    with runner.views.reader() as reader:
        page = history(reader, number, **asked)  # type: ignore[arg-type]
    assert page is not None
    return page


def test_a_history_is_told_in_sentences(world: World, runner: Runner) -> None:
    anna, bo = world.person("Anna"), world.person("Bo")
    number = world.incident(requester=anna)
    world.act(number, "assign", team="web", assignee=bo, actor=f"user:{bo}")
    world.act(number, "set_priority", priority=Priority.P1, reason="the second node fails too")
    world.act(number, "comment", text="We are on it.", visibility=Visibility.PUBLIC, author=bo, actor=f"user:{bo}")
    world.act(number, "resolve", code="no_fault", solution="It was the cable.")
    items = told(runner, number).items
    assert [item.summary for item in items] == [
        "Opened for Anna as P3",
        "Assigned to Bo, team web",
        "Priority set to P1: the second node fails too",
        "Public comment",
        "Resolved, no fault found: It was the cable.",
    ]
    assert [item.key for item in items] == [True, False, True, False, True]
    assert (items[1].actor, items[1].actor_kind, items[1].actor_id) == ("Bo", "person", str(bo))
    assert (items[3].text, items[3].visibility) == ("We are on it.", "public")
    assert items[0].data["opened_at"] == "2026-03-02T12:00:00.000000Z"
    assert items[0].type == "incident.opened.v1"


def test_an_automatic_incident_tells_of_its_alerts_and_of_the_rule(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("web-1"))
    world.deliver(fires("web-2"))
    world.deliver(ends("web-1"), ends("web-2"))
    items = told(runner, "INC-1").items
    assert [item.summary for item in items] == [
        "ALT-1 fires (critical): web-1 is down",
        "ALT-1 has no open incident of service “shop”: one is opened",
        "Opened by rule “reference” (version 1) from ALT-1",
        "ALT-2 fires (critical): web-2 is down",
        "ALT-2 joined INC-1",
        "ALT-1 ended: resolved by its source",
        "ALT-1 fires no more in INC-1",
        "ALT-2 ended: resolved by its source",
        "ALT-2 fires no more in INC-1",
        "Recovered: its last firing alert ended",
        "Resolved by rule “reference” (version 1), solved: All of its alerts ended.",
    ]
    assert all(item.automatic for item in items)
    assert (items[2].actor, items[2].actor_kind) == ("Tocsin", "policy")
    assert (items[0].actor, items[0].actor_kind) == ("alertmanager", "source")
    opened = {f"{item.stream}:{item.version}" for item in items}
    assert items[2].cause in opened


def test_an_alert_that_belongs_to_another_incident_now_is_no_longer_told(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("web-1"))
    world.deliver(ends("web-1"))
    world.deliver(fires("web-1"))
    assert [item.summary for item in told(runner, "INC-1").items][-1] == "The condition came back as INC-2"
    assert "ALT-1 fires (critical): web-1 is down" in [item.summary for item in told(runner, "INC-2").items]


def test_an_alert_s_history_holds_its_transitions_and_its_incidents(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("web-1"), fires("web-1"))
    world.deliver(ends("web-1"))
    assert [item.summary for item in told(runner, "ALT-1").items] == [
        "ALT-1 fires (critical): web-1 is down",
        "ALT-1 has no open incident of service “shop”: one is opened",
        "ALT-1 ended: resolved by its source",
        "ALT-1 fires no more in INC-1",
    ]


def test_a_link_is_told_on_both_sides(world: World, runner: Runner) -> None:
    first, second = world.incident(), world.incident()
    world.act(second, "link", to=world.ids[first], relation=Relation.CAUSED_BY)
    assert told(runner, second).items[-1].summary == "Caused by INC-1"
    assert told(runner, first).items[-1].summary == "INC-2 is caused by this"


def test_a_history_as_of_a_position_ends_there_and_pages_join(world: World, runner: Runner) -> None:
    number = world.incident()
    for count in range(6):
        world.act(number, "comment", text=f"{count}", visibility=Visibility.INTERNAL, author=None)
    then = world.head
    world.act(number, "cancel", reason="a duplicate")
    whole = told(runner, number, as_of=then)
    assert [item.text for item in whole.items[1:]] == list("012345")
    first = told(runner, number, limit=4)
    second = told(runner, number, limit=4, cursor=first.next)
    assert [item.position for item in first.items + second.items] == [item.position for item in told(runner, number).items]
    assert second.next is None


def test_by_occurrence_the_order_is_that_of_what_is_claimed(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.source()
    world.deliver(fires("web-1"))
    clock.advance(600)
    ended = datetime(2026, 3, 2, 12, 5, tzinfo=UTC)
    world.act("INC-1", "acknowledge", by=None)
    world.deliver(ends("web-1", ended_at=ended))
    items = told(runner, "INC-1", basis="occurred").items
    assert [item.occurred_at for item in items] == sorted(item.occurred_at for item in items)
    assert items[-1].summary == "Acknowledged"
    assert items[-1].occurred_at == ended + timedelta(minutes=5)
    paged = []
    cursor = None
    while True:
        page = told(runner, "INC-1", basis="occurred", limit=2, cursor=cursor)
        paged += page.items
        cursor = page.next
        if cursor is None:
            break
    assert paged == items
    with pytest.raises(InvalidInput, match="basis"):
        told(runner, "INC-1", basis="true")


def test_every_sentence_goes_through_the_translator(world: World, runner: Runner) -> None:
    world.incident()
    (item,) = told(runner, "INC-1", translate=lambda text: text.upper().replace("{PRIORITY}", "{priority}")).items
    assert item.summary == "OPENED AS P3"


def test_everything_that_a_history_may_show_has_a_sentence() -> None:
    assert TICKET_EVENTS | ALERT_EVENTS | CORRELATION_EVENTS | TIMER_EVENTS | NOTICE_EVENTS == SPOKEN


def test_no_alert_event_is_forgotten() -> None:
    assert {event for topic, event in REGISTRY.items() if topic.startswith("alert.")} == ALERT_EVENTS


def test_nothing_is_known_of_an_unknown_number(world: World, runner: Runner) -> None:
    runner.catch_up()
    with runner.views.reader() as reader:
        assert history(reader, "INC-1") is None


def test_what_was_erased_reads_so(world: World, tmp_path: Path) -> None:
    anna = world.person("Anna")
    number = world.incident("A secret", requester=anna)
    world.ledger.vault.destroy(anna.bytes)
    restarted = Ledger(world.ledger.store, world.ledger.vault, world.clock)
    runner = Runner(restarted, tmp_path / "views.db")
    item = told(runner, number).items[0]
    assert (item.summary, item.data["title"]) == ("Opened for (erased) as P3", "(erased)")
    runner.close()
    restarted.close()
