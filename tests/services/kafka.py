"""Apache Kafka's own broker for tests: one node (KRaft) from Maven Central, in a folder of its own, on free ports.

`python -m tests.services.kafka` fetches it into the user's cache (once, some 45 MB); a test that needs it does so too.
"""

import atexit
import contextlib
import os
import re
import shutil
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

PATIENCE: Final = 60
POM: Final = Path(__file__).with_name("kafka.pom.xml")
_VERSION: Final = re.compile(r"<kafka\.version>(.+)</kafka\.version>")

_PROPERTIES: Final = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
# A crash must lose nothing that was acknowledged: one node has no other copy.
log.flush.interval.messages={flush}
"""


class BrokerMissing(Exception):
    """It cannot be had on this machine; says why."""


def jars() -> Path:
    """The folder of the broker's jars, fetched where they are not there yet.

    Raises:
        BrokerMissing: no Java or no Maven, or Maven Central cannot be reached.
    """
    found = _VERSION.search(POM.read_text())
    assert found is not None
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache_home / "tocsin-tests" / f"kafka-{found[1]}"
    if shutil.which("java") is None:
        raise BrokerMissing("java is not installed")
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise BrokerMissing("maven is not installed")
    print(f"fetching Apache Kafka {found[1]} from Maven Central into {folder} ...", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    command = [
        "mvn", "--batch-mode", "--quiet", "--strict-checksums", "-f", str(POM), "dependency:copy-dependencies",
        "-DincludeScope=runtime", f"-DoutputDirectory={draft}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BrokerMissing(f"Apache Kafka cannot be fetched from Maven Central: {(done.stdout + done.stderr)[-500:]}")
        with contextlib.suppress(OSError):  # another process was first
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Kafka:
    """One broker. `crash`, `stop` and `start` do to it what faults do; it keeps its ports and its records.

    Args:
        durable: sync each record to disk, so that a crash of the machine would lose none either.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._jars, self.folder = jars(), folder
        self.port, controller = _free_ports(2)
        folder.mkdir(parents=True, exist_ok=True)
        self._properties = folder / "server.properties"
        flush = 1 if durable else 9223372036854775807
        self._properties.write_text(_PROPERTIES.format(port=self.port, controller=controller, folder=folder, flush=flush))
        name = subprocess.run(self._java("kafka.tools.StorageTool", "random-uuid"), capture_output=True, text=True, check=True).stdout.strip()
        command = self._java("kafka.tools.StorageTool", "format", "-t", name, "-c", str(self._properties))
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def _java(self, main: str, *arguments: str) -> list[str]:
        # One thread to collect garbage and the cheap compiler alone: it starts in half the time.
        return ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*", main, *arguments]

    @property
    def address(self) -> str:
        """Bootstrap servers."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)), stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        while not self._answers():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.1)
                raise RuntimeError(f"Kafka ended with {code}:\n{(self.folder / 'log').read_text()[-2000:]}")

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
            found = consumer.end_offsets(places)
            return [found[place] for place in places]

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
def running(*, durable: bool = False) -> Iterator[Kafka]:
    """A broker for a while.

    Raises:
        BrokerMissing: it cannot be had here.
    """
    with tempfile.TemporaryDirectory(prefix="kafka", ignore_cleanup_errors=True) as folder:
        broker = Kafka(Path(folder) / "s", durable=durable)
        try:
            yield broker
        finally:
            broker.crash()


@cache
def broker() -> Kafka:
    """The broker of this test process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running())


if __name__ == "__main__":
    try:
        jars()
    except BrokerMissing as error:
        print(f"NOT ALL OF THE TESTS CAN RUN: {error}", file=sys.stderr)
        sys.exit(1 if os.environ.get("CI") else 0)
