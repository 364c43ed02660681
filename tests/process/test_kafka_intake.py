"""Deliveries out of Kafka are decided once each, whatever happens to those who read them."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from api.database import open_store
from api.house import open_house
from api.settings import load_settings
from engine.delivery import DeliveryReceived
from engine.store import Store
from monitors.kafka_position import cursor_name
from tests.process.reader import Reader
from tests.process.server import PATIENCE, body
from tests.services.kafka import Kafka, broker
from tests.services.postgres import Postgres, programs, running
from tests.soak import SOAK, Course

pytestmark = [pytest.mark.process, pytest.mark.kafka]


# One reader becomes three, and one again; each way of going comes up.
COURSE: Final = ("joined", "joined", "killed", "joined", "left", "joined", "left", "left")
# Records that may wait: enough that each partition is in the middle of something at any moment.
AHEAD: Final = 1_500


@pytest.fixture
def database() -> Iterator[Postgres]:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with running(durable=False) as found:
        yield found


@dataclass
class Stream:
    """Puts deliveries into a topic for as long as it is not told to stop, never far ahead of those who read.

    Half of them carry an id, which is theirs; the others are known by their place.

    Attributes:
        produced: the identity of each delivery that was acknowledged.
    """

    broker: Kafka
    topic: str
    produced: list[str] = field(default_factory=list)
    read: int = 0
    over: bool = False
    change: threading.Condition = field(default_factory=threading.Condition)

    def run(self) -> None:
        producer = self.broker.producer()
        number = 0
        while True:
            with self.change:
                self.change.wait_for(lambda: self.over or len(self.produced) - self.read < AHEAD, PATIENCE)
                if self.over:
                    break
            sent = []
            for _ in range(100):
                envelope = {"source": "alertmanager", "body": json.dumps(body(f"host-{number % 400}", ended=number % 3 == 0, minute=number // 400))}
                if number % 2:
                    envelope["id"] = str(number)
                sent.append((envelope.get("id"), producer.send(self.topic, key=b"%d" % (number % 400), value=json.dumps(envelope).encode())))
                number += 1
            for key, future in sent:
                at = future.get(PATIENCE)
                place = f"kafka:{self.topic}/{at.partition}/{at.offset}@{at.timestamp}"
                self.produced.append(place if key is None else f"key:{key}")
        producer.close()


@dataclass
class Reached:
    """How far the partitions were read, by the store."""

    store: Store
    cursors: list[str]

    def now(self) -> list[int]:
        return [self.store.cursor(name) or 0 for name in self.cursors]


def rebalances(kafka: Kafka, data: Path, settings: dict[str, str], number: int, *, deliveries: int, partitions: int) -> str:
    """Let readers come, go and die so often while so many deliveries, and more, come in; each must be decided once. What happened, in a line."""
    topic = kafka.topic(f"t{random.getrandbits(48):x}", partitions)
    kafka.topic(f"{topic}.dead")
    settings = {**settings, "TOCSIN_KAFKA": kafka.address, "TOCSIN_KAFKA_DELIVERIES": topic, "TOCSIN_KAFKA_GROUP": topic}
    data.mkdir(parents=True)
    store = open_store(load_settings(settings, data=data))
    topic_id = kafka.topic_id(topic)
    reached = Reached(store, [cursor_name(topic, partition, topic_id) for partition in range(partitions)])
    stream = Stream(kafka, topic)
    thread = threading.Thread(target=stream.run, daemon=True)
    chance = random.Random(20260302)
    readers = [Reader(data, settings).ready()]
    thread.start()
    done = {"joined": 0, "left": 0, "killed": 0}
    course = Course(number, "changes")

    def go_on(until: list[int]) -> None:
        """Wait until each partition was read so far."""
        patience = time.monotonic() + PATIENCE
        while any(now < wanted for now, wanted in zip(reached.now(), until, strict=True)):
            assert time.monotonic() < patience, f"{reached.now()} of {until}; " + "".join(reader.said.read_text() for reader in readers)
            with stream.change:
                stream.read = sum(reached.now())
                stream.change.notify_all()
                stream.change.wait(0.02)

    try:
        go_on([1] * partitions)
        while sum(done.values()) < number:
            action = COURSE[sum(done.values()) % len(COURSE)]
            if action == "joined":
                readers.append(Reader(data, settings).ready())
            else:
                reader = readers.pop(chance.randrange(len(readers)))
                if action == "left":
                    assert reader.stop() == 0, reader.said.read_text()
                else:
                    reader.kill()
            done[action] += 1
            course.at(sum(done.values()), f"of readers; {sum(reached.now())} deliveries of {deliveries} read")
            go_on([position + 50 for position in reached.now()])
        while len(stream.produced) < deliveries:
            go_on([position + 500 for position in reached.now()])
            course.at(number, f"of readers; {sum(reached.now())} deliveries of {deliveries} read")
        with stream.change:
            stream.over = True
            stream.change.notify_all()
        thread.join(PATIENCE)
        go_on(kafka.ends(topic, partitions))
    finally:
        stream.over = True
        for reader in readers:
            reader.kill()
    decided, produced = Counter(identities_in(data, settings)), Counter(stream.produced)
    # Not compared as a whole: what differs between two lists of a million would be looked for until tomorrow.
    assert (list(produced - decided)[:5], list(decided - produced)[:5]) == ([], []), "lost, or decided more than once"
    store.close()
    return f"{decided.total()} deliveries, each once, through {done}"


def identities_in(data: Path, settings: dict[str, str]) -> Iterator[str]:
    """What identifies each delivery that a store holds, as often as it holds it."""
    house = open_house(load_settings(settings, data=data), first_admin=False)
    try:
        position = 0
        while rows := house.store.log(position, 5_000, types=(DeliveryReceived.TOPIC,)):
            position = rows[-1].position
            for row in rows:
                event = house.ledger.fact(row).event
                assert isinstance(event, DeliveryReceived)
                yield event.identity or "none"
    finally:
        house.close()


def test_each_delivery_is_decided_once_while_readers_come_and_go_and_die(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number, deliveries = (300, 1_000_000) if SOAK else (8, 20_000)
    said = rebalances(broker(), tmp_path / "data", {}, number, deliveries=deliveries, partitions=3)
    with capsys.disabled():
        print(f"\n{said}")


def test_each_delivery_is_decided_once_on_postgresql_while_readers_come_and_go_and_die(
    tmp_path: Path, database: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    number, deliveries = (300, 1_000_000) if SOAK else (12, 30_000)
    said = rebalances(broker(), tmp_path / "data", {"TOCSIN_DATABASE": database.database()}, number, deliveries=deliveries, partitions=12)
    with capsys.disabled():
        print(f"\n{said}")
