"""The ledger: decides and commits. One committer thread a process takes whatever waits, decides it and commits it together.

A unit of work is decided while the append lock is held, against state that includes what the same batch decided before it.
So nothing that it read can change under it, and numbers, positions and `recorded_at` are final when it is decided
(docs/decisions/0002 compares this with checking read sets afterwards). What it recorded is published after the commit.
"""

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar
from uuid import UUID

import structlog

from engine.aggregate import NOBODY, Aggregate, Journal, restored, snapshot
from engine.clock import Clock, from_micros, micros
from engine.codec import Codec
from engine.errors import StoreUnavailable, TocsinError
from engine.event import Event, Fact
from engine.identity import NewIds
from engine.store import DueTimer, KeptBody, Row, Store
from engine.timer import Timer, TimerCancelled, TimerFired, TimerSet
from engine.turns import Turns
from engine.vault import Vault
from engine.work import Unit, Work

T = TypeVar("T")
A = TypeVar("A", bound=Aggregate)

MOST_IN_A_BATCH: Final = 256
# Decided after one question for what all of them are going to read.
MOST_IN_A_GULP: Final = 64
# Deliveries may be large: a batch is closed after this long, so that the others' turn comes.
LONGEST_BATCH_SECONDS: Final = 0.25
# A commit that took so long to fail will take so long again: whoever waits is told at once instead of one after the other.
LONG_TO_FAIL_SECONDS: Final = 1.0
MOST_CACHED: Final = 6_000
MOST_IN_A_QUESTION: Final = 500
LONG_STREAM: Final = 256
# Of what other processes wrote meanwhile; where it is more, everything is read anew.
MOST_CAUGHT_UP: Final = 2_000
MOST_PREFETCHED: Final = 5_000
# Facts of the last commits that are kept as they are; a delivery weighs as much as its monitoring events.
MOST_FRESH: Final = 5_000

log = structlog.get_logger(__name__)

_CLOSED: Final = Journal(actor="tocsin", correlation_id=NOBODY)


@dataclass(slots=True)
class _Waiting:
    unit: Unit[Any]
    future: "Future[Any] | asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop | None


@dataclass(slots=True)
class _Batch:
    """What the open transaction holds: rows not yet inserted, streams touched, numbers taken."""

    now: datetime
    rows: list[Row] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    touched: set[UUID] = field(default_factory=set)
    timers: dict[bytes, DueTimer | None] = field(default_factory=dict)  # None: no longer due
    numbers: dict[str, int] = field(default_factory=dict)
    bodies: dict[bytes, KeptBody] = field(default_factory=dict)
    known_bodies: dict[bytes, bool] = field(default_factory=dict)  # those that were asked for, or kept
    cursors: dict[str, int | None] = field(default_factory=dict)  # as read, or as moved
    moved: dict[str, int] = field(default_factory=dict)
    milliseconds: int = 0
    room: bool = False  # it needs some: what only writes over something that is there (a lease) does not
    probed: bool = False

    def __post_init__(self) -> None:
        self.milliseconds = micros(self.now) // 1_000


# Decides besides, within the unit itself: what it records is committed with what it reacts to, or neither is.
Policy = Callable[[Work, Sequence[Fact]], None]


