"""Order is not trusted: however an episode's messages arrive, and however many report it, it ends the same."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.alert import Alert, AlertEpisodeEnded, AlertSenderJoined
from engine.delivery import DeliveryReceived, Disposition
from engine.incident import Incident
from engine.source import SourceAdded
from engine.ticket import Meaning
from tests.engine.belfry import Belfry, effort, episodes, member, notice

START: Final = datetime.fromisoformat("2026-03-02T09:40:00+00:00")
END: Final = START + timedelta(minutes=10)


@pytest.fixture(scope="module")
def belfry() -> Iterator[Belfry]:
    """One store for all examples of a property: each has an alert of its own."""
    belfry = Belfry()
    belfry.add_source(SourceAdded(name="pair", adapter="alertmanager", ignored_labels=("replica",)))
    yield belfry
    belfry.check_replay()
    belfry.close()


_examples = iter(range(10**9))


def fresh() -> str:
    """The label that makes an example's alert its own."""
    return f"example-{next(_examples)}"


def alert_of(belfry: Belfry, receipt: Any) -> Alert:
    (said,) = receipt.monitoring_events
    return belfry.ledger.get(Alert, said.alert)


def check_incident(belfry: Belfry, alert: Alert) -> None:
    """The incident of an alert that has ended, if it has one, is resolved."""
    if alert.incident is not None:
        assert belfry.ledger.get(Incident, alert.incident).meaning is Meaning.RESOLVED


# -- one sender ----------------------------------------------------------------------------------------------------------------

MESSAGES: Final = ("fire", "fire", "repeat", "resolve", "resolve")


@pytest.mark.law
@given(order=st.permutations(MESSAGES), together=st.integers(1, 3), redelivered=st.sets(st.integers(0, 4)))
@effort(60)
def test_an_episode_ends_the_same_in_whatever_order_its_messages_arrive(
    belfry: Belfry, order: list[str], together: int, redelivered: set[int]
) -> None:
    name = fresh()
    bodies = {
        "fire": member(START, example=name), "repeat": member(START, example=name) | {"annotations": {"value": "93 %"}},
        "resolve": member(START, END, example=name),
    }
    receipt = None
    for place in range(0, len(order), together):
        group = notice(*(bodies[message] for message in order[place : place + together]))
        identity = f"{name}-{place}"
        receipt = belfry.post("alertmanager", group, identity=identity)
        if place in redelivered:
            again = belfry.post("alertmanager", group, identity=identity)
            assert (again.again, again.monitoring_events) == (True, receipt.monitoring_events)
    assert receipt is not None
    stream = receipt.monitoring_events[-1].alert
    assert stream is not None
    alert = belfry.ledger.get(Alert, stream)
    assert (alert.firing, alert.started_at, alert.ended_at) == (False, START, END)
    assert [span[1:] for span in episodes(belfry.ledger, alert)] == [(START, END)]
    assert alert.number  # a firing was among them, so it is listed
    opened_first = order[0] != "resolve"
    assert (alert.incident is not None) == opened_first
    check_incident(belfry, alert)


@pytest.mark.law
@given(times=st.integers(1, 4), messages=st.lists(st.sampled_from(["fire", "resolve"]), min_size=1, max_size=4))
@effort(25)
def test_the_same_identified_delivery_any_number_of_times_is_one(belfry: Belfry, times: int, messages: list[str]) -> None:
    name = fresh()
    bodies = {"fire": member(START, example=name), "resolve": member(START, END, example=name)}
    for number, message in enumerate(messages):
        first = belfry.post("alertmanager", notice(bodies[message]), identity=f"{name}-{number}")
        head = belfry.ledger.last_position
        for _ in range(times):
            again = belfry.post("alertmanager", notice(bodies[message]), identity=f"{name}-{number}")
            assert (again.delivery, again.monitoring_events) == (first.delivery, first.monitoring_events)
        assert belfry.ledger.last_position == head


def test_a_mere_repeat_writes_its_delivery_and_nothing_else(belfry: Belfry) -> None:
    body = notice(*(member(START, example=fresh(), service="shop") for _ in range(100)))
    belfry.post("alertmanager", body)
    head = belfry.ledger.last_position
    belfry.post("alertmanager", body)
    (fact,) = belfry.ledger.read(head, 10)
    assert isinstance(fact.event, DeliveryReceived)
    assert {event.disposition for event in fact.event.monitoring_events} == {Disposition.REPEATED}


# -- several senders -----------------------------------------------------------------------------------------------------------

SENDERS: Final = ("a", "b", "c")
# Two evaluate the same rule some seconds apart, so their starts and ends differ.
OFFSETS: Final = st.lists(st.integers(-20, 20), min_size=3, max_size=3)


def told(name: str, sender: str, offset: int, *, ends: bool = False, episode: int = 0) -> dict[str, Any]:
    begins = START + timedelta(seconds=offset, hours=episode)
    return member(begins, begins + timedelta(minutes=10) if ends else None, example=name, replica=sender)


