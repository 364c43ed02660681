"""Views in files: `views.db` is a symbolic link to the present generation's (`views.db.1`, `views.db.2`, …)."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from engine.errors import StoreUnavailable
from projections.connection import Connection
from projections.place import Damaged

BUSY_SECONDS: Final = 10.0
WRITER_CACHE_KIB: Final = 8_000
READER_CACHE_KIB: Final = 4_000
_COMPANIONS: Final = ("", "-wal", "-shm", "-journal")


class Files:
    """`projections.place.Place` beside one link."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, generation: int) -> Path:
        """The file of a generation."""
        return self.path.with_name(f"{self.path.name}.{generation}")

    def present(self) -> int:
        try:
            return int(os.readlink(self.path).rpartition(".")[2])
        except OSError:
            return 0

    def switch(self, generation: int) -> None:
        beside = self.path.with_name(f"{self.path.name}.link")
        beside.unlink(missing_ok=True)
        beside.symlink_to(self.file(generation).name)
        beside.replace(self.path)

    def generations(self) -> list[int]:
        names = (found.name.rpartition(".")[2] for found in self.path.parent.glob(f"{self.path.name}.*"))
        return sorted(int(name) for name in names if name.isdigit())

    def writer(self, generation: int) -> Connection:
        try:
            return _connect(self.file(generation), create=True, cache_kib=WRITER_CACHE_KIB)
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"the views cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise Damaged(str(error)) from error

    def reader(self, generation: int) -> Connection | None:
        try:
            connection = _connect(self.file(generation), create=False, cache_kib=READER_CACHE_KIB)
        except sqlite3.OperationalError:
            return None
        connection.execute("PRAGMA query_only = ON")
        return connection

    def copy(self, generation: int, target: int) -> None:
        with (
            contextlib.closing(sqlite3.connect(self.file(generation))) as source,
            contextlib.closing(sqlite3.connect(self.file(target))) as copy,
        ):
            source.backup(copy)

    def remove(self, generation: int) -> None:
        for companion in _COMPANIONS:
            file = self.file(generation)
            file.with_name(file.name + companion).unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        with self.path.with_name(f"{self.path.name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True

    def columns(self, connection: Connection, table: str) -> list[str]:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _connect(path: Path, *, create: bool, cache_kib: int) -> sqlite3.Connection:
    mode = "rwc" if create else "rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
    if create:
        path.chmod(0o600)  # names and texts of people stand in it
    connection.execute("PRAGMA journal_mode = WAL")
    # A crash of the machine may lose the last commits, which are in the log, but never breaks the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    # Rows that change again and again are written back to the file less often.
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    return connection
