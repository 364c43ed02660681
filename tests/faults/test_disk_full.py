"""The disk is full for a while: nothing is acknowledged, everything can be read, and it goes on by itself when there is space again."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.disks import fill, may_mount, mounted
from tests.faults.full import Disk, stands_a_full_disk
from tests.process.server import Server
from tests.soak import SOAK

pytestmark = pytest.mark.process

ROUNDS: Final = 10 if SOAK else 2
DISK: Final = 96 * 2**20


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Disk]:
    """A file system of its own, filled to the last byte."""
    folder = place / "disk"
    folder.mkdir()
    ballast = folder / "ballast"
    with mounted(folder, DISK):
        yield Disk(folder, lambda _: fill(ballast), lambda _: ballast.unlink())


@contextlib.contextmanager
def small_files(place: Path) -> Iterator[Disk]:
    """A limit for the size of files, which the kernel keeps for one process: a write beyond it is an error."""

    def limit(server: Server, most: int) -> None:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    yield Disk(place, lambda server: limit(server, 4096), lambda server: limit(server, resource.RLIM_INFINITY))


KINDS: Final = [small_files] if not may_mount() else [small_disk, small_files] if SOAK else [small_disk]


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with request.param(tmp_path) as found:
        yield found


def test_while_the_disk_is_full_nothing_is_acknowledged_and_everything_can_be_read(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(disk.folder)
    server.start()
    try:
        said = stands_a_full_disk(server, disk, ROUNDS)
        log = server.log()
        assert log.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        log.close()
    finally:
        server.close()
    with capsys.disabled():
        print(f"\n{said}")
