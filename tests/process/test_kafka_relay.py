"""Every event of the log comes into the topic, in the order of its stream, whatever happens to the broker and to those who relay."""

import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from api.house import House, open_house
from api.kafka_out import Transactions, relay_of
from api.settings import load_settings
from engine.clock import SimulatedClock, from_micros
from engine.lease import LEASE_SECONDS, Leadership
from engine.person import Person
from engine.work import Unit, Work
from monitors.kafka_topics import Topics
from projections.kafka_relay import MOST_IN_A_BATCH, NotPublished, Record, cursor_name
from tests.conftest import NOON
from tests.process.server import PATIENCE, Server, answer, body, send
from tests.services.kafka import Kafka, broker
from tests.services.topic import PARTITIONS, out_of_order, position, published
from tests.soak import SOAK

pytestmark = [pytest.mark.process, pytest.mark.kafka]

NAME: Final = "Zebulon Quillfeather"
# How long a broker stays away.
AWAY_SECONDS: Final = 60 if SOAK else 0


@pytest.fixture
def kafka() -> Kafka:
    return broker()


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return kafka.topic(f"t{random.getrandbits(48):x}", PARTITIONS)


def settings_of(kafka: Kafka, topic: str) -> dict[str, str]:
    return {"TOCSIN_KAFKA": kafka.address, "TOCSIN_KAFKA_EVENTS": topic, "TOCSIN_KAFKA_DELIVERIES": f"{topic}.in", "TOCSIN_KAFKA_GROUP": topic}


@pytest.fixture
def start(tmp_path: Path, kafka: Kafka, topic: str) -> Iterator[Callable[[str], Server]]:
    """Start a process of some role on the one store."""
    servers: list[Server] = []

    def started(role: str) -> Server:
        servers.append(Server(tmp_path, settings=settings_of(kafka, topic), role=role))
        servers[-1].start()
        return servers[-1]

    yield started
    for server in servers:
        server.close()


def tokens(data: Path) -> tuple[str, str]:
    """An administrator's and a monitor's, of a new store."""
    house = open_house(load_settings({}, data=data))
    found = house.directory.create_token(role="admin"), house.directory.create_token(role="monitor", source="alertmanager")
    house.close()
    return found


