"""Events out to Kafka, for a process that has duties: the relay (`projections/kafka_relay.py`) with a connection for it."""

from collections.abc import Sequence
from typing import Final

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from api.house import House
from api.kafka_reader import topics_of
from engine.lease import Leadership
from monitors.kafka_client import client, drop
from monitors.kafka_topics import Topics, last_words
from projections.kafka_relay import NotPublished, Record, Relay

# For the broker's answer to one step: the topic's partitions, a record, a commit.
SECONDS: Final = 5.0
BATCH_BYTES: Final = 256 * 1024


def relay_of(house: House, leadership: Leadership, address: str) -> Relay | None:
    """The relay of this process; None: the settings name no Kafka, or no topic."""
    topics, topic = topics_of(house.settings), house.settings.kafka_events
    if topics is None or not topic:
        return None
    store_id = house.store_id
    return Relay(
        house.ledger, leadership, lambda: Transactions(topics, topic, store_id), topic=topic, store_id=store_id, address=address
    )


class Transactions:
    """Each batch is a transaction of Kafka, under a name of the store: a later one of that name ends the earlier one's.

    So a former leader that wakes up cannot put old events between new ones.
    """

    def __init__(self, topics: Topics, topic: str, store_id: str) -> None:
        """
        Raises:
            NotPublished: no broker answers.
        """
        self._topic = topic
        milliseconds = int(SECONDS * 1_000)
        try:
            self._producer = client(
                topics, KafkaProducer, acks="all", transactional_id=f"tocsin-relay-{store_id}", max_block_ms=milliseconds,
                delivery_timeout_ms=milliseconds, request_timeout_ms=milliseconds, batch_size=BATCH_BYTES,
                max_request_size=topics.max_record_bytes,
            )
        except KafkaError as error:
            raise NotPublished(last_words() or repr(error)) from error
        try:
            self._producer.init_transactions()
        except KafkaError as error:
            drop(self._producer)
            raise NotPublished(last_words() or repr(error)) from error

    def publish(self, records: Sequence[Record]) -> None:
        """As the protocol says."""
        try:
            self._producer.begin_transaction()
            sent = [self._producer.send(self._topic, key=record.key, value=record.value, headers=record.headers) for record in records]
            for future in sent:
                future.get(SECONDS)
            self._commit()
        except KafkaError as error:
            raise NotPublished(f"{error!r}; {last_words()}".removesuffix("; ")) from error

    def _commit(self) -> None:
        # The library's own `commit_transaction` waits for ever while no broker answers.
        manager = self._producer._transaction_manager
        assert manager is not None, "it has a transactional id"
        result = manager.begin_commit()
        self._producer._sender.wakeup()
        if not result.wait(timeout_ms=SECONDS * 1_000):
            raise KafkaTimeoutError("the broker does not answer")

    def close(self) -> None:
        """Drop the connection, and a transaction that is open."""
        drop(self._producer)
