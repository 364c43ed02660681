"""Kafka in: deliveries that lie in it against the same ones handed in directly. Kafka out: the relay against a bare producer. In turns."""

import argparse
import asyncio
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaProducer

from api.house import House, open_house
from api.kafka_out import BATCH_BYTES, relay_of
from api.kafka_reader import topics_of
from api.settings import load_settings
from benchmarks.figures import scratch, seconds, tell
from engine.lease import Leadership
from monitors.kafka_intake import SWITCH_SECONDS, KafkaIntake
from monitors.kafka_record import envelope
from projections.kafka_relay import Record, cursor_name, record_of
from tests.services.kafka import Kafka, running
from tests.services.kafka_program import apache_kafka

ROUNDS = 3
DELIVERIES = 20_000
EVENTS = 30_000
CALLERS = 128
PARTITIONS = 3
SOURCE = "alertmanager"


def run(_: argparse.Namespace) -> None:
    """One alert a delivery, all distinct, into SQLite with synced commits; broker and reader on this machine."""
    sys.setswitchinterval(SWITCH_SECONDS)  # as `tocsin intake` does; for both sides
    bodies = [_body(number) for number in range(DELIVERIES)]
    with running(apache_kafka()) as kafka, scratch() as folder:
        direct, written, read = [], [], []
        for number in range(ROUNDS):
            with _store(folder / f"direct{number}", {}) as house:
                direct.append(DELIVERIES / seconds(lambda house=house: asyncio.run(_callers(house, bodies))))  # type: ignore[misc]  # binds the loop's value
            topic = f"b{random.getrandbits(48):x}"
            kafka.topic(f"{topic}.dead")
            kafka.topic(topic, PARTITIONS)
            written.append(DELIVERIES / seconds(lambda topic=topic: _write(kafka, topic, bodies)))  # type: ignore[misc]  # as above
            settings = {"TOCSIN_KAFKA": kafka.address, "TOCSIN_KAFKA_DELIVERIES": topic, "TOCSIN_KAFKA_GROUP": topic}
            with _store(folder / f"kafka{number}", settings) as house:
                read.append(DELIVERIES / seconds(lambda house=house: _read(house)))  # type: ignore[misc]  # as above
        tell(f"Intake.receive, {CALLERS} callers", f"{statistics.median(direct):,.0f} deliveries/s")
        tell("written into the topic, acks=all, one producer", f"{statistics.median(written):,.0f} records/s")
        tell("read out of the topic and decided, joining included", f"{statistics.median(read):,.0f} deliveries/s")
        ratio = statistics.median(one / other for one, other in zip(read, direct, strict=True))
        tell("  to Intake.receive, run by run", f"{ratio:.2f}")
        _out(kafka, folder)


def _out(kafka: Kafka, folder: Path) -> None:
    """The log of one of the stores, relayed, against the same records handed to a producer that has nothing else to do."""
    relayed, bare, made = [], [], []
    for _ in range(ROUNDS):
        with _store(folder / "kafka0", {}) as house:
            rows = house.store.log(0, EVENTS)
            records = [record_of(row, house.store_id, "http://tocsin") for row in rows]
            made.append(EVENTS / seconds(lambda rows=rows: [record_of(row, "x", "http://tocsin") for row in rows]))  # type: ignore[misc]  # as above
        topic = kafka.topic(f"b{random.getrandbits(48):x}", PARTITIONS)
        bare.append(EVENTS / seconds(lambda topic=topic, records=records: _send(kafka, topic, records)))  # type: ignore[misc]  # as above
        topic = kafka.topic(f"b{random.getrandbits(48):x}", PARTITIONS)
        settings = {"TOCSIN_KAFKA": kafka.address, "TOCSIN_KAFKA_EVENTS": topic}
        with _store(folder / "kafka0", settings) as house:
            relayed.append(EVENTS / seconds(lambda house=house, topic=topic: _relay(house, topic)))  # type: ignore[misc]  # as above
    tell("events made into records alone", f"{statistics.median(made):,.0f} events/s")
    tell("the same records by a bare producer, acks=all", f"{statistics.median(bare):,.0f} records/s")
    tell("relayed, connecting included", f"{statistics.median(relayed):,.0f} events/s")
    ratio = statistics.median(one / other for one, other in zip(relayed, bare, strict=True))
    tell("  to the bare producer, run by run", f"{ratio:.2f}")


def _send(kafka: Kafka, topic: str, records: list[Record]) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.address, acks="all", metrics_enabled=False, batch_size=BATCH_BYTES)
    for future in [producer.send(topic, key=record.key, value=record.value, headers=record.headers) for record in records]:
        future.get(60)
    producer.close()


def _relay(house: House, topic: str) -> None:
    leadership = Leadership(house.ledger)
    relay = relay_of(house, leadership, "http://tocsin")
    assert relay is not None
    leadership.start()
    relay.start()
    while (house.store.cursor(cursor_name(topic)) or 0) < EVENTS:
        time.sleep(0.02)
    relay.stop()
    leadership.stop()


def _body(number: int) -> bytes:
    labels = {"alertname": "DiskFull", "severity": "critical", "service": f"service-{number % 50}", "instance": f"host-{number}"}
    alert = {"status": "firing", "labels": labels, "annotations": {}, "startsAt": "2026-03-02T10:00:00Z"}
    return json.dumps({"version": "4", "status": "firing", "groupKey": f"g{number % 50}", "alerts": [alert]}).encode()


@contextmanager
def _store(data: Path, settings: dict[str, str]) -> Iterator[House]:
    house = open_house(load_settings(settings, data=data))
    try:
        yield house
    finally:
        house.close()


async def _callers(house: House, bodies: list[bytes]) -> None:
    waiting = iter(bodies)

    async def call() -> None:
        for body in waiting:
            await house.intake.receive(SOURCE, body, content_type="application/json")

    await asyncio.gather(*(call() for _ in range(CALLERS)))


def _write(kafka: Kafka, topic: str, bodies: list[bytes]) -> None:
    producer = kafka.producer()
    sent = [
        producer.send(
            topic, key=f"{SOURCE}:g{number % 50}".encode(),
            value=envelope(SOURCE, body, "application/json", key=None, delivery=None, mark=None),
        )
        for number, body in enumerate(bodies)
    ]
    for future in sent:
        future.get(60)
    producer.close()


def _read(house: House) -> None:
    done, decided = threading.Event(), 0

    def told(_: object) -> None:
        nonlocal decided
        decided += 1
        if decided == DELIVERIES:
            done.set()

    topics = topics_of(house.settings)
    assert topics is not None
    reader = KafkaIntake(house.ledger, house.intake, topics, told=told)
    reader.start()
    done.wait()
    reader.stop()
