"""Deliveries out of Kafka: each record of the topic leads to what a POST to its source's hook would, once in effect.

    poll ─▶ read (kafka_record) ─▶ one unit of work a record, in step (kafka_position) ─▶ all of a poll commit together
                    └─▶ cannot be taken: dead letter (kafka_dead), acknowledged; then its unit moves the position on

One thread reads. The group only shares the partitions out; what counts is the position in the store, so a rebalance, a
crash or two owners of a partition at once lose nothing and decide nothing twice.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, cast

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import KafkaError, OffsetOutOfRangeError
from kafka.producer.future import FutureRecordMetadata
from kafka.structs import OffsetAndMetadata

from engine.errors import Refused, StoreUnavailable, TocsinError
from engine.ledger import Ledger
from engine.work import Unit, Work
from monitors.intake import Intake, ProfileChanged, Receipt
from monitors.kafka_client import client
from monitors.kafka_dead import DeadLetters
from monitors.kafka_decision import Decision, Decisions
from monitors.kafka_measures import LAG, RECORDS, SECONDS
from monitors.kafka_position import OutOfStep, Place, Taken, at, cursor_name
from monitors.kafka_topics import Topics, last_words

MOST_IN_A_POLL: Final = 500
POLL_MILLISECONDS: Final = 250
# A reader that was killed is missed after so long (the shortest that brokers allow by default): then others read its partitions.
SESSION_MILLISECONDS: Final = 6_000
SHORTEST_WAIT_SECONDS: Final = 0.1
LONGEST_WAIT_SECONDS: Final = 10.0
# While nothing comes: is the broker there, and how much waits?
LOOK_SECONDS: Final = 5.0
LOOK_PATIENCE_MILLISECONDS: Final = 3_000
SHOWN_SECONDS: Final = 1.0
LEAVING_MILLISECONDS: Final = 5_000
# Python's 5 ms let a thread that reads keep the committer waiting after each question to the database: a third of the speed.
SWITCH_SECONDS: Final = 0.0005
# From here on a topic has an id, which it does not share with one that had its name before.
TOPIC_IDS_SINCE: Final = (2, 8)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A partition that is read.

    Attributes:
        believed: the end of the last record that was taken; None: none was.
    """

    cursor: str
    believed: int | None


@dataclass(slots=True)
class _Step:
    """One record on its way."""

    partition: TopicPartition
    record: ConsumerRecord
    decision: Decision
    unit: Unit[Taken[Receipt | None]]
    letter: FutureRecordMetadata | None = None
    future: "Future[Taken[Receipt | None]] | None" = None


@dataclass(slots=True)
class _Failure:
    """Where a partition stopped."""

    record: ConsumerRecord
    error: BaseException


