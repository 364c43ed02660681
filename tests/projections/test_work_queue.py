"""The queue: what is in it, in which order, now and then."""

from datetime import timedelta
from uuid import uuid4

import pytest

from engine.clock import SimulatedClock
from engine.errors import InvalidInput
from engine.observation import Severity
from engine.priority import Level, Priority
from engine.ticket import Relation, Visibility
from projections.queue_page import SORTS, QueueFilter, glance, queue, ticket, ticket_id, tickets
from projections.runner import Runner
from tests.projections.world import World, ends, fires, numbers


def seen(runner: Runner, **asked: object) -> list[str]:
    runner.catch_up()
    with runner.views.reader() as reader:
        return numbers(queue(reader, **asked).items)  # type: ignore[arg-type]


def test_the_queue_is_by_priority_and_then_the_oldest_first(world: World, runner: Runner, clock: SimulatedClock) -> None:
    world.incident(impact=Level.LOW, urgency=Level.LOW)
    clock.advance(60)
    world.incident(impact=Level.HIGH, urgency=Level.HIGH)
    clock.advance(60)
    world.incident(impact=Level.HIGH, urgency=Level.HIGH)
    world.request()
    assert seen(runner) == ["INC-2", "INC-3", "REQ-1", "INC-1"]


def test_a_ticket_that_is_done_leaves_the_queue_and_comes_back_when_it_is_reopened(world: World, runner: Runner) -> None:
    number = world.incident()
    world.act(number, "resolve", code="solved", solution="Restarted.")
    assert seen(runner) == []
    world.act(number, "reopen", reason="still slow")
    assert seen(runner) == [number]


def test_the_queue_as_of_a_position_shows_what_was_open_then_as_it_was_then(world: World, runner: Runner) -> None:
    number = world.incident()
    other = world.incident(impact=Level.HIGH, urgency=Level.HIGH)
    then = world.head
    world.act(number, "set_priority", priority=Priority.P1, reason="the shop")
    world.act(other, "acknowledge", by=None)
    world.act(other, "resolve", code="solved", solution="Restarted.")
    world.incident()
    runner.catch_up()
    with runner.views.reader() as reader:
        page = queue(reader, as_of=then)
    assert page.position == then
    assert [(row.number, row.priority, row.state) for row in page.items] == [("INC-2", "P1", "new"), ("INC-1", "P3", "new")]
    assert seen(runner) == ["INC-1", "INC-3"]


def test_filters_choose_and_combine(world: World, runner: Runner) -> None:
    anna = world.person("Anna")
    world.incident(service="shop", team="web")
    world.incident(service="mail")
    world.request(requester=anna)
    world.act("INC-2", "assign", team="post", assignee=anna)
    then = world.head
    world.act("INC-2", "hold", reason="a spare part")
    for asked, expected, expected_then in (
        (QueueFilter(kind="request"), ["REQ-1"], ["REQ-1"]),
        (QueueFilter(service="shop"), ["INC-1"], ["INC-1"]),
        (QueueFilter(team="post"), ["INC-2"], ["INC-2"]),
        (QueueFilter(assignee=anna), ["INC-2"], ["INC-2"]),
        (QueueFilter(assignee="nobody"), ["INC-1", "REQ-1"], ["INC-1", "REQ-1"]),
        (QueueFilter(state="pending"), ["INC-2"], []),
        (QueueFilter(meaning="active"), [], ["INC-2"]),
        (QueueFilter(priority="P3", service="mail"), ["INC-2"], ["INC-2"]),
        (QueueFilter(requester=anna), ["REQ-1"], ["REQ-1"]),
        (QueueFilter(service="shop", kind="request"), [], []),
    ):
        assert seen(runner, filters=asked) == expected, asked
        assert seen(runner, filters=asked, as_of=then) == expected_then, asked


def test_tickets_of_a_source_are_those_that_its_alerts_opened(world: World, runner: Runner) -> None:
    world.source()
    world.incident()
    world.deliver(fires("web-1"))
    assert seen(runner, filters=QueueFilter(source="alertmanager")) == ["INC-2"]
    assert seen(runner, filters=QueueFilter(source="grafana")) == []


