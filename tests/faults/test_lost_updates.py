"""Two people act on one ticket at the same moment, on different processes: one does it, the other is told that it has changed."""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from engine.person import Role
from tests.faults.clients import Client, Reply, started, token_of
from tests.process.server import Server
from tests.services.postgres import programs, running
from tests.soak import SOAK, Course

RACES: Final = 5_000 if SOAK else 300


def one_of_two_wins(servers: Sequence[Server], races: int) -> None:
    """Let two writers act on what both of them have seen, again and again."""
    client = Client(token_of(servers[0], Role.ADMIN))
    opened = client.post(servers[0], "/api/v1/incidents", {"title": "The shop is slow"})
    number = opened.document["number"]
    for server in servers:
        assert client.ask("GET", server, f"/api/v1/tickets/{number}", None, {"Tocsin-Position": opened.headers["tocsin-position"]}).status == 200
    seen, start, won = opened.headers["etag"], threading.Barrier(2), Counter[int]()
    said: list[str] = []
    course = Course(races, "races")

    def write(who: int, race: int, etag: str) -> Reply:
        start.wait(60)
        path = f"/api/v1/incidents/{number}/comment"
        return client.post(servers[who % len(servers)], path, {"text": f"comment {race} of {who}"}, If_Match=etag)

    with ThreadPoolExecutor(2) as pool:
        for race in range(races):
            replies = list(pool.map(write, (0, 1), (race, race), (seen, seen)))
            assert sorted(reply.status for reply in replies) == [200, 412], f"race {race}: {[reply.status for reply in replies]}"
            winner = 0 if replies[0].status == 200 else 1
            won[winner] += 1
            said.append(f"comment {race} of {winner}")
            seen = replies[winner].headers["etag"]
            course.at(race)
    store = servers[0].store()
    try:
        rows = store.log(0, 1_000_000, types=("ticket.commented.v1",))
    finally:
        store.close()
    assert len(rows) == len(said) == races
    assert len(won) == 2, "only one of them ever wins: this is no race"


@pytest.mark.process
def test_of_two_who_act_on_the_same_version_one_is_refused(tmp_path: Path) -> None:
    if programs() is None and not os.environ.get("CI"):
        pytest.skip("PostgreSQL is not installed")
    with running() as database:
        settings = {"TOCSIN_DATABASE": database.database(), "TOCSIN_MASTER_KEY_FILE": str(tmp_path / "master.key")}
        with started(tmp_path, ["api", "api"], settings) as servers:
            one_of_two_wins(servers, RACES)
