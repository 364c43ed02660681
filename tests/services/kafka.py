"""A Kafka broker for tests: one node, in a folder of its own, on free ports. `kafka_program.py` says which, and fetches it.

`python -m tests.services.kafka` fetches it into the user's cache (once); a test that needs it does so too.
"""

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from tests.services.kafka_program import ApacheKafka, BrokerMissing, Program, fetch, program

PATIENCE: Final = 60

def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Kafka:
    """One broker. `crash`, `stop` and `start` do to it what faults do; it keeps its ports and, if it is Apache Kafka, its records.

    Args:
        program: what runs as the broker.
        durable: sync each record to disk, so that a crash of the machine would lose none either.
    """

    def __init__(self, folder: Path, program: Program, *, durable: bool = False) -> None:
        self.folder = folder
        self.port, controller = free_ports(2)
        folder.mkdir(parents=True, exist_ok=True)
        self._name, self._command = program.name, program.command(folder, self.port, controller, synced=durable)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        """Bootstrap servers."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        while not self._answers():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.1)
                raise RuntimeError(f"{self._name}: the broker ended with {code}:\n{(self.folder / 'log').read_text()[-2000:]}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def crash(self) -> None:
        """Kill it without a word."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """End it in good order; killed where it takes too long."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.crash()

    def topic(self, name: str, partitions: int = 1) -> str:
        """Make a topic; its name."""
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            admin.create_topics({name: {"num_partitions": partitions}}, wait_for_metadata=True)
        finally:
            admin.close()
        return name

    def delete(self, name: str) -> None:
        """Delete a topic; returns when the broker does not know it any more."""
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            admin.delete_topics([name])
            while name in admin.list_topics():
                pass
        finally:
            admin.close()

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete what lies before an offset, as retention does."""
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            admin.delete_records({TopicPartition(topic, partition): before})
        finally:
            admin.close()

    def lose(self, topic: str) -> None:
        """Crash, lose every record of a topic (the disk's cache was not written), and come up again: the topic keeps its id."""
        self.crash()
        for partition in (self.folder / "data").glob(f"{topic}-*"):
            for kind in ("log", "index", "timeindex", "snapshot"):
                for part in partition.glob(f"*.{kind}"):
                    part.unlink()
            (partition / "leader-epoch-checkpoint").unlink(missing_ok=True)
        self.start()

    def topic_id(self, name: str) -> str:
        """The id that the broker gave it."""
        with KafkaConsumer(bootstrap_servers=self.address) as consumer:
            consumer.partitions_for_topic(name)
            consumer.assign([TopicPartition(name, 0)])
            consumer.end_offsets([TopicPartition(name, 0)])
            return str(consumer._cluster.topic_id(name))

    def ends(self, topic: str, partitions: int) -> list[int]:
        """Where each partition ends now."""
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        with KafkaConsumer(bootstrap_servers=self.address, metrics_enabled=False) as consumer:
            last = consumer.end_offsets(places)
            begun = [place for place in places if last[place]]
            consumer.assign(begun)
            for place in begun:
                consumer.seek(place, last[place] - 1)
            # What stands in for Apache Kafka forgets the last batch's other records when it is asked, not when it is read from.
            while any(consumer.highwater(place) is None for place in begun):
                consumer.poll(timeout_ms=100)
            return [consumer.highwater(place) or 0 if place in begun else 0 for place in places]

    def producer(self) -> KafkaProducer:
        """Its `send` is acknowledged when the record is written."""
        return KafkaProducer(bootstrap_servers=self.address, acks="all", metrics_enabled=False)

    def records(self, topic: str, number: int) -> list[ConsumerRecord]:
        """The first records of a topic of one partition; waits until there are so many."""
        with KafkaConsumer(bootstrap_servers=self.address, metrics_enabled=False) as consumer:
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            consumer.seek_to_beginning(place)
            found: list[ConsumerRecord] = []
            while len(found) < number:
                for records in consumer.poll(timeout_ms=PATIENCE * 1_000).values():
                    found += records
            return found


@contextlib.contextmanager
def running(program: Program, *, durable: bool = False) -> Iterator[Kafka]:
    """A broker for a while."""
    with tempfile.TemporaryDirectory(prefix="kafka", ignore_cleanup_errors=True) as folder:
        broker = Kafka(Path(folder) / "s", program, durable=durable)
        try:
            yield broker
        finally:
            broker.crash()


@cache
def broker() -> Kafka:
    """The broker of this test process.

    Raises:
        BrokerMissing: it cannot be had here.
    """
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running(program()))


if __name__ == "__main__":
    try:
        found = fetch()
    except BrokerMissing as error:
        print(f"NOT ALL OF THE TESTS CAN RUN: {error}", file=sys.stderr)
        sys.exit(1 if os.environ.get("CI") else 0)
    if not isinstance(found, ApacheKafka):
        print(f"NOT ALL OF THE TESTS CAN RUN: Apache Kafka cannot be fetched from Maven Central. {found.name}", file=sys.stderr)
