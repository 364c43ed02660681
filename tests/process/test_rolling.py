"""Two `tocsin api` on one port are restarted one after the other under load: nobody is answered with an error, and nothing is lost."""

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from api.command.serving import _Server, listen
from api.watch import Streams
from engine.delivery import DeliveryReceived
from tests.process.server import COMMAND, PATIENCE, ROOT, Server, answer, body, environment, free_port, send
from tests.services.postgres import programs, running
from tests.soak import SOAK

pytestmark = pytest.mark.process
ON_POSTGRESQL: Final = pytest.mark.skipif(programs() is None and not os.environ.get("CI"), reason="PostgreSQL is not installed")
ROUNDS: Final = 20 if SOAK else 3
CLIENTS: Final = 8


class Sender(threading.Thread):
    """Sends one delivery after the other, and sends again, under the same key, what a connection failed to bring over.

    Attributes:
        stored: keys that were acknowledged.
        statuses: of every answer.
        broken: errors of connections, by their kind and by whether the connection was new.
    """

    def __init__(self, port: int, token: str, number: int, *, keeps: bool) -> None:
        super().__init__(name=f"sender {number}", daemon=True)
        self._port, self._token, self._number, self._keeps = port, token, number, keeps
        self.stored: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.broken: Counter[tuple[str, str]] = Counter()
        self.finish = threading.Event()

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        key = str(uuid4())
        while not self.finish.is_set():
            fresh = connection is None
            connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            try:
                send(connection, self._token, body(f"host-{self._number}", minute=len(self.stored)), key=key)
                said = answer(connection)
            except (OSError, http.client.HTTPException) as error:
                self.broken["new" if fresh else "kept", type(error).__name__] += 1
                connection.close()
                connection = None
                continue
            self.statuses[said.status] += 1
            if said.status // 100 == 2:
                self.stored.add(key)
                key = str(uuid4())
            if not self._keeps:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    with running() as database:
        settings = {"TOCSIN_DATABASE": database.database(), "TOCSIN_MASTER_KEY_FILE": str(tmp_path / "master.key")}
        port, both = free_port(), []
        for node in ("one", "two"):
            (tmp_path / node).mkdir()
            both.append(Server(tmp_path / node, settings=settings, role="api", port=port))
            both[-1].start()
        yield both
        for server in both:
            server.close()


@ON_POSTGRESQL
def test_restarts_in_turn_fail_no_request_and_lose_none(servers: list[Server]) -> None:
    token = servers[0].token("alertmanager")
    senders = [Sender(servers[0].port, token, number, keeps=number % 2 == 0) for number in range(CLIENTS)]
    for sender in senders:
        sender.start()
    for _ in range(ROUNDS):
        for server in servers:
            server.stop()
            server.start()
    for sender in senders:
        sender.finish.set()
    for sender in senders:
        sender.join(PATIENCE)

    statuses = sum((sender.statuses for sender in senders), Counter[int]())
    broken = sum((sender.broken for sender in senders), Counter[tuple[str, str]]())
    print(f"{2 * ROUNDS} restarts, answers {dict(statuses)}, broken connections {dict(broken)}")
    stored = set[str]().union(*(sender.stored for sender in senders))
    store = servers[0].store()
    kept = sum(1 for _ in store.log(0, 1_000_000, types=(DeliveryReceived.TOPIC,)))
    store.close()
    assert set(statuses) <= {200, 202}
    assert not any(sender.is_alive() for sender in senders)
    assert kept == len(stored)
    assert len(stored) > 100


def test_who_has_got_through_before_the_end_is_answered_and_told_to_go(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    waiting = [server.connect() for _ in range(5)]
    for connection in waiting:
        connection.connect()
    server.tell(signal.SIGTERM)
    while accepts(server.port):
        pass
    for connection in waiting:
        connection.request("GET", "/healthz")
    for connection in waiting:
        said = connection.getresponse()
        assert (said.status, said.headers["Connection"]) == (200, "close")
        connection.close()
    server.ended()
    server.close()


def test_who_the_kernel_has_let_in_at_the_last_moment_is_answered_too() -> None:
    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def serve(bound: socket.socket) -> list[http.client.HTTPConnection]:
        config = uvicorn.Config(answered, http="httptools", lifespan="off")
        config.load()
        server = _Server(config, "ready", Streams())
        server.lifespan = config.lifespan_class(config)
        await server.startup([bound])
        waiting = [http.client.HTTPConnection("127.0.0.1", bound.getsockname()[1], timeout=PATIENCE) for _ in range(20)]
        for connection in waiting:
            connection.request("GET", "/")
        # The loop has not run since, so it has not seen one of them.
        await server.shutdown([bound])
        return waiting

    bound = listen("127.0.0.1", free_port(), shared=True)
    for connection in uvloop.run(serve(bound)):
        assert connection.getresponse().status == 204
        connection.close()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionError:
        return False
    return True


# What systemd does for a service with a socket unit: the socket is descriptor 3, and two variables say so.
HANDING: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_on_a_socket_that_is_handed_over_nobody_is_refused_while_there_is_no_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as shared, (tmp_path / "api.err").open("a") as said:
        shared.listen(128)
        data = str(tmp_path / "data")

        def begin() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", HANDING, str(shared.fileno()), *COMMAND, "api", "--port", str(free_port()), "--data", data],
                cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=said, text=True, pass_fds=[shared.fileno()], start_new_session=True,
            )
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], PATIENCE)[0]
            assert process.stdout.readline().startswith("ready")
            return process

        def asked() -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection("127.0.0.1", shared.getsockname()[1], timeout=PATIENCE)
            connection.request("GET", "/healthz")
            return connection

        process = begin()
        try:
            assert json.loads(asked().getresponse().read())["status"] == "ok"
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
            meanwhile = asked()
        finally:
            process.kill()
        process = begin()
        try:
            assert meanwhile.getresponse().status == 200
        finally:
            process.kill()
            process.wait(PATIENCE)


def test_systemd_is_told_when_it_answers(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.settimeout(PATIENCE)
        told.bind(str(tmp_path / "notify"))
        server = Server(tmp_path, settings={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        server.start()
        assert told.recv(64) == b"READY=1"
        server.close()
