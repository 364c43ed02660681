"""An import that is killed again and again, and run again, brings each ticket with its comments once."""

import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.process.server import COMMAND, PATIENCE, ROOT, environment, run
from tests.services.postgres import programs, running
from tests.soak import SOAK

# Between two kills some 250 tickets are imported at the least: what is under way when the kill arrives may be a whole commit.
KILLS, TICKETS = (20, 8_000) if SOAK else (10, 4_000)
KILLS_ON_POSTGRES = 6
OVERSHOOT = 150


def export(folder: Path) -> tuple[Path, Path]:
    """(tickets, comments) as Zendesk writes them."""
    tickets, comments = folder / "tickets.csv", folder / "comments.csv"
    with tickets.open("w", newline="") as content:
        writer = csv.writer(content)
        writer.writerow(["Id", "Subject", "Status", "Requester", "Requester email", "Assignee", "Created at", "Solved at"])
        for number in range(1, TICKETS + 1):
            who = number % 97
            writer.writerow([
                number, f"Printer {number}", "Solved", f"Person {who}", f"person-{who}@example.com", f"Agent {number % 7}",
                "2024-05-03 14:02", "2024-05-03 18:02",
            ])
    with comments.open("w", newline="") as content:
        writer = csv.writer(content)
        writer.writerow(["Ticket id", "Comment", "Author", "Created at", "Public"])
        for number in range(1, TICKETS + 1):
            writer.writerow([number, "Any news?", f"Person {number % 97}", "2024-05-03 15:02", "true"])
    return tickets, comments


class Log:
    """Looks into a store's log from outside, on either database."""

    def __init__(self, data: Path, address: str | None) -> None:
        self._data, self._address = data, address

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        if self._address is not None:
            with psycopg.connect(self._address) as connection:
                return connection.execute(sql.replace("FROM events", "FROM ledger.events").encode()).fetchall()
        with closing(sqlite3.connect(f"file:{self._data / 'log.db'}?mode=ro", uri=True, timeout=PATIENCE)) as log:
            return log.execute(sql).fetchall()

    def imported(self) -> int:
        return int(self.ask("SELECT count(*) FROM events WHERE type IN ('incident.imported.v1', 'request.imported.v1')")[0][0])


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Of a database on PostgreSQL; None: the store is on files."""
    if request.param == "sqlite":
        yield None
        return
    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with running() as server:
        yield server.database()


@pytest.mark.process
def test_kills_lose_nothing_and_bring_nothing_twice(tmp_path: Path, address: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    data, settings = tmp_path / "data", {"TOCSIN_DATABASE": address} if address else {}
    log, wanted_kills = Log(data, address), KILLS_ON_POSTGRES if address else KILLS
    owner = {"TOCSIN_DATABASE_OWNER": address.replace("//app@", "//owner@")} if address else {}
    run("migrate", "--data", str(data), settings={**settings, **owner})
    tickets, comments = export(tmp_path)
    arguments = ("import", str(tickets), "--mapping", "zendesk", "--comments", str(comments), "--data", str(data))
    chance, kills, seen = random.Random(20260302), 0, []
    while kills < wanted_kills:
        before = log.imported()
        share = (TICKETS - before) // (wanted_kills + 1 - kills)
        wanted = before + chance.randint(1, max(1, share - OVERSHOOT))
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=ROOT, env=environment(**settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while log.imported() < wanted:
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
        kills += 1
        seen.append(log.imported())
        if seen[-1] == TICKETS:
            break
    said = json.loads(run(*arguments, "--json", settings=settings))
    with capsys.disabled():
        print(f"\n{kills} kills, after which {seen} of {TICKETS} were there")
    assert (said["imported"] + said["already_here"], said["faulty"]) == (TICKETS, 0)
    kinds = Counter(row[0] for row in log.ask("SELECT type FROM events"))
    ((streams,),) = log.ask("SELECT count(DISTINCT stream) FROM events WHERE type LIKE '%.imported.v1'")
    if address is None:
        assert log.ask("PRAGMA integrity_check") == [("ok",)]
    assert (kinds["incident.imported.v1"], kinds["ticket.comment_imported.v1"], streams) == (TICKETS, TICKETS, TICKETS)
    assert kinds["person.registered.v1"] == 97 + 7
    assert kills == wanted_kills
    assert json.loads(run(*arguments, "--json", settings=settings))["already_here"] == TICKETS
    assert "equal a rebuild" in run("rebuild", "--verify", "--data", str(data), settings=settings)
