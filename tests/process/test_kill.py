"""What was acknowledged survives SIGKILL at any moment, nothing is stored twice, and the views equal a rebuild.

A kill counts only with at least one request in flight (sent, not yet answered) and one acknowledged since the last.
"""

import http.client
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from engine.store import Store
from tests.process.server import PATIENCE, Server, answer, body, send
from tests.services.postgres import Postgres, programs, running
from tests.soak import SOAK, Course

CLIENTS: Final = 6
# Acknowledgements between two kills: from right after the start until well into the load.
MOST_BETWEEN: Final = 60


@dataclass
class Load:
    """What the clients did and saw; every field is read and written under `change`.

    Attributes:
        kill: what is killed: our server, or the database behind it.
        refused_while_down: a 503 means that a request was cut off; without it, it is a failure.
    """

    server: Server
    token: str
    kill: Callable[[], None]
    refused_while_down: bool = False
    change: threading.Condition = field(default_factory=threading.Condition)
    up: bool = False
    over: bool = False
    in_flight: int = 0
    cut_off: int = 0
    since_last_kill: int = 0
    acknowledged: list[tuple[UUID, str | None]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def client(self, who: int) -> None:
        """Posts without a pause; what was cut off is sent again under the same key."""
        try:
            self._post(random.Random(who), who)
        except Exception as error:
            with self.change:
                self.failures.append(repr(error))
                self.change.notify_all()

    def _post(self, chance: random.Random, who: int) -> None:
        number = 0
        connection: http.client.HTTPConnection | None = None
        again: tuple[dict[str, Any], str | None] | None = None
        while self._wait_until_up():
            if connection is None:
                connection = self.server.connect()
            content, key = again or self._next(chance, who, number)
            number += 1
            try:
                self._exchange(connection, content, key)
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
                again = (content, key) if key is not None else None
            else:
                again = None
        if connection is not None:
            connection.close()

    @staticmethod
    def _next(chance: random.Random, who: int, number: int) -> tuple[dict[str, Any], str | None]:
        """A mixture: new alerts, repeats, resolves, groups; half of them identified."""
        names = [f"host-{who}-{chance.randrange(40)}" for _ in range(chance.choice((1, 1, 1, 5)))]
        content = body(*names, ended=chance.random() < 0.3, minute=number // 40)
        return content, str(uuid4()) if chance.random() < 0.5 else None

    def _wait_until_up(self) -> bool:
        with self.change:
            assert self.change.wait_for(lambda: self.up or self.over, PATIENCE)
            return not self.over

    def _exchange(self, connection: http.client.HTTPConnection, content: dict[str, Any], key: str | None) -> None:
        send(connection, self.token, content, key=key)
        with self.change:
            self.in_flight += 1
            self.change.notify_all()
        try:
            status, said = answer(connection)
        except (OSError, http.client.HTTPException):
            with self.change:
                self.in_flight, self.cut_off = self.in_flight - 1, self.cut_off + 1
                self.change.notify_all()
            raise
        with self.change:
            self.in_flight -= 1
            refused = status == 503 and self.refused_while_down
            if status == 202:
                self.acknowledged.append((UUID(said["delivery"]), key))
                self.since_last_kill += 1
            elif refused:
                self.cut_off += 1
            else:
                self.failures.append(f"{status} {said}")
            self.change.notify_all()
        if refused:
            raise ConnectionRefusedError("503")

    def kill_after(self, acknowledgements: int) -> bool:
        """Kill once so many were acknowledged, while something is in flight; whether the kill cut a request off."""
        with self.change:
            ripe = self.change.wait_for(
                lambda: (self.since_last_kill >= acknowledgements and self.in_flight > 0) or bool(self.failures), PATIENCE
            )
            assert ripe
            assert self.failures == []
            self.up, self.cut_off = False, 0
            self.kill()
            # Answers that had arrived are noted now; what had none is cut off.
            assert self.change.wait_for(lambda: self.in_flight == 0, PATIENCE)
            counts = self.cut_off > 0 and self.since_last_kill > 0
            self.since_last_kill = 0
        return counts

    def go_on(self) -> None:
        with self.change:
            self.up = True
            self.change.notify_all()


@dataclass
class Log:
    """What the log holds, read as it grows."""

    store: Store
    position: int = 0
    deliveries: dict[UUID, int] = field(default_factory=dict)
    versions: dict[bytes, int] = field(default_factory=dict)

    def read(self) -> None:
        """Take in what is new; no stream has a hole."""
        while rows := self.store.log(self.position, 5_000):
            for row in rows:
                assert row.version == self.versions.get(row.stream, 0) + 1
                self.position, self.versions[row.stream] = row.position, row.version
                if row.type == "delivery.received.v1":
                    delivery = UUID(bytes=row.stream)
                    self.deliveries[delivery] = self.deliveries.get(delivery, 0) + 1


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with running() as found:
        yield found


def is_sound(server: Server) -> None:
    """The file itself, by SQLite's own check."""
    log = server.log()
    assert log.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    log.close()


@pytest.mark.process
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(tmp_path)
    survive(server, 500 if SOAK else 60, capsys, server.kill, server.start)
    is_sound(server)


@pytest.mark.process
def test_nothing_acknowledged_is_lost_when_the_server_on_postgresql_is_killed(
    tmp_path: Path, database: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(tmp_path, settings={"TOCSIN_DATABASE": database.database()})
    survive(server, 300 if SOAK else 30, capsys, server.kill, server.start)


@pytest.mark.process
def test_nothing_acknowledged_is_lost_when_postgresql_is_killed(
    tmp_path: Path, database: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(tmp_path, settings={"TOCSIN_DATABASE": database.database()})
    survive(server, 100 if SOAK else 10, capsys, database.crash, database.start, refused_while_down=True)


def survive(
    server: Server, kills: int, capsys: pytest.CaptureFixture[str], kill: Callable[[], None], start: Callable[[], None],
    *, refused_while_down: bool = False,
) -> None:
    """Kill and start until so many kills counted; then everything that was acknowledged is there, once."""
    chance = random.Random(20260302)
    server.start()
    load = Load(server, server.token("alertmanager"), kill, refused_while_down, up=True)
    log = Log(server.store())
    clients = [threading.Thread(target=load.client, args=(who,), daemon=True) for who in range(CLIENTS)]
    for client in clients:
        client.start()
    counted = done = 0
    course = Course(kills, "kills")
    try:
        while counted < kills:
            done += 1
            counted += load.kill_after(chance.randint(1, MOST_BETWEEN))
            acknowledged = list(load.acknowledged)
            start()
            load.go_on()
            log.read()
            assert [delivery for delivery, _ in acknowledged if delivery not in log.deliveries] == []
            course.at(counted, f"of {done}; {len(acknowledged)} acknowledged")
        with load.change:
            load.over = True
            load.change.notify_all()
        for client in clients:
            client.join(PATIENCE)
            assert not client.is_alive()
        server.stop()
    finally:
        with load.change:
            load.over = True
            load.change.notify_all()
        server.close()
    log.read()
    log.store.close()
    lost = {delivery for delivery, _ in load.acknowledged} - log.deliveries.keys()
    keys = {key: delivery for delivery, key in load.acknowledged if key is not None}
    with capsys.disabled():
        print(
            f"\n{counted} of {done} kills with a request in flight and an acknowledgement since the last one: "
            f"{len(load.acknowledged)} acknowledged, {len(log.deliveries)} stored, {len(lost)} lost"
        )
    assert lost == set()
    assert load.failures == []
    # Each delivery is stored once; a key that was sent again after a kill is the delivery that it was before.
    assert set(log.deliveries.values()) == {1}
    assert {(delivery, key) for delivery, key in load.acknowledged if key is not None} == {
        (delivery, key) for key, delivery in keys.items()
    }
    assert "equal a rebuild" in server.command("rebuild", "--verify")
