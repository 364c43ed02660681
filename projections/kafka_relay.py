"""The relay: every event of the log, in log order and at least once, as a CloudEvent in a topic of Kafka.

It knows what a record says and how far it is; `api/kafka_out.py` knows Kafka. Only the process that leads relays. How far
it is lies in the store, as a cursor that only the leader can move, and only forward. What a former leader, asleep and woken
up, still has in hand its broker refuses (a transaction's epoch), so nothing old comes between what is new.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple, Protocol
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge

from engine.clock import from_micros, rfc3339
from engine.errors import TocsinError
from engine.lease import Leadership, NotLeading
from engine.ledger import Ledger
from engine.store import Row
from engine.work import Unit, Work

MOST_IN_A_BATCH: Final = 500
POLL_SECONDS: Final = 1.0
# While little goes on, a commit of its own for the position of each event would double the commits; after a crash what was
# published within this time is published again.
KEEP_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 5.0
LEAVING_SECONDS: Final = 5.0
# Brokers take records of 1 MiB by default, headers included. What is larger is fetched by whoever wants it.
MOST_BYTES: Final = 900_000

LAG_EVENTS: Final = Gauge("tocsin_projections_kafka_lag_events", "Events that wait to be published; in the process that leads", registry=None)
LAG_SECONDS: Final = Gauge(
    "tocsin_projections_kafka_lag_seconds", "Age of the oldest event that waits to be published; in the process that leads", registry=None
)
PUBLISHED: Final = Counter("tocsin_projections_kafka_published_total", "Events published, repetitions included", registry=None)

log = structlog.get_logger(__name__)


class NotPublished(TocsinError):
    """The broker has not taken the records: none of them, some or (its answer was lost) all."""


class Record(NamedTuple):
    """What is written into the topic. `headers`: those of the CloudEvents' Kafka binding, binary mode."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class Publisher(Protocol):
    """A connection to the topic. Of two, the one that was made later is heard; the other one's records are refused."""

    def publish(self, records: Sequence[Record]) -> None:
        """Write them, in this order for each key; returns when every copy that must have them has.

        Raises:
            NotPublished: it failed, or took too long; this connection is of no use any more.
        """
        ...

    def close(self) -> None: ...


def cursor_name(topic: str) -> str:
    """How far the log was published to a topic, in the store."""
    return f"out:{topic}"


def record_of(row: Row, store_id: str, address: str) -> Record:
    """An event of the log as a CloudEvent: its state as it lies in the log, so what is sealed stays sealed.

    Args:
        address: where an event that is too large for a record is fetched.
    """
    stream = str(UUID(bytes=row.stream))
    headers = [
        ("ce_specversion", "1.0"), ("ce_id", f"{stream}:{row.version}"), ("ce_source", f"urn:uuid:{store_id}"), ("ce_type", row.type),
        ("ce_subject", stream), ("ce_time", rfc3339(from_micros(row.recorded_at))), ("ce_tocsinposition", str(row.position)),
        ("ce_tocsinversion", str(row.version)), ("ce_tocsinactor", row.actor), ("ce_tocsincorrelation", str(UUID(bytes=row.correlation))),
    ]
    if row.cause is not None:
        headers.append(("ce_tocsincause", row.cause))
    value = row.state
    if len(value) <= MOST_BYTES:
        headers.append(("content-type", "application/json"))
    else:
        value = b""
        headers.append(("ce_dataref", f"{address}/api/v1/log?after={row.position - 1}&limit=1"))
    return Record(stream.encode(), value, [(name, text.encode()) for name, text in headers])


