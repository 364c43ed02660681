"""The library's `ApplicationRecorder` over our store, whatever database that is on.

It is how the library's own tools (`EventStore`, `Repository`, a followers' subscription) read the log, and what its contract
tests are run against. Tocsin itself appends through `engine/ledger.py`, which also gives an event its envelope; a plain
`StoredEvent` that comes this way gets the default one. A recorder that writes needs a store of its own (a second
connection to the same database), never the one that a ledger holds.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    Notification,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Subscription,
)

from engine.aggregate import NOBODY
from engine.clock import Clock, micros
from engine.errors import StoreUnavailable
from engine.store import Row, Store

ACTOR: Final = "tocsin"
PAGE: Final = 500
# Besides being woken: another process's commits wake nobody here.
POLL_SECONDS: Final = 1.0


class StoreRecorder(ApplicationRecorder):
    """Reads and appends plain stored events. Safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._writing = threading.Lock()
        self._subscriptions: set[StoreSubscription] = set()
        self._subscriptions_lock = threading.Lock()

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:  # noqa: ARG002  # the interface's
        """Append them, all or none; their positions (None where there is nothing to append).

        Raises:
            IntegrityError: one of them is there already, or is given twice.
            OperationalError: the store cannot be written.
        """
        if not stored_events:
            return None
        with self._writing:
            try:
                head, _ = self._store.begin()
                self._refuse_known(stored_events)
                recorded_at = max(micros(self._clock.now()), head.recorded_at)
                rows = [
                    Row(
                        position, _id(event).bytes, event.originator_version, event.topic, event.state, recorded_at, ACTOR,
                        NOBODY.bytes, None,
                    )
                    for position, event in enumerate(stored_events, head.position + 1)
                ]
                self._store.insert(rows)
                self._store.commit()
            except BaseException as error:
                self._store.rollback()
                if isinstance(error, StoreUnavailable):
                    raise OperationalError(str(error)) from error
                raise
        self.notify(rows[-1].position)
        return [row.position for row in rows]

    def _refuse_known(self, stored_events: Sequence[StoredEvent]) -> None:
        # Under the append lock and before anything is inserted, what a reader sees is the present state.
        wanted: dict[UUID, set[int]] = {}
        for event in stored_events:
            versions = wanted.setdefault(_id(event), set())
            if event.originator_version in versions:
                raise IntegrityError(f"{event.originator_id}:{event.originator_version} is given twice")
            versions.add(event.originator_version)
        for stream_id, versions in wanted.items():
            for row in self._store.stream(stream_id.bytes, after=min(versions) - 1, upto=max(versions)):
                if row.version in versions:
                    raise IntegrityError(f"{stream_id}:{row.version} is there already")

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Events of one stream, in the order of their versions."""
        stream_id = originator_id if isinstance(originator_id, UUID) else UUID(originator_id)
        # The library counts versions from 0 where it likes; ours begin at 1.
        rows = self._store.stream(stream_id.bytes, after=-1 if gt is None else gt, upto=lte, newest_first=desc, limit=limit)
        return [
            StoredEvent(originator_id=stream_id, originator_version=row.version, topic=row.type, state=row.state) for row in rows
        ]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Events of all streams, in log order."""
        after = 0 if start is None else start - 1 if inclusive_of_start else start
        return [
            Notification(
                id=row.position, originator_id=UUID(bytes=row.stream), originator_version=row.version, topic=row.type,
                state=row.state,
            )
            for row in self._store.log(after, limit, upto=stop, types=topics)
        ]

    def max_notification_id(self) -> int | None:
        """The position of the last event; None where the log is empty."""
        return self._store.head().position or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> "StoreSubscription":
        """Events of all streams (of these topics) from the one after `gt` on, for ever; waits where the log ends."""
        subscription = StoreSubscription(self, gt, topics)
        with self._subscriptions_lock:
            self._subscriptions.add(subscription)
        return subscription

    def notify(self, position: int) -> None:  # noqa: ARG002  # the shape that `Ledger.listen` takes
        """Something was appended: wake the subscriptions. To be given to `Ledger.listen` where a ledger of this process appends."""
        with self._subscriptions_lock:
            for subscription in self._subscriptions:
                subscription.wake()

    def forget(self, subscription: "StoreSubscription") -> None:
        """It was stopped."""
        with self._subscriptions_lock:
            self._subscriptions.discard(subscription)


class StoreSubscription(Subscription[StoreRecorder]):
    """Follows the log. Read by one thread; `stop` may be called from any."""

    def __init__(self, recorder: StoreRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder, gt, topics)
        self._page: Iterator[Notification] = iter(())
        self._news = threading.Event()

    def wake(self) -> None:
        """Look again."""
        self._news.set()

    def stop(self) -> None:
        """End the iteration, also one that waits."""
        super().stop()
        self._news.set()
        self._recorder.forget(self)

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            found = next(self._page, None)
            if found is not None:
                self._last_notification_id = found.id
                return found
            self._news.clear()
            page = self._next_page()
            self._page = iter(page)
            if not page and not self._has_been_stopped:
                self._news.wait(POLL_SECONDS)
        raise StopIteration

    def _next_page(self) -> Sequence[Notification]:
        head = self._recorder.max_notification_id()
        page = self._recorder.select_notifications(
            self._last_notification_id, PAGE, stop=head, topics=self._topics, inclusive_of_start=False
        )
        if not page and head is not None:
            # Nothing that was asked for up to here: the next look begins after it.
            self._last_notification_id = max(self._last_notification_id or 0, head)
        return page


def _id(event: StoredEvent) -> UUID:
    if not isinstance(event.originator_id, UUID):
        raise ProgrammingError("streams are named by UUIDs")
    return event.originator_id