def grow(house: House, people: int) -> int:
    """Make the log longer by so many events of some streams; its end."""
    def registers(work: Work) -> list[UUID]:
        people_made = [work.fresh(Person, work.new_id()) for _ in range(people // 10)]
        for person in people_made:
            person.register(name=NAME, email=None)
        return [person.id for person in people_made]

    def changes(person: UUID, number: int) -> Unit[None]:
        def decide(work: Work) -> None:
            work.load(Person, person).change(name=f"{NAME} {number}", email=None, team=None)

        return Unit(decide, actor="tocsin")

    ids = house.ledger.run(Unit(registers, actor="tocsin"))
    for number in range(9):
        for future in [house.ledger.submit(changes(person, number)) for person in ids]:
            future.result()
    return house.store.head().position


def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def state(server: Server) -> tuple[int, Any]:
    connection = server.connect()
    connection.request("GET", "/readyz")
    found = answer(connection)
    connection.close()
    return found


def ask(server: Server, token: str, path: str, content: object) -> int:
    connection = server.connect()
    connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json", "Authorization": f"Bearer {token}"})
    found = answer(connection)
    connection.close()
    return found.status


def deliver(server: Server, token: str, *names: str) -> list[int]:
    """The answers to one alert each."""
    connection = server.connect()
    said = []
    for name in names:
        send(connection, token, body(name))
        said.append(answer(connection).status)
    connection.close()
    return said


def test_every_event_of_a_store_is_a_cloudevent_in_the_topic_once_and_nobody_s_name_is(
    start: Callable[[str], Server], tmp_path: Path, kafka: Kafka, topic: str
) -> None:
    agent, monitor = tokens(tmp_path / "data")
    server = start("serve")
    assert set(deliver(server, monitor, *(f"host-{number}" for number in range(30)))) == {202}
    assert ask(server, agent, "/api/v1/requests", {"title": "a new chair", "requester": NAME, "description": f"so says {NAME}"}) == 201
    store = server.store()
    until(lambda: store.cursor(cursor_name(topic)) == store.head().position)
    server.stop()
    rows, source = store.log(0, 1_000_000), f"urn:uuid:{store.meta('store_id')}"
    store.close()
    kept, last = {row.position: row for row in rows}, rows[-1].position
    records = published(kafka, topic, last)
    assert Counter(position(record) for record in records) == Counter(range(1, last + 1))
    assert last >= 60
    for partition in range(PARTITIONS):
        positions = [position(record) for record in records if record.partition == partition]
        assert positions == sorted(positions)
        assert positions
    for record in records:
        row = kept[position(record)]
        event = from_binary(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat(), CloudEvent)
        stream = str(UUID(bytes=row.stream))
        assert (event.get_id(), event.get_source(), event.get_type(), event.get_subject()) == (f"{stream}:{row.version}", source, row.type, stream)
        assert (event.get_specversion(), event.get_datacontenttype()) == ("1.0", "application/json")
        assert event.get_time() == from_micros(row.recorded_at)
        assert event.get_data() == json.loads(row.state)
        extensions = {name: event.get_extension(f"tocsin{name}") for name in ("version", "actor", "correlation", "cause")}
        assert extensions == {
            "version": str(row.version), "actor": row.actor, "correlation": str(UUID(bytes=row.correlation)), "cause": row.cause,
        }
        assert record.key == stream.encode()
        said = b"".join([record.key, record.value, *(text for _, text in record.headers)])
        assert NAME.encode() not in said
        assert b"Quillfeather" not in said
    assert {"person.registered.v1", "request.submitted.v1", "incident.opened.v1"} <= {row.type for row in rows}


@pytest.mark.apache_kafka("records that outlast the broker")
def test_while_the_broker_is_away_the_log_goes_on_and_is_published_to_its_end_afterwards(
    start: Callable[[str], Server], tmp_path: Path, kafka: Kafka, topic: str
) -> None:
    _, token = tokens(tmp_path / "data")
    server = start("serve")
    assert set(deliver(server, token, *(f"before-{number}" for number in range(10)))) == {202}
    kafka.crash()
    begun = time.monotonic()
    try:
        assert set(deliver(server, token, *(f"meanwhile-{number}" for number in range(100)))) == {202}
        until(lambda: state(server)[1]["kafka_out"] != "ok")
        assert state(server)[0] == 200
        for number in itertools.takewhile(lambda _: time.monotonic() - begun < AWAY_SECONDS, itertools.count()):
            assert set(deliver(server, token, f"while-{number % 100}")) == {202}
        assert set(deliver(server, token, *(f"later-{number}" for number in range(10)))) == {202}
    finally:
        kafka.start()
    assert set(deliver(server, token, *(f"after-{number}" for number in range(10)))) == {202}
    store = server.store()
    head = store.head().position
    store.close()
    records = published(kafka, topic, head)
    assert {position(record) for record in records} >= set(range(1, head + 1))
    assert out_of_order(records) == []
    until(lambda: state(server)[1]["kafka_out"] == "ok")
    said = (server.folder / "server.err").read_text()
    assert said.count("events wait to be published") == 1
    assert said.count("events are published again") == 1


def test_of_a_leader_that_is_killed_nothing_is_missing(start: Callable[[str], Server], tmp_path: Path, kafka: Kafka, topic: str) -> None:
    house = open_house(load_settings({}, data=tmp_path / "data"))
    head = grow(house, 20 * MOST_IN_A_BATCH)
    moved = cursor_name(topic)
    leader = start("worker")
    until(lambda: (house.store.cursor(moved) or 0) > 0)
    leader.tell(signal.SIGKILL)
    assert (house.store.cursor(moved) or 0) < head
    start("worker")
    records = published(kafka, topic, head)
    until(lambda: house.store.cursor(moved) == house.store.head().position)
    house.close()
    assert {position(record) for record in records} >= set(range(1, head + 1))
    assert out_of_order(records) == []


def test_a_former_leader_moves_nothing_back_and_publishes_nothing_between(tmp_path: Path, kafka: Kafka, topic: str) -> None:
    clock = SimulatedClock(NOON, running=False)
    settings = load_settings(settings_of(kafka, topic), data=tmp_path / "data")
    house, other = open_house(settings, clock=clock), open_house(settings, clock=clock)
    old, new = Leadership(house.ledger), Leadership(other.ledger)
    former, present = relay_of(house, old, "http://tocsin"), relay_of(other, new, "http://tocsin")
    assert former is not None
    assert present is not None
    assert old.renew()
    former.start()
    moved = cursor_name(topic)
    until(lambda: house.store.cursor(moved) == house.store.head().position)
    clock.advance(LEASE_SECONDS)
    assert new.renew()
    assert old.leads  # as far as it knows
    present.start()
    head = grow(other, 4 * MOST_IN_A_BATCH)
    reached = 0
    while reached < head:
        found = house.store.cursor(moved) or 0
        assert found >= reached
        reached = found
    former.stop()
    assert former.trouble is None
    head = grow(other, MOST_IN_A_BATCH)
    records = published(kafka, topic, head)
    present.stop()
    assert house.store.cursor(moved) == head
    assert {position(record) for record in records} == set(range(1, head + 1))
    assert out_of_order(records) == []
    house.close()
    other.close()


def test_a_connection_is_not_heard_any_more_once_there_is_a_later_one(kafka: Kafka, topic: str) -> None:
    topics, store_id = Topics(servers=kafka.address), str(uuid4())
    former = Transactions(topics, topic, store_id)
    former.publish([Record(b"k", b"1", [])])
    present = Transactions(topics, topic, store_id)
    with pytest.raises(NotPublished):
        former.publish([Record(b"k", b"2", [])])
    present.publish([Record(b"k", b"3", [])])
    former.close()
    present.close()


@pytest.mark.apache_kafka("topics that are not made by asking for them")
def test_a_topic_that_is_not_there_is_told_and_published_to_once_it_is(tmp_path: Path, kafka: Kafka) -> None:
    topic = f"t{random.getrandbits(48):x}"
    house = open_house(load_settings(settings_of(kafka, topic), data=tmp_path / "data"))
    leadership = Leadership(house.ledger)
    relay = relay_of(house, leadership, "http://tocsin")
    assert relay is not None
    leadership.renew()
    relay.start()
    until(lambda: relay.trouble is not None)
    head = grow(house, 50)
    kafka.topic(topic, PARTITIONS)
    assert {position(record) for record in published(kafka, topic, head)} == set(range(1, head + 1))
    relay.stop()
    house.close()
