"""`tocsin api` and `tocsin worker` on one PostgreSQL store: one of them leads, none is needed, and a database that hangs holds up nobody."""

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from engine.timer import TimerFired
from tests.process.server import PATIENCE, Server, answer, free_port
from tests.services.postgres import Postgres, programs, running
from tests.soak import SOAK

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(programs() is None and not os.environ.get("CI"), reason="PostgreSQL is not installed"),
]
# The lease ends within 12 s; the former leader is kept asleep for longer.
ASLEEP_SECONDS: Final = 60 if SOAK else 16
ALERTS: Final = 200 if SOAK else 40


@pytest.fixture
def database() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture
def settings(database: Postgres, tmp_path: Path) -> dict[str, str]:
    return {"TOCSIN_DATABASE": database.database(), "TOCSIN_MASTER_KEY_FILE": str(tmp_path / "master.key")}


@pytest.fixture
def start(tmp_path: Path, settings: dict[str, str]) -> Iterator[Callable[..., Server]]:
    """Start a process of some role on a node, which is a folder."""
    servers: list[Server] = []

    def started(role: str, node: str = "node", port: int | None = None) -> Server:
        folder = tmp_path / node
        folder.mkdir(exist_ok=True)
        servers.append(Server(folder, settings=settings, role=role, port=port))
        servers[-1].start()
        return servers[-1]

    yield started
    for server in servers:
        server.close()


def get(server: Server, path: str, token: str = "") -> tuple[int, Any]:
    return ask(server, "GET", path, token)


def ask(server: Server, method: str, path: str, token: str = "", content: object = None) -> tuple[int, Any]:
    connection = server.connect()
    try:
        body = None if content is None else json.dumps(content)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        connection.request(method, path, body, headers)
        return answer(connection)
    finally:
        connection.close()


def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def leads(worker: Server) -> bool:
    return bool(get(worker, "/readyz")[1]["leads"])


def ending_soon(*names: str, seconds: float) -> list[dict[str, Any]]:
    """Alerts that Prometheus promises to repeat until then; each has a timer that ends it."""
    end = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    return [{"labels": {"alertname": "DiskFull", "instance": name}, "endsAt": end} for name in names]


