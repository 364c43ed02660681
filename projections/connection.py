"""A connection to a database of views, as the projections see it: the SQL of SQLite, whatever database answers.

That is what `sqlite3.Connection` offers; `projections/schemas.py` is the same on PostgreSQL.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

Values = Mapping[str, Any] | Sequence[Any]


class Cursor(Protocol):
    """What a statement found."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...

    def close(self) -> None: ...


class Connection(Protocol):
    """Statements in order; outside of BEGIN and COMMIT each is a transaction of its own."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Values = (), /) -> Cursor: ...

    def executemany(self, sql: str, parameters: Iterable[Values], /) -> Cursor: ...

    def close(self) -> None: ...
