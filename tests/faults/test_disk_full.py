"""The disk is full for a while: nothing is acknowledged, everything can be read, and it goes on by itself when there is space again."""

import contextlib
import os
import resource
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from engine.person import Role
from tests.faults.clients import Client, Reply, token_of
from tests.faults.promises import SOAK
from tests.process.server import PATIENCE, Server, body

pytestmark = pytest.mark.process

ROUNDS: Final = 10 if SOAK else 2
CLIENTS: Final = 4
DISK: Final = 96 * 2**20
# What is refused while it is full, before there is space again.
REFUSALS: Final = 60
# The views look for something new once a second, and the answer of readyz must not come from there alone.
STAYS_RED_SECONDS: Final = 2.5
HTTP_REFUSED: Final = 503


@dataclass
class Disk:
    """A disk for one server, which can be full.

    Attributes:
        fill: returns when not a byte can be written any more by the server.
        empty: gives the space back.
    """

    folder: Path
    fill: Callable[[Server], None]
    empty: Callable[[Server], None]


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Disk]:
    """A file system of its own, filled to the last byte."""
    folder = place / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=True)
    ballast = folder / "ballast"

    def fill(_: Server) -> None:
        # What the server writes is larger than a byte, so the last page will never be enough for it.
        with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    try:
        yield Disk(folder, fill, lambda _: ballast.unlink())
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def small_files(place: Path) -> Iterator[Disk]:
    """A limit for the size of files, which the kernel keeps for one process: a write beyond it is an error."""

    def limit(server: Server, most: int) -> None:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    yield Disk(place, lambda server: limit(server, 4096), lambda server: limit(server, resource.RLIM_INFINITY))


# Only root may mount.
KINDS: Final = [small_files] if os.geteuid() else [small_disk, small_files] if SOAK else [small_disk]


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with request.param(tmp_path) as found:
        yield found


def until(holds: Callable[[], bool]) -> float:
    """Wait for a condition; how long it took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < 90, "it did not come true"
        time.sleep(0.05)
    return time.monotonic() - begun


class Load:
    """Clients that post without a pause, and what they were answered."""

    def __init__(self, server: Server, client: Client) -> None:
        self._server, self._client = server, client
        self.over, self.paused = threading.Event(), threading.Event()
        self.acknowledged: list[UUID] = []
        self.refused: list[Reply] = []
        self.others: list[Reply] = []

    def run(self, who: int) -> None:
        number = 0
        while not self.over.is_set():
            if self.paused.is_set():
                time.sleep(0.01)
                continue
            number += 1
            reply = self._client.post(self._server, "/hooks/alertmanager", body(f"host-{who}-{number % 50}", f"host-{who}-x{number}", ended=number % 3 == 0))
            if reply.status == 202:
                self.acknowledged.append(UUID(reply.document["delivery"]))
            elif reply.status == HTTP_REFUSED:
                self.refused.append(reply)
                time.sleep(0.01)
            else:
                self.others.append(reply)


def test_while_the_disk_is_full_nothing_is_acknowledged_and_everything_can_be_read(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(disk.folder)
    server.start()
    try:
        client = reader = Client(token_of(server, Role.ADMIN))
        load = Load(server, client)
        pid, back = server.pid, []

        def ready() -> bool:
            return reader.get(server, "/readyz").status == 200

        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(load.run, who) for who in range(CLIENTS)]
            try:
                for _ in range(ROUNDS):
                    before = len(load.acknowledged)
                    until(lambda before=before: len(load.acknowledged) > before + 100)  # type: ignore[misc]  # bound per round
                    until(ready)
                    refused = len(load.refused)
                    disk.fill(server)
                    until(lambda refused=refused: len(load.refused) > refused + REFUSALS)  # type: ignore[misc]  # bound per round
                    until(lambda: not ready())
                    load.paused.set()  # nobody else tries meanwhile, and it stays red
                    watched = time.monotonic()
                    while time.monotonic() - watched < STAYS_RED_SECONDS:
                        said = reader.get(server, "/readyz")
                        assert (said.status, said.document["checks"]["store"] == "ok") == (503, False), "it is said to be ready"
                    load.paused.clear()
                    assert reader.get(server, "/healthz").status == 200
                    assert len(reader.get(server, "/api/v1/alerts?limit=20").document["items"]) == 20
                    assert len(reader.get(server, "/api/v1/queue").document["items"]) == 1
                    before = len(load.acknowledged)
                    disk.empty(server)
                    back.append(until(lambda before=before: len(load.acknowledged) > before and ready()))  # type: ignore[misc]  # bound per round
            finally:
                load.over.set()
            for done in running:
                done.result(PATIENCE)
        assert load.others == []
        for reply in load.refused:
            assert reply.headers["content-type"] == "application/problem+json"
            assert int(reply.headers["retry-after"]) > 0
        assert server.pid == pid
        server.stop()
        store = server.store()
        try:
            stored = Counter(UUID(bytes=row.stream) for row in store.log(0, 1_000_000, types=("delivery.received.v1",)))
        finally:
            store.close()
        assert [delivery for delivery in load.acknowledged if stored[delivery] != 1] == []
        assert "equal a rebuild" in server.command("rebuild", "--verify")
        log = server.log()
        assert log.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        log.close()
    finally:
        server.close()
    with capsys.disabled():
        print(f"\n{len(load.acknowledged)} acknowledged, {len(load.refused)} refused, 0 lost; back after {', '.join(f'{wait:.1f} s' for wait in back)}")
    assert not SOAK or max(back) < 10
