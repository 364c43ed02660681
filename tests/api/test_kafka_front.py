"""The front with TOCSIN_INTAKE=kafka: accepted when the delivery lies in Kafka, and told of as queued until it is decided."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.house import House, open_house
from api.kafka_reader import start
from engine.identity import delivery_id
from engine.person import Role
from projections.runner import Runner
from tests.api.conftest import Headers
from tests.process.server import free_port
from tests.services.kafka import Kafka, broker
from tests.stores import settings_at

pytestmark = pytest.mark.kafka

ALERT = {"title": "disk full", "key": "d"}


@pytest.fixture(scope="module")
def kafka() -> Kafka:
    return broker()


@pytest.fixture
def topic(kafka: Kafka) -> str:
    name = f"t{random.getrandbits(48):x}"
    kafka.topic(f"{name}.dead")
    return kafka.topic(name)


@pytest.fixture
def house(tmp_path: Path, kafka: Kafka, topic: str) -> House:
    """As the one of every test of the interface, with a front."""
    environment = {
        "TOCSIN_KAFKA": kafka.address, "TOCSIN_KAFKA_DELIVERIES": topic, "TOCSIN_KAFKA_GROUP": topic, "TOCSIN_INTAKE": "kafka",
        "TOCSIN_KAFKA_EVENTS": "",
    }
    return open_house(settings_at(tmp_path / "data", environment))


@pytest.fixture
def decided(house: House) -> Iterator[Callable[[], None]]:
    """Let what lies in Kafka be decided: returns when one delivery more is."""
    readers = []

    def work() -> None:
        head, changed = house.ledger.last_position, threading.Event()
        house.ledger.listen(lambda _: changed.set())
        reader = start(house)
        assert reader is not None
        readers.append(reader)
        while house.ledger.last_position == head:
            changed.wait(0.1)

    yield work
    for reader in readers:
        reader.stop()


def test_a_delivery_is_queued_until_it_is_decided(
    client: TestClient, headers: Callable[[str], Headers], decided: Callable[[], None], kafka: Kafka, topic: str
) -> None:
    answer = client.post("/hooks/generic", json=ALERT, headers=headers("monitor:generic"))
    assert answer.status_code == 202
    delivery = answer.json()["delivery"]
    assert answer.json() == {"delivery": delivery, "observations": None}
    address = answer.headers["Location"]
    assert address.startswith(f"/api/v1/deliveries/{delivery}?queued=")
    waiting = client.get(address, headers=headers("monitor:generic"))
    assert waiting.json() == {"id": delivery, "state": "queued"}
    (record,) = kafka.records(topic, 1)
    assert (record.key, json.loads(record.value)["source"]) == (b"generic:d", "generic")
    decided()
    done = client.get(address, headers=headers("monitor:generic")).json()
    assert (done["id"], done["state"], done["observations"][0]["disposition"]) == (delivery, "decided", "opened")


def test_a_key_gives_the_id_that_it_gives_without_kafka(client: TestClient, headers: Callable[[str], Headers], house: House) -> None:
    sent = [client.post("/hooks/generic", json=ALERT, headers={**headers("monitor:generic"), "Idempotency-Key": "one"}) for _ in range(2)]
    assert {answer.json()["delivery"] for answer in sent} == {str(delivery_id("generic", "key:one"))}


def test_another_process_tells_a_queued_delivery_from_an_unknown_one(
    client: TestClient, headers: Callable[[str], Headers], house: House, tmp_path: Path
) -> None:
    address = client.post("/hooks/generic", json=ALERT, headers=headers("monitor:generic")).headers["Location"]
    plain, mark = address.split("?queued=")
    with TestClient(create_app(open_house(house.settings), Runner(house.ledger, tmp_path / "other.db"), works=False)) as other:
        assert other.get(address, headers=headers("monitor:generic")).json()["state"] == "queued"
        assert other.get(plain, headers=headers("monitor:generic")).status_code == 404
        assert other.get(f"/api/v1/deliveries/{uuid4()}?queued={mark}", headers=headers("monitor:generic")).status_code == 404
    assert client.get(plain, headers=headers("monitor:generic")).json()["state"] == "queued"  # the one that accepted it remembers
    assert client.get(plain, headers=headers("monitor:grafana")).status_code == 404


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b'{"title": []}', 422), (b"x" * (16 * 1024 * 1024 + 1), 413)])
def test_what_cannot_be_read_is_refused_and_kept_as_ever(
    client: TestClient, headers: Callable[[str], Headers], house: House, body: bytes, status: int
) -> None:
    answer = client.post("/hooks/generic", content=body, headers=headers("monitor:generic"))
    assert answer.status_code == status
    kept = client.get(f"/api/v1/deliveries/{answer.json()['delivery']}", headers=headers("agent")).json()
    assert kept["state"] == "rejected"


@pytest.mark.apache_kafka("the limit of a record's size")
def test_a_body_that_no_record_holds_is_refused(client: TestClient, headers: Callable[[str], Headers]) -> None:
    large = {"title": "x", "details": {"text": "x" * 1_100_000}}
    answer = client.post("/hooks/generic", json=large, headers=headers("monitor:generic"))
    assert (answer.status_code, "max.message.bytes" in answer.json()["detail"]) == (413, True)


def test_without_a_token_nothing_reaches_kafka(client: TestClient) -> None:
    assert client.post("/hooks/generic", json=ALERT).status_code == 401


def test_an_imitated_interface_decides_at_once(client: TestClient, headers: Callable[[str], Headers]) -> None:
    alert = [{"labels": {"alertname": "DiskFull"}, "startsAt": "2026-03-02T10:00:00Z"}]
    answer = client.post("/api/v2/alerts", json=alert, headers=headers("monitor:prometheus"))
    assert answer.status_code == 200
    assert int(answer.headers["Tocsin-Position"]) > 0


def test_without_a_broker_nothing_is_accepted(tmp_path: Path) -> None:
    environment = {"TOCSIN_KAFKA": f"127.0.0.1:{free_port()}", "TOCSIN_INTAKE": "kafka"}
    house = open_house(settings_at(tmp_path / "data", environment))
    token = house.directory.create_token(role=Role.MONITOR, source="generic")
    with TestClient(create_app(house, Runner(house.ledger, tmp_path / "views.db"), works=False)) as client:
        answer = client.post("/hooks/generic", json=ALERT, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "delivery" not in answer.json()
