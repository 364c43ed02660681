"""Where Kafka is and how it is spoken to; and why it could not be reached, in one line where the library has many.

It does without the library, which costs 8 MiB: a process that has nothing to do with Kafka does not load it.
"""

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from monitors.kafka_security import Security

# A connection that fails is tried again within some seconds; what was said longer ago is not what is wrong now.
REMEMBERED_SECONDS: Final = 15.0
# What these say of a connection that fails, `FAILURES` says better.
ABOUT_CONNECTING: Final = ("kafka.net.manager", "kafka.net.transport", "kafka.net.sasl")


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


class Failures:
    """Why the last connection of this process failed; of any client, since all speak to the same brokers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text, self._at = "", 0.0

    def told(self, text: str) -> None:
        """Set it; empty: a connection was made."""
        with self._lock:
            self._text, self._at = text, time.monotonic()

    def last(self) -> str:
        """Empty: none failed lately, or one was made since."""
        with self._lock:
            return self._text if time.monotonic() - self._at < REMEMBERED_SECONDS else ""


FAILURES: Final = Failures()


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
