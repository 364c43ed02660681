"""The next generation of the views: built beside the present one, and compared with it.

A lock file keeps two processes from building at once; old generations are cleared away when nobody is building.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from engine.errors import Conflict, NotFound
from engine.ledger import Ledger
from projections.projection import Projection, Table
from projections.view_file import ViewFile
from projections.views import Reader

# (position reached, position of the head)
Progress = Callable[[int, int], None]

_COMPANIONS: Final = ("", "-wal", "-shm", "-journal")


def nothing_to_tell(_reached: int, _head: int) -> None:
    """The progress of a rebuild that nobody watches."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where a view differs from what the log says.

    Attributes:
        key: the row's identifying values.
        column: None where the whole row is missing on one side.
    """

    projection: str
    table: str
    key: tuple[Any, ...]
    column: str | None
    live: Any
    rebuilt: Any

    def __str__(self) -> str:
        place = f"{self.table} {', '.join(str(part) for part in self.key)}"
        if self.column is None:
            return f"{self.projection}: {place} is only in the {'rebuilt' if self.live is None else 'live'} view"
        return f"{self.projection}: {place}: {self.column} is {self.live!r}, the log says {self.rebuilt!r}"


def make_link(path: Path, generation: int) -> None:
    """Let `path` stand for this generation, in one step."""
    beside = path.with_name(f"{path.name}.link")
    beside.unlink(missing_ok=True)
    beside.symlink_to(f"{path.name}.{generation}")
    beside.replace(path)


def _generations(path: Path) -> list[int]:
    names = (found.name.rpartition(".")[2] for found in path.parent.glob(f"{path.name}.*"))
    return sorted(int(name) for name in names if name.isdigit())


def _remove(path: Path) -> None:
    for companion in _COMPANIONS:
        path.with_name(path.name + companion).unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody else builds; as long as the block lasts."""
    with path.with_name(f"{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def clear_old(path: Path) -> None:
    """Remove generations that nothing stands for any more (at start: readers of this process have none open yet)."""
    with _alone(path) as alone:
        present = int(os.readlink(path).rpartition(".")[2])
        for generation in _generations(path) if alone else ():
            if generation != present:
                _remove(path.with_name(f"{path.name}.{generation}"))


@contextlib.contextmanager
def build_beside(
    ledger: Ledger, path: Path, projections: Sequence[Projection], *, name: str | None
) -> Iterator[ViewFile]:
    """A file for the next generation: empty, or with `name` a copy of the present one in which that view is empty.

    It is removed afterwards unless the link was moved to it. The generation before the present one is kept until the next
    start or rebuild, since a reader may just be opening it.

    Raises:
        NotFound: no projection of that name.
        Conflict: another one is being built.
    """
    if name is not None and name not in {projection.name for projection in projections}:
        raise NotFound("projection", name)
    with _alone(path) as alone:
        if not alone:
            raise Conflict("a rebuild or a verification is running already")
        present = int(os.readlink(path).rpartition(".")[2])
        for generation in _generations(path):
            if generation != present:
                _remove(path.with_name(f"{path.name}.{generation}"))
        target = path.with_name(f"{path.name}.{present + 1}")
        if name is not None:
            _copy(path, target)
        file = ViewFile(ledger, target, projections)
        try:
            if name is not None:
                file.reset(name)
            yield file
        finally:
            file.close()
            if os.readlink(path) != target.name:
                _remove(target)


def _copy(path: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)


def compare(live: Reader, rebuilt: ViewFile, projections: Sequence[Projection]) -> Difference | None:
    """The first difference between a live snapshot and a view built anew up to the same position, row by row."""
    for projection in projections:
        for table in (table for table in projection.tables if table.compared):
            difference = _compare(projection.name, table, live, rebuilt.connection)
            if difference is not None:
                return difference
    return None


def _compare(projection: str, table: Table, live: Reader, rebuilt: sqlite3.Connection) -> Difference | None:
    columns = [row[1] for row in live.rows(f"PRAGMA table_info({table.name})")]
    key = [columns.index(column.strip()) for column in table.key.split(",")]
    sql = f"SELECT {', '.join(columns)} FROM {table.name} ORDER BY {table.key}"
    for mine, theirs in zip_longest(live.iterate(sql), rebuilt.execute(sql)):
        if mine == theirs:
            continue
        rows = [tuple(_readable(row[place]) for place in key) for row in (mine, theirs) if row is not None]
        if mine is None or theirs is None or rows[0] != rows[1]:
            only_live = theirs is None or (mine is not None and rows[0] < rows[1])
            return Difference(
                projection, table.name, rows[0 if only_live else -1], None,
                mine if only_live else None, None if only_live else theirs,
            )
        place = next(place for place in range(len(columns)) if mine[place] != theirs[place])
        return Difference(projection, table.name, rows[0], columns[place], mine[place], theirs[place])
    return None


def _readable(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
