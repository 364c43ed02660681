"""Events that a view could not take: kept aside in the views' own file, in the transaction of the page, so that the rest goes on.

Behind such an event the later ones of its stream are parked too, for that view: their order is kept, and an old state is better
than half of one. Nothing of this is ever applied late; a view is built anew instead (`Runner.rebuild`), which empties its part.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from engine.clock import Clock, from_micros, micros
from engine.codec import UnknownEvent
from engine.errors import StoreUnavailable
from engine.event import Fact
from engine.ledger import Ledger
from engine.store import Row
from projections.views import Reader

# In place of a projection: the event cannot even be decoded, so no view can have it.
CODEC: Final = "the codec"
# A view that fails for more streams than these does not meet a bad event but is wrong itself: it stops, and the log is not parked.
MOST_STREAMS: Final = 1_000

DDL: Final = """
CREATE TABLE IF NOT EXISTS dead_letters (
    projection TEXT NOT NULL,       -- or 'the codec'
    position   INTEGER NOT NULL,
    stream     BLOB NOT NULL,
    type       TEXT NOT NULL,
    reason     TEXT NOT NULL,
    at         INTEGER NOT NULL,    -- microseconds since 1970
    PRIMARY KEY (projection, position)
) WITHOUT ROWID
"""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One parked event.

    Attributes:
        ticket: the number of the record that its stream tells of; None where it has none.
        since: when it was parked.
    """

    projection: str
    position: int
    ticket: str | None
    stream: UUID
    type: str
    reason: str
    since: datetime


def poisonous(error: Exception) -> bool:
    """Whether an event is to blame, and not the file, the log or the machine, which may be well again in a moment."""
    if isinstance(error, (sqlite3.OperationalError, sqlite3.InternalError, StoreUnavailable, MemoryError, OSError)):
        return False
    return type(error) is not sqlite3.DatabaseError  # the file is damaged


def reason(error: Exception) -> str:
    """What happened and where, without the event's own text: that is a person's, and erasure would not find it here."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        place, trace = f" at {file.parent.name}/{file.name}:{trace.tb_lineno}", trace.tb_next
    text = f": {error}" if isinstance(error, (UnknownEvent, sqlite3.Error)) else ""
    return f"{type(error).__name__}{text}{place}"


class DeadLetters:
    """What is parked in one generation, from the writing side.

    Attributes:
        news: what was parked for a projection that had nothing parked before; whoever tells of it empties the list.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection, self._clock = connection, clock
        self._streams: dict[str, dict[bytes, int]] = {}
        self.news: list[dict[str, str | int]] = []

    def load(self) -> None:
        """Look again, after a rollback or where another process may have written."""
        self._streams, self.news = {}, []
        sql = "SELECT projection, stream, min(position) FROM dead_letters GROUP BY projection, stream"
        for projection, stream, first in self._connection.execute(sql):
            self._streams.setdefault(projection, {})[stream] = first

    def behind(self, projection: str, stream: bytes, position: int) -> int | None:
        """The position of the parked event that this one stands behind, or is."""
        first = self._streams.get(projection, {}).get(stream)
        return first if first is not None and first <= position else None

    def any_of(self, projection: str) -> bool:
        """Whether anything is parked for a projection."""
        return projection in self._streams

    def decodable(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Without those that stand behind one that could not be decoded."""
        if CODEC not in self._streams:
            return rows
        return [row for row in rows if self.behind(CODEC, row.stream, row.position) is None]

    def sift(self, projection: str, facts: Sequence[Fact]) -> Sequence[Fact]:
        """Without those behind a parked one, which are parked too."""
        if projection not in self._streams:
            return facts
        kept = []
        for fact in facts:
            stream = fact.stream_id.bytes
            first = self.behind(projection, stream, fact.position)
            if first is None:
                kept.append(fact)
            else:
                self.park(projection, fact.position, stream, fact.type, f"behind event {first}")
        return kept

    def park(self, projection: str, position: int, stream: bytes, type_: str, why: str) -> None:
        """Keep an event aside; nothing where it is already."""
        streams = self._streams.setdefault(projection, {})
        if not streams:
            self.news.append({"projection": projection, "position": position, "type": type_, "reason": why})
        streams.setdefault(stream, position)
        self._connection.execute(
            "INSERT OR IGNORE INTO dead_letters (projection, position, stream, type, reason, at) VALUES (?, ?, ?, ?, ?, ?)",
            (projection, position, stream, type_, why, micros(self._clock.now())),
        )

    def too_many(self, projection: str) -> bool:
        return len(self._streams.get(projection, ())) > MOST_STREAMS

    def drop(self, projection: str, *, after: int = -1) -> None:
        """Forget what is parked for a projection past a position."""
        self._connection.execute("DELETE FROM dead_letters WHERE projection = ? AND position > ?", (projection, after))
        kept = {stream: first for stream, first in self._streams.pop(projection, {}).items() if first <= after}
        if kept:
            self._streams[projection] = kept


def parked(reader: Reader) -> dict[str, int]:
    """How many events are parked, by projection (and `CODEC`); none of them is 0."""
    return dict(reader.rows("SELECT projection, count(*) FROM dead_letters GROUP BY projection"))


def letters(reader: Reader, limit: int) -> list[Letter]:
    """What is parked, at most `limit`, by projection and position."""
    sql = "SELECT projection, position, stream, type, reason, at FROM dead_letters ORDER BY projection, position LIMIT ?"
    numbers: dict[bytes, str | None] = {}
    found = []
    for projection, position, stream, type_, why, at in reader.rows(sql, (limit,)):
        if stream not in numbers:
            numbers[stream] = _number(reader.ledger, stream)
        found.append(Letter(
            projection=projection, position=position, ticket=numbers[stream], stream=UUID(bytes=stream), type=type_, reason=why,
            since=from_micros(at),
        ))
    return found


def _number(ledger: Ledger, stream: bytes) -> str | None:
    """By the log, since the view that knows the number may be the one that lacks it."""
    for row in ledger.store.stream(stream, limit=1):
        try:
            number = getattr(ledger.fact(row).event, "number", None)
        except Exception as error:  # it may be the event that cannot be decoded
            if not poisonous(error):
                raise
            return None
        return number if isinstance(number, str) else None
    return None
