"""The dead letters' topic: records that cannot be taken, as they were, with the reason beside them.

A letter is acknowledged before its record counts as read; after a crash in between there may be two of it.
"""

from typing import Final

from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError
from kafka.producer.future import FutureRecordMetadata

from engine.errors import MalformedDelivery
from monitors.kafka_client import Headers, Writer
from monitors.kafka_topics import Topics

SECONDS: Final = 10.0
# Of a record that is too large with its reason, this much of its beginning.
KEPT: Final = 64 * 1024
PREFIX: Final = "tocsin-"
TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)


class DeadLetters:
    """Writes them; connects at the first one."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._writer: Writer | None = None

    def send(self, record: ConsumerRecord, fault: MalformedDelivery, *, cut: bool = False) -> FutureRecordMetadata:
        """Begin to write the letter of a record.

        Args:
            cut: keep the beginning of its value only.

        Raises:
            KafkaError: no broker answers.
        """
        if self._writer is None:
            self._writer = Writer(self._topics, seconds=SECONDS)
        value = record.value
        headers = [(name, text or b"") for name, text in record.headers if not name.startswith(PREFIX)]
        headers += _said(record, fault)
        if cut and value is not None:
            headers.append((f"{PREFIX}length", str(len(value)).encode()))
            value = value[:KEPT]
        if value is None and record.key is None:
            value = b""  # the library sends no record without both
            headers.append((f"{PREFIX}tombstone", b"true"))
        try:
            return self._writer.send(self._topics.dead, key=record.key, value=value, headers=headers)
        except MessageSizeTooLargeError:
            if cut:
                raise
            return self.send(record, fault, cut=True)

    def acknowledged(self, letter: FutureRecordMetadata, record: ConsumerRecord, fault: MalformedDelivery) -> None:
        """Wait until it is written.

        Raises:
            KafkaError: it is not.
        """
        try:
            letter.get(timeout=2 * SECONDS)
        except TOO_LARGE:
            self.send(record, fault, cut=True).get(timeout=2 * SECONDS)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _said(record: ConsumerRecord, fault: MalformedDelivery) -> Headers:
    said = {
        "reason": fault.expected, "field": fault.path, "topic": record.topic, "partition": str(record.partition), "offset": str(record.offset),
    }
    return [(PREFIX + name, text.encode(errors="backslashreplace")) for name, text in said.items()]
