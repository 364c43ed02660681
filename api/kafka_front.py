"""The front for TOCSIN_INTAKE=kafka: a delivery that was read is put into the topic before its sender is answered.

Whoever reads the topic decides it (`monitors/kafka_intake.py`). Until then its id is known by its mark, which travels in the
address that the sender is given, to every process of the store.
"""

import asyncio
import hmac
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog
from fastapi import FastAPI

from api.house import House
from api.kafka_reader import topics_of
from api.settings import IntakeWay
from engine.clock import micros
from engine.errors import InvalidInput, MalformedDelivery, Overloaded, StoreUnavailable
from engine.identity import NewIds
from engine.vault import Vault
from monitors.intake import Heard
from monitors.kafka_record import Unreadable, envelope, mark_of, printable
from monitors.kafka_topics import Topics, last_words

if TYPE_CHECKING:  # the library is loaded where there is a Kafka
    from kafka.producer.future import FutureRecordMetadata

    from monitors.kafka_client import Writer

# A record that is not acknowledged after so long is given up, and its sender told to come again.
SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 8.0
MOST_WAITING: Final = 2_048
MOST_REMEMBERED: Final = 5_000
CONNECTING_THREADS: Final = 4

log = structlog.get_logger(__name__)


class BrokerAway(StoreUnavailable):
    """Kafka did not acknowledge the delivery in time: it was not accepted."""

    def __init__(self) -> None:
        super().__init__("the delivery was not accepted: Kafka does not answer")


class Front:
    """Of one process.

    Attributes:
        trouble: why the last delivery was not accepted; None: it was.
    """

    def __init__(self, house: House, topics: Topics) -> None:
        self._vault, self._clock, self._topics = house.vault, house.clock, topics
        self._ids = NewIds()
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(CONNECTING_THREADS, thread_name_prefix="kafka-front")
        self._writer: Writer | None = None
        self._connected = False
        self.trouble: str | None = None
        self._waiting = 0
        self._accepted: OrderedDict[UUID, str] = OrderedDict()

    async def accept(self, heard: Heard, key: str | None) -> UUID:
        """Put a delivery into the topic; its id, once that is acknowledged.

        Args:
            key: its `Idempotency-Key`.

        Raises:
            BrokerAway, Overloaded: it was not accepted.
            MalformedDelivery: the topic does not take a record of that size.
            InvalidInput: the key or the content type cannot travel.
        """
        from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

        source = heard.profile.name
        delivery = heard.delivery
        given = None
        if delivery is None:
            delivery = given = self._ids.at(micros(self._clock.now()) // 1_000)
        try:
            for text, name in ((key, "Idempotency-Key"), (heard.content_type, "Content-Type")):
                if text:
                    printable(text, name)
        except Unreadable as error:
            raise InvalidInput(error.path, error.expected.removeprefix("expected ")) from None
        mark = None if given is None else mark_of(self._vault, given)
        value = envelope(source, heard.body, heard.content_type, key=key, delivery=given, mark=mark)
        if self._waiting >= MOST_WAITING:
            raise Overloaded("too much is waiting for Kafka")
        self._waiting += 1
        try:
            await asyncio.wait_for(self._put(_partition_key(heard), value), PATIENCE_SECONDS)
        except (MessageSizeTooLargeError, RecordListTooLargeError):
            raise MalformedDelivery("$", "expected a body that fits into a record of the topic (max.message.bytes)", status=413) from None
        except (KafkaError, TimeoutError) as error:
            self._connected = False
            self._failed(last_words() or repr(error))
            raise BrokerAway from error
        finally:
            self._waiting -= 1
        if self.trouble is not None:
            log.info("deliveries are accepted again")
            self.trouble = None
        self._accepted[delivery] = source
        if len(self._accepted) > MOST_REMEMBERED:
            self._accepted.popitem(last=False)
        return delivery

    def _failed(self, why: str) -> None:
        """Say it once, for as long as it lasts."""
        if self.trouble is None:
            log.error("deliveries are not accepted", why=why)
        self.trouble = why

    def has_accepted(self, delivery: UUID, source: str | None) -> bool:
        """Whether it is one of the last that this process accepted (None: of whatever source)."""
        found = self._accepted.get(delivery)
        return found is not None and source in (None, found)

    async def _put(self, key: bytes, value: bytes) -> None:
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def tell(error: BaseException | None) -> None:
            if written.done():
                return
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

        def from_its_thread(error: Any = None) -> None:
            loop.call_soon_threadsafe(tell, error if isinstance(error, BaseException) else None)

        if self._connected and self._writer is not None:
            sent = self._writer.send(self._topics.deliveries, key=key, value=value)
        else:
            sent = await loop.run_in_executor(self._threads, self._send_first, key, value)
        sent.add_callback(from_its_thread)
        sent.add_errback(from_its_thread)
        await written
        self._connected = True

    def _send_first(self, key: bytes, value: bytes) -> "FutureRecordMetadata":
        """On a thread: connecting, and asking for the topic, may take seconds."""
        from monitors.kafka_client import Writer

        with self._connecting:
            if self._writer is None:
                self._writer = Writer(self._topics, seconds=SECONDS)
        return self._writer.send(self._topics.deliveries, key=key, value=value)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        if self._writer is not None:
            self._writer.close()


def front_of(app: FastAPI) -> Front | None:
    """The front of a process; None: it decides deliveries itself."""
    house: House = app.state.house
    if house.settings.intake is not IntakeWay.KAFKA:
        return None
    front: Front | None = getattr(app.state, "front", None)
    if front is None:
        topics = topics_of(house.settings)
        assert topics is not None, "settings with intake=kafka name it"
        front = app.state.front = Front(house, topics)
    return front


def close(app: FastAPI) -> None:
    """Let go of Kafka, where it was asked for."""
    front: Front | None = getattr(app.state, "front", None)
    if front is not None:
        front.close()


def is_queued(vault: Vault, delivery: UUID, mark: str | None) -> bool:
    """Whether `mark` shows that the delivery was accepted by a process of this store."""
    return mark is not None and hmac.compare_digest(mark.encode(), mark_of(vault, delivery).encode())


def _partition_key(heard: Heard) -> bytes:
    """What belongs together stays in order: the sender's group, else the first condition."""
    observations = heard.parsed.observations
    group = heard.parsed.group or (observations[0].dedup_key if observations else None) or ""
    return f"{heard.profile.name}:{group}".encode()
