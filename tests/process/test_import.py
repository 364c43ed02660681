"""An import that is killed again and again, and run again, brings each ticket with its comments once."""

import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.process.server import COMMAND, PATIENCE, ROOT, environment, run

KILLS = 20
TICKETS = 4_000


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


def imported(data: Path) -> int:
    log = sqlite3.connect(f"file:{data / 'log.db'}?mode=ro", uri=True, timeout=PATIENCE)
    try:
        count: int = log.execute("SELECT count(*) FROM events WHERE type LIKE '%.imported.v1'").fetchone()[0]
        return count
    finally:
        log.close()


@pytest.mark.process
def test_twenty_kills_lose_nothing_and_bring_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    run("migrate", "--data", str(data))
    tickets, comments = export(tmp_path)
    arguments = ("import", str(tickets), "--mapping", "zendesk", "--comments", str(comments), "--data", str(data))
    chance, kills, seen = random.Random(20260302), 0, []
    while kills < KILLS:
        before = imported(data)
        wanted = before + chance.randint(1, (TICKETS - before) // (KILLS + 1 - kills) + 1)
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while imported(data) < wanted:
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
        kills += 1
        seen.append(imported(data))
        if seen[-1] == TICKETS:
            break
    said = json.loads(run(*arguments, "--json"))
    with capsys.disabled():
        print(f"\n{kills} kills, after which {seen} of {TICKETS} were there")
    assert (said["imported"] + said["already_here"], said["faulty"]) == (TICKETS, 0)
    log = sqlite3.connect(f"file:{data / 'log.db'}?mode=ro", uri=True)
    kinds = Counter(row[0] for row in log.execute("SELECT type FROM events"))
    streams = log.execute("SELECT count(DISTINCT stream) FROM events WHERE type LIKE '%.imported.v1'").fetchone()[0]
    assert log.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    log.close()
    assert (kinds["incident.imported.v1"], kinds["ticket.comment_imported.v1"], streams) == (TICKETS, TICKETS, TICKETS)
    assert kinds["person.registered.v1"] == 97 + 7
    assert kills == KILLS
    assert json.loads(run(*arguments, "--json"))["already_here"] == TICKETS
    assert "equal a rebuild" in run("rebuild", "--verify", "--data", str(data))
