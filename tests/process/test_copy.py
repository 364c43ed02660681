"""A store is taken over into another database while the copy is killed again and again; and a cluster is brought back to an instant."""

import contextlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg
import pytest

from api.house import open_house
from api.settings import BadSettings, Settings, load_settings
from tests.process.server import COMMAND, PATIENCE, ROOT, Server, environment, run
from tests.process.test_backup import under_load
from tests.process.test_import import export
from tests.services.postgres import Postgres, programs, running
from tests.soak import SOAK

KILLS: Final = 60 if SOAK else 10
# Seconds between what a kill waits for and the kill: now at once, now in one of the steps that follow.
LATER: Final = (0.0, 0.0, 0.1, 0.4)

pytestmark = [pytest.mark.process, pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A store of 8,000 imported facts and some hundred deliveries, closed."""
    folder = tmp_path_factory.mktemp("source")
    server = Server(folder)
    server.start()
    try:
        with under_load(server, 600):
            pass
        server.stop()
    finally:
        server.close()
    tickets, comments = export(folder)
    run("import", str(tickets), "--mapping", "zendesk", "--comments", str(comments), "--data", str(server.data))
    return load_settings({}, data=server.data)


def made_by_hand(database: Postgres) -> str:
    """The address of an empty database that was made as the manual says."""
    with database.superuser() as connection:
        connection.execute("CREATE DATABASE by_hand OWNER owner")
    address, owner = database.address("by_hand"), database.address("by_hand", user="owner")
    run("migrate", "--tables", settings={"TOCSIN_DATABASE": address, "TOCSIN_DATABASE_OWNER": owner})
    return address


def filled(connection: psycopg.Connection[tuple[int]]) -> int:
    """Rows that are there by now."""
    tables = " + ".join(f"(SELECT count(*) FROM {table})" for table in ("keys.keys", "ledger.bodies", "ledger.events", "ledger.counters"))
    row = connection.execute(f"SELECT {tables}".encode()).fetchone()
    assert row is not None
    return row[0]


def test_a_copy_that_is_killed_at_any_moment_goes_on_and_ends_equal(
    tmp_path: Path, source: Settings, database: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    address, chance, seen = database.database(), random.Random(20260302), list[int]()
    arguments = ("copy", "--from", f"sqlite:///{source.log_file}", "--to", address)
    there = load_settings({"TOCSIN_DATABASE": address}, data=source.data)
    said = json.loads(run(*arguments[:-1], made_by_hand(database), "--json"))
    total = sum(table["rows"] for table in said["tables"] if table["table"] in ("keys", "bodies", "events", "counters"))
    with psycopg.connect(address, autocommit=True) as connection:
        while len(seen) < KILLS:
            before, left = filled(connection), KILLS - len(seen)
            wanted = before + chance.randint(1, (total - before) // left + 1) if before < total else total
            process = subprocess.Popen(
                [*COMMAND, *arguments], cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            while filled(connection) < wanted:
                assert process.poll() is None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.choice(LATER))
            os.killpg(process.pid, signal.SIGKILL)
            assert process.wait(PATIENCE) == -signal.SIGKILL
            seen.append(filled(connection))
            with pytest.raises(BadSettings, match="begun and not finished"):
                open_house(there)
    again = json.loads(run(*arguments, "--json"))
    with capsys.disabled():
        print(f"\n{len(seen)} kills of a copy, after which {seen} of {total} rows were there")
    assert again == said
    server = Server(tmp_path, settings={"TOCSIN_DATABASE": address, "TOCSIN_MASTER_KEY_FILE": str(source.master_key)})
    server.start()
    try:
        with under_load(server, 50):
            pass
        assert "equal a rebuild" in server.command("rebuild", "--verify")
    finally:
        server.close()


def test_a_copy_of_a_store_that_a_server_has_open_is_refused(tmp_path: Path, database: Postgres) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        done = subprocess.run(
            [*COMMAND, "copy", "--from", f"sqlite:///{server.data / 'log.db'}", "--to", database.database()],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )
        assert (done.returncode, "another process has" in done.stderr) == (1, True)
        server.token("alertmanager")
    finally:
        server.close()


def test_a_cluster_comes_back_as_it_was_at_an_instant(tmp_path: Path) -> None:
    with running(archived=True) as database:
        address = database.database()
        server = Server(tmp_path, settings={"TOCSIN_DATABASE": address})
        server.start()
        try:
            with under_load(server, 100):
                pass
            base = database.base_backup()
            with under_load(server, 100):
                pass
            store = server.store()
            head = store.head().position
            with psycopg.connect(address) as connection:
                row = connection.execute("SELECT clock_timestamp()").fetchone()
                assert row is not None
                instant: datetime = row[0]
            rows = store.log(0, 100_000)
            with under_load(server, 100):
                pass
            assert store.head().position > head
            store.close()
            server.kill()
            database.archive_now()

            database.recover(base, instant)
            store = server.store()
            assert store.log(0, 100_000) == rows
            # The views of before are ahead of this log, so they are built anew.
            assert "equal a rebuild" in server.command("rebuild", "--verify")
            server.start()
            with under_load(server, 50):
                pass
            assert store.head().position > head
            store.close()
        finally:
            server.close()