@pytest.mark.law
@given(offsets=OFFSETS, order=st.permutations(SENDERS), leaving=st.permutations(SENDERS), noise=st.data())
@effort(60)
def test_an_episode_ends_when_all_that_fired_it_have_resolved_it(
    belfry: Belfry, offsets: list[int], order: list[str], leaving: list[str], noise: st.DataObject
) -> None:
    name, offset_of = fresh(), dict(zip(SENDERS, offsets, strict=True))
    delivered: list[dict[str, Any]] = []

    def deliver(message: dict[str, Any]) -> Alert:
        delivered.append(message)
        receipt = belfry.post("pair", notice(message))
        # What was delivered already may come again, late.
        for late in noise.draw(st.lists(st.sampled_from(delivered), max_size=2)):
            belfry.post("pair", notice(late))
        return alert_of(belfry, receipt)

    for sender in order:
        alert = deliver(told(name, sender, offset_of[sender]))
        assert alert.firing
    for place, sender in enumerate(leaving):
        alert = deliver(told(name, sender, offset_of[sender], ends=True))
        assert belfry.ledger.get(Alert, alert.id).firing == (place < len(SENDERS) - 1)
    alert = belfry.ledger.get(Alert, alert.id)
    first = START + timedelta(seconds=offset_of[order[0]])
    last_end = max(first, START + timedelta(minutes=10, seconds=max(offsets)))
    assert episodes(belfry.ledger, alert) == [("opened", first, last_end)]
    for message in delivered:
        belfry.post("pair", notice(message))
    assert not belfry.ledger.get(Alert, alert.id).firing
    assert len(episodes(belfry.ledger, alert)) == 1


@pytest.mark.law
@given(offsets=OFFSETS, order=st.permutations([(sender, ends) for sender in SENDERS for ends in (False, True)] * 2))
@effort(60)
def test_when_every_firing_has_its_resolve_nothing_fires_in_whatever_order_they_came(
    belfry: Belfry, offsets: list[int], order: list[tuple[str, bool]]
) -> None:
    name, offset_of = fresh(), dict(zip(SENDERS, offsets, strict=True))
    for sender, ends in order:
        receipt = belfry.post("pair", notice(told(name, sender, offset_of[sender], ends=ends)))
    alert = alert_of(belfry, receipt)
    assert not alert.firing
    check_incident(belfry, alert)


def test_a_sender_that_fires_anew_while_another_still_fires_continues_the_episode(belfry: Belfry) -> None:
    name = fresh()
    for sender in ("a", "b"):
        belfry.post("pair", notice(told(name, sender, 0)))
    belfry.post("pair", notice(told(name, "a", 0, ends=True)))
    head = belfry.ledger.last_position
    receipt = belfry.post("pair", notice(told(name, "a", 0, episode=1)))
    assert receipt.monitoring_events[0].disposition is Disposition.REPEATED
    assert [type(fact.event) for fact in belfry.ledger.read(head, 10)] == [DeliveryReceived, AlertSenderJoined]
    belfry.post("pair", notice(told(name, "b", 0, ends=True)))
    alert = alert_of(belfry, receipt)
    assert alert.firing
    belfry.post("pair", notice(told(name, "a", 0, ends=True, episode=1)))
    assert episodes(belfry.ledger, belfry.ledger.get(Alert, alert.id)) == [
        ("opened", START, START + timedelta(hours=1, minutes=10))
    ]


def test_a_sender_that_is_alone_begins_a_new_episode_by_a_newer_start(belfry: Belfry) -> None:
    name = fresh()
    for sender in ("a", "b"):
        belfry.post("pair", notice(told(name, sender, 0)))
    belfry.post("pair", notice(told(name, "a", 0, ends=True)))
    receipt = belfry.post("pair", notice(told(name, "b", 0, episode=1)))
    assert receipt.monitoring_events[0].disposition is Disposition.OPENED
    alert = alert_of(belfry, receipt)
    assert [span[1:] for span in episodes(belfry.ledger, alert)] == [
        (START, START + timedelta(hours=1)), (START + timedelta(hours=1), None),
    ]
    ends = [fact.event for fact in belfry.ledger.stream(alert.id) if isinstance(fact.event, AlertEpisodeEnded)]
    assert [end.cause for end in ends] == ["newer_episode"]


def test_a_resolve_by_one_that_did_not_fire_it_ends_nothing(belfry: Belfry) -> None:
    name = fresh()
    belfry.post("pair", notice(told(name, "a", 0)))
    receipt = belfry.post("pair", notice(told(name, "b", 0, ends=True)))
    assert receipt.monitoring_events[0].disposition is Disposition.HELD
    assert alert_of(belfry, receipt).firing
    late = belfry.post("pair", notice(told(name, "b", 0)))
    assert late.monitoring_events[0].disposition is Disposition.LATE
    belfry.post("pair", notice(told(name, "a", 0, ends=True)))
    assert not alert_of(belfry, receipt).firing
