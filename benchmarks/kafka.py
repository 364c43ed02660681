"""Deliveries that lie in Kafka against the same ones handed in directly, in turns within one run."""

import argparse
import asyncio
import json
import random
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.house import House, open_house
from api.kafka_reader import topics_of
from api.settings import load_settings
from benchmarks.figures import scratch, seconds, tell
from monitors.kafka_intake import SWITCH_SECONDS, KafkaIntake
from monitors.kafka_record import envelope
from tests.services.kafka import Kafka, running

ROUNDS = 3
DELIVERIES = 20_000
CALLERS = 128
PARTITIONS = 3
SOURCE = "alertmanager"


def run(_: argparse.Namespace) -> None:
    """One alert a delivery, all distinct, into SQLite with synced commits; broker and reader on this machine."""
    sys.setswitchinterval(SWITCH_SECONDS)  # as `tocsin intake` does; for both sides
    bodies = [_body(number) for number in range(DELIVERIES)]
    with running() as kafka, scratch() as folder:
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
