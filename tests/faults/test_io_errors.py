"""A write or a sync fails, whichever it is: what was acknowledged is there all the same, and after a kill too."""

import itertools
import os
import re
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from engine.person import Role
from tests.faults.clients import Client, token_of
from tests.process.server import PATIENCE, Server, body
from tests.soak import SOAK, Course

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("strace") is None and not os.environ.get("CI"), reason="strace is not installed"),
]

# Which of its calls fails first in the thread that commits, and whether all further ones do.
PLACES: Final[Sequence[tuple[str, int, str]]] = [
    (call, number, more)
    for number in ((*range(1, 51),) if SOAK else (1, 2, 3, 5, 8, 13))
    for call, more in (("pwrite64", ""), ("pwrite64", "+"), ("fdatasync", ""), ("fdatasync", "+"))
]
KILL_AFTER: Final = 10 if SOAK else 12
CLIENTS: Final = 4
EACH: Final = 25 if SOAK else 10


@contextmanager
def failing(server: Server, call: str, number: int, more: str) -> Iterator[None]:
    """From its nth call on (`+`), or only then, the kernel answers each thread of the server with an I/O error."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(server.pid), "-e", f"trace={call}", "-e", "signal=none", "-e", f"inject={call}:error=EIO:when={number}{more}", "-o", "/dev/null"],
        stderr=subprocess.PIPE, text=True,
    )
    try:
        assert tracer.stderr is not None
        # It says so of each thread; from the first on all of them are stopped and resumed one by one, which nobody here needs to wait for.
        readable, _, _ = select.select([tracer.stderr], [], [], PATIENCE)
        said = tracer.stderr.readline() if readable else ""
        assert re.search("attached", said), said
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(PATIENCE)


def stored(server: Server) -> set[UUID]:
    store = server.store()
    try:
        return {UUID(bytes=row.stream) for row in store.log(0, 1_000_000, types=("delivery.received.v1",))}
    finally:
        store.close()


def test_no_failed_write_is_acknowledged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(tmp_path)
    server.start()
    acknowledged: list[UUID] = []
    refused: list[int] = []
    others: list[object] = []
    hurt = kills = 0
    course = Course(len(PLACES), "places;")
    numbers, lock = itertools.count(), threading.Lock()
    try:
        client = Client(token_of(server, Role.ADMIN))

        def post(_: int) -> None:
            for _ in range(EACH):
                reply = client.post(server, "/hooks/alertmanager", body(f"host-{next(numbers)}"))
                with lock:
                    if reply.status == 202:
                        acknowledged.append(UUID(reply.document["delivery"]))
                    elif reply.status == 503:
                        refused.append(reply.status)
                    else:
                        others.append(reply)

        with ThreadPoolExecutor(CLIENTS) as pool:
            for turn, (call, number, more) in enumerate(PLACES, 1):
                before = len(refused)
                with failing(server, call, number, more):
                    list(pool.map(post, range(CLIENTS)))
                hurt += len(refused) > before
                course.at(turn, f"{len(acknowledged)} acknowledged, {len(refused)} refused")
                lost = set(acknowledged) - stored(server)
                assert lost == set(), f"{len(lost)} were acknowledged and are not there: {call} {number}{more}"
                assert others == []
                if turn % KILL_AFTER == 0:
                    kills += 1
                    server.kill()
                    server.start()
                    assert set(acknowledged) - stored(server) == set(), f"{call} {number}{more}"
                    client = Client(client._token)
        server.stop()
        assert hurt > len(PLACES) // 3, "the errors met nobody: nothing was tested"
        assert "equal a rebuild" in server.command("rebuild", "--verify")
        log = server.log()
        assert log.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        log.close()
    finally:
        server.close()
    with capsys.disabled():
        print(f"\n{len(PLACES)} places, {hurt} of them with a refusal; {len(acknowledged)} acknowledged, {len(refused)} refused, 0 lost, {kills} kills")
