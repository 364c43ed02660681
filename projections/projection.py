"""What a projection is: a name, a version, its tables, and what a batch of facts does to them.

Each module of this room that keeps tables ends with its `PROJECTION`; `projections/registry.py` lists them, and
`projections/runner.py` feeds them. A projection may look only at its own tables and at the facts: then it can be rebuilt
alone, and how the facts were cut into batches leaves no trace in its rows.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from engine.event import Event, Fact

# Fewer than the 999 bound values of SQLite's oldest limit.
MOST_IN_A_LIST: Final = 500


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a view.

    Attributes:
        key: its identifying columns, comma separated: the order in which a live and a rebuilt one are compared.
        compared: False for an index that is made of its neighbours and has no order of its own.
    """

    name: str
    key: str
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Projection:
    """One view, kept by folding the log.

    Attributes:
        version: raised when the tables or their meaning change; the view is then rebuilt.
        ddl: creates tables and indexes; runs in a transaction.
        events: the facts that it wants to see.
        apply: what they do, in log order, inside the runner's transaction.
    """

    name: str
    version: int
    tables: tuple[Table, ...]
    ddl: str
    events: frozenset[type[Event]]
    apply: Callable[[sqlite3.Connection, Sequence[Fact]], None]


def batched(values: Sequence[Any], size: int = MOST_IN_A_LIST) -> Iterator[list[Any]]:
    """`values` in lists of at most `size`."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


def rows_in(connection: sqlite3.Connection, sql: str, keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of a query over many keys; `{keys}` in `sql` stands for the bound list. The order is the database's."""
    for batch in batched(keys):
        yield from connection.execute(sql.format(keys=", ".join("?" * len(batch))), batch)
