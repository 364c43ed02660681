"""The next generation of the views: built beside the present one, and compared with it.

Only one process builds at a time; old generations are cleared away when nobody is building.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from engine.errors import Conflict, NotFound, TocsinError
from engine.ledger import Ledger
from projections.files import Files
from projections.generation import Generation
from projections.projection import Projection, Table
from projections.views import Reader

PARKED: Final = Table("dead_letters", key="projection, position")

# (position reached, position of the head)
Progress = Callable[[int, int], None]


def nothing_to_tell(_reached: int, _head: int) -> None:
    """The progress of a rebuild that nobody watches."""


class RebuildFailed(TocsinError):
    """A view that still goes on would be stopped by the views built anew; the present ones stay."""


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


def clear_old(place: Files) -> None:
    """Remove generations that nothing stands for any more (at start: readers of this process have none open yet)."""
    with place.alone() as alone:
        present = place.present()
        for generation in place.generations() if alone else ():
            if generation != present:
                place.remove(generation)


@contextlib.contextmanager
def build_beside(ledger: Ledger, place: Files, projections: Sequence[Projection], *, names: Collection[str]) -> Iterator[Generation]:
    """The next generation: empty, or with `names` a copy of the present one in which those views are empty.

    It is removed afterwards unless it has become the present one. The generation before the present one is kept until the next
    start or rebuild, since a reader may just be opening it.

    Raises:
        NotFound: no projection of that name.
        Conflict: another one is being built.
    """
    for name in names:
        if name not in {projection.name for projection in projections}:
            raise NotFound("projection", name)
    with place.alone() as alone:
        if not alone:
            raise Conflict("a rebuild or a verification is running already")
        present = place.present()
        for generation in place.generations():
            if generation != present:
                place.remove(generation)
        if names:
            place.copy(present, present + 1)
        beside = Generation(ledger, place, present + 1, projections)
        try:
            if names:
                beside.reset(names)
            yield beside
        finally:
            beside.close()
            if place.present() != beside.number:
                place.remove(beside.number)


def compare(live: Reader, rebuilt: Generation, projections: Sequence[Projection]) -> Difference | None:
    """The first difference between a live snapshot and a view built anew up to the same position, row by row.

    First what is parked: where that differs (an event can be taken now), the views do too.
    """
    difference = _compare("dead_letters", PARKED, ("projection", "position", "stream"), live, rebuilt.connection)
    if difference is not None:
        return difference
    for projection in projections:
        for table in (table for table in projection.tables if table.compared):
            difference = _compare(projection.name, table, live.columns(table.name), live, rebuilt.connection)
            if difference is not None:
                return difference
    return None


def _compare(
    projection: str, table: Table, columns: Sequence[str], live: Reader, rebuilt: sqlite3.Connection
) -> Difference | None:
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
