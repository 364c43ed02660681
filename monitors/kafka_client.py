"""A writer's connection to Kafka. What it is told stands in `monitors/kafka_topics.py`."""

import contextlib
from typing import Final

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

from monitors.kafka_topics import Topics

CLOSING_SECONDS: Final = 1.0

Headers = list[tuple[str, bytes]]


def drop(producer: KafkaProducer) -> None:
    """Close a producer without waiting for what was not acknowledged yet."""
    # With something unacknowledged the library's `close` raises, and its thread goes on trying to write it.
    if producer._sender is not None:
        producer._sender.force_close()
    with contextlib.suppress(KafkaError):
        producer.close(timeout=CLOSING_SECONDS)
    producer._closed = True  # else it would try once more when it is forgotten


class Writer:
    """Puts records into topics; what it says is written is on every replica that has to have it (acks=all).

    Args:
        seconds: after which a record that was not acknowledged is given up.
    """

    def __init__(self, topics: Topics, *, seconds: float) -> None:
        """
        Raises:
            KafkaError: no broker answers.
        """
        milliseconds = int(seconds * 1_000)
        self._producer = KafkaProducer(
            **topics.connection(), acks="all", max_block_ms=milliseconds, delivery_timeout_ms=milliseconds, linger_ms=0,
            request_timeout_ms=min(milliseconds, 5_000), max_request_size=topics.max_record_bytes,
        )

    def send(self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> FutureRecordMetadata:
        """Begin to write a record; its future is done when it is acknowledged or given up.

        Raises:
            KafkaError: no broker answers, or the record is too large.
        """
        sent: FutureRecordMetadata = self._producer.send(topic, key=key, value=value, headers=headers or [])
        return sent

    def close(self) -> None:
        """Drop what was not acknowledged yet, and the connections."""
        drop(self._producer)
