"""A backup beside a server under load holds what was acknowledged before it began; a kill leaves no half of one."""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from tests.process.server import COMMAND, PATIENCE, ROOT, Server, environment, run
from tests.process.test_kill import Load
from tests.services.postgres import programs, running

CLIENTS = 4


@contextmanager
def under_load(server: Server, acknowledged: int) -> Iterator[Load]:
    """Clients that post without a pause; begins when so many were acknowledged."""
    load = Load(server, server.token("alertmanager"), server.kill, up=True)
    clients = [threading.Thread(target=load.client, args=(who,), daemon=True) for who in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        with load.change:
            assert load.change.wait_for(lambda: len(load.acknowledged) >= acknowledged or bool(load.failures), PATIENCE)
        yield load
    finally:
        with load.change:
            load.over = True
            load.change.notify_all()
        for client in clients:
            client.join(PATIENCE)
    assert load.failures == []


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Of the server that is backed up."""
    if request.param == "sqlite":
        yield {}
        return
    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with running() as database:
        yield {"TOCSIN_DATABASE": database.database()}


@pytest.mark.process
def test_a_backup_under_load_holds_everything_that_was_acknowledged_before_it_began(tmp_path: Path, settings: dict[str, str]) -> None:
    """And comes back, from either database, onto files."""
    server = Server(tmp_path, settings=settings)
    server.start()
    backup = tmp_path / "backup"
    try:
        with under_load(server, 400) as load:
            with load.change:
                before = [delivery for delivery, _ in load.acknowledged]
            said = json.loads(server.command("backup", str(backup), "--json"))
            with load.change:
                wanted = len(load.acknowledged) + 50
                assert load.change.wait_for(lambda: len(load.acknowledged) >= wanted or bool(load.failures), PATIENCE)
        server.stop()
    finally:
        server.close()
    (tmp_path / "again").mkdir()
    restored = Server(tmp_path / "again")
    shutil.copy(tmp_path / "data.key", tmp_path / "again" / "data.key")
    assert "equal a rebuild" in run("restore", str(backup), "--digest", said["digest"], "--data", str(restored.data))
    log = restored.log()
    held = {UUID(bytes=row[0]) for row in log.execute("SELECT stream FROM events WHERE type = 'delivery.received.v1'")}
    log.close()
    assert set(before) - held == set()
    # The same queue as the original showed at that moment.
    then = ("--as-of", said["manifest"]["recorded_at"], "--json")
    queues = [json.loads(one.command("queue", *then)) for one in (server, restored)]
    assert queues[0]["items"] == queues[1]["items"]
    assert len(queues[0]["items"]) > 0
    assert "equal a rebuild" in run("rebuild", "--verify", "--data", str(restored.data))
    restored.start()
    try:
        with under_load(restored, 20):
            pass
    finally:
        restored.close()


def killed_when(there: Path, *arguments: str) -> bool:
    """Start a command and kill it as soon as a file is there; whether it was killed before its end."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and not there.exists():
        pass
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.process
def test_a_backup_or_a_restore_that_is_killed_leaves_nothing_that_passes_for_one(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        with under_load(server, 200):
            pass
        server.stop()
    finally:
        server.close()
    backup, data = tmp_path / "backup", str(server.data)
    assert killed_when(backup / "log.db.part", "backup", str(backup), "--data", data)
    assert refused("restore", str(backup), "--data", str(tmp_path / "new")).endswith("never finished\n")
    run("backup", str(backup), "--data", data)
    assert killed_when(backup / "keys.db.part", "backup", str(backup), "--data", data)

    shutil.copy(tmp_path / "data.key", tmp_path / "new.key")
    new = ("--data", str(tmp_path / "new"))
    assert killed_when(tmp_path / "new" / "restoring" / "views.db", "restore", str(backup), *new)
    assert "begun and not finished" in refused("migrate", *new)
    assert "equal a rebuild" in run("restore", str(backup), *new)
    assert not (tmp_path / "new" / "restoring").exists()


def refused(*arguments: str) -> str:
    """What a command says that is refused."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    return done.stderr
