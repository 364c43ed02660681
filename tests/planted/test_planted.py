"""A check that can't fail proves nothing: each of them fails on a bug that was planted for it."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from engine.postgres_store import PostgresStore
from tests.faults import pairs, test_postgres_disk_full
from tests.faults.clients import started
from tests.faults.cuts import LONGEST_LIFE, Mortal, survives
from tests.faults.full import stands_a_full_disk
from tests.faults.jumps import HOUR, keeps_time
from tests.faults.promises import scratch
from tests.faults.test_clock_jumps import LIFE
from tests.faults.test_lost_updates import one_of_two_wins
from tests.faults.test_retries import each_has_one_effect
from tests.faults.test_storm import quiet_is_heard
from tests.faults.torn import is_a_clean_prefix, written
from tests.planted import bugs
from tests.process.server import COMMAND, Server
from tests.process.test_sync import sync_before_each_answer
from tests.services.postgres import Postgres, programs, running

Check = Callable[[Path], object]


def fails(check: Callable[[], object]) -> str:
    """What the check says against it."""
    with pytest.raises(Exception) as caught:  # a bug may break a check in any way; which, is said by the test
        check()
    return f"{type(caught.value).__name__}: {caught.value}"


# -- in this process -----------------------------------------------------------------------------------------------------


def any_death(folder: Path, **planted: Any) -> None:
    for life in range(LONGEST_LIFE):
        (folder / str(life)).mkdir()
        if not survives(folder / str(life), life, **planted):
            return


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ({"store_class": bugs.AnswersAfterwards}, "one key had two effects|without its remembered answer"),
        ({"store_class": bugs.CountsAfterwards}, "the counter stands at|given twice"),
        ({"store_class": bugs.CursorFirst}, "the cursor stands at 1, there are 0 records"),
        ({"store_class": bugs.RowsFirst}, "the cursor stands at 0, there are 1 records"),
        ({"ledger_class": bugs.AnswersAtOnce}, "acknowledged, and lost"),
    ],
)
def test_dying_at_any_call_of_the_store(planted: dict[str, Any], says: str) -> None:
    with scratch() as folder:
        said = fails(lambda: any_death(folder, **planted))
    assert re.search(says, said), said


def any_cut(folder: Path, store_class: type[Mortal]) -> None:
    files = written(folder / "whole", 3, store_class)
    for edge in files.edges:
        is_a_clean_prefix(folder / "cut", files, files.log[:edge], edge)


@pytest.mark.files
@pytest.mark.parametrize("store_class", [bugs.CountsAfterwards, bugs.AnswersAfterwards, bugs.CursorFirst])
def test_a_torn_log(store_class: type[Mortal]) -> None:
    with scratch() as folder:
        assert "AssertionError" in fails(lambda: any_cut(folder, store_class))


def steps_back(folder: Path) -> None:
    keeps_time(folder, datetime(2026, 3, 2, 12, tzinfo=UTC), [*LIFE, ("jump", HOUR), ("fires", 3.0)])


CHECKS: Final[list[tuple[Check, bugs.Bug, str]]] = [
    (pairs.a_failed_commit_leaves_no_trace, bugs._state_is_kept, "decided on what is not stored"),
    (pairs.each_decides_on_what_the_other_wrote, bugs._others_are_not_read, "UNIQUE|unique|AlreadyStored"),
    (pairs.a_former_leader_does_nothing, bugs._no_fence, "it was not refused"),
    (steps_back, bugs._follows_steps, "a clock is off by 3600"),
]


@pytest.mark.parametrize(("check", "bug", "says"), CHECKS)
def test_a_bug_in_this_process(check: Check, bug: bugs.Bug, says: str) -> None:
    with scratch() as folder:
        (folder / "sound").mkdir()
        check(folder / "sound")
        (folder / "planted").mkdir()
        with bug():
            said = fails(lambda: check(folder / "planted"))
    assert re.search(says, said), said


@pytest.mark.files
def test_a_transaction_that_sqlite_gave_up() -> None:
    with scratch() as folder:
        (folder / "sound").mkdir()
        pairs.a_full_file_takes_nothing_by_halves(folder / "sound")
        (folder / "planted").mkdir()
        with bugs._goes_on_by_halves():
            said = fails(lambda: pairs.a_full_file_takes_nothing_by_halves(folder / "planted"))
    assert re.search("not there|AlreadyStored|AssertionError", said), said


@pytest.mark.files
def test_rows_of_a_view_without_their_position() -> None:
    with scratch() as folder:
        (folder / "sound").mkdir()
        assert pairs.a_view_has_each_event_once(folder / "sound", 45) > 30
        (folder / "planted").mkdir()
        said = fails(lambda: pairs.a_view_has_each_event_once(folder / "planted", 45, bugs.Parted))
    assert re.search("AssertionError: .* live view|AssertionError: .* differs", said), said


# -- on PostgreSQL, and in servers -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with running(durable=False) as found:
        yield found


@pytest.mark.files
def test_the_append_lock_of_postgresql(database: Postgres) -> None:
    with scratch() as folder:
        for name, planted in (("sound", nullcontext()), ("planted", bugs._no_lock())):
            (folder / name).mkdir()
            address = database.database()
            check = partial(pairs.many_writers_make_one_log, folder / name, lambda _, address=address: PostgresStore(address))
            with planted:
                if name == "sound":
                    check()
                else:
                    assert re.search("unique|duplicate", fails(check))


def launched(bug: str) -> tuple[str, ...]:
    return (COMMAND[0], "-m", "tests.planted.launcher", bug)


@pytest.mark.process
def test_an_answer_without_a_sync(tmp_path: Path) -> None:
    assert fails(lambda: sync_before_each_answer(tmp_path, 3, 1, command=launched("not-synced"))).startswith("AssertionError")


@pytest.mark.process
def test_a_full_disk_of_postgresql_that_is_said_to_be_ready(tmp_path: Path) -> None:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with test_postgres_disk_full.KINDS[0](tmp_path) as (address, disk):
        server = Server(disk.folder, settings={"TOCSIN_DATABASE": address}, command=launched("room-not-tried"))
        server.start()
        try:
            assert "it is said to be ready" in fails(lambda: stands_a_full_disk(server, disk, 1))
        finally:
            server.close()


@pytest.mark.process
@pytest.mark.parametrize(
    ("bug", "check", "says"),
    [
        ("version-not-checked", lambda servers: one_of_two_wins(servers, 20), r"race \d+: \[200, 200\]"),
        ("key-not-looked-up", lambda servers: each_has_one_effect(servers, 40), "503|two ways"),
        ("one-lane", lambda servers: quiet_is_heard(servers[0], 120, 2), "after all of the flood"),
    ],
)
def test_a_bug_in_a_server(tmp_path: Path, bug: str, check: Callable[[Sequence[Server]], object], says: str) -> None:
    with started(tmp_path, ["serve"], {}, command=launched(bug)) as servers:
        said = fails(lambda: check(servers))
    assert re.search(says, said), said