@pytest.mark.parametrize("sort", SORTS)
def test_pages_put_together_are_the_whole_list(world: World, runner: Runner, clock: SimulatedClock, sort: str) -> None:
    for count in range(17):
        world.incident(impact=list(Level)[count % 3], urgency=list(Level)[count % 2], service=("a", None, "b")[count % 3])
        if count % 4 == 0:
            world.request()
        clock.advance(17)
    then = world.head
    for number in ("INC-3", "INC-4", "INC-9"):
        world.act(number, "cancel", reason="not needed")
    runner.catch_up()
    with runner.views.reader() as reader:
        for as_of in (None,) if sort == "updated" else (None, then):
            whole = numbers(queue(reader, sort=sort, as_of=as_of, limit=500).items)
            assert len(whole) == (19 if as_of is None else 22)
            pages: list[str] = []
            cursor = None
            while True:
                page = queue(reader, sort=sort, as_of=as_of, cursor=cursor, limit=3)
                pages += numbers(page.items)
                cursor = page.next
                if cursor is None:
                    break
            assert pages == whole


@pytest.mark.parametrize("cursor", ["", "x", "WyJwcmlvcml0eSJd", "bnVsbA", "WyJuZXdlc3QiLDFd", "ä", "eyJhIjoxfQ"])
def test_a_cursor_that_is_none_is_refused_by_name(world: World, runner: Runner, cursor: str) -> None:
    world.incident()
    runner.catch_up()
    with runner.views.reader() as reader, pytest.raises(InvalidInput, match="cursor"):
        queue(reader, cursor=cursor)


def test_unknown_words_are_refused_by_name(world: World, runner: Runner) -> None:
    runner.catch_up()
    with runner.views.reader() as reader:
        with pytest.raises(InvalidInput, match="sort"):
            queue(reader, sort="colour")
        with pytest.raises(InvalidInput, match="limit"):
            queue(reader, limit=0)
        with pytest.raises(InvalidInput, match="priority"):
            queue(reader, filters=QueueFilter(priority="P9"))
        with pytest.raises(InvalidInput, match="assignee"):
            queue(reader, filters=QueueFilter(assignee="Anna"))


def test_a_row_says_why_it_is_there(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("web-1"), fires("web-2"))
    world.deliver(fires("web-1"))
    world.deliver(ends("web-2"))
    runner.catch_up()
    with runner.views.reader() as reader:
        (row,) = queue(reader).items
    assert (row.alerts, row.alerts_total, row.alerts_firing) == (["ALT-1", "ALT-2"], 2, 1)
    assert (row.why.rule, row.why.rule_version, row.why.alert, row.why.occurrences) == ("reference", 1, "ALT-1", 3)


def test_an_alert_that_ends_after_its_incident_was_resolved_by_hand_fires_no_more(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("web-1"))
    world.act("INC-1", "resolve", code="solved", solution="Restarted.")
    world.deliver(fires("web-2"))
    world.deliver(ends("web-1"))
    runner.catch_up()
    with runner.views.reader() as reader:
        first, second = ticket(reader, "INC-1"), ticket(reader, "INC-2")
        assert glance(reader).incidents_firing == 1
    assert first is not None
    assert second is not None
    assert (first.alerts_total, first.alerts_firing) == (1, 0)
    assert (second.alerts_total, second.alerts_firing) == (1, 1)
    assert [(link.number, link.relation) for link in second.links] == [("INC-1", "successor_of")]
    assert [(link.number, link.incoming) for link in first.links] == [("INC-2", True)]


def test_a_ticket_is_shown_with_names_text_and_what_it_waits_for(world: World, runner: Runner) -> None:
    anna, bo = world.person("Anna"), world.person("Bo")
    number = world.incident(requester=anna, service="shop")
    world.act(number, "assign", team="web", assignee=bo)
    world.act(number, "hold", reason="a spare part")
    runner.catch_up()
    with runner.views.reader() as reader:
        row = ticket(reader, number)
        known = ticket_id(reader, number)
    assert row is not None
    assert (row.requester, row.assignee, row.team, row.state, row.meaning) == ("Anna", "Bo", "web", "pending", "waiting")
    assert (row.why.waiting_for, row.description, row.version) == ("a spare part", "It was quick yesterday.", 3)
    assert known == ("incident", row.id)


