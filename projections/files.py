"""Where views lie: `views.db` is a symbolic link to the file of the present generation (`views.db.1`, `views.db.2`, …).

A rebuild makes the next generation beside the present one and then moves the link, so readers change over between two reads and
never wait. Everything in a generation comes from the log, so each is disposable.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from engine.errors import StoreUnavailable

BUSY_SECONDS: Final = 10.0
WRITER_CACHE_KIB: Final = 4_000
READER_CACHE_KIB: Final = 1_000
_COMPANIONS: Final = ("", "-wal", "-shm", "-journal")


class Damaged(Exception):
    """A generation cannot be read any more; it is made again from the log."""


class Turn:
    """Whoever holds it folds; a lock of the file system, so it ends with its process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> bool:
        """Whether it is ours now."""
        if self._file is not None:
            return True
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        name = str(os.getpid()).encode()
        if os.read(file, len(name) + 1) != name:  # a command takes its turn for each page
            os.ftruncate(file, 0)
            os.pwrite(file, name, 0)
        self._file = file
        return True

    @property
    def ours(self) -> bool:
        return self._file is not None

    def give_up(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def holder(self) -> str:
        """The process that holds it, for people."""
        try:
            return f"process {self._path.read_text() or 'unknown'}"
        except OSError:
            return "a process"


class Files:
    """The generations of one installation's views, numbered from 1; 0 is none."""

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
        """Let this generation be the present one, in one step."""
        beside = self.path.with_name(f"{self.path.name}.link")
        beside.unlink(missing_ok=True)
        beside.symlink_to(self.file(generation).name)
        beside.replace(self.path)

    def generations(self) -> list[int]:
        """Those that are there, ascending."""
        names = (found.name.rpartition(".")[2] for found in self.path.parent.glob(f"{self.path.name}.*"))
        return sorted(int(name) for name in names if name.isdigit())

    def writer(self, generation: int) -> sqlite3.Connection:
        """A connection that changes a generation, made where there is none.

        Raises:
            Damaged: what is there is no generation of views.
            StoreUnavailable: it cannot be opened now.
        """
        try:
            return _connect(self.file(generation), create=True, cache_kib=WRITER_CACHE_KIB)
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"the views cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise Damaged(str(error)) from error

    def reader(self, generation: int) -> sqlite3.Connection | None:
        """A connection that only reads; None: the generation is gone."""
        try:
            connection = _connect(self.file(generation), create=False, cache_kib=READER_CACHE_KIB)
        except sqlite3.OperationalError:
            return None
        connection.execute("PRAGMA query_only = ON")
        return connection

    def copy(self, generation: int, target: int) -> None:
        """Make `target` a copy of a generation."""
        with (
            contextlib.closing(sqlite3.connect(self.file(generation))) as source,
            contextlib.closing(sqlite3.connect(self.file(target))) as copy,
        ):
            source.backup(copy)

    def remove(self, generation: int) -> None:
        for companion in _COMPANIONS:
            file = self.file(generation)
            file.with_name(file.name + companion).unlink(missing_ok=True)

    def turn(self) -> "Turn":
        """The right to fold here."""
        return Turn(self.path.with_name(f"{self.path.name}.fold.lock"))

    @property
    def building(self) -> bool:
        """Whether somebody builds a generation beside the present one."""
        if max(self.generations(), default=0) <= self.present():
            return False
        with self.alone() as alone:  # it may have been left there
            return not alone

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody else builds a generation here, for as long as the block lasts."""
        with self.path.with_name(f"{self.path.name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True


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
