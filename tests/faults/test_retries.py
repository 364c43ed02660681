"""Requests that are sent again under their key, to other processes and while the first is in flight: each has one effect, and one answer."""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from engine.person import Role
from engine.store import Row, Store
from tests.faults.clients import Client, Reply, at_once, started, token_of
from tests.process.server import Server, body
from tests.services.postgres import programs, running
from tests.soak import SOAK, Course

pytestmark = pytest.mark.process

REQUESTS: Final = 200_000 if SOAK else 6_000
ON_SQLITE: Final = 50_000 if SOAK else 4_000
ROUTES: Final = ("/hooks/alertmanager", "/api/v1/incidents")


@pytest.fixture
def two_on_postgresql(tmp_path: Path) -> Iterator[list[Server]]:
    if programs() is None and not os.environ.get("CI"):
        pytest.skip("PostgreSQL is not installed")
    with running() as database:
        settings = {"TOCSIN_DATABASE": database.database(), "TOCSIN_MASTER_KEY_FILE": str(tmp_path / "master.key")}
        with started(tmp_path, ["api", "api"], settings) as servers:
            yield servers


@pytest.fixture
def one_on_sqlite(tmp_path: Path) -> Iterator[list[Server]]:
    with started(tmp_path, ["api"], {}) as servers:
        yield servers


def each_has_one_effect(servers: Sequence[Server], requests: int, seed: int = 7) -> str:
    """Send requests of both kinds, each once to four times; every second one several times at the same moment."""
    token = token_of(servers[0], Role.ADMIN)
    client, retry = Client(token), Client(token)
    deliveries, opened, by_alerts = set[str](), set[str](), set[str]()
    sent, course = Counter[str](), Course(requests, "requests")
    chance, lock = random.Random(seed), threading.Lock()
    plans = [(1 + chance.randint(0, 3), chance.random() < 0.5, chance.randrange(len(servers))) for _ in range(requests)]
    beside = ThreadPoolExecutor(12)

    def send(number: int) -> None:
        times, together, first = plans[number]
        path = ROUTES[number % 2]
        content: object = body(f"host-{number}") if number % 2 == 0 else {"title": f"incident {number}"}

        def one(at: int, by: Client = client) -> Reply:
            return by.post(servers[(first + at) % len(servers)], path, content, Idempotency_Key=f"key-{number}")

        rest: list[Callable[[], Reply]] = [lambda at=at: one(at, retry) for at in range(1, times)]  # type: ignore[misc]  # bound per retry
        if together:
            waiting = [beside.submit(again) for again in rest]
            got = [one(0), *(future.result() for future in waiting)]
        else:
            got = [one(0), *(again() for again in rest)]
        assert {reply.status for reply in got} == {202 if number % 2 == 0 else 201}, got
        assert len({reply.body for reply in got}) == 1, f"key-{number} was answered in two ways"
        said = got[0].document
        with lock:
            if number % 2 == 0:
                deliveries.add(said["delivery"])
                by_alerts.update(event["incident"] for event in said["observations"])
            else:
                opened.add(said["number"])
            sent["requests"] += 1
            sent["posts"] += len(got)
            course.at(sent["requests"])

    with beside:
        at_once(send, range(requests))
    store = servers[0].store()
    try:
        stored = Counter(row.type for row in _all(store))
    finally:
        store.close()
    assert len(deliveries) == stored["delivery.received.v1"] == (requests + 1) // 2
    assert len(opened) == requests // 2
    # Those of the alerts come on top: all of them are of one service.
    assert stored["incident.opened.v1"] == len(opened) + len(by_alerts)
    return f"{sent['requests']} requests, sent {sent['posts']} times: {len(deliveries) + len(opened)} effects"


def _all(store: Store) -> Iterator[Row]:
    position = 0
    while rows := store.log(position, 5_000):
        yield from rows
        position = rows[-1].position


def test_on_two_processes_of_one_postgresql(two_on_postgresql: list[Server], capsys: pytest.CaptureFixture[str]) -> None:
    said = each_has_one_effect(two_on_postgresql, REQUESTS)
    with capsys.disabled():
        print(f"\n{said}")


def test_on_a_file(one_on_sqlite: list[Server], capsys: pytest.CaptureFixture[str]) -> None:
    said = each_has_one_effect(one_on_sqlite, ON_SQLITE)
    with capsys.disabled():
        print(f"\n{said}")