def test_a_leader_that_was_asleep_fires_nothing_a_second_time(start: Callable[..., Server]) -> None:
    api, first = start("api"), start("worker")
    until(lambda: leads(first))
    second = start("worker", "other")
    assert not leads(second)
    token = api.command("token", "create", "--role", "admin")
    names = [f"host-{number}" for number in range(ALERTS)]

    assert ask(api, "POST", "/api/v2/alerts", token, ending_soon(*names[: ALERTS // 2], seconds=3))[0] == 200
    first.tell(signal.SIGSTOP)
    asleep_until = time.monotonic() + ASLEEP_SECONDS
    until(lambda: leads(second))
    assert ask(api, "POST", "/api/v2/alerts", token, ending_soon(*names[ALERTS // 2 :], seconds=max(2.0, asleep_until - time.monotonic())))[0] == 200
    until(lambda: time.monotonic() >= asleep_until)
    first.tell(signal.SIGCONT)

    until(lambda: not [alert for alert in get(api, "/api/v1/alerts?limit=200", token)[1]["items"] if alert["firing"]])
    assert not leads(first)
    store = api.store()
    fired = Counter(row.stream for row in store.log(0, 100_000, types=(TimerFired.TOPIC,)))
    resolved = Counter(row.stream for row in store.log(0, 100_000, types=("alert.episode_ended.v1", "alert.resolved.v1")))
    store.close()
    assert set(fired.values()) == {1}
    assert len(fired) >= ALERTS
    assert set(resolved.values()) <= {1}
    second.stop()
    until(lambda: leads(first))


def test_two_of_them_listen_on_one_port_and_know_at_once_what_the_other_stored(start: Callable[..., Server]) -> None:
    port = free_port()
    one, _two = start("api", "node", port), start("api", "other", port)
    token = one.command("token", "create", "--role", "admin")
    for number in range(20):
        # Each connection may reach either; what was written is read wherever the answer is carried.
        connection = one.connect()
        connection.request("POST", "/api/v1/incidents", json.dumps({"title": f"incident {number}"}), {
            "Content-Type": "application/json", "Authorization": f"Bearer {token}",
        })
        said = connection.getresponse()
        position, opened = said.headers["Tocsin-Position"], json.loads(said.read())
        connection.close()
        connection = one.connect()
        connection.request("GET", f"/api/v1/tickets/{opened['number']}", headers={"Authorization": f"Bearer {token}", "Tocsin-Position": position})
        status, found = answer(connection)
        connection.close()
        assert (status, found["title"]) == (200, f"incident {number}")


def test_a_token_that_another_process_revoked_is_void_within_seconds(start: Callable[..., Server]) -> None:
    api = start("api")
    token = api.command("token", "create", "--role", "admin")
    assert get(api, "/api/v1/queue", token)[0] == 200
    api.command("token", "revoke", token)
    until(lambda: get(api, "/api/v1/queue", token)[0] == 401)


def test_while_the_database_is_away_whoever_was_known_reads_on_and_nobody_else(start: Callable[..., Server], database: Postgres) -> None:
    api = start("api")
    known, revoked, unseen = (api.command("token", "create", "--role", "admin") for _ in range(3))
    assert [get(api, "/api/v1/queue", token)[0] for token in (known, revoked)] == [200, 200]
    api.command("token", "revoke", revoked)
    until(lambda: get(api, "/api/v1/queue", revoked)[0] == 401)
    database.crash()
    try:
        for _ in range(2):
            assert [get(api, "/api/v1/queue", token)[0] for token in (known, revoked, unseen)] == [200, 503, 503]
        assert ask(api, "POST", "/api/v1/incidents", known, {"title": "meanwhile"})[0] == 503
    finally:
        database.start()
    until(lambda: ask(api, "POST", "/api/v1/incidents", known, {"title": "afterwards"})[0] == 201)
    assert get(api, "/api/v1/queue", revoked)[0] == 401


def test_while_the_database_hangs_the_process_lives_and_says_so(start: Callable[..., Server], database: Postgres) -> None:
    api = start("api")
    token = api.command("token", "create", "--role", "admin")
    assert get(api, "/api/v1/queue", token)[0] == 200
    answers: list[tuple[int, Any]] = []

    def open_one() -> None:
        answers.append(ask(api, "POST", "/api/v1/incidents", token, {"title": "meanwhile"}))

    database.freeze()
    try:
        clients = [threading.Thread(target=open_one) for _ in range(12)]
        for client in clients:
            client.start()
        begun = time.monotonic()
        slowest = 0.0
        while any(client.is_alive() for client in clients):
            asked = time.monotonic()
            assert get(api, "/healthz")[0] == 200
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.02)
        took = time.monotonic() - begun
        assert {status for status, _ in answers} == {503}
        assert get(api, "/readyz")[0] == 503
    finally:
        database.thaw()
    thawed = time.monotonic()
    until(lambda: ask(api, "POST", "/api/v1/incidents", token, {"title": "afterwards"})[0] == 201)
    until(lambda: get(api, "/readyz")[0] == 200)
    print(f"healthz at worst {slowest * 1000:.0f} ms, refused within {took:.1f} s, back after {time.monotonic() - thawed:.1f} s")
    assert took < 30
    assert slowest < (0.1 if SOAK else 2)
    titles = Counter(item["title"] for item in get(api, "/api/v1/queue?limit=200", token)[1]["items"])
    assert titles["meanwhile"] in range(13)  # none was acknowledged; some may have been stored all the same


def test_a_listener_that_was_killed_comes_back_and_nothing_waits_for_it(start: Callable[..., Server], database: Postgres, settings: dict[str, str]) -> None:
    one, two = start("api"), start("api", "other")
    token = one.command("token", "create", "--role", "admin")

    def listeners() -> int:
        with database.superuser() as connection:
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tocsin listener' AND query LIKE 'LISTEN%'").fetchone()
        assert row is not None
        return int(str(row[0]))

    until(lambda: listeners() == 2)
    with database.superuser() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tocsin listener'")
    assert ask(one, "POST", "/api/v1/incidents", token, {"title": "unheard"})[0] == 201
    until(lambda: "unheard" in [item["title"] for item in get(two, "/api/v1/queue", token)[1]["items"]])
    until(lambda: listeners() == 2)


def test_a_worker_answers_for_its_state_alone(start: Callable[..., Server]) -> None:
    worker = start("worker")
    assert get(worker, "/healthz")[0] == 200
    until(lambda: get(worker, "/readyz")[0] == 200)
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    said = connection.getresponse()
    assert said.status == 200
    assert b"tocsin_engine_log_position_events" in said.read()
    connection.close()
    assert get(worker, "/console")[0] == 404
