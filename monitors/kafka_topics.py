"""Where Kafka is: what a reader and a writer are told, and one line in the log where the library has many.

It does without the library, which costs 8 MiB: a process that has nothing to do with Kafka does not load it.
"""

import logging
from dataclasses import dataclass
from typing import Any, Final

CONNECT_SECONDS: Final = 5.0
RECONNECT_MOST_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Where deliveries lie.

    Attributes:
        servers: bootstrap servers, comma-separated.
        deliveries: the topic of deliveries; those that cannot be taken go to `dead`.
        group: the consumers' group; whoever is of it shares the partitions.
        max_body_bytes: a larger body is not taken.
    """

    servers: str
    deliveries: str = "tocsin.deliveries"
    group: str = "tocsin-intake"
    max_body_bytes: int = 16 * 1024 * 1024

    @property
    def dead(self) -> str:
        return f"{self.deliveries}.dead"

    @property
    def max_record_bytes(self) -> int:
        """A body of the largest size, packed as text, and what is around it."""
        return self.max_body_bytes * 4 // 3 + 256 * 1024

    def connection(self) -> dict[str, Any]:
        """What reader and writer have in common."""
        quiet()
        return {
            "bootstrap_servers": [server.strip() for server in self.servers.split(",")],
            "bootstrap_timeout_ms": int(CONNECT_SECONDS * 1_000),
            "reconnect_backoff_max_ms": int(RECONNECT_MOST_SECONDS * 1_000),
            "metrics_enabled": False,
            "allow_auto_create_topics": False,
        }


class _LastWords(logging.Handler):
    """Keeps the last warning; the library says the same thing again and again while a broker is away."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


_LAST_WORDS: Final = _LastWords()


def quiet() -> None:
    """Keep the library's many lines out of the log; our own say it once."""
    logger = logging.getLogger("kafka")
    if _LAST_WORDS not in logger.handlers:
        logger.addHandler(_LAST_WORDS)
        logger.propagate = False


def last_words() -> str:
    """The last warning of the library: why a broker could not be reached."""
    return _LAST_WORDS.text
