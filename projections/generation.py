"""One generation, from the writing side: its tables, which events are in them, and putting the next ones in.

The runner keeps the present generation with it, a rebuild the next one, a verification one that is thrown away.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from engine.canonical import digest_of
from engine.errors import StoreUnavailable
from engine.event import Fact
from engine.ledger import Ledger
from engine.store import Row
from projections.files import Damaged, Files
from projections.projection import Projection

MOST_IN_A_PAGE: Final = 2_000
# Deliveries may be large: a page ends here, so that memory stays flat whatever they hold.
MOST_BYTES_IN_A_PAGE: Final = 2 * 2**20
_CHUNK: Final = 250

TRACKING: Final = """
CREATE TABLE IF NOT EXISTS tracking (
    name     TEXT PRIMARY KEY,
    version  INTEGER NOT NULL,
    position INTEGER NOT NULL,      -- the last event that is in the view
    store    TEXT,                  -- of which log
    digest   BLOB                   -- SHA-256 of that event's canonical bytes
) WITHOUT ROWID
"""


def statements(ddl: str) -> Iterator[str]:
    """One by one: `executescript` would commit the transaction."""
    statement = ""
    for line in ddl.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


class Poisoned(Exception):
    """A projection cannot take an event.

    Attributes:
        position: of the event.
    """

    def __init__(self, projection: str, row: Row, error: Exception) -> None:
        super().__init__(f"{projection} cannot take event {row.position} ({row.type}): {type(error).__name__}: {error}")
        self.position = row.position


class Generation:
    """The tables of some projections in one generation.

    Attributes:
        number: of the generation.
        positions: by projection, the last event that is in its tables, as this object last saw it.
    """

    def __init__(self, ledger: Ledger, place: Files, number: int, projections: Sequence[Projection]) -> None:
        """
        Raises:
            Damaged: what is there is no generation of views.
            StoreUnavailable: it cannot be opened now.
        """
        self.number = number
        self.positions: dict[str, int] = {}
        self._ledger, self._projections = ledger, tuple(projections)
        self._store_id = ledger.store.meta("store_id")
        self._chunk = _CHUNK
        self.connection = place.writer(number)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self.connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise Damaged(str(error)) from error

    @property
    def position(self) -> int:
        """The last event that is in all of the tables."""
        return min(self.positions.values(), default=0)

    def _prepare(self) -> None:
        """Create what is missing and empty what was not made from this log, or by another version."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute(TRACKING)
        self._load()
        for projection in self._projections:
            if not self._fits(projection):
                self._empty(projection)
        names = {projection.name for projection in self._projections}
        gone = [(name,) for name in self.positions if name not in names]
        self.connection.executemany("DELETE FROM tracking WHERE name = ?", gone)
        self._load()
        self.connection.execute("COMMIT")

    def _load(self) -> None:
        self.positions = dict(self.connection.execute("SELECT name, position FROM tracking"))

    def _fits(self, projection: Projection) -> bool:
        sql = "SELECT version, position, store, digest FROM tracking WHERE name = ?"
        found = self.connection.execute(sql, (projection.name,)).fetchone()
        if found is None or found[0] != projection.version or found[2] != self._store_id:
            return False
        if found[1] == 0:
            return True
        row = self._ledger.store.at(found[1])  # None also where the position is past the head
        return row is not None and digest_of(row) == found[3]

    def _empty(self, projection: Projection) -> None:
        for table in projection.tables:
            self.connection.execute(f"DROP TABLE IF EXISTS {table.name}")
        for statement in statements(projection.ddl):
            self.connection.execute(statement)
        self.connection.execute(
            "INSERT INTO tracking (name, version, position, store, digest) VALUES (?, ?, 0, ?, NULL) ON CONFLICT (name) "
            "DO UPDATE SET version = excluded.version, position = 0, store = excluded.store, digest = NULL",
            (projection.name, projection.version, self._store_id),
        )

    def reset(self, name: str) -> None:
        """Empty one projection's tables; it starts again at the first event."""
        self.connection.execute("BEGIN IMMEDIATE")
        self._empty(next(projection for projection in self._projections if projection.name == name))
        self._load()
        self.connection.execute("COMMIT")

    def advance(self, *, upto: int | None = None, most: int = MOST_IN_A_PAGE) -> int:
        """Put the next page of events into whatever is furthest behind; one transaction. How many events it was.

        Raises:
            Poisoned: a projection failed at an event; everything before it is in.
            sqlite3.Error, StoreUnavailable: the file or the log cannot be used now; nothing of the page is in.
        """
        after = self.position
        ahead = [position for position in self.positions.values() if position > after]
        end = min(ahead, default=upto)
        rows = self._page(after, end if upto is None or end is None else min(end, upto), most)
        if not rows:
            return 0
        try:
            return self._put(after, rows)
        except Poisoned:
            if len(rows) == 1:
                raise
        # One by one, so that everything before the bad one gets in and the bad one is named.
        return sum(self._put(self.position, [row]) for row in rows)

    def _page(self, after: int, upto: int | None, most: int) -> list[Row]:
        rows: list[Row] = []
        size = 0
        while len(rows) < most and size < MOST_BYTES_IN_A_PAGE:
            wanted = min(self._chunk, most - len(rows))
            chunk = self._ledger.store.log(rows[-1].position if rows else after, wanted, upto=upto)
            rows += chunk
            added = sum(len(row.state) for row in chunk)
            size += added
            if chunk:
                self._chunk = max(10, min(_CHUNK, MOST_BYTES_IN_A_PAGE * len(chunk) // (2 * added + 1)))
            if len(chunk) < wanted:
                break
        return rows

    def _put(self, after: int, rows: Sequence[Row]) -> int:
        try:
            facts = [self._ledger.fact(row) for row in rows]
        except Exception as error:
            raise Poisoned("the codec", rows[0], error) from error
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            before = self.positions
            self._load()
            if self.positions != before:  # another process keeps these views too, and was first
                self.connection.execute("ROLLBACK")
                return len(rows)
            for projection in self._projections:
                if self.positions[projection.name] == after:
                    self._apply(projection, facts, rows)
            last = rows[-1]
            self.connection.execute(
                "UPDATE tracking SET position = :position, digest = :digest, store = :store WHERE position = :after",
                {"position": last.position, "digest": digest_of(last), "store": self._store_id, "after": after},
            )
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        self.positions = {
            name: last.position if position == after else position for name, position in self.positions.items()
        }
        return len(rows)

    def _apply(self, projection: Projection, facts: Sequence[Fact], rows: Sequence[Row]) -> None:
        wanted = [fact for fact in facts if type(fact.event) in projection.events]
        if not wanted:
            return
        try:
            projection.apply(self.connection, wanted)
        except (sqlite3.OperationalError, StoreUnavailable):
            raise
        except Exception as error:
            raise Poisoned(projection.name, rows[0], error) from error

    def close(self) -> None:
        self.connection.close()
