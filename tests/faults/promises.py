"""A small workload whose promises can be checked afterwards, however it was cut: requests under a key, and records of a topic."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from api.writing import IdempotencyKey, Stored
from engine.clock import SimulatedClock
from engine.ledger import Ledger
from engine.source import Source as Added
from engine.source import SourceAdded
from engine.store import Store
from engine.vault import Vault
from engine.work import Unit, Work
from monitors.kafka_position import Place, Taken, at
from tests.conftest import NOON
from tests.stores import keyring_at, place_of

CURSOR: Final = "in:deliveries:0"
KIND: Final = "INC"
_MEMORY: Final = Path("/dev/shm")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for many small stores, in memory where it can be: the disk itself is not what is tested with it."""
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="tocsin-", dir=memory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def process_on(folder: Path, store_class: Callable[..., Store], ledger_class: type[Ledger] = Ledger) -> Iterator[Ledger]:
    """What a process has of the store in `folder`."""
    store, vault = store_class(place_of(folder)), Vault(keyring_at(folder), b"k" * 32)
    ledger = ledger_class(store, vault, SimulatedClock(NOON, running=False))
    try:
        yield ledger
    finally:
        ledger.close()
        store.close()
        vault.close()


def _record(work: Work, name: str) -> None:
    work.fresh(Added, work.new_id()).add(SourceAdded(name=name, adapter="generic"))


def _key(number: int) -> IdempotencyKey:
    return IdempotencyKey("user:nora", "POST /api/v1/incidents", f"key-{number}", b"what was asked")


def asks(number: int) -> Unit[str]:
    """A request under a key of its own, as `api/writing.py` runs it; its answer is the number that it got."""
    key = _key(number)

    def decide(work: Work) -> str:
        known = key.remembered(work)
        if known is not None:
            return known.body.decode()
        name = f"{work.number(KIND)} for key-{number}"
        _record(work, name)
        key.remember(work, Stored(201, name.encode(), {}))
        return name

    return Unit(decide, actor="user:nora")


def takes(offset: int) -> Unit[Taken[None]]:
    """A record of a topic, as `monitors/kafka_intake.py` takes it."""
    return at(Place(CURSOR, offset or None, offset), Unit(lambda work: _record(work, f"record {offset}"), actor="source:generic"))


def names(ledger: Ledger) -> list[str]:
    """What was recorded, in log order."""
    return [fact.event.name for fact in ledger.read(0, 1_000_000) if isinstance(fact.event, SourceAdded)]


def is_consistent(ledger: Ledger) -> None:
    """Positions and versions without a hole; counters, cursors and answers say what the rows say."""
    facts = ledger.read(0, 1_000_000)
    assert [fact.position for fact in facts] == list(range(1, len(facts) + 1))
    assert ledger.store.head().position == len(facts)
    versions: dict[object, int] = {}
    for fact in facts:
        assert fact.version == versions.get(fact.stream_id, 0) + 1
        versions[fact.stream_id] = fact.version
    recorded = names(ledger)
    asked = [name for name in recorded if name.startswith(KIND)]
    counted = [int(name.split()[0].removeprefix(f"{KIND}-")) for name in asked]
    assert len(set(counted)) == len(counted), f"a number was given twice: {counted}"
    keys = [name.rpartition("-")[2] for name in asked]
    assert len(set(keys)) == len(keys), f"one key had two effects: {keys}"
    records = [name for name in recorded if name.startswith("record")]

    def look(work: Work) -> tuple[int, int, list[str]]:
        answers = [key.remembered(work) for key in map(_key, map(int, keys))]
        return work.store.count(KIND), work.cursor(CURSOR) or 0, [found.body.decode() for found in answers if found is not None]

    last, cursor, answers = ledger.run(Unit(look, actor="tocsin"))
    assert last >= max(counted, default=0), f"the counter stands at {last}, {max(counted, default=0)} was given"
    assert records == [f"record {offset}" for offset in range(cursor)], f"the cursor stands at {cursor}, there are {len(records)} records"
    assert answers == asked, "an effect without its remembered answer"
