"""PostgreSQL's disk is full for a while, that of the tables or that of its write-ahead log.

Where the tables have no room PostgreSQL refuses what needs some and lives; where its log has none it gives up, and cannot even start
before there is room again: then somebody has to start it, as here.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.faults.disks import fill, may_mount, mounted
from tests.faults.full import Disk, stands_a_full_disk
from tests.process.server import Server
from tests.services.postgres import Postgres, programs, running
from tests.soak import SOAK

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(programs() is None and not os.environ.get("CI"), reason="PostgreSQL is not installed"),
]

ROUNDS: Final = 10 if SOAK else 2
DISK: Final = 96 * 2**20
SEGMENT: Final = 2**20


@contextlib.contextmanager
def place_of_wal() -> Iterator[Path]:
    """A folder that the user of PostgreSQL may go into, as they may not into a test's own."""
    with tempfile.TemporaryDirectory(prefix="pw", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "wal"
        place.mkdir()
        yield place


def vacuum(database: Postgres, address: str) -> None:
    """What autovacuum does sooner or later, when it suits us: room that failed writes left behind can be used again, and is soon used up."""
    with database.superuser(address) as connection:
        tables = connection.execute("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('ledger'::regnamespace, 'keys'::regnamespace)")
        for (table,) in tables.fetchall():
            with contextlib.suppress(psycopg.errors.DiskFull):
                connection.execute(f"VACUUM {table}".encode())


@contextlib.contextmanager
def small_tables(place: Path) -> Iterator[tuple[str, Disk]]:
    """The tables lie on a file system of their own, and all else where there is room."""
    with running() as database:
        folder = database.folder / "small"
        folder.mkdir()
        with mounted(folder, DISK):
            database.tablespace("small", folder / "tables")
            address = database.database(tablespace="small")
            ballast = folder / "ballast"

            def vacuum_and_fill(_: Server) -> None:
                vacuum(database, address)
                fill(ballast)

            yield address, Disk(place, vacuum_and_fill, lambda _: ballast.unlink(), lambda _: vacuum(database, address))
            database.drop(address)


@contextlib.contextmanager
def limited_tables(place: Path) -> Iterator[tuple[str, Disk]]:
    """No file of PostgreSQL may become larger than the table of events is; those of its log are smaller anyway."""
    with place_of_wal() as wal, running(wal=wal) as database:
        address = database.database()

        def forbid(_: Server) -> None:
            size = 0
            while size <= SEGMENT:
                with database.superuser(address) as connection:
                    row = connection.execute("SELECT pg_relation_size('ledger.events')").fetchone()
                assert row is not None
                size = int(str(row[0]))
            database.limit_files(size)

        yield address, Disk(place, forbid, lambda _: database.limit_files(None), lambda _: vacuum(database, address))


@contextlib.contextmanager
def small_wal(place: Path) -> Iterator[tuple[str, Disk]]:
    """The log of PostgreSQL lies on a file system of its own, and must be kept for a replica that does not come for it."""
    with place_of_wal() as wal, mounted(wal, DISK), running(wal=wal / "segments") as database:
        ballast = wal / "ballast"

        def keep_and_fill(_: Server) -> None:
            with database.superuser() as connection:
                connection.execute("SELECT pg_create_physical_replication_slot('away', true)")
            fill(ballast)

        def empty(_: Server) -> None:
            ballast.unlink()
            database.supervise()
            with database.superuser() as connection:
                connection.execute("SELECT pg_drop_replication_slot('away')")

        yield database.database(), Disk(place, keep_and_fill, empty, refusals=12)


@contextlib.contextmanager
def limited_wal(place: Path) -> Iterator[tuple[str, Disk]]:
    """No file of PostgreSQL may be written to beyond its first pages: it gives up, as where its log has no room."""
    with running() as database:

        def empty(_: Server) -> None:
            database.limit_files(None)
            database.supervise()

        yield database.database(), Disk(place, lambda _: database.limit_files(2**16), empty, refusals=12)


MOUNTED: Final = [small_tables, small_wal]
LIMITED: Final = [limited_tables, limited_wal]
KINDS: Final = LIMITED if not may_mount() else [*MOUNTED, *LIMITED] if SOAK else MOUNTED


@pytest.mark.parametrize("kind", KINDS)
def test_while_the_disk_of_postgresql_is_full_nothing_is_acknowledged_and_everything_can_be_read(
    kind: Callable[[Path], contextlib.AbstractContextManager[tuple[str, Disk]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with kind(tmp_path) as (address, disk):
        server = Server(disk.folder, settings={"TOCSIN_DATABASE": address})
        server.start()
        try:
            said = stands_a_full_disk(server, disk, ROUNDS if kind in (small_tables, limited_tables) or SOAK else 1)
        finally:
            server.close()
    with capsys.disabled():
        print(f"\n{kind.__name__}: {said}")
