"""Stories in which alerting systems have gone wrong, told to the intake from an empty store on."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from engine.alert import Alert
from engine.clock import SimulatedClock
from engine.delivery import DeliveryReceived, DeliveryRejected
from engine.incident import Incident
from engine.ledger import Ledger
from engine.ticket import Meaning, Relation
from engine.vault import Vault
from monitors.intake import Intake, Receipt, Rejected
from tests.conftest import Bell
from tests.engine.belfry import Belfry, episodes, member, notice, told
from tests.soak import SOAK
from tests.stores import keyring_at, store_at

DAY: Final = datetime(2026, 3, 2, tzinfo=UTC)


def at(clock: str) -> datetime:
    hours, minutes = clock.split(":")
    return DAY + timedelta(hours=int(hours), minutes=int(minutes))


def ring(bell: Bell, *alerts: dict[str, Any], **more: Any) -> Receipt:
    return bell.ring("alertmanager", json.dumps({**notice(*alerts), **more}).encode())


def dispositions(receipt: Receipt) -> list[str]:
    return [event.disposition.value for event in receipt.monitoring_events]


def alert_of(bell: Bell, receipt: Receipt, place: int = 0) -> Alert:
    stream = receipt.monitoring_events[place].alert
    assert stream is not None
    return bell.ledger.get(Alert, stream)


# -- a resolve that arrives before its firing ----------------------------------------------------------------------------------


def test_a_resolve_before_its_firing_opens_nothing_and_neither_does_the_late_firing(bell: Bell) -> None:
    fired, resolved = member(at("9:40"), instance="db1"), member(at("9:40"), at("9:50"), instance="db1")
    first = ring(bell, resolved)
    assert dispositions(first) == ["resolved"]
    assert (bell.alerts, bell.incidents) == ([], [])

    bell.clock.advance(1)
    late = ring(bell, fired)
    assert dispositions(late) == ["late"]
    assert (bell.firing, bell.incidents) == ([], [])
    assert episodes(bell.ledger, alert_of(bell, late)) == [("missed", at("9:40"), at("9:50"))]

    bell.clock.set(at("10:20") + timedelta(seconds=30))
    ring(bell, member(at("10:20"), instance="db1"))
    (alert,) = bell.alerts
    assert alert.firing
    assert [span[1:] for span in episodes(bell.ledger, alert)] == [(at("9:40"), at("9:50")), (at("10:20"), None)]
    assert [incident.id for incident in bell.incidents] == [alert.incident]


def test_in_the_right_order_the_same_alert_has_the_same_episodes_and_its_incident_is_resolved(bell: Bell) -> None:
    ring(bell, member(at("9:40"), instance="db1"))
    receipt = ring(bell, member(at("9:40"), at("9:50"), instance="db1"))
    assert [span[1:] for span in episodes(bell.ledger, alert_of(bell, receipt))] == [(at("9:40"), at("9:50"))]
    (incident,) = bell.incidents
    # It was opened by the delivery, after the episode had ended by the sender's clock.
    assert (incident.meaning, incident.resolved_at) == (Meaning.RESOLVED, incident.opened_at)


# -- two problems with the same summary ----------------------------------------------------------------------------------------


def test_two_problems_with_one_summary_are_two_alerts_whatever_text_and_order_of_labels_say(bell: Bell) -> None:
    def volume(name: str, text: str, *, ended: bool = False) -> dict[str, Any]:
        alert = member(at("9:58"), at("10:05") if ended else None, namespace="shop", service="shop", pvc=name)
        return {**alert, "annotations": {"summary": "A volume fills up", "description": text}}

    first = ring(bell, volume("data-a", "now 91 %"), volume("data-b", "now 91 %"))
    assert dispositions(first) == ["opened", "opened"]
    assert len(bell.firing) == 2

    turned = [
        {**alert, "labels": dict(reversed(alert["labels"].items()))} for alert in (volume("data-b", "now 93 %"), volume("data-a", "now 93 %"))
    ]
    second = ring(bell, *turned)
    assert dispositions(second) == ["repeated", "repeated"]
    assert [event.alert for event in second.monitoring_events] == [event.alert for event in reversed(first.monitoring_events)]
    texts = [
        event.observation.details["description"]
        for delivery in told(bell, DeliveryReceived) for event in delivery.monitoring_events
    ]
    assert texts == ["now 91 %", "now 91 %", "now 93 %", "now 93 %"]

    third = ring(bell, volume("data-a", "now 40 %", ended=True))
    assert dispositions(third) == ["resolved"]
    assert [alert.id for alert in bell.firing] == [first.monitoring_events[1].alert]
    (incident,) = bell.incidents
    assert incident.is_open


# -- an alert after its incident was resolved ----------------------------------------------------------------------------------


def server(name: str, started: str) -> dict[str, Any]:
    return member(at(started), instance=name, service="shop")


def test_after_a_person_resolved_the_incident_a_repeat_changes_nothing_and_a_new_alert_opens_one_successor(
    bell: Bell, tmp_path: Path
) -> None:
    ring(bell, server("srv-web-01", "10:00"), server("srv-web-02", "10:00"))
    (first,) = bell.incidents
    bell.clock.set(at("10:10"))
    first = bell.act(first, "resolve", code="solved", solution="restarted the pool", now=bell.clock.now())

    bell.clock.set(at("10:12"))
    assert dispositions(ring(bell, server("srv-web-01", "10:00"))) == ["repeated"]
    assert [incident.meaning for incident in bell.incidents] == [Meaning.RESOLVED]

    bell.clock.set(at("10:15"))
    ring(bell, server("srv-web-03", "10:15"))
    _, second = bell.incidents
    assert second.number == "INC-2"
    assert second.links == ((first.id, Relation.SUCCESSOR_OF.value),)

    # Two processes, each with another new alert, at the same moment.
    bell.clock.set(at("10:16"))
    with other_process(tmp_path, bell.clock) as ledger:
        intakes = (bell.intake, Intake(ledger))

        async def both() -> list[Receipt]:
            bodies = [json.dumps(notice(server(name, "10:16"))).encode() for name in ("srv-web-04", "srv-web-05")]
            return await asyncio.gather(*(intake.receive("alertmanager", body) for intake, body in zip(intakes, bodies, strict=True)))

        receipts = asyncio.run(both())
    assert {event.incident for receipt in receipts for event in receipt.monitoring_events} == {second.id}
    assert len(bell.incidents) == 2
    assert bell.ledger.get(Incident, first.id).state() == first.state()
    assert first.resolved_at == at("10:10")


# -- two senders after an outage -----------------------------------------------------------------------------------------------


@contextmanager
def other_process(folder: Path, clock: SimulatedClock) -> Iterator[Ledger]:
    """A ledger of another process on the store in `folder`."""
    store, vault = store_at(folder), Vault(keyring_at(folder), b"k" * 32)
    ledger = Ledger(store, vault, clock)
    yield ledger
    ledger.close()
    store.close()
    vault.close()


def test_two_peers_that_deliver_twice_at_once_to_eight_processes_make_one_alert_and_one_incident() -> None:
    belfry = Belfry()
    with ExitStack() as processes:
        processes.callback(belfry.close)
        ledgers = [processes.enter_context(other_process(belfry.folder, belfry.clock)) for _ in range(8)]
        intakes = [Intake(ledger) for ledger in ledgers]

        async def round_of(number: int) -> list[Receipt]:
            alerts = [member(at("9:59"), host=f"round-{number}", disk=disk) for disk in ("a", "b")]
            bodies = [json.dumps({**notice(*alerts), "externalURL": f"http://am-0{peer}:9093"}).encode() for peer in (1, 2)]
            turns = [(intakes[(number * 3 + turn) % 8], bodies[turn % 2]) for turn in range(4)]
            return await asyncio.gather(*(intake.receive("alertmanager", body) for intake, body in turns))

        async def rounds() -> list[list[Receipt]]:
            return [await round_of(number) for number in range(400 if SOAK else 50)]

        for receipts in asyncio.run(rounds()):
            assert len({receipt.delivery for receipt in receipts}) == 4
            said = [event for receipt in receipts for event in receipt.monitoring_events]
            assert sorted(event.disposition.value for event in said) == ["opened"] * 2 + ["repeated"] * 6
            assert len({event.alert for event in said}) == 2
            (incident,) = {event.incident for event in said}
            assert incident is not None
            assert belfry.ledger.get(Incident, incident).version == 1
        deliveries = told(belfry, DeliveryReceived)
        assert len(deliveries) == 4 * (400 if SOAK else 50)
        assert len(belfry.incidents) == len(deliveries) / 4
        belfry.check_log()


# -- rejected deliveries -------------------------------------------------------------------------------------------------------

NULLS: Final = b'{"alerts":[{"status":null,"labels":null,"annotations":null,"startsAt":null}],"status":null}'


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (NULLS, "alerts[0].labels"), (b"null", "$"), (b"[]", "$"), (b'"text"', "$"), (b"42", "$"), (b"", "$"), (b"{", "$"),
        ('{"alerts":[]}'.encode("utf-16"), "$"),
    ],
    ids=["nulls", "null", "empty list", "text", "number", "nothing", "cut off", "UTF-16"],
)
def test_what_cannot_be_read_is_refused_naming_the_place_and_kept_to_the_byte(bell: Bell, body: bytes, path: str) -> None:
    with pytest.raises(Rejected) as refused:
        bell.ring("alertmanager", body)
    assert (refused.value.path, 400 <= refused.value.status < 500) == (path, True)
    (kept,) = told(bell, DeliveryRejected)
    assert (kept.source, kept.path, kept.length, kept.received_at) == ("alertmanager", path, len(body), bell.clock.now())
    assert kept.reason
    if body:
        assert kept.body is not None
        assert bell.intake.body(kept.body) == body
    assert bell.alerts == []
    assert dispositions(ring(bell, member(at("10:00")))) == ["opened"]
