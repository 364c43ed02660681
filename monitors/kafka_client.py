"""Clients of Kafka: what a reader and a writer are told, and one line in the log where the library has many."""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.producer.future import FutureRecordMetadata

from monitors.kafka_network import FAILURES, REMEMBERED_SECONDS, network
from monitors.kafka_security import Security

CONNECT_SECONDS: Final = 5.0
RECONNECT_MOST_SECONDS: Final = 2.0
CLOSING_SECONDS: Final = 1.0
# What these say of a connection that fails, `kafka_network.FAILURES` says better.
ABOUT_CONNECTING: Final = ("kafka.net.manager", "kafka.net.transport", "kafka.net.sasl")

Client = TypeVar("Client")
Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Where deliveries lie.

    Attributes:
        servers: bootstrap servers, comma-separated.
        deliveries: the topic of deliveries; those that cannot be taken go to `dead`.
        group: the consumers' group; whoever is of it shares the partitions.
        max_body_bytes: a larger body is not taken.
        security: how the brokers are spoken to.
    """

    servers: str
    deliveries: str = "tocsin.deliveries"
    group: str = "tocsin-intake"
    max_body_bytes: int = 16 * 1024 * 1024
    security: Security = field(default_factory=Security)

    @property
    def dead(self) -> str:
        return f"{self.deliveries}.dead"

    @property
    def max_record_bytes(self) -> int:
        """A body of the largest size, packed as text, and what is around it."""
        return self.max_body_bytes * 4 // 3 + 256 * 1024

    def client(self, kind: Callable[..., Client], **options: Any) -> Client:
        """A consumer or producer of the library, with what all of ours have in common.

        Raises:
            KafkaError: no broker answers, or none as it has to.
        """
        quiet()
        networks: list[KafkaNetClient] = []

        def connecting(**given: Any) -> KafkaNetClient:
            networks.append(network(self.security, **given))
            return networks[-1]

        try:
            return kind(
                bootstrap_servers=[server.strip() for server in self.servers.split(",")], bootstrap_timeout_ms=int(CONNECT_SECONDS * 1_000),
                reconnect_backoff_max_ms=int(RECONNECT_MOST_SECONDS * 1_000), metrics_enabled=False, allow_auto_create_topics=False,
                security_protocol=self.security.protocol, sasl_mechanism=str(self.security.mechanism), sasl_plain_username=self.security.sent_user,
                kafka_client=connecting, **options,
            )
        except KafkaError:
            for half_made in networks:  # else its descriptors stay until somebody collects the garbage
                half_made.close()
            raise


class _LastWords(logging.Handler):
    """Keeps the last warning; the library says the same thing again and again while a broker is away."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._text, self._at = "", 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(ABOUT_CONNECTING):
            self._text, self._at = record.getMessage(), time.monotonic()

    def text(self) -> str:
        """Empty: it said nothing lately."""
        return self._text if time.monotonic() - self._at < REMEMBERED_SECONDS else ""


_LAST_WORDS: Final = _LastWords()


def quiet() -> None:
    """Keep the library's many lines out of the log; our own say it once."""
    logger = logging.getLogger("kafka")
    if _LAST_WORDS not in logger.handlers:
        logger.addHandler(_LAST_WORDS)
        logger.propagate = False


def last_words() -> str:
    """Why a broker could not be reached lately; else the last warning of the library; empty: neither."""
    return FAILURES.last() or _LAST_WORDS.text()


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
        self._producer = topics.client(
            KafkaProducer, acks="all", max_block_ms=milliseconds, delivery_timeout_ms=milliseconds, linger_ms=0,
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
