"""Records that cannot be taken, and brokers and databases that go away: deliveries wait, go on by themselves, and none is lost."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from api.house import House, open_house
from api.kafka_reader import start
from api.settings import load_settings
from engine.delivery import DeliveryReceived, DeliveryRejected
from monitors.kafka_intake import KafkaIntake
from tests.api.test_asyncapi import valid
from tests.process.reader import Reader
from tests.process.server import PATIENCE
from tests.process.test_kafka_intake import database, identities_in
from tests.services.kafka import Kafka, broker
from tests.services.postgres import Postgres
from tests.soak import SOAK

pytestmark = [pytest.mark.process, pytest.mark.kafka]

__all__ = ["database"]
KEY: Final = b"k"
# How long a broker stays away.
AWAY_SECONDS: Final = 60 if SOAK else 0
CE: Final = [("ce_specversion", b"1.0"), ("ce_source", b"/shop"), ("ce_type", b"alert"), ("ce_tocsinsource", b"generic")]


@pytest.fixture
def kafka() -> Kafka:
    return broker()


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """A new one for deliveries, and that of its dead letters."""
    name = f"t{random.getrandbits(48):x}"
    kafka.topic(f"{name}.dead")
    return kafka.topic(name, 2)


def settings_of(kafka: Kafka, topic: str) -> dict[str, str]:
    return {"TOCSIN_KAFKA": kafka.address, "TOCSIN_KAFKA_DELIVERIES": topic, "TOCSIN_KAFKA_GROUP": topic}


@pytest.fixture
def house(tmp_path: Path, kafka: Kafka, topic: str) -> Iterator[House]:
    house = open_house(load_settings({**settings_of(kafka, topic), "TOCSIN_MAX_BODY_BYTES": "5000"}, data=tmp_path / "data"))
    yield house
    house.close()


@pytest.fixture
def reader(house: House) -> Iterator[KafkaIntake]:
    reader = start(house)
    assert reader is not None
    yield reader
    reader.stop()


def put(kafka: Kafka, topic: str, *values: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> int:
    """Write records of one partition; its number, when they are acknowledged."""
    producer = kafka.producer()
    sent = [producer.send(topic, key=KEY, value=value, headers=headers) for value in values]
    (partition,) = {future.get(PATIENCE).partition for future in sent}
    producer.close()
    return int(partition)


def said(number: int, **members: object) -> bytes:
    return json.dumps({"source": "generic", "id": str(number), "body": json.dumps({"title": f"alert {number}", "key": number}), **members}).encode()


def until(house: House, holds: Callable[[], bool]) -> None:
    """Wait until something holds that each commit may bring about."""
    changed = threading.Condition()

    def ring(_: int) -> None:
        with changed:
            changed.notify_all()

    house.ledger.listen(ring)
    deadline = time.monotonic() + PATIENCE
    with changed:
        while not changed.wait_for(holds, 0.1):
            assert time.monotonic() < deadline, "it did not come true"


def seen(holds: Callable[[], bool]) -> None:
    """Ask a process again and again until something holds."""
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        pause.wait(0.05)


def received(house: House) -> list[str | None]:
    facts = [house.ledger.fact(row).event for row in house.store.log(0, 100_000, types=(DeliveryReceived.TOPIC,))]
    return [event.identity for event in facts if isinstance(event, DeliveryReceived)]


def test_what_cannot_be_taken_is_put_aside_as_it_was_and_stalls_nothing(kafka: Kafka, topic: str, house: House, reader: KafkaIntake) -> None:
    poison = [
        None, b"", b"{", b"\xff\x00", b"[]", b'{"source":"nobody","body":"{}"}', b'{"source":"generic"}', said(7, body="no json"),
        said(8, body=json.dumps({"title": "x" * 6_000})), said(9, delivery="00000000-0000-7000-8000-000000000000", mark="x"),
    ]
    put(kafka, topic, said(1))
    put(kafka, topic, *poison, headers=[("mine", b"\x00\xff")])
    put(kafka, topic, b"", headers=[("content-type", b"application/cloudevents+avro")])
    put(kafka, topic, said(1, body=json.dumps({"title": "another body under the same id"})), said(2))
    until(house, lambda: "key:2" in received(house))
    assert received(house) == ["key:1", "key:2"]
    letters = kafka.records(f"{topic}.dead", len(poison) + 2)
    assert [letter.value for letter in letters[: len(poison)]] == poison
    assert {letter.key for letter in letters} == {KEY}
    headers = [dict(letter.headers) for letter in letters]
    assert [found["mine"] for found in headers[: len(poison)]] == [b"\x00\xff"] * len(poison)
    assert [found["tocsin-offset"] for found in headers] == [str(offset).encode() for offset in range(1, len(letters) + 1)]
    assert all(valid("DeadLetterHeaders", {name: text.decode(errors="replace") for name, text in found.items()}) for found in headers)
    assert {found["tocsin-topic"].decode() for found in headers} == {topic}
    fields = [found["tocsin-field"].decode() for found in headers]
    assert fields == ["$", "$", "$", "$", "$", "source", "body", "$", "$", "delivery", "content-type", "Idempotency-Key"]
    rejected = [house.ledger.fact(row).event for row in house.store.log(0, 100_000, types=(DeliveryRejected.TOPIC,))]
    assert [(event.source, event.path) for event in rejected if isinstance(event, DeliveryRejected)] == [
        ("generic", "body"), ("generic", "$"), ("generic", "$"), ("generic", "delivery"), ("generic", "Idempotency-Key"),
    ]
    assert reader.troubles == {}


def test_cloudevents_are_deliveries_and_come_once(kafka: Kafka, topic: str, house: House, reader: KafkaIntake) -> None:
    put(kafka, topic, b'{"title":"x"}', headers=[*CE, ("ce_id", b"1")])
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "alert", "tocsinsource": "generic", "data": {"title": "x"}}
    put(kafka, topic, json.dumps(event).encode(), headers=[("content-type", b"application/cloudevents+json")])
    put(kafka, topic, said(2))
    until(house, lambda: "key:2" in received(house))
    assert received(house) == ['ce:["/shop","1"]', "key:2"]


@pytest.mark.apache_kafka("records that outlast the broker")
def test_a_broker_that_was_away_is_read_on_from_where_it_was(kafka: Kafka, topic: str, house: House, reader: KafkaIntake) -> None:
    put(kafka, topic, said(1))
    until(house, lambda: received(house) == ["key:1"])
    kafka.crash()
    begun = time.monotonic()
    try:
        until(house, lambda: "broker" in reader.troubles and time.monotonic() - begun > AWAY_SECONDS)
    finally:
        kafka.start()
    put(kafka, topic, said(2), said(3))
    until(house, lambda: received(house) == ["key:1", "key:2", "key:3"])
    assert reader.troubles == {}


def test_a_topic_made_anew_is_read_from_its_beginning(kafka: Kafka, topic: str, house: House) -> None:
    first = start(house)
    assert first is not None
    put(kafka, topic, said(1), said(2))
    until(house, lambda: len(received(house)) == 2)
    first.stop()
    kafka.delete(topic)
    kafka.topic(topic, 2)
    put(kafka, topic, said(3))
    second = start(house)
    assert second is not None
    until(house, lambda: received(house) == ["key:1", "key:2", "key:3"])
    second.stop()


@pytest.mark.apache_kafka("records that outlast the broker")
def test_a_partition_that_lost_its_end_stops_and_is_read_anew_on_demand(tmp_path: Path, kafka: Kafka, topic: str) -> None:
    settings = settings_of(kafka, topic)
    reader = Reader(tmp_path / "data", settings).ready()
    put(kafka, topic, said(1), said(2), said(3))
    seen(lambda: 'outcome="decided"} 3.0' in reader.metrics())
    kafka.lose(topic)
    put(kafka, topic, said(2), said(4))
    seen(lambda: any("it ends before 3" in check for check in reader.state()["checks"].values()))
    assert reader.state()["status"] == "not ready"
    assert reader.stop() == 0
    assert sorted(identities_in(tmp_path / "data", settings)) == ["key:1", "key:2", "key:3"]
    again = Reader(tmp_path / "data", settings, "--reread").ready()
    seen(lambda: 'outcome="decided"} 1.0' in again.metrics())
    assert 'outcome="again"} 1.0' in again.metrics()
    assert again.state()["status"] == "ok"
    assert again.stop() == 0
    assert sorted(identities_in(tmp_path / "data", settings)) == ["key:1", "key:2", "key:3", "key:4"]


@pytest.mark.apache_kafka("the deletion of records")
def test_records_that_were_deleted_before_they_were_read_are_told_and_the_rest_is_read(tmp_path: Path, kafka: Kafka, topic: str) -> None:
    settings = settings_of(kafka, topic)
    first = Reader(tmp_path / "data", settings).ready()
    put(kafka, topic, said(1))
    seen(lambda: 'outcome="decided"} 1.0' in first.metrics())
    assert first.stop() == 0
    place = put(kafka, topic, said(2), said(3), said(4))
    kafka.delete_records(topic, place, 3)
    second = Reader(tmp_path / "data", settings).ready()
    seen(lambda: 'outcome="decided"} 1.0' in second.metrics())
    assert second.state()["status"] == "ok"
    assert second.stop() == 0
    (line,) = [json.loads(line) for line in second.said.read_text().splitlines() if "deleted before they were read" in line]
    assert (line["level"], line["partition"], line["records"]) == ("error", place, 2)
    assert sorted(identities_in(tmp_path / "data", settings)) == ["key:1", "key:4"]


def test_a_database_that_was_away_is_gone_on_with(tmp_path: Path, kafka: Kafka, topic: str, database: Postgres) -> None:
    settings = {**settings_of(kafka, topic), "TOCSIN_DATABASE": database.database()}
    reader = Reader(tmp_path / "data", settings).ready()
    put(kafka, topic, said(0))
    seen(lambda: 'outcome="decided"} 1.0' in reader.metrics())
    database.crash()
    put(kafka, topic, *(said(number) for number in range(1, 500)))
    seen(lambda: reader.state()["status"] != "ok")
    database.start()
    seen(lambda: 'outcome="decided"} 500.0' in reader.metrics())
    assert reader.state()["status"] == "ok"
    assert reader.stop() == 0
    assert sorted(identities_in(tmp_path / "data", settings)) == sorted(f"key:{number}" for number in range(500))