class Ledger:
    """The log of one store, and the only way to append to it.

    Attributes:
        last_position: of the last commit.
        reached: the last position given out, also within the open transaction; the committer's own.
    """

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self.store, self.vault, self.clock = store, vault, clock
        self.codec = Codec(vault)
        self.ids = NewIds()
        self._fresh: dict[int, Fact] = {}
        self._weight = 0
        self._fresh_since = vault.destroyed
        self.last_position = self.reached = store.head().position
        self._cache: OrderedDict[UUID, Aggregate] = OrderedDict()
        self._numbers: dict[str, int] = {}  # the last given out, as long as nobody else writes
        self._batch = _Batch(now=clock.now())
        self._turns: Turns[_Waiting] = Turns()
        self._listeners: list[Callable[[int], None]] = []
        self._policies: list[tuple[frozenset[type[Event]], Policy]] = []
        self._failure: str | None = None
        self._refused: str | None = None
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    # -- for everybody ---------------------------------------------------------------------------------------------

    def submit(self, unit: Unit[T]) -> "Future[T]":
        """Hand a unit in; the future is done after its commit is on disk.

        Raises:
            StoreUnavailable: too much waits already, or the ledger is closed.
        """
        future: Future[T] = Future()
        self._enqueue(_Waiting(unit, future, None))
        return future

    def run(self, unit: Unit[T]) -> T:
        """Submit and wait."""
        return self.submit(unit).result()

    async def commit(self, unit: Unit[T]) -> T:
        """Submit and wait, from the event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._enqueue(_Waiting(unit, future, loop))
        return await future

    def _enqueue(self, waiting: _Waiting) -> None:
        self._turns.put(waiting.unit.actor, waiting)

    def listen(self, listener: Callable[[int], None]) -> None:
        """Call `listener` with the new head after each commit, on the committer's thread: it must not block.

        Commits of other processes are told too, on a thread of the store's, where the database can; look besides.
        """
        if not self._listeners:
            self.store.watch(self._others)
        self._listeners.append(listener)

    def react(self, events: Collection[type[Event]], policy: Policy) -> None:
        """Let `policy` decide besides wherever a unit records one of these events; to be said before the first unit.

        It is handed all facts of the unit so far, and runs after the unit's own decision, in the order of these calls.
        """
        self._policies.append((frozenset(events), policy))

    @property
    def waiting(self) -> int:
        """How many units wait."""
        return len(self._turns)

    @property
    def failure(self) -> str | None:
        """Why the last commit failed, or a decision could not keep what it keeps beside the log (keys).

        None where neither did; or since then a commit succeeded that needed room; or, of decisions, one with `Work.try_room`.
        """
        return self._failure or self._refused

    def fact(self, row: Row) -> Fact:
        """A stored row as a fact."""
        fresh = self._fresh.get(row.position)
        if fresh is not None and self.vault.destroyed == self._fresh_since:
            return fresh
        stream_id = _uuid(row.stream)
        return Fact(
            stream_id=stream_id, version=row.version, event=self.codec.decode(row.type, row.state, stream_id, row.version),
            actor=row.actor, correlation_id=_uuid(row.correlation), cause=row.cause, position=row.position,
            recorded_at=from_micros(row.recorded_at),
        )

    def read(self, after: int, limit: int, *, upto: int | None = None) -> list[Fact]:
        """Facts with position > after, in log order."""
        return [self.fact(row) for row in self.store.log(after, limit, upto=upto)]

    def stream(self, stream_id: UUID, *, after: int = 0) -> list[Fact]:
        """The facts of one stream with version > after, oldest first."""
        return [self.fact(row) for row in self.store.stream(stream_id.bytes, after=after)]

    def get(self, aggregate_class: type[A], stream_id: UUID) -> A:
        """The committed state of a stream, read anew; blank where it has no event."""
        aggregate = aggregate_class(stream_id)
        for fact in self.stream(stream_id):
            aggregate.apply(fact)
        return aggregate

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._turns.close()
        self._thread.join()

    # -- for units of work, on the committer's thread ------------------------------------------------------------------

    def cached(self, aggregate_class: type[A], stream_id: UUID) -> A:
        """The stream's state, uncommitted facts of this batch included."""
        found = self._cache.get(stream_id)
        if found is not None:
            self._cache.move_to_end(stream_id)
            assert isinstance(found, aggregate_class)
            return found
        if stream_id in self._batch.touched:
            self._insert()  # it was dropped from the cache while its rows wait to be inserted
        rows = self.store.pending_stream(stream_id.bytes, limit=LONG_STREAM)
        if len(rows) == LONG_STREAM:
            return self._long(aggregate_class, stream_id)
        aggregate = aggregate_class(stream_id)
        for row in rows:
            aggregate.apply(self.fact(row))
        return aggregate

    def _long(self, aggregate_class: type[A], stream_id: UUID) -> A:
        """A long stream's state: from its snapshot on, and a new snapshot where that was far back."""
        kept = self.store.snapshot(stream_id.bytes) if aggregate_class.REMEMBERS else None
        aggregate = restored(aggregate_class, stream_id, *kept) if kept else None
        if aggregate is None:
            aggregate = aggregate_class(stream_id)
        rows = self.store.pending_stream(stream_id.bytes, after=aggregate.version)
        for row in rows:
            aggregate.apply(self.fact(row))
        if len(rows) >= LONG_STREAM and aggregate_class.REMEMBERS:
            self.store.keep_snapshot(stream_id.bytes, aggregate.version, snapshot(aggregate))
        return aggregate

    def has_body(self, digest: bytes) -> bool:
        known = self._batch.known_bodies
        if digest not in known:
            known[digest] = digest in self.store.known_bodies((digest,))
        return known[digest]

    def _prefetch(self, wanted: Mapping[UUID, type[Aggregate]]) -> None:
        missing = [stream_id for stream_id in wanted if stream_id not in self._cache]
        if any(stream_id in self._batch.touched for stream_id in missing):
            self._insert()
        for first in range(0, len(missing), MOST_IN_A_QUESTION):
            part = missing[first : first + MOST_IN_A_QUESTION]
            found = {stream_id: wanted[stream_id](stream_id) for stream_id in part}
            rows = self.store.pending_streams([stream_id.bytes for stream_id in part], MOST_PREFETCHED)
            if len(rows) == MOST_PREFETCHED:
                return  # long streams among them: each is read on its own, from its snapshot
            for row in rows:
                stream_id = UUID(bytes=row.stream)
                if stream_id in found:
                    try:
                        found[stream_id].apply(self.fact(row))
                    except Exception:  # whoever loads it is told; the others of this batch are not concerned
                        del found[stream_id]
            self._cache.update(found)

    def exists(self, stream_id: UUID) -> bool:
        return stream_id in self._batch.touched or bool(self.store.pending_stream(stream_id.bytes, limit=1))

    def count(self, kind: str) -> int:
        numbers = self._batch.numbers
        if kind not in numbers:
            known = self._numbers.get(kind)
            numbers[kind] = self.store.count(kind) if known is None else known
        numbers[kind] += 1
        return numbers[kind]

    def new_id(self) -> UUID:
        return self.ids.at(self._batch.milliseconds)

    def due_timer(self, timer: bytes) -> DueTimer | None:
        if timer in self._batch.timers:
            return self._batch.timers[timer]
        return self.store.timer(timer)

    def cursor(self, name: str) -> int | None:
        cursors = self._batch.cursors
        if name not in cursors:
            cursors[name] = self.store.pending_cursor(name)
        return cursors[name]

    def next_position(self) -> int:
        self.reached += 1
        return self.reached

    # -- the committer ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._turns.wait():
            self._commit()

    def _commit(self) -> None:
        """Decide and commit what waits, as one batch."""
        outcomes: list[tuple[_Waiting, Any, BaseException | None]] = []
        begun = time.monotonic()
        taken: list[_Waiting] = []
        try:
            self._begin()
            deadline = time.monotonic() + LONGEST_BATCH_SECONDS
            while gulp := self._gulp():
                taken += gulp
                self._expect(gulp)
                outcomes.extend(self._decide(waiting) for waiting in gulp)
                if len(taken) >= MOST_IN_A_BATCH or time.monotonic() > deadline:
                    break
            if self._batch.facts:  # who took a number and recorded nothing did not need it
                for kind, last in self._batch.numbers.items():
                    self.store.set_count(kind, last)
            for name, position in self._batch.moved.items():
                self.store.set_cursor(name, position)
            self._insert()
            self.vault.flush()
            self.store.commit()
            if self._batch.room or self._batch.probed:
                self._failure = None
            if self._batch.probed:
                self._refused = None
        except Exception as error:  # whatever happened, nobody may be told that it was stored
            self._failure = str(error)
            self._abandon()
            if not taken or time.monotonic() - begun > LONG_TO_FAIL_SECONDS:
                while (waiting := self._turns.take()) is not None:
                    taken.append(waiting)
            log.error("commit failed", error=str(error), units=len(taken))
            refusal = error if isinstance(error, TocsinError) else StoreUnavailable(f"the store cannot be written: {error}")
            _answer([(waiting, None, refusal) for waiting in taken])
            return
        self.last_position = self.reached
        if self._batch.facts:
            self._numbers.update(self._batch.numbers)
        _answer(outcomes)  # first of all: they wait
        self._remember()
        self._trim()
        self._tell(self.last_position)

    def _gulp(self) -> list[_Waiting]:
        """The next units whose turn it is."""
        gulp: list[_Waiting] = []
        expected = 0
        while len(gulp) < MOST_IN_A_GULP and expected < MOST_IN_A_QUESTION and (waiting := self._turns.take()) is not None:
            gulp.append(waiting)
            for streams in waiting.unit.expected.streams.values():
                expected += len(streams)
        return gulp

    def _expect(self, gulp: Sequence[_Waiting]) -> None:
        """Read what they are going to ask for: one question for many."""
        streams: dict[UUID, type[Aggregate]] = {}
        bodies: set[bytes] = set()
        for waiting in gulp:
            for aggregate_class, stream_ids in waiting.unit.expected.streams.items():
                streams.update(dict.fromkeys(stream_ids, aggregate_class))
            bodies.update(waiting.unit.expected.bodies)
        self._prefetch(streams)
        bodies -= self._batch.known_bodies.keys()
        if bodies:
            kept = self.store.known_bodies(tuple(bodies))
            self._batch.known_bodies.update((digest, digest in kept) for digest in bodies)

    def _remember(self) -> None:
        """Keep the facts of the last commits as they are, so that the views need not decode what was just encoded."""
        if self.vault.destroyed != self._fresh_since:
            self._fresh, self._weight, self._fresh_since = {}, 0, self.vault.destroyed
        for fact in self._batch.facts:
            self._fresh[fact.position] = fact
            self._weight += _weight(fact)
        while self._weight > MOST_FRESH:
            position = next(iter(self._fresh))
            self._weight -= _weight(self._fresh.pop(position))

    def _others(self, position: int) -> None:
        if position > self.last_position:
            self._tell(position)

    def _tell(self, position: int) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(position)
            except Exception:  # a listener's fault must not stop the committer: everybody waits for it
                log.exception("a listener failed")

    def _begin(self) -> None:
        head, others = self.store.begin()
        if others is not None:
            self._numbers.clear()  # they are given out only with an event
            self._catch_up(others)
        self.reached = head.position
        # Never decreasing along positions, whatever the clock does.
        self._batch = _Batch(now=max(self.clock.now(), from_micros(head.recorded_at)))

    def _catch_up(self, others: Sequence[tuple[int, bytes]]) -> None:
        """Bring what is remembered up to what other processes wrote: streams that all of them write may be long."""
        wanted = [position for position, stream in others if UUID(bytes=stream) in self._cache]
        if len(wanted) > MOST_CAUGHT_UP:
            self._cache.clear()
            return
        for first in range(0, len(wanted), MOST_IN_A_QUESTION):
            for row in self.store.pending_at(wanted[first : first + MOST_IN_A_QUESTION]):
                stream_id = UUID(bytes=row.stream)
                known = self._cache.get(stream_id)
                if known is not None:
                    try:
                        known.apply(self.fact(row))
                    except Exception:  # whoever loads it reads it anew, and is told
                        del self._cache[stream_id]

    def _decide(self, waiting: _Waiting) -> tuple[_Waiting, Any, BaseException | None]:
        unit = waiting.unit
        work = Work(self, self._batch.now, Journal(actor=unit.actor, correlation_id=unit.correlation_id or self.new_id()))
        before = self.reached
        try:
            result = unit.decide(work)
            self._react(work)
            work.stamp()
            rows = self._rows(work)
        except Exception as error:
            self.reached = before
            if isinstance(error, StoreUnavailable):
                self._refused = str(error)
            if not isinstance(error, TocsinError):
                log.exception("a decision failed", actor=unit.actor)
            # What it changed is read anew; `cached` inserts the rows of the units before it first.
            if work.journal.facts:
                for stream_id in work.used:
                    self._cache.pop(stream_id, None)
            return waiting, None, error
        self._stage(work, rows)
        return waiting, result, None

    def _react(self, work: Work) -> None:
        facts = work.journal.facts
        for events, policy in self._policies:
            # The types alone: most units are deliveries that touch nothing a policy asks for.
            if not events.isdisjoint({type(fact.event) for fact in facts}):
                policy(work, tuple(facts))

    def _rows(self, work: Work) -> list[Row]:
        recorded_at = micros(self._batch.now)
        return [
            Row(
                fact.position, fact.stream_id.bytes, fact.version, fact.event.TOPIC, self.codec.encode(fact), recorded_at,
                fact.actor, fact.correlation_id.bytes, fact.cause,
            )
            for fact in work.journal.facts
        ]

    def _stage(self, work: Work, rows: list[Row]) -> None:
        batch = self._batch
        batch.room, batch.probed = batch.room or bool(rows), batch.probed or work.probes
        batch.rows += rows
        batch.facts += work.journal.facts
        for fact in work.journal.facts:
            batch.touched.add(fact.stream_id)
            if fact.stream_id not in work.used:
                self._cache.pop(fact.stream_id, None)
            self._index(fact)
        batch.timers.update(work.timers)
        batch.bodies.update(work.bodies)
        batch.known_bodies.update(dict.fromkeys(work.bodies, True))
        batch.cursors.update(work.cursors)
        batch.moved.update(work.cursors)
        for write in work.after:
            write(self.store)
        for stream_id, aggregate in work.used.items():
            if aggregate.KIND in CACHED_KINDS:
                aggregate.journal = _CLOSED  # its own would keep every fact of this unit alive
                self._cache[stream_id] = aggregate
            else:
                self._cache.pop(stream_id, None)  # it was expected, and is read once

    def _index(self, fact: Fact) -> None:
        """Keep the index of due times in step with the log, in the same commit."""
        event: Event = fact.event
        if isinstance(event, TimerSet):
            timer = fact.stream_id.bytes
            self._batch.timers[timer] = DueTimer(timer, event.owner.bytes, event.purpose, micros(event.due_at))
        elif isinstance(event, (TimerCancelled, TimerFired)):  # a union of types would be 20 times slower
            self._batch.timers[fact.stream_id.bytes] = None

    def _insert(self) -> None:
        # Taken off the batch only when they are in: a unit whose reading fails here must not lose the rows of those before it.
        batch = self._batch
        if batch.rows:
            self.store.insert(batch.rows)
            batch.rows = []
        if batch.bodies:
            self.store.keep_bodies(tuple(batch.bodies.values()))
            batch.bodies = {}
        if batch.timers:
            self.store.set_timers([timer for timer in batch.timers.values() if timer is not None])
            self.store.clear_timers([timer for timer, due in batch.timers.items() if due is None])
            batch.timers = {}

    def _abandon(self) -> None:
        """Nothing of this batch happened: drop every state that it may have changed."""
        self._cache.clear()
        self._numbers.clear()
        self.vault.forget_unsaved()
        with contextlib.suppress(Exception):
            self.store.rollback()

    def _trim(self) -> None:
        while len(self._cache) > MOST_CACHED:
            self._cache.popitem(last=False)


# What is read again and again. Deliveries, persons and tokens are read once or rarely.
CACHED_KINDS: Final = frozenset(
    {"alert", "correlation", "incident", "request", "source", "rule", "recipient", "rulebook", "service", "team", Timer.KIND}
)


@lru_cache(maxsize=4_096)  # facts of one stream, and of one unit, lie close together in the log
def _uuid(value: bytes) -> UUID:
    return UUID(bytes=value)


def _weight(fact: Fact) -> int:
    return 1 + len(getattr(fact.event, "monitoring_events", ()))


def _answer(outcomes: Sequence[tuple[_Waiting, Any, BaseException | None]]) -> None:
    """Complete the futures; those of one event loop in a single call into it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any, BaseException | None]]] = {}
    for waiting, result, error in outcomes:
        future = waiting.future
        if isinstance(future, asyncio.Future):
            assert waiting.loop is not None
            by_loop.setdefault(waiting.loop, []).append((future, result, error))
        elif not future.set_running_or_notify_cancel():
            continue  # nobody waits any more; what was decided stands
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
    for loop, done in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_complete, done)


def _complete(done: Sequence[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, result, error in done:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