class KafkaIntake:
    """Reads deliveries in a thread of its own, for as long as it is not told to stop.

    Attributes:
        troubles: what keeps it from its work now, by what it concerns (`broker`, `store`, a partition); empty: nothing does.

    Args:
        told: called with each delivery that was decided, and with None for each that was rejected.
        reread: read a partition from its first record where it is shorter than what was read of it before.
    """

    def __init__(
        self, ledger: Ledger, intake: Intake, topics: Topics, *, told: Callable[[Receipt | None], None] = lambda _: None, reread: bool = False
    ) -> None:
        self._ledger, self._intake, self._topics, self._told, self._reread = ledger, intake, topics, told, reread
        self._dead, self._decisions = DeadLetters(topics), Decisions(intake, ledger.vault, topics.max_body_bytes)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-intake", daemon=True)
        self.troubles: dict[str, str] = {}
        self._lock = threading.Lock()  # the library tells of an assignment on a thread of its own
        self._reading: dict[TopicPartition, _Reading] = {}
        self._held: set[TopicPartition] = set()
        self._failed_in_a_row = 0
        self._looked_at = self._shown_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish what was begun, leave the group; returns when that is done."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    # -- connecting ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._session()
            except KafkaError as error:
                self._say_trouble("broker", last_words() or repr(error))
                self._stopping.wait(self._next_wait())
            except Exception as error:  # nobody else would start it again
                log.exception("reading deliveries failed; trying again")
                self._say_trouble("reader", repr(error))
                self._stopping.wait(self._next_wait())
        self._dead.close()

    def _session(self) -> None:
        """Read until told to stop, on one connection."""
        consumer = client(
            self._topics, KafkaConsumer, group_id=self._topics.group, auto_offset_reset="none", enable_auto_commit=False,
            isolation_level="read_committed", max_poll_records=MOST_IN_A_POLL, session_timeout_ms=SESSION_MILLISECONDS, heartbeat_interval_ms=1_000,
        )
        try:
            with self._lock:
                self._reading.clear()
                self._held.clear()
            consumer.subscribe([self._topics.deliveries], listener=_Assigned(consumer, self._unplace))
            self._looked_at = time.monotonic()
            while not self._stopping.is_set():
                self._round(consumer)
            self._show(consumer, now=True)
        finally:
            with contextlib.suppress(KafkaError):
                consumer.close(autocommit=False, timeout_ms=LEAVING_MILLISECONDS)

    def _round(self, consumer: KafkaConsumer) -> None:
        try:
            self._place(consumer)
        except TocsinError as error:
            self._wait_for_store(consumer, error)
            return
        try:
            batches = consumer.poll(timeout_ms=POLL_MILLISECONDS)
        except OffsetOutOfRangeError as error:
            self._out_of_range(consumer, error.args[0])
            return
        if batches:
            self._clear("broker", "reader")
            self._looked_at = time.monotonic()
            with SECONDS.time():
                failures = self._take(batches)
            self._show(consumer)
            self._mend(consumer, failures)
        elif time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._look(consumer)

    # -- positions ---------------------------------------------------------------------------------------------------------

    def _unplace(self, consumer: KafkaConsumer, partitions: Iterable[TopicPartition]) -> None:
        """Nothing is fetched of these before their stored position was looked up."""
        with self._lock:
            for partition in partitions:
                self._reading.pop(partition, None)
                if partition in self._held:
                    self._held.discard(partition)
                    self.troubles.pop(f"partition {partition.partition}", None)
                with contextlib.suppress(ValueError, KeyError):  # it is not ours any more
                    consumer.pause(partition)
                    consumer.seek(partition, 0)

    def _cursor(self, consumer: KafkaConsumer, partition: TopicPartition) -> str | None:
        """The name of its cursor; None: not known before the broker has told of the topic."""
        found = consumer._cluster.topic_id(partition.topic)  # there is no public way to it
        if found is None and cast("tuple[int, ...]", consumer.config["api_version"]) >= TOPIC_IDS_SINCE:
            return None
        return cursor_name(partition.topic, partition.partition, None if found is None else str(found))

    def _place(self, consumer: KafkaConsumer) -> None:
        """Go to the stored position of each partition that is new here, or failed.

        Raises:
            StoreUnavailable: it cannot be asked.
        """
        for partition in consumer.assignment() - self._reading.keys() - self._held:
            cursor = self._cursor(consumer, partition)
            if cursor is None:
                continue
            stored = self._ledger.store.cursor(cursor)
            with self._lock, contextlib.suppress(ValueError, KeyError):  # it is not ours any more
                if stored is None:
                    consumer.seek_to_beginning(partition)
                else:
                    consumer.seek(partition, stored)
                self._reading[partition] = _Reading(cursor, stored)
                consumer.resume(partition)

    def _out_of_range(self, consumer: KafkaConsumer, positions: Mapping[TopicPartition, int]) -> None:
        """What follows a position is not there: deleted before it was read, or the partition lost its end."""
        for partition, position in positions.items():
            reading = self._reading.get(partition)
            if reading is None:
                continue
            first: int = consumer.beginning_offsets([partition], timeout_ms=LOOK_PATIENCE_MILLISECONDS)[partition]
            if position < first:
                log.error("records were deleted before they were read", partition=partition.partition, records=first - position)
                with self._lock, contextlib.suppress(ValueError):
                    consumer.seek(partition, first)
                continue
            if self._reread:
                log.warning("a partition is read anew", partition=partition.partition, position=position, first=first)
                self._ledger.run(_moved(reading.cursor, first))
                self._unplace(consumer, [partition])
                continue
            self._unplace(consumer, [partition])
            with self._lock:
                self._held.add(partition)
            self._say_trouble(
                f"partition {partition.partition}",
                f"it ends before {position}, up to which it was read: the topic lost records. `tocsin intake --reread` reads it anew",
            )

    # -- a poll's records ----------------------------------------------------------------------------------------------------

    def _take(self, batches: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> dict[TopicPartition, _Failure]:
        """Decide the records of one poll, and wait until all are committed; where partitions stopped."""
        failures: dict[TopicPartition, _Failure] = {}
        steps: list[_Step] = []
        for partition, records in batches.items():
            steps += self._steps(partition, records, failures)
        for step in steps:
            if _before(step, failures):
                self._begin(step, failures)
        done: dict[TopicPartition, int] = {}
        for step in steps:
            if step.future is None:
                continue
            caught = step.future.exception()
            if caught is None:
                self._count(step, step.future.result())
                done[step.partition] = step.record.offset + 1
            elif _before(step, failures):
                failures[step.partition] = _Failure(step.record, caught)
        with self._lock:
            for partition in batches:
                if partition in failures:
                    self._reading.pop(partition, None)
                elif partition in self._reading and partition in done:  # else it was assigned anew meanwhile
                    self._reading[partition] = _Reading(self._reading[partition].cursor, done[partition])
        return failures

    def _begin(self, step: _Step, failures: dict[TopicPartition, _Failure]) -> None:
        """Hand its unit in, once its dead letter is written where it has one."""
        try:
            if step.letter is not None and step.decision.fault is not None:
                self._dead.acknowledged(step.letter, step.record, step.decision.fault)
            step.future = self._ledger.submit(step.unit)
        except (KafkaError, StoreUnavailable) as error:
            failures[step.partition] = _Failure(step.record, error)

    def _steps(
        self, partition: TopicPartition, records: Sequence[ConsumerRecord], failures: dict[TopicPartition, _Failure]
    ) -> list[_Step]:
        steps: list[_Step] = []
        with self._lock:
            reading = self._reading.get(partition)
        if reading is None:
            return steps  # fetched before it was assigned anew
        believed = reading.believed
        for record in records:
            try:
                decision = self._decisions.about(record)
                unit = at(Place(reading.cursor, believed, record.offset), decision.unit)
                letter = None if decision.fault is None else self._dead.send(record, decision.fault)
            except Exception as error:  # one record must not stop the other partitions
                failures[partition] = _Failure(record, error)
                break
            steps.append(_Step(partition, record, decision, unit, letter))
            believed = record.offset + 1
        return steps

    def _count(self, step: _Step, taken: Taken[Receipt | None]) -> None:
        self._decisions.done(step.record)
        if not taken.fresh:
            RECORDS.labels("skipped").inc()
            return
        receipt = taken.result
        RECORDS.labels("dead" if receipt is None else "again" if receipt.again else "decided").inc()
        if receipt is not None or step.decision.kept:
            self._told(receipt)

    # -- when it does not go on ------------------------------------------------------------------------------------------------

    def _mend(self, consumer: KafkaConsumer, failures: Mapping[TopicPartition, _Failure]) -> None:
        """Let the partitions that stopped go on at their stored positions: at once, or after a while."""
        if not failures:
            self._failed_in_a_row = 0
            self._clear("store")
            return
        self._unplace(consumer, failures)
        waits: TocsinError | KafkaError | None = None
        again = True
        for failure in failures.values():
            RECORDS.labels("retried").inc()
            error = failure.error
            if isinstance(error, OutOfStep):
                continue
            if isinstance(error, KafkaError):
                self._say_trouble("broker", last_words() or repr(error))
                waits = error
            elif isinstance(error, TocsinError) and not isinstance(error, Refused | ProfileChanged):
                self._say_trouble("store", str(error))
                waits = error
            else:
                again = self._decisions.failed(failure.record, error) and again
        if waits is not None or not again:
            self._wait(consumer)

    def _wait_for_store(self, consumer: KafkaConsumer, error: TocsinError) -> None:
        self._say_trouble("store", str(error))
        self._wait(consumer)

    def _wait(self, consumer: KafkaConsumer) -> None:
        """Fetch nothing for a while, and stay in the group."""
        self._unplace(consumer, consumer.assignment())
        until = time.monotonic() + self._next_wait()
        while not self._stopping.is_set() and time.monotonic() < until:
            consumer.poll(timeout_ms=50)

    def _next_wait(self) -> float:
        """Seconds: longer each time, and never the same for two processes."""
        longest = min(LONGEST_WAIT_SECONDS, SHORTEST_WAIT_SECONDS * 2 ** min(self._failed_in_a_row, 10))
        self._failed_in_a_row += 1
        return random.uniform(longest / 2, longest)  # noqa: S311  # no secret

    def _say_trouble(self, what: str, text: str) -> None:
        """Once, for as long as it lasts."""
        if what not in self.troubles:
            log.error("deliveries wait", concerns=what, why=text)
        self.troubles[what] = text

    def _clear(self, *what: str) -> None:
        for name in what:
            if self.troubles.pop(name, None) is not None:
                log.info("deliveries go on", concerns=name)

    # -- what others see ---------------------------------------------------------------------------------------------------------

    def _look(self, consumer: KafkaConsumer) -> None:
        """While nothing comes: whether the broker answers, and how much waits."""
        self._looked_at = time.monotonic()
        try:
            consumer.end_offsets([TopicPartition(self._topics.deliveries, 0)], timeout_ms=LOOK_PATIENCE_MILLISECONDS)
        except KafkaError as error:
            self._say_trouble("broker", last_words() or f"it does not answer, or has no topic {self._topics.deliveries}: {error!r}")
            return
        self._clear("broker", "reader")
        self._show(consumer, now=True)

    def _show(self, consumer: KafkaConsumer, *, now: bool = False) -> None:
        """Tell the group's position and the metrics how far it is; the position that counts is the store's."""
        if not now and time.monotonic() - self._shown_at < SHOWN_SECONDS:
            return
        self._shown_at = time.monotonic()
        with self._lock:
            reached = {partition: reading.believed for partition, reading in self._reading.items() if reading.believed is not None}
        LAG.clear()
        for partition, position in reached.items():
            with contextlib.suppress(KafkaError):
                last = consumer.highwater(partition)
                if last is not None:
                    LAG.labels(str(partition.partition)).set(max(0, last - position))
        if reached:
            consumer.commit_async({partition: OffsetAndMetadata(position, "", -1) for partition, position in reached.items()})


class _Assigned(ConsumerRebalanceListener):
    """Told by the library, on its own thread. What is in flight when a partition goes needs no waiting for: see above."""

    def __init__(self, consumer: KafkaConsumer, unplace: Callable[[KafkaConsumer, Iterable[TopicPartition]], None]) -> None:
        self._consumer, self._unplace = consumer, unplace

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._unplace(self._consumer, revoked)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._unplace(self._consumer, assigned)


def _before(step: _Step, failures: Mapping[TopicPartition, _Failure]) -> bool:
    """Whether its partition did not stop at it or before it."""
    failure = failures.get(step.partition)
    return failure is None or step.record.offset < failure.record.offset


def _moved(cursor: str, position: int) -> Unit[None]:
    """Set a cursor, and nothing else."""

    def decide(work: Work) -> None:
        work.set_cursor(cursor, position)

    return Unit(decide, actor="tocsin")
