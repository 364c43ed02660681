"""A server whose disk, or whose database's, is full for a while, under load; and a check of what it did and said meanwhile."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from engine.person import Role
from tests.faults.clients import Client, Reply, token_of
from tests.process.server import PATIENCE, Server, body
from tests.soak import SOAK, Course

CLIENTS: Final = 4
# The views look for something new once a second, a leader renews its lease within four: neither makes a full disk ready.
STAYS_RED_SECONDS: Final = 20.0 if SOAK else 4.5
# After the first commits that failed.
RED_SECONDS: Final = 15.0
HTTP_REFUSED: Final = 503
# Of a process that asks nobody for it; on a machine where all processors are busy.
QUICK_SECONDS: Final = 0.1 if SOAK else 2.0


@dataclass
class Disk:
    """A disk for one server, which can be full.

    Attributes:
        folder: what the server has for its data.
        fill: returns when not a byte can be written any more by the server, or by its database.
        empty: gives the space back.
        meanwhile: what is done to it besides while it is full.
        refusals: what is refused, before there is space again.
    """

    folder: Path
    fill: Callable[[Server], None]
    empty: Callable[[Server], None]
    meanwhile: Callable[[Server], None] | None = None
    refusals: int = 60


def until(holds: Callable[[], bool], said: Callable[[], object] = lambda: "", *, most: float = 90) -> float:
    """Wait for a condition; how long it took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < most, f"it did not come true: {said()}"
        time.sleep(0.05)
    return time.monotonic() - begun


@dataclass
class Load:
    """Clients that post without a pause, and what they were answered."""

    server: Server
    client: Client
    over: threading.Event = field(default_factory=threading.Event)
    paused: threading.Event = field(default_factory=threading.Event)
    acknowledged: list[UUID] = field(default_factory=list)
    refused: list[Reply] = field(default_factory=list)
    others: list[Reply] = field(default_factory=list)

    def run(self, who: int) -> None:
        number = 0
        while not self.over.is_set():
            if self.paused.is_set():
                time.sleep(0.01)
                continue
            number += 1
            content = body(f"host-{who}-{number % 50}", f"host-{who}-x{number}", ended=number % 3 == 0)
            try:
                reply = self.client.post(self.server, "/hooks/alertmanager", content)
            except ConnectionError:  # one that lay idle for long is closed by the server
                continue
            if reply.status == 202:
                self.acknowledged.append(UUID(reply.document["delivery"]))
            elif reply.status == HTTP_REFUSED:
                self.refused.append(reply)
                time.sleep(0.01)
            else:
                self.others.append(reply)


def stands_a_full_disk(server: Server, disk: Disk, rounds: int) -> str:
    """Fill it and make room again so often. The server runs already, and is stopped in the end.

    Returns:
        What was counted.
    """
    client = reader = Client(token_of(server, Role.ADMIN))
    load, course = Load(server, client), Course(rounds, "times full;")
    pid, back, slowest = server.pid, list[float](), 0.0

    def state() -> Reply:
        return reader.get(server, "/readyz")

    def ready() -> bool:
        return state().status == 200

    def lives() -> None:
        nonlocal slowest
        asked = time.monotonic()
        assert reader.get(server, "/healthz").status == 200
        slowest = max(slowest, time.monotonic() - asked)

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(load.run, who) for who in range(CLIENTS)]
        try:
            for turn in range(rounds):
                course.at(turn, f"{len(load.acknowledged)} acknowledged, {len(load.refused)} refused, back after {back}")
                before = len(load.acknowledged)
                until(lambda before=before: len(load.acknowledged) > before + 100)  # type: ignore[misc]  # bound per round
                until(ready)
                for act in filter(None, (disk.fill, disk.meanwhile)):
                    refused = len(load.refused)
                    act(server)
                    until(lambda refused=refused: len(load.refused) > refused + disk.refusals)  # type: ignore[misc]  # bound per round
                    until(lambda: not ready(), lambda: "it is said to be ready", most=RED_SECONDS)
                    lives()
                stays_red(server, reader, load, lives, 1.0)
                load.paused.set()  # nobody else tries meanwhile, and it stays red
                stays_red(server, reader, load, lives, STAYS_RED_SECONDS)
                said = reader.get(server, "/api/v1/alerts?limit=20")
                assert (said.status, len(said.document.get("items", ()))) == (200, 20), said
                assert len(reader.get(server, "/api/v1/queue").document["items"]) == 1
                before = len(load.acknowledged)
                if turn % 2:
                    load.paused.clear()
                    disk.empty(server)
                    back.append(until(lambda before=before: len(load.acknowledged) > before and ready()))  # type: ignore[misc]  # bound per round
                else:  # nobody tries, and it comes back all the same
                    disk.empty(server)
                    back.append(until(ready, state))
                    load.paused.clear()
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
    assert slowest < QUICK_SECONDS
    assert not SOAK or max(back) < 10
    return (
        f"{len(load.acknowledged)} acknowledged, {len(load.refused)} refused, 0 lost; "
        f"back after {', '.join(f'{wait:.1f} s' for wait in back)}; healthz at worst {slowest * 1000:.0f} ms"
    )


def stays_red(server: Server, reader: Client, load: Load, lives: Callable[[], None], seconds: float) -> None:
    """For a while."""
    watched = time.monotonic()
    while time.monotonic() - watched < seconds:
        said = reader.get(server, "/readyz")
        assert (said.status, said.document["checks"]["store"] == "ok") == (503, False), f"it is said to be ready after {load.refused[-1]}"
        lives()
