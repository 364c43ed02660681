"""A write-ahead log whose end is missing or damaged, as after a power cut, and a check of what is left."""

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.sqlite_store import SqliteStore
from tests.faults.promises import asks, is_consistent, names, process_on, takes

HEADER: Final = 32
FRAME: Final = 24 + 4096


@dataclass(frozen=True)
class Files:
    """A store as it lay on the disk.

    Attributes:
        file, log, keys: contents of `log.db`, its write-ahead log, and `keys.db`.
        commits: after each commit, how long the write-ahead log was and how many things were recorded.
        names: these things, in log order.
    """

    file: bytes
    log: bytes
    keys: bytes
    commits: tuple[tuple[int, int], ...]
    names: tuple[str, ...]

    @property
    def edges(self) -> range:
        """Where one frame ends and the next begins."""
        return range(HEADER, len(self.log) + 1, FRAME)

    def least(self, intact: int) -> int:
        """How many things had been committed when the write-ahead log was `intact` bytes long."""
        return max((count for size, count in self.commits if size <= intact), default=0)


def written(folder: Path, steps: int, store_class: type[SqliteStore] = SqliteStore) -> Files:
    """A store with twice as many commits as `steps`, none of them moved into the file yet."""
    folder.mkdir()
    commits = []
    log = folder / "log.db-wal"
    with process_on(folder, store_class) as ledger:
        for step in range(steps):
            ledger.run(asks(step))
            commits.append((log.stat().st_size, 2 * step + 1))
            ledger.run(takes(step))
            commits.append((log.stat().st_size, 2 * step + 2))
        found = names(ledger)
        kept = (folder / "log.db").read_bytes(), log.read_bytes()
    return Files(*kept, (folder / "keys.db").read_bytes(), tuple(commits), tuple(found))


def is_a_clean_prefix(folder: Path, files: Files, log: bytes, intact: int, opened: Callable[..., SqliteStore] = SqliteStore) -> None:
    """Open the store with `log`, of which the first `intact` bytes are as they were written."""
    folder.mkdir(exist_ok=True)
    for name in ("log.db-shm", "keys.db-wal", "keys.db-shm"):
        (folder / name).unlink(missing_ok=True)
    (folder / "log.db").write_bytes(files.file)
    (folder / "log.db-wal").write_bytes(log)
    (folder / "keys.db").write_bytes(files.keys)
    with process_on(folder, opened) as ledger:
        found = names(ledger)
        assert tuple(found) == files.names[: len(found)], "it is no prefix"
        assert len(found) >= files.least(intact), f"{files.least(intact)} were committed before the cut, {len(found)} are left"
        is_consistent(ledger)
        ledger.run(asks(1_000))
        is_consistent(ledger)
    with contextlib.closing(sqlite3.connect(folder / "log.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