class Relay:
    """Publishes in a thread of its own, woken by each commit and looking once a second, while its process leads.

    Attributes:
        trouble: why it does not get on now; None: it does, or another process leads.
    """

    def __init__(
        self, ledger: Ledger, leadership: Leadership, connect: Callable[[], Publisher], *, topic: str, store_id: str, address: str
    ) -> None:
        """
        Args:
            connect: makes a connection to the topic; raises `NotPublished`.
            address: how this Tocsin is reached.
        """
        self._ledger, self._leadership, self._connect = ledger, leadership, connect
        self._cursor, self._store_id, self._address = cursor_name(topic), store_id, address
        self.trouble: str | None = None
        self._publisher: Publisher | None = None
        self._token: int | None = None
        self._published = self._kept = 0
        self._kept_at = time.monotonic()
        self._failed_in_a_row = 0
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-relay", daemon=True)

    def start(self) -> None:
        self._ledger.listen(lambda _: self._wake.set())
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way; what takes longer than 5 s is given up, and published again by whoever leads next."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(LEAVING_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = self._round()
            if pause:
                self._wake.wait(pause)
                self._wake.clear()
        try:
            if self._leadership.leads:
                self._keep()
        except TocsinError as error:
            log.info("how far the relay is could not be stored; some events will be published again", error=str(error))
        self._let_go()

    def _round(self) -> float:
        """Publish what is there, as far as it goes into one batch; seconds until it is worth to look again."""
        try:
            if not self._leadership.leads:
                self._stand_by()
                return POLL_SECONDS
            self._take_over()
            more = self._publish()
        except NotLeading:
            self._stand_by()
            return POLL_SECONDS
        except Exception as error:  # nobody else would go on
            if not isinstance(error, TocsinError):
                log.exception("relaying failed; trying again")
            return self._failed(str(error) or repr(error))
        if self.trouble is not None:
            log.info("events are published again")
        self.trouble, self._failed_in_a_row = None, 0
        return 0 if more else POLL_SECONDS

    def _stand_by(self) -> None:
        if self._token is not None:
            self._let_go()
            self._token, self.trouble = None, None
            LAG_EVENTS.set(0)
            LAG_SECONDS.set(0)

    def _take_over(self) -> None:
        """Go on where the former leader was; its later words, if any, are refused from the next connection on."""
        token = self._leadership.token
        if token != self._token:
            self._let_go()
            self._published = self._kept = self._ledger.store.cursor(self._cursor) or 0
            self._token = token

    def _publish(self) -> bool:
        """Whether there is more."""
        rows = self._ledger.store.log(self._published, MOST_IN_A_BATCH)
        if rows:
            self._tell_lag(rows[0])
            records = [record_of(row, self._store_id, self._address) for row in rows]
            if self._publisher is None:
                self._publisher = self._connected()
            if not self._leadership.leads:
                raise NotLeading("another process leads")
            self._publisher.publish(records)
            self._published = rows[-1].position
            PUBLISHED.inc(len(rows))
        full = len(rows) == MOST_IN_A_BATCH
        if not full:
            LAG_EVENTS.set(0)
            LAG_SECONDS.set(0)
        if self._published > self._kept and (full or time.monotonic() - self._kept_at >= KEEP_SECONDS):
            self._keep()
        return full

    def _connected(self) -> Publisher:
        """A connection that is heard. It takes the word from the one before, so only a leader may make it.

        And whoever leads later connects later: since this process still leads now that it is connected, nothing that it
        publishes comes after what a later leader publishes.
        """
        leads: Unit[None] = Unit(lambda _: None, actor="tocsin")
        self._ledger.run(self._leadership.fenced(leads))
        publisher = self._connect()
        try:
            self._ledger.run(self._leadership.fenced(leads))
        except TocsinError:
            publisher.close()
            raise
        return publisher

    def _keep(self) -> None:
        """Store how far it is."""
        position = self._published

        def decide(work: Work) -> None:
            if (work.cursor(self._cursor) or 0) < position:
                work.set_cursor(self._cursor, position)

        if position > self._kept:
            self._ledger.run(self._leadership.fenced(Unit(decide, actor="tocsin")))
            self._kept = position
        self._kept_at = time.monotonic()

    def _tell_lag(self, first: Row) -> None:
        LAG_EVENTS.set(max(0, self._ledger.store.head().position - self._published))
        LAG_SECONDS.set(max(0.0, (self._ledger.clock.now() - from_micros(first.recorded_at)) / timedelta(seconds=1)))

    def _failed(self, why: str) -> float:
        """Say it once; seconds to wait."""
        self._let_go()
        if self.trouble is None:
            log.error("events wait to be published", why=why)
        self.trouble = why
        self._failed_in_a_row += 1
        wait = min(LONGEST_WAIT_SECONDS, 0.1 * 2 ** min(self._failed_in_a_row, 10))
        self._stopping.wait(wait)  # commits meanwhile do not make it try sooner
        return 0

    def _let_go(self) -> None:
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
