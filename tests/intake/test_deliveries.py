"""A delivery is taken in once, whole or not at all, and its bytes are kept under a key of their own."""

import asyncio

import pytest

from engine.delivery import Delivery, DeliveryReceived, DeliveryRejected
from engine.errors import InvalidInput, MalformedDelivery, NotFound
from engine.identity import delivery_id, source_id
from engine.source import Source, SourceAdded
from engine.work import Unit
from monitors import intake as intake_module
from monitors.intake import Receipt, Rejected
from tests.conftest import PAYLOADS, Bell
from tests.engine.belfry import told

FIRING = "prometheus-alertmanager/firing.json"
RESOLVED = "prometheus-alertmanager/resolved.json"


def test_two_posts_of_one_new_key_at_once_are_one_delivery(bell: Bell) -> None:
    body = (PAYLOADS / FIRING).read_bytes()

    async def both() -> list[Receipt]:
        return await asyncio.gather(*(bell.intake.receive("alertmanager", body, identity="once") for _ in range(5)))

    receipts = asyncio.run(both())
    assert sorted(receipt.again for receipt in receipts) == [False, True, True, True, True]
    assert {receipt.delivery for receipt in receipts} == {delivery_id("alertmanager", "key:once")}
    assert len({str(receipt.monitoring_events) for receipt in receipts}) == 1
    assert len(told(bell, DeliveryReceived)) == 1


def test_the_answer_to_a_repeated_key_is_the_first_one_whatever_has_happened_since(bell: Bell) -> None:
    first = bell.ring("alertmanager", FIRING, identity="once")
    bell.ring("alertmanager", RESOLVED)
    assert bell.ring("alertmanager", FIRING, identity="once").monitoring_events == first.monitoring_events
    assert not bell.alerts[0].firing


def test_a_key_belongs_to_one_body_and_to_one_source(bell: Bell) -> None:
    first = bell.ring("alertmanager", FIRING, identity="once")
    with pytest.raises(InvalidInput, match="Idempotency-Key"):
        bell.ring("alertmanager", RESOLVED, identity="once")
    assert bell.alerts[0].firing
    elsewhere = bell.ring("grafana", "grafana/firing.json", identity="once")
    assert (elsewhere.again, elsewhere.delivery) == (False, bell.ledger.get(Delivery, elsewhere.delivery).id)
    assert elsewhere.delivery != first.delivery


def test_without_a_key_the_same_bytes_are_another_delivery_and_one_body(bell: Bell) -> None:
    receipts = [bell.ring("alertmanager", FIRING) for _ in range(3)]
    assert len({receipt.delivery for receipt in receipts}) == 3
    deliveries = told(bell, DeliveryReceived)
    assert len({delivery.body for delivery in deliveries}) == 1
    assert bell.ledger.store.body(bytes.fromhex(str(deliveries[0].body))) is not None


def test_a_body_is_read_back_to_the_byte_until_its_key_is_destroyed_and_the_delivery_stays(bell: Bell) -> None:
    content = (PAYLOADS / FIRING).read_bytes()
    receipt = bell.ring("alertmanager", FIRING)
    (delivery,) = told(bell, DeliveryReceived)
    assert delivery.body is not None
    assert bell.intake.body(delivery.body) == content
    kept = bell.ledger.store.body(bytes.fromhex(delivery.body))
    assert kept is not None
    assert kept.length == len(content)
    assert content[:40] not in kept.sealed
    bell.ledger.vault.destroy(kept.key)
    assert bell.intake.body(delivery.body) is None
    assert bell.ledger.get(Delivery, receipt.delivery).received == delivery
    assert bell.intake.body("00" * 32) is None


def test_everything_that_a_delivery_led_to_names_it(bell: Bell) -> None:
    head = bell.ledger.last_position
    receipt = bell.ring("alertmanager", "prometheus-alertmanager/grouped-many.json")
    facts = bell.ledger.read(head, 1_000)
    assert facts[0].stream_id == receipt.delivery
    assert {fact.correlation_id for fact in facts} == {receipt.delivery}
    assert [fact.cause for fact in facts[:1]] == [None]
    known = set()
    for fact in facts:
        assert fact.cause is None or fact.cause in known
        known.add(fact.reference)
    assert {fact.actor for fact in facts} == {"source:alertmanager", "tocsin"}
    assert receipt.position == facts[-1].position == bell.ledger.last_position


def test_a_source_that_was_configured_anew_is_read_anew(bell: Bell) -> None:
    first = bell.ring("alertmanager", FIRING)
    anew = SourceAdded(name="alertmanager", adapter="alertmanager", ignored_labels=("instance",))
    bell.ledger.run(Unit(lambda work: work.load(Source, source_id("alertmanager")).add(anew), actor="user:nora"))
    second = bell.ring("alertmanager", FIRING)
    assert second.monitoring_events[0].observation.sender is not None
    assert second.monitoring_events[0].alert != first.monitoring_events[0].alert
    with pytest.raises(NotFound, match="no source nobody"):
        bell.ring("nobody", FIRING)


def test_of_rejected_bodies_a_days_quota_is_kept_and_of_every_one_the_reason(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "REJECTED_BYTES_A_DAY", 25)
    for number in range(4):
        with pytest.raises(Rejected):
            bell.ring("alertmanager", b"broken %d {" % number)  # ten bytes
    bodies = [rejected.body for rejected in told(bell, DeliveryRejected)]
    assert [body is not None for body in bodies] == [True, True, False, False]
    with pytest.raises(Rejected):
        bell.ring("grafana", b"broken")
    bell.clock.advance(86_400)
    with pytest.raises(Rejected):
        bell.ring("alertmanager", b"broken 5 {")
    assert [rejected.body is not None for rejected in told(bell, DeliveryRejected)][4:] == [True, True]
    assert all(rejected.reason and rejected.path == "$" for rejected in told(bell, DeliveryRejected))


def test_of_a_body_that_is_too_large_the_beginning_the_size_and_the_reason_are_kept(bell: Bell) -> None:
    too_large = MalformedDelivery("$", "a body of at most 16777216 bytes", status=413)
    delivery = asyncio.run(bell.intake.reject("alertmanager", b"the beginning", too_large, length=20_000_000))
    rejected = bell.ledger.get(Delivery, delivery).rejected
    assert rejected is not None
    assert (rejected.length, rejected.truncated, rejected.status) == (20_000_000, True, 413)
    assert rejected.body is not None
    assert bell.intake.body(rejected.body) == b"the beginning"