def test_a_ticket_as_of_a_position_before_its_opening_is_not_there(world: World, runner: Runner) -> None:
    world.person("Anna")
    then = world.head
    number = world.incident()
    runner.catch_up()
    with runner.views.reader() as reader:
        assert ticket(reader, number, as_of=then) is None
        assert ticket(reader, "INC-99") is None
        assert ticket_id(reader, "INC-99") is None


def test_whoever_is_not_known_any_more_has_no_name(world: World, runner: Runner) -> None:
    nobody = uuid4()
    number = world.incident(requester=nobody)
    runner.catch_up()
    with runner.views.reader() as reader:
        row = ticket(reader, number)
    assert row is not None
    assert (row.requester, row.requester_id) == (None, nobody)


def test_lists_hold_closed_tickets_too_now_and_then(world: World, runner: Runner) -> None:
    for _ in range(3):
        world.incident()
    world.act("INC-2", "resolve", code="solved", solution="Restarted.")
    then = world.head
    world.act("INC-2", "close")
    world.request()
    runner.catch_up()
    with runner.views.reader() as reader:
        assert numbers(tickets(reader, filters=QueueFilter(kind="incident")).items) == ["INC-3", "INC-2", "INC-1"]
        assert numbers(tickets(reader, filters=QueueFilter(state="closed")).items) == ["INC-2"]
        assert numbers(tickets(reader, filters=QueueFilter(state="resolved"), as_of=then).items) == ["INC-2"]
        assert numbers(tickets(reader, filters=QueueFilter(state="closed"), as_of=then).items) == []
        page = tickets(reader, sort="oldest", limit=2)
        assert numbers(page.items) == ["INC-1", "INC-2"]
        assert numbers(tickets(reader, sort="oldest", limit=2, cursor=page.next).items) == ["INC-3", "REQ-1"]


def test_the_counts_of_a_glance_follow_every_change(world: World, runner: Runner) -> None:
    anna = world.person("Anna")
    world.source()
    world.incident(impact=Level.HIGH, urgency=Level.HIGH)
    world.request()
    world.deliver(fires("web-1"), fires("db-1", service="db"), fires("low", severity=Severity.WARNING))
    world.act("INC-1", "assign", team=None, assignee=anna)
    world.act("INC-1", "hold", reason="a spare part")
    runner.catch_up()
    with runner.views.reader() as reader:
        counts = glance(reader)
    assert (counts.open, counts.by_kind) == (4, {"incident": 3, "request": 1})
    assert counts.by_priority == {"P1": 3, "P2": 0, "P3": 0, "P4": 1, "P5": 0}
    assert (counts.waiting, counts.unassigned) == (1, 3)
    assert (counts.alerts_firing, counts.incidents_firing) == (3, 2)
    world.act("INC-1", "resume")
    world.deliver(ends("web-1"))
    world.act("INC-1", "resolve", code="solved", solution="Restarted.")
    runner.catch_up()
    with runner.views.reader() as reader:
        counts = glance(reader)
    assert (counts.open, counts.waiting, counts.unassigned) == (2, 0, 2)
    assert (counts.alerts_firing, counts.incidents_firing) == (2, 1)


def test_links_and_comments_do_not_move_a_ticket(world: World, runner: Runner, clock: SimulatedClock) -> None:
    first, second = world.incident(), world.incident()
    clock.advance(60)
    world.act(first, "comment", text="Looking.", visibility=Visibility.PUBLIC, author=None)
    world.act(second, "link", to=world.ids[first], relation=Relation.CAUSED_BY)
    assert seen(runner) == [first, second]
    with runner.views.reader() as reader:
        row = ticket(reader, first)
    assert row is not None
    assert row.version == 2
    assert row.updated_at == row.opened_at + timedelta(seconds=60)
    assert [(link.number, link.relation, link.incoming) for link in row.links] == [(second, "caused_by", True)]
