"""Clients of Kafka. What they are told stands in `monitors/kafka_topics.py`."""

import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.producer.future import FutureRecordMetadata

from monitors.kafka_network import network
from monitors.kafka_topics import Topics, quiet

CONNECT_SECONDS: Final = 5.0
RECONNECT_MOST_SECONDS: Final = 2.0
CLOSING_SECONDS: Final = 1.0

Client = TypeVar("Client")
Headers = list[tuple[str, bytes]]


def client(topics: Topics, kind: Callable[..., Client], **options: Any) -> Client:
    """A consumer or producer of the library, with what all of ours have in common.

    Raises:
        KafkaError: no broker answers, or none as it has to.
    """
    quiet()
    networks: list[KafkaNetClient] = []

    def connecting(**given: Any) -> KafkaNetClient:
        networks.append(network(topics.security, **given))
        return networks[-1]

    try:
        return kind(
            bootstrap_servers=[server.strip() for server in topics.servers.split(",")], bootstrap_timeout_ms=int(CONNECT_SECONDS * 1_000),
            reconnect_backoff_max_ms=int(RECONNECT_MOST_SECONDS * 1_000), metrics_enabled=False, allow_auto_create_topics=False,
            security_protocol=topics.security.protocol, sasl_mechanism=str(topics.security.mechanism), sasl_plain_username=topics.security.sent_user,
            kafka_client=connecting, **options,
        )
    except KafkaError:
        for half_made in networks:  # else its descriptors stay until somebody collects the garbage
            half_made.close()
        raise


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
        self._producer = client(
            topics,             KafkaProducer, acks="all", max_block_ms=milliseconds, delivery_timeout_ms=milliseconds, linger_ms=0,
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
