"""A storm of alerts becomes as many incidents as there are services, in memory that stays, and whoever else reports is heard meanwhile."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from engine.person import Role
from tests.faults.clients import Client, at_once, started, token_of
from tests.process.server import PATIENCE, Server, answer, send
from tests.soak import SOAK

pytestmark = pytest.mark.process

DELIVERIES: Final = 1_000 if SOAK else 100
ALERTS: Final = 100
GROUPS: Final = 50
TIMES_EACH: Final = 5  # one is new, four repeat it
MOST_MEMORY: Final = 200 * 2**20
FLOOD: Final = 600 if SOAK else 300
QUIET: Final = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with started(tmp_path, ["serve"], {}) as (server,):
        yield server


def alerts(numbers: Iterator[int], distinct: int) -> dict[str, Any]:
    """The next delivery; each number is an alert of one of the services."""
    chosen = [number % distinct for number in itertools.islice(numbers, ALERTS)]
    return {
        "version": "4", "status": "firing", "receiver": "tocsin",
        "alerts": [
            {
                "status": "firing", "startsAt": "2026-03-02T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
                "labels": {"alertname": "Down", "severity": "critical", "service": f"service-{number % GROUPS}", "instance": f"host-{number}"},
                "annotations": {"summary": f"host-{number} does not answer, as it did not before"},
            }
            for number in chosen
        ],
    }


def memory(server: Server) -> int:
    """What the process holds in memory, in bytes."""
    said = Path(f"/proc/{server.pid}/status").read_text()
    return 1024 * int(next(line for line in said.splitlines() if line.startswith("VmRSS")).split()[1])


def test_a_storm_is_accepted_as_a_whole_and_becomes_few_incidents(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    token = token_of(server, Role.MONITOR, "alertmanager")
    reader = Client(token_of(server, Role.AGENT))
    client = Client(token)
    distinct = DELIVERIES * ALERTS // TIMES_EACH
    numbers = itertools.count()
    bodies = [alerts(numbers, distinct) for _ in range(DELIVERIES)]
    assert client.post(server, "/hooks/alertmanager", {**bodies[0], "alerts": bodies[0]["alerts"][:1]}).status == 202
    before, most = memory(server), 0
    over, waits, dispositions = threading.Event(), list[float](), Counter[str]()

    def read() -> int:
        reads, most = 0, 0
        while not over.is_set():
            begun = time.monotonic()
            reply = reader.get(server, "/api/v1/queue?limit=50")
            assert reply.status == 200, reply
            waits.append(time.monotonic() - begun)
            reads, most = reads + 1, max(most, memory(server))
        return most

    def deliver(number: int) -> None:
        reply = client.post(server, "/hooks/alertmanager", bodies[number])
        assert reply.status == 202, reply
        dispositions.update(event["disposition"] for event in reply.document["observations"])

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        begun = time.monotonic()
        try:
            at_once(deliver, range(DELIVERIES), clients=8)
        finally:
            over.set()
        took = time.monotonic() - begun
        most = max(reading.result(PATIENCE), memory(server))
    assert len(waits) > 5
    position = reader.get(server, "/readyz").document["position"]
    glance = reader.ask("GET", server, "/api/v1/queue?limit=200", None, {"Tocsin-Position": str(position)}).document
    assert len(glance["items"]) == GROUPS
    opened, stored = 0, 0
    store = server.store()
    try:
        while rows := store.log(stored, 5_000):
            stored, opened = rows[-1].position, opened + sum(row.type == "incident.opened.v1" for row in rows)
    finally:
        store.close()
    assert opened == GROUPS
    assert sum(dispositions.values()) == DELIVERIES * ALERTS
    assert len(dispositions) > 1
    assert most - before <= MOST_MEMORY, f"{(most - before) / 2**20:.0f} MB more than before"
    waits.sort()
    with capsys.disabled():
        print(
            f"\n{DELIVERIES * ALERTS} alerts in {took:.1f} s, {stored} events, {opened} incidents; {(most - before) / 2**20:.0f} MB more; "
            f"{len(waits)} reads of the queue, p95 {waits[len(waits) * 95 // 100] * 1000:.0f} ms; {dict(dispositions)}"
        )


def quiet_is_heard(server: Server, flood: int = FLOOD, quiet: int = QUIET) -> str:
    """Send all of a flood at once, and then deliver from another source, one at a time: they come in between."""
    token, other = token_of(server, Role.MONITOR, "alertmanager"), Client(token_of(server, Role.MONITOR, "generic"))
    numbers = itertools.count()
    connections = [server.connect() for _ in range(flood)]
    waits: list[float] = []
    try:
        for connection in connections:
            send(connection, token, alerts(numbers, flood * ALERTS))
        for number in range(quiet):
            begun = time.monotonic()
            reply = other.post(server, "/hooks/generic", {"title": f"quiet {number}", "key": f"quiet-{number}"})
            assert reply.status == 202, reply
            waits.append(time.monotonic() - begun)
        assert {answer(connection).status for connection in connections} == {202}
    finally:
        for connection in connections:
            connection.close()
    store = server.store()
    try:
        order = [row.actor for row in store.log(0, 1_000_000, types=("delivery.received.v1",))]
    finally:
        store.close()
    assert Counter(order) == {"source:alertmanager": flood, "source:generic": quiet}
    last = len(order) - order[::-1].index("source:generic")
    assert last < len(order), "it was heard after all of the flood, which was there before"
    return f"{quiet} deliveries took {max(waits) * 1000:.0f} ms at most each, and {len(order) - last} of {flood} of the flood came after them"


def test_a_flood_from_one_source_does_not_hold_up_another(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    said = quiet_is_heard(server)
    with capsys.disabled():
        print(f"\n{said}")
