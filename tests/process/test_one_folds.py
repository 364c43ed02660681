"""Of the processes of a node one folds: when it is killed another goes on, and when it is stopped the others say so."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.house import House, open_house
from api.settings import load_settings
from projections.runner import Runner
from tests.process.server import PATIENCE, Server, answer, body, send

pytestmark = pytest.mark.process


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.close()


@pytest.fixture
def house(server: Server) -> Iterator[House]:
    house = open_house(load_settings(data=server.data), first_admin=False)
    yield house
    house.close()


def metric(server: Server, name: str) -> float:
    connection = server.connect()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_a_killed_folder_is_replaced_and_a_later_one_follows(server: Server, house: House) -> None:
    follower = Runner(house.ledger, server.data / "views.db").start()
    token = server.token("alertmanager")
    connection = server.connect()
    for number in range(20):
        send(connection, token, body(f"web-{number}"))
        assert answer(connection).status == 202
    connection.close()
    assert follower.wait_for(house.store.head().position, PATIENCE)
    assert not follower.folds
    assert metric(server, "tocsin_projections_folding") == 1
    server.kill()
    house.directory.create_token(role="agent")
    assert follower.wait_for(house.store.head().position, PATIENCE)
    assert follower.folds
    server.start()
    token = server.token("alertmanager")
    connection = server.connect()
    send(connection, token, body("web-99"))
    assert answer(connection).status == 202
    connection.close()
    until(lambda: metric(server, "tocsin_projections_lag_events") == 0)
    assert metric(server, "tocsin_projections_folding") == 0
    assert server.command("rebuild").startswith("rebuilt all views")
    assert follower.wait_for(house.store.head().position, PATIENCE)
    assert follower.verify() is None
    follower.close()


def test_a_stopped_folder_is_told_of_and_goes_on_where_it_was(server: Server, house: House) -> None:
    follower = Runner(house.ledger, server.data / "views.db", still=0.5).start()
    assert follower.failure is None
    server.tell(signal.SIGSTOP)
    house.directory.create_token(role="agent")
    until(lambda: follower.failure)
    assert follower.failure == f"process {server.pid} keeps the views of this node and has not moved for 0.5 seconds"
    server.tell(signal.SIGCONT)
    assert follower.wait_for(house.store.head().position, PATIENCE)
    until(lambda: follower.failure is None)
    assert not follower.folds
    follower.close()
