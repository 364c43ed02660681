"""A unit of work: what is decided together, and what a decision may read and record. `engine/ledger.py` runs it."""

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from uuid import UUID

from engine.aggregate import Aggregate, Journal
from engine.event import Fact
from engine.store import DueTimer, KeptBody, Store
from engine.vault import Vault

if TYPE_CHECKING:
    from engine.ledger import Ledger

T = TypeVar("T")
A = TypeVar("A", bound=Aggregate)


class Work:
    """What a decision may read and record: one unit of work, all or nothing.

    Attributes:
        now: the ledger's time for everything that this unit records.
        probes: it was asked for `try_room`.
        journal: set its `actor` and `cause` before recording what somebody or something else causes.
    """

    def __init__(self, ledger: "Ledger", now: datetime, journal: Journal) -> None:
        self._ledger = ledger
        self.now = now
        self.journal = journal
        self.used: dict[UUID, Aggregate] = {}
        self.after: list[Callable[[Store], None]] = []
        self.timers: dict[bytes, DueTimer | None] = {}
        self.cursors: dict[str, int] = {}
        self.bodies: dict[bytes, KeptBody] = {}
        self.probes = False
        self._stamped = 0

    def load(self, aggregate_class: type[A], stream_id: UUID) -> A:
        """The stream's state as of now; blank where it has no event yet (ask `exists`)."""
        mine = self.used.get(stream_id)
        if mine is not None:
            assert isinstance(mine, aggregate_class)
            return mine
        return self.adopt(self._ledger.cached(aggregate_class, stream_id))

    def has_body(self, digest: bytes) -> bool:
        """Whether this body is kept, as of now."""
        return digest in self.bodies or self._ledger.has_body(digest)

    def keep_body(self, body: KeptBody) -> None:
        """Keep the bytes of something that this unit records."""
        self.bodies[body.digest] = body

    def fresh(self, aggregate_class: type[A], stream_id: UUID) -> A:
        """A stream that is known to be new (its id is random): nothing is looked up."""
        return self.adopt(aggregate_class(stream_id, self.journal))

    def adopt(self, aggregate: A) -> A:
        """Make an aggregate one of this unit: what it records is recorded, and loading its stream finds it."""
        aggregate.journal = self.journal
        self.used[aggregate.id] = aggregate
        return aggregate

    def exists(self, stream_id: UUID) -> bool:
        """Whether the stream has an event as of now, of whatever kind it is."""
        return self._ledger.exists(stream_id)

    def new_id(self) -> UUID:
        """An id for a record that nothing outside identifies."""
        return self._ledger.new_id()

    def number(self, kind: str) -> str:
        """The next number of a kind (`INC` gives INC-1, INC-2, …): unique for ever, increasing in log order, may have gaps."""
        return f"{kind}-{self._ledger.count(kind)}"

    def caused_by(self, fact: Fact | str | None) -> "contextlib.AbstractContextManager[None]":
        """What is recorded inside was led to by `fact`."""
        return _Caused(self.journal, fact.reference if isinstance(fact, Fact) else fact)

    def stamp(self) -> int:
        """Give position and time to what was recorded so far; the position of the last, or the head's."""
        facts = self.journal.facts
        for fact in facts[self._stamped :]:
            fact.position, fact.recorded_at = self._ledger.next_position(), self.now
        self._stamped = len(facts)
        return self._ledger.reached

    def try_room(self, size: int) -> None:
        """Find out whether deliveries can be stored: a key each is there, and so many bytes have room. Nothing is left of them.

        Raises:
            StoreUnavailable: there are no keys. Where there is no room the commit fails.
        """
        self.vault.stock()
        self.after.append(lambda store: store.try_room(size))
        self.probes = True

    @property
    def store(self) -> Store:
        """Reads inside the open transaction; writes belong into `after`."""
        return self._ledger.store

    @property
    def vault(self) -> Vault:
        return self._ledger.vault

    def set_timer(self, timer: DueTimer) -> None:
        """Put a due time into the index without an event of its own: the fact that sets it stands elsewhere (leases)."""
        self.timers[timer.timer] = timer

    def clear_timer(self, timer: bytes) -> None:
        """Take a due time out of the index; again the fact stands elsewhere."""
        self.timers[timer] = None

    def due_timer(self, timer: bytes) -> DueTimer | None:
        """The index's row as of now, what this batch decided before included."""
        return self._ledger.due_timer(timer)

    def cursor(self, name: str) -> int | None:
        """How far something outside was read or told as of now; None: not begun."""
        return self._ledger.cursor(name)

    def set_cursor(self, name: str, position: int) -> None:
        """Move it, in the same commit as what this unit records."""
        self.cursors[name] = position


class _Caused:
    """Sets the journal's cause for a while."""

    def __init__(self, journal: Journal, cause: str | None) -> None:
        self._journal, self._cause = journal, cause

    def __enter__(self) -> None:
        self._journal.cause, self._cause = self._cause, self._journal.cause

    def __exit__(self, *_: object) -> None:
        self._journal.cause, self._cause = self._cause, self._journal.cause


@dataclass(frozen=True, slots=True)
class Expected:
    """What a unit is going to read. Many units' is asked for in one question; what is not expected is read when it is needed.

    Attributes:
        streams: by class.
        bodies: digests.
    """

    streams: Mapping[type[Aggregate], Collection[UUID]] = field(default_factory=dict)
    bodies: Collection[bytes] = ()


NOTHING: Final = Expected()


@dataclass(slots=True)
class Unit(Generic[T]):
    """One thing to decide: a pure function of what it reads, run once by the committer.

    Attributes:
        decide: returns the answer, or raises a `TocsinError`; then nothing of it is recorded.
        actor: on whose behalf.
        correlation_id: of everything that it leads to; None: a new one.
    """

    decide: Callable[[Work], T]
    actor: str
    correlation_id: UUID | None = None
    expected: Expected = NOTHING
