"""What lies in a topic of Tocsin's events, read as a careful consumer reads it: committed records only, partition by partition."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from tests.services.kafka import PATIENCE, Kafka

PARTITIONS: Final = 3


def header(record: ConsumerRecord, name: str) -> str:
    """A header as text; each is there once."""
    (value,) = [value for found, value in record.headers if found == name]
    text: str = value.decode()
    return text


def position(record: ConsumerRecord) -> int:
    return int(header(record, "ce_tocsinposition"))


def version(record: ConsumerRecord) -> int:
    return int(header(record, "ce_tocsinversion"))


def published(kafka: Kafka, topic: str, upto: int, *, committed: bool = True) -> list[ConsumerRecord]:
    """All records of a topic, by partition and offset; waits until the event at position `upto` is among them."""
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    level = "read_committed" if committed else "read_uncommitted"
    with KafkaConsumer(bootstrap_servers=kafka.address, metrics_enabled=False, isolation_level=level) as consumer:
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        found: list[ConsumerRecord] = []
        while not any(position(record) >= upto for record in found):
            fetched = consumer.poll(timeout_ms=PATIENCE * 1_000)
            assert fetched, f"nothing came any more, after {len(found)} records"
            for records in fetched.values():
                found += records
        ends = consumer.end_offsets(places)
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(timeout_ms=100).values():
                found += records
    return sorted(found, key=lambda record: (record.partition, record.offset))


def out_of_order(records: Iterable[ConsumerRecord]) -> list[str]:
    """Where a stream's event came before its predecessor; repetitions of what was there are none of it."""
    reached: defaultdict[UUID, int] = defaultdict(int)
    wrong = []
    for record in records:
        stream = UUID(record.key.decode())
        if version(record) > reached[stream] + 1:
            wrong.append(f"{stream}:{version(record)} after {reached[stream]}")
        reached[stream] = max(reached[stream], version(record))
    return wrong
