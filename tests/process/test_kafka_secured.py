"""Brokers that ask who we are: deliveries come in and events go out; what they refuse is said, and once it is mended all goes on."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from kafka.admin import ACLOperation, ResourceType

from api.house import House, open_house
from api.kafka_out import relay_of
from api.kafka_reader import start
from api.settings import load_settings
from engine.delivery import DeliveryReceived
from engine.lease import Leadership
from monitors import kafka_client, kafka_intake
from monitors.kafka_intake import KafkaIntake
from projections.kafka_relay import Relay, cursor_name
from tests.process.server import PATIENCE, Server, answer, body, send
from tests.services.kafka_program import ApacheKafka, program
from tests.services.kafka_secured import USER, Secured, secured
from tests.services.topic import PARTITIONS, position, published

pytestmark = [pytest.mark.process, pytest.mark.kafka, pytest.mark.apache_kafka("listeners that ask who you are")]

PASSWORD: Final = "correct horse, battery = staple"
NOT_TAKEN: Final = "it does not take user or password (TOCSIN_KAFKA_USER, TOCSIN_KAFKA_PASSWORD_FILE)"


@pytest.fixture(scope="module")
def broker() -> Iterator[Secured]:
    found = program()
    assert isinstance(found, ApacheKafka)
    with secured(found) as made:
        made.set_password(PASSWORD)
        yield made


@pytest.fixture
def topic(broker: Secured) -> str:
    name = broker.kafka.topic(f"t{random.getrandbits(48):x}", PARTITIONS)
    for suffix in ("in", "in.dead"):
        broker.kafka.topic(f"{name}.{suffix}")
    broker.allow(  # as docs/kafka.md says
        (ResourceType.TOPIC, f"{name}.in", ACLOperation.READ), (ResourceType.GROUP, name, ACLOperation.READ),
        (ResourceType.TOPIC, f"{name}.in.dead", ACLOperation.WRITE), (ResourceType.TOPIC, name, ACLOperation.WRITE),
        (ResourceType.TRANSACTIONAL_ID, "tocsin-relay-*", ACLOperation.WRITE), (ResourceType.TOPIC, f"{name}.in", ACLOperation.WRITE),
    )
    return name


class Way(NamedTuple):
    """How brokers are spoken to.

    Attributes:
        told: what is said of it; empty: it is right.
    """

    settings: Callable[[Secured, Path], dict[str, str]]
    told: str = ""


def file(folder: Path, text: str) -> str:
    (folder / "password").write_text(f"{text}\n")
    return str(folder / "password")


def by_password(broker: Secured, folder: Path, *, password: str = PASSWORD, host: str = "127.0.0.1", **more: str) -> dict[str, str]:
    return {
        "TOCSIN_KAFKA": f"{host}:{broker.password_port}", "TOCSIN_KAFKA_TLS": "true", "TOCSIN_KAFKA_CA_FILE": str(broker.authority.certificate),
        "TOCSIN_KAFKA_USER": USER, "TOCSIN_KAFKA_PASSWORD_FILE": file(folder, password), **more,
    }


def by_certificate(broker: Secured, _folder: Path, *, known: bool = True, port: int | None = None) -> dict[str, str]:
    own = broker.known if known else broker.unknown
    return {
        "TOCSIN_KAFKA": f"127.0.0.1:{port or broker.certificate_port}", "TOCSIN_KAFKA_TLS": "true",
        "TOCSIN_KAFKA_CA_FILE": str(broker.authority.certificate),
        "TOCSIN_KAFKA_CERTIFICATE_FILE": str(own.certificate), "TOCSIN_KAFKA_KEY_FILE": str(own.key),
    }


def without_certificate(broker: Secured, folder: Path) -> dict[str, str]:
    return {name: value for name, value in by_certificate(broker, folder).items() if not name.endswith(("CERTIFICATE_FILE", "KEY_FILE"))}


WAYS: Final = {
    "certificate": Way(by_certificate),
    "PLAIN": Way(lambda broker, folder: by_password(broker, folder, password="plain secret", TOCSIN_KAFKA_MECHANISM="PLAIN")),
    "PLAIN, wrong password": Way(lambda broker, folder: by_password(broker, folder, TOCSIN_KAFKA_MECHANISM="PLAIN"), NOT_TAKEN),
    "a mechanism that is not offered": Way(
        lambda broker, folder: by_password(broker, folder, TOCSIN_KAFKA_MECHANISM="SCRAM-SHA-256"),
        "it does not offer SCRAM-SHA-256 (TOCSIN_KAFKA_MECHANISM)",
    ),
    "an unknown authority": Way(
        lambda broker, folder: by_password(broker, folder, TOCSIN_KAFKA_CA_FILE=str(broker.stranger.certificate)),
        "its certificate does not hold (TOCSIN_KAFKA_CA_FILE): unable to get local issuer certificate",
    ),
    "another host name": Way(
        lambda broker, folder: by_password(broker, folder, host="localhost"),
        "its certificate does not hold (TOCSIN_KAFKA): Hostname mismatch",
    ),
    "no certificate": Way(without_certificate, "(TOCSIN_KAFKA_CERTIFICATE_FILE)"),
    "a stranger's certificate": Way(lambda broker, folder: by_certificate(broker, folder, known=False), "(TOCSIN_KAFKA_CERTIFICATE_FILE)"),
    "TLS where none is spoken": Way(
        lambda broker, folder: by_certificate(broker, folder, port=broker.kafka.port), "does it speak TLS there (TOCSIN_KAFKA_TLS)?",
    ),
    "no TLS where it is spoken": Way(
        lambda broker, _folder: {"TOCSIN_KAFKA": f"127.0.0.1:{broker.password_port}"}, "does it speak TLS there (TOCSIN_KAFKA_TLS)?",
    ),
}


def until(holds: Callable[[], bool]) -> None:
    """Ask again and again until something holds."""
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        pause.wait(0.02)


def names(topic: str) -> dict[str, str]:
    return {"TOCSIN_KAFKA_EVENTS": topic, "TOCSIN_KAFKA_DELIVERIES": f"{topic}.in", "TOCSIN_KAFKA_GROUP": topic}


@contextmanager
def at_work(settings: dict[str, str], data: Path) -> Iterator[tuple[House, KafkaIntake, Relay]]:
    """What reads deliveries and what publishes events, in this process."""
    house = open_house(load_settings(settings, data=data))
    leadership = Leadership(house.ledger)
    leadership.start()
    reader, relay = start(house), relay_of(house, leadership, "http://tocsin")
    assert reader is not None
    assert relay is not None
    relay.start()
    try:
        yield house, reader, relay
    finally:
        reader.stop()
        relay.stop()
        leadership.stop()
        house.close()


def received(house: House) -> list[str | None]:
    facts = [house.ledger.fact(row).event for row in house.store.log(0, 1_000, types=(DeliveryReceived.TOPIC,))]
    return [event.identity for event in facts if isinstance(event, DeliveryReceived)]


def put(broker: Secured, topic: str, *values: bytes) -> None:
    producer = broker.kafka.producer()
    for sent in [producer.send(f"{topic}.in", key=b"k", value=value) for value in values]:
        sent.get(PATIENCE)
    producer.close()


def said(number: int) -> bytes:
    return json.dumps({"source": "generic", "id": str(number), "body": '{"title":"disk full"}'}).encode()


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if not way.told])
def test_deliveries_come_in_and_events_go_out(broker: Secured, topic: str, tmp_path: Path, name: str) -> None:
    with at_work({**WAYS[name].settings(broker, tmp_path), **names(topic)}, tmp_path / "data") as (house, reader, relay):
        put(broker, topic, b"{", said(1))
        until(lambda: received(house) == ["key:1"])
        assert [letter.value for letter in broker.kafka.records(f"{topic}.in.dead", 1)] == [b"{"]
        head = house.store.head().position
        assert {position(record) for record in published(broker.kafka, topic, head)} >= set(range(1, head + 1))
        assert (reader.troubles, relay.trouble) == ({}, None)


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.told])
def test_why_a_broker_cannot_be_used_is_said_in_one_line(
    broker: Secured, topic: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_client, "CONNECT_SECONDS", 0.5)
    way = WAYS[name]
    with at_work({**way.settings(broker, tmp_path), **names(topic)}, tmp_path / "data") as (_, reader, relay):
        until(lambda: way.told in reader.troubles.get("broker", "") and way.told in (relay.trouble or ""))
        for told in (reader.troubles["broker"], relay.trouble or ""):
            assert "\n" not in told
            assert PASSWORD not in told


def test_a_password_that_is_changed_while_it_runs_counts_from_the_next_connection_on(
    broker: Secured, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_client, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(kafka_intake, "LOOK_SECONDS", 0.5)
    settings = {**by_password(broker, tmp_path), **names(topic)}
    with at_work(settings, tmp_path / "data") as (house, reader, relay):
        put(broker, topic, said(1))
        until(lambda: received(house) == ["key:1"])
        broker.set_password("another")
        broker.kafka.stop()
        broker.kafka.start()
        try:
            put(broker, topic, said(2))
            house.directory.create_token(role="admin")
            until(lambda: NOT_TAKEN in reader.troubles.get("broker", "") and NOT_TAKEN in (relay.trouble or ""))
            file(tmp_path, "another")
            until(lambda: received(house) == ["key:1", "key:2"])
            until(lambda: house.store.cursor(cursor_name(topic)) == house.store.head().position)
            until(lambda: (reader.troubles, relay.trouble) == ({}, None))
        finally:
            broker.set_password(PASSWORD)


def test_a_wrong_password_is_told_and_once_it_is_mended_everything_goes_on(broker: Secured, topic: str, tmp_path: Path) -> None:
    settings = {**by_password(broker, tmp_path, password="wrong horse"), **names(topic), "TOCSIN_INTAKE": "kafka"}
    server = Server(tmp_path, settings=settings)
    connection = server.connect()

    def state() -> dict[str, Any]:
        connection.request("GET", "/readyz")
        found: dict[str, Any] = answer(connection).content
        return found

    def deliver(name: str) -> int:
        send(connection, token, body(name), key=name)
        return answer(connection).status

    server.start()
    try:
        token = server.token("alertmanager")
        assert deliver("before") == 503
        until(lambda: all(NOT_TAKEN in json.dumps(state().get(part)) for part in ("kafka_in", "kafka_out", "kafka_front")))
        file(tmp_path, PASSWORD)
        until(lambda: deliver("after") == 202)
        store = server.store()
        until(lambda: len(store.log(0, 1_000, types=(DeliveryReceived.TOPIC,))) == 1)
        until(lambda: store.cursor(cursor_name(topic)) == store.head().position)
        until(lambda: [state().get(part) for part in ("kafka_in", "kafka_out", "kafka_front")] == ["ok"] * 3)
        head = store.head().position
        store.close()
        assert {position(record) for record in published(broker.kafka, topic, head)} >= set(range(1, head + 1))
    finally:
        server.stop()
        server.close()
    lines = (tmp_path / "server.err").read_text()
    for line in ("deliveries wait", "deliveries go on", "events wait to be published", "events are published again", "deliveries are not accepted",
                 "deliveries are accepted again"):
        assert lines.count(f'"{line}"') == 1, lines
    assert "Traceback" not in lines
    assert "wrong horse" not in lines
    assert PASSWORD not in lines
