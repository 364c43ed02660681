"""One generation, from the writing side: its tables, which events are in them, and putting the next ones in.

The runner keeps the present generation with it, a rebuild the next one, a verification one that is thrown away.
"""

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from engine.canonical import digest_of
from engine.event import Fact
from engine.ledger import Ledger
from engine.store import Row
from projections import dead_letters
from projections.dead_letters import CODEC, DeadLetters, poisonous, reason
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
    digest   BLOB,                  -- SHA-256 of that event's canonical bytes
    stopped  TEXT                   -- why it takes no further event; NULL: it does
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


class _Refused(Exception):
    """A projection did not take a page."""


class Generation:
    """The tables of some projections in one generation.

    Attributes:
        number: of the generation.
        positions: by projection, the last event that is in its tables, as this object last saw it.
        stopped: why a projection takes no further event, where it does not.
        letters: what is parked.
    """

    def __init__(self, ledger: Ledger, place: Files, number: int, projections: Sequence[Projection]) -> None:
        """
        Raises:
            Damaged: what is there is no generation of views.
            StoreUnavailable: it cannot be opened now.
        """
        self.number = number
        self.positions: dict[str, int] = {}
        self.stopped: dict[str, str] = {}
        self._ledger, self._projections = ledger, tuple(projections)
        self._store_id = ledger.store.meta("store_id")
        self._chunk = _CHUNK
        self.connection = place.writer(number)
        self.letters = DeadLetters(self.connection, ledger.clock)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self.connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise Damaged(str(error)) from error

    @property
    def position(self) -> int:
        """The last event that is in all of the tables, those of stopped projections left aside."""
        return min(self._running().values() or self.positions.values(), default=0)

    def _running(self) -> dict[str, int]:
        return {name: position for name, position in self.positions.items() if name not in self.stopped}

    def _prepare(self) -> None:
        """Create what is missing and empty what was not made from this log, or by another version."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute(TRACKING)
        if "stopped" not in [row[1] for row in self.connection.execute("PRAGMA table_info(tracking)")]:
            self.connection.execute("ALTER TABLE tracking ADD COLUMN stopped TEXT")
        self.connection.execute(dead_letters.DDL)
        self.letters.load()
        self._load()
        for projection in self._projections:
            if not self._fits(projection):
                self._empty(projection)
        names = {projection.name for projection in self._projections}
        for name in self.positions.keys() - names:
            self.connection.execute("DELETE FROM tracking WHERE name = ?", (name,))
            self.letters.drop(name)
        self._load()
        self.connection.execute("COMMIT")

    def _load(self) -> None:
        rows = self.connection.execute("SELECT name, position, stopped FROM tracking").fetchall()
        self.positions = {name: position for name, position, _ in rows}
        self.stopped = {name: why for name, _, why in rows if why is not None}

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
            "INSERT INTO tracking (name, version, position, store, digest, stopped) VALUES (?, ?, 0, ?, NULL, NULL) ON CONFLICT (name) "
            "DO UPDATE SET version = excluded.version, position = 0, store = excluded.store, digest = NULL, stopped = NULL",
            (projection.name, projection.version, self._store_id),
        )
        self.letters.drop(projection.name)

    def reset(self, names: Collection[str]) -> None:
        """Empty some projections' tables; they start again at the first event."""
        self.connection.execute("BEGIN IMMEDIATE")
        for projection in self._projections:
            if projection.name in names:
                self._empty(projection)
        self._load()
        self.connection.execute("COMMIT")

    def advance(self, *, upto: int | None = None, most: int = MOST_IN_A_PAGE) -> int:
        """Put the next page of events into whatever is furthest behind; one transaction. How many events it was.

        What a projection cannot take is parked for it (`dead_letters.py`), what cannot be decoded for all.

        Raises:
            sqlite3.Error, StoreUnavailable: the file or the log cannot be used now; nothing of the page is in.
        """
        running = self._running()
        if not running:
            return 0
        after = min(running.values())
        ahead = [position for position in running.values() if position > after]
        end = min(ahead, default=upto)
        rows = self._page(after, end if upto is None or end is None else min(end, upto), most)
        return self._put(after, rows) if rows else 0

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
        facts = self._decoded(rows)
        if facts is not None:
            with contextlib.suppress(_Refused):
                return self._commit(after, rows, facts)
        # Once more with a savepoint before each step, which would cost every good page too.
        return self._commit(after, rows, None)

    def _decoded(self, rows: Sequence[Row]) -> list[Fact] | None:
        """None: one of them cannot be decoded, or stands behind one that could not."""
        try:
            return [self._ledger.fact(row) for row in self.letters.decodable(rows)]
        except Exception as error:
            if not poisonous(error):
                raise
            return None

    def _commit(self, after: int, rows: Sequence[Row], facts: Sequence[Fact] | None) -> int:
        """One transaction; with `facts` None they are decoded and applied one by one where a whole page cannot be."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            before = self.positions
            self._load()
            if self.positions != before:  # another process had its turn since
                self.connection.execute("ROLLBACK")
                self.letters.load()
                return len(rows)
            stops: dict[str, tuple[int, str]] = {}
            taking = [one for one in self._projections if self.positions[one.name] == after and one.name not in self.stopped]
            if careful := facts is None:
                facts, rows, enough = self._decoded_one_by_one(rows)
                if enough:
                    stops = {one.name: (rows[-1].position, CODEC) for one in taking}
            else:
                self._park_behind(rows)
            for projection in taking:
                wanted = self.letters.sift(projection.name, [fact for fact in facts if type(fact.event) in projection.events])
                last = self._apply(projection, wanted, careful=careful)
                if last is not None:
                    self.letters.drop(projection.name, after=last)
                    stops[projection.name] = (last, projection.name)
            self.connection.execute(
                "UPDATE tracking SET position = :position, digest = :digest, store = :store WHERE position = :after AND stopped IS NULL",
                {"position": rows[-1].position, "digest": digest_of(rows[-1]), "store": self._store_id, "after": after},
            )
            for name, (position, whose) in stops.items():
                self._stop(name, next(row for row in rows if row.position == position), whose)
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self.letters.load()
            raise
        if stops:
            self._load()
        else:
            at = {one.name: rows[-1].position for one in taking}
            self.positions = {**self.positions, **at}
        return len(rows)

    def _stop(self, name: str, row: Row, whose: str) -> None:
        why = f"{name} stopped at event {row.position} ({row.type}): {whose} fails for more than {dead_letters.MOST_STREAMS:,} streams"
        self.connection.execute(
            "UPDATE tracking SET position = :position, digest = :digest, stopped = :why WHERE name = :name",
            {"position": row.position, "digest": digest_of(row), "why": why, "name": name},
        )

    def _park_behind(self, rows: Sequence[Row]) -> None:
        """Those of streams of which an event could not be decoded."""
        for row in rows if self.letters.any_of(CODEC) else ():
            first = self.letters.behind(CODEC, row.stream, row.position)
            if first is not None:
                self.letters.park(CODEC, row.position, row.stream, row.type, f"behind event {first}")

    def _decoded_one_by_one(self, rows: Sequence[Row]) -> tuple[list[Fact], Sequence[Row], bool]:
        """What can be decoded; the rest is parked. Also the rows up to where that became too much, and whether it did."""
        facts = []
        for number, row in enumerate(rows, 1):
            if self.letters.behind(CODEC, row.stream, row.position) is not None:
                self._park_behind([row])
                continue
            try:
                facts.append(self._ledger.fact(row))
            except Exception as error:
                if not poisonous(error):
                    raise
                self.letters.park(CODEC, row.position, row.stream, row.type, reason(error))
                if self.letters.too_many(CODEC):
                    return facts, rows[:number], True
        return facts, rows, False

    def _apply(self, projection: Projection, facts: Sequence[Fact], *, careful: bool) -> int | None:
        """Carefully: what it cannot take is parked; the position at which that was too much, where it was.

        Raises:
            _Refused: it cannot take them, and was not to be careful.
        """
        if not facts:
            return None
        why: str | None = None
        if careful:
            self.connection.execute("SAVEPOINT part")
        try:
            projection.apply(self.connection, facts)
        except Exception as error:
            if not poisonous(error):
                raise
            if not careful:
                raise _Refused from error
            self.connection.execute("ROLLBACK TO part")
            why = reason(error)
        if careful:
            self.connection.execute("RELEASE part")
        if why is None:
            return None
        if len(facts) == 1:
            [fact] = facts
            self.letters.park(projection.name, fact.position, fact.stream_id.bytes, fact.type, why)
            return fact.position if self.letters.too_many(projection.name) else None
        middle = len(facts) // 2
        for part in (facts[:middle], facts[middle:]):
            last = self._apply(projection, self.letters.sift(projection.name, part), careful=True)
            if last is not None:
                return last
        return None

    def close(self) -> None:
        self.connection.close()
