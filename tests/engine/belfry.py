"""A bell tower for properties: each example rings in a new store; with eyes for what came of it."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from hypothesis import HealthCheck, settings

from engine.aggregate import NOBODY, Aggregate, restored, snapshot
from engine.alert import Alert
from engine.clock import SimulatedClock, rfc3339
from engine.correlation import Correlation, CorrelationIncidentOpened
from engine.event import Event, Fact
from engine.ledger import Ledger
from engine.vault import Vault
from monitors.intake import Receipt
from tests.conftest import NOON, Bell
from tests.soak import SOAK
from tests.stores import keyring_at, store_at

A = TypeVar("A", bound=Aggregate)
E = TypeVar("E", bound=Event)

# A file system in memory where there is one: what is proved here is not durability, and a sync each would take the time.
_MEMORY: Final = Path("/dev/shm")


def effort(examples: int, *, steps: int = 25) -> settings:
    """How hard a property is tried; twenty times as hard in `make soak`."""
    return settings(
        max_examples=examples * (20 if SOAK else 1), stateful_step_count=steps * (2 if SOAK else 1), deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


class Belfry(Bell):
    """A bell on a store of its own, closed by `close`."""

    def __init__(self) -> None:
        memory = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="tocsin-", dir=memory))
        clock = SimulatedClock(NOON, running=False)
        ledger = Ledger(store_at(self.folder), Vault(keyring_at(self.folder), b"k" * 32), clock)
        self._runner = asyncio.Runner()
        super().__init__(ledger, clock)
        self.seen = ledger.last_position

    def close(self) -> None:
        self._runner.close()
        self.ledger.close()
        self.ledger.store.close()
        self.ledger.vault.close()
        shutil.rmtree(self.folder)

    def post(self, source: str, content: object, *, identity: str | None = None) -> Receipt:
        """Deliver JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self._runner.run(self.intake.receive(source, body, content_type="application/json", identity=identity))

    def news(self) -> list[Fact]:
        """What was recorded since the last call, in log order."""
        facts = self.ledger.read(self.seen, 100_000)
        if facts:
            self.seen = facts[-1].position
        return facts

    def correlations(self) -> list[Correlation]:
        """All groups, in the order of their first incidents."""
        return self._all(Correlation, CorrelationIncidentOpened)

    def cached(self) -> list[Aggregate]:
        """The state that decisions are taken on."""
        return list(self.ledger._cache.values())

    def read_anew(self, kind: type[A], stream_id: UUID) -> A:
        """The state from the stored bytes alone; the ledger itself remembers the facts of its last commits."""
        aggregate, codec = kind(stream_id), self.ledger.codec
        for row in self.ledger.store.stream(stream_id.bytes):
            event = codec.decode(row.type, row.state, stream_id, row.version)
            aggregate.apply(Fact(stream_id=stream_id, version=row.version, event=event, actor=row.actor, correlation_id=NOBODY))
        return aggregate

    def check_replay(self) -> None:
        """What decisions are taken on is what the log says, and what a snapshot would give."""
        for aggregate in self.cached():
            assert aggregate.state() == self.read_anew(type(aggregate), aggregate.id).state()
            if aggregate.REMEMBERS:
                again = restored(type(aggregate), aggregate.id, aggregate.version, snapshot(aggregate))
                assert again is not None
                assert again.state() == aggregate.state()

    def check_log(self) -> None:
        """Positions and versions without a hole, times that never decrease, causes that come before what they led to."""
        versions: dict[object, int] = {}
        known: set[str] = set()
        last: datetime | None = None
        for place, fact in enumerate(self.ledger.read(0, 1_000_000), 1):
            assert fact.position == place
            assert fact.version == versions.get(fact.stream_id, 0) + 1
            versions[fact.stream_id] = fact.version
            assert last is None or fact.recorded_at >= last
            last = fact.recorded_at
            assert fact.cause is None or fact.cause in known
            known.add(fact.reference)


def with_belfry(test: Callable[[Belfry], None]) -> None:
    """Run one example on a new store."""
    belfry = Belfry()
    try:
        test(belfry)
    finally:
        belfry.close()


def told(bell: Bell, kind: type[E]) -> list[E]:
    """Every event of one kind in the log, in log order."""
    return [event for event in bell.events() if isinstance(event, kind)]


def statement(key: str, *, firing: bool = True, severity: str = "critical", **more: Any) -> dict[str, Any]:
    """One document of the generic format."""
    times = {name: rfc3339(value) for name, value in more.items() if isinstance(value, datetime)}
    return {"key": key, "title": f"{key} is down", "severity": severity, "firing": firing, **more, **times}


def notice(*alerts: dict[str, Any]) -> dict[str, Any]:
    """An Alertmanager webhook body."""
    return {"version": "4", "status": "firing", "receiver": "tocsin", "alerts": list(alerts)}


def member(start: datetime, end: datetime | None = None, **labels: str) -> dict[str, Any]:
    """One alert of an Alertmanager body: firing, or resolved at `end`."""
    return {
        "status": "firing" if end is None else "resolved", "labels": {"alertname": "DiskFull", "severity": "critical", **labels},
        "annotations": {}, "startsAt": rfc3339(start), "endsAt": "0001-01-01T00:00:00Z" if end is None else rfc3339(end),
    }


def episodes(ledger: Ledger, alert: Alert) -> list[tuple[str, datetime, datetime | None]]:
    """(how it came about, start, end) of each episode, from the alert's stream."""
    found: list[tuple[str, datetime, datetime | None]] = []
    for fact in ledger.stream(alert.id):
        event: Any = fact.event
        match fact.type:
            case "alert.episode_opened.v1":
                found.append(("opened", event.started_at, None))
            case "alert.episode_missed.v1":
                found.append(("missed", event.started_at, event.ended_at))
            case "alert.episode_ended.v1":
                found[-1] = (found[-1][0], found[-1][1], event.ended_at)
    return found
