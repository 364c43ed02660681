"""How far a partition was read: a cursor in the store, moved in the same commit as what the record led to.

So a record is decided once, whoever owns the partition: a process that owned it before cannot move the cursor past what it
believes in, and no record is decided whose predecessor was not.
"""

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from engine.errors import TocsinError
from engine.work import Unit, Work

T = TypeVar("T")
PREFIX: Final = "in"


class OutOfStep(TocsinError):
    """The stored position is not the one that the reader believes in; it has to read it anew. Nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies.

    Attributes:
        cursor: the name of its partition's cursor.
        believed: the end of the record before it; None: there is none, and the cursor is not begun.
        offset: its own.
    """

    cursor: str
    believed: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """A record whose position is stored.

    Attributes:
        fresh: it was taken now; else it had been taken before, and its unit was not asked.
        result: of its unit.
    """

    fresh: bool
    result: T | None = None


def cursor_name(topic: str, partition: int, topic_id: str | None) -> str:
    """The cursor of a partition. A topic that is made anew under its old name has another id, and is read from its beginning."""
    return f"{PREFIX}:{topic}:{partition}" if topic_id is None else f"{PREFIX}:{topic}:{partition}:{topic_id}"


def at(place: Place, unit: Unit[T]) -> Unit[Taken[T]]:
    """The unit, decided only where it is its record's turn, together with the cursor's move.

    Its decision raises `OutOfStep` where a record before this one was not taken.
    """

    def decide(work: Work) -> Taken[T]:
        stored = work.cursor(place.cursor)
        if stored is not None and stored > place.offset:
            return Taken(fresh=False)
        if stored != place.believed:
            raise OutOfStep(f"{place.cursor} is at {stored}, not at {place.believed}")
        work.journal.actor = unit.actor
        result = unit.decide(work)
        work.set_cursor(place.cursor, place.offset + 1)
        return Taken(fresh=True, result=result)

    # The ledger keeps the order of one actor's units only, and a partition may hold deliveries of several.
    return Unit(decide, actor=place.cursor, correlation_id=unit.correlation_id)
