"""Reading the log again, against a raw read of the same rows by the same driver: one ticket's history, and all views from nothing.

Both databases in turn within one run; the bars are P9, P10 and P11 of `benchmarks/peers/GOALS.md`.
"""

import argparse
import json
import resource
import sqlite3
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.figures import scratch, seconds, share, tell, times
from benchmarks.history import start_of, tickets
from engine.clock import SimulatedClock
from engine.incident import Incident
from engine.keyring import SqliteKeyring
from engine.ledger import Ledger
from engine.postgres_store import COLUMNS, PostgresStore
from engine.priority import Level
from engine.sqlite_store import SqliteStore
from engine.store import Store
from engine.vault import Vault
from engine.work import Unit, Work
from projections.runner import Runner
from tests.services.postgres import running

ROUNDS = 3
STREAMS = 500
SIZES = (20_000, 180_000)  # tickets added: 100,000 events, then 1,000,000
SHORT, LONG = 10, 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One database: our store, and the raw reads of what it holds.

    Attributes:
        stream: reads the rows of a stream, by the driver alone.
        log: reads all rows and their JSON, by the driver and the standard library alone; how many.
    """

    name: str
    store: Store
    stream: Callable[[UUID], object]
    log: Callable[[], int]
    floors: tuple[float, float]


def run(_: argparse.Namespace) -> None:
    """PostgreSQL, then SQLite."""
    with running() as server, scratch() as folder:
        address = server.database()
        with psycopg.connect(address, autocommit=True) as raw:
            _measure(_postgres(raw, PostgresStore(address)), folder / "postgres")
        file = folder / "log.db"
        store = SqliteStore(file)
        _measure(_sqlite(sqlite3.connect(file), store), folder / "sqlite")


def _postgres(raw: "psycopg.Connection[tuple[object, ...]]", store: Store) -> Side:
    def log() -> int:
        with raw.transaction(), raw.cursor(name="scan") as cursor:
            cursor.itersize = 5_000
            return _decoded(cursor.execute(f"SELECT {COLUMNS} FROM ledger.events ORDER BY position"))

    def stream(stream_id: UUID) -> object:
        return raw.execute(f"SELECT {COLUMNS} FROM ledger.events WHERE stream = %s ORDER BY version", (stream_id.bytes,)).fetchall()

    return Side(name="PostgreSQL", store=store, stream=stream, log=log, floors=(0.3, 0.15))


def _sqlite(raw: sqlite3.Connection, store: Store) -> Side:
    def log() -> int:
        return _decoded(raw.execute(f"SELECT {COLUMNS} FROM events ORDER BY position"))

    def stream(stream_id: UUID) -> object:
        return raw.execute(f"SELECT {COLUMNS} FROM events WHERE stream = ? ORDER BY version", (stream_id.bytes,)).fetchall()

    return Side(name="SQLite", store=store, stream=stream, log=log, floors=(0.0, 0.05))


def _decoded(rows: Iterable[tuple[Any, ...]]) -> int:
    """How many rows; each one's JSON is read."""
    found = 0
    for row in rows:
        json.loads(row[4])
        found += 1
    return found


def _measure(side: Side, folder: Path) -> None:
    folder.mkdir()
    clock = SimulatedClock(start_of(90), running=False)
    ledger = Ledger(side.store, Vault(SqliteKeyring(folder / "keys.db"), b"k" * 32), clock)
    short, long = _tickets(ledger, SHORT, STREAMS), _tickets(ledger, LONG, 3)
    rates = []
    for number, size in enumerate(SIZES):
        tickets(ledger, clock, closed=size * 9 // 10, left_open=size // 10, days=30)
        _history(side, ledger, short, long)
        ours, raw = [], []
        before = _peak()
        for turn in range(ROUNDS):
            events = side.log()
            raw.append(events / seconds(side.log))
            runner = Runner(ledger, folder / f"views-{number}-{turn}.db")
            ours.append(events / seconds(runner.catch_up))
            runner.close()
        tell(f"{side.name}: reading {events:,} events by the driver", f"{statistics.median(raw):,.0f} events/s")
        tell("  all views from nothing", f"{statistics.median(ours):,.0f} events/s", "bar: >= 25,000")
        ratio = statistics.median(mine / other for mine, other in zip(ours, raw, strict=True))
        tell("  ratio, run by run", f"{ratio:.2f}", f"bar: >= {side.floors[1]}")
        tell("  memory of this process grew by", f"{_peak() - before:.0f} MiB", "bar: <= 64")
        rates.append(statistics.median(ours))
    tell(f"{side.name}: views, the large log's speed against the small one's", f"{rates[1] / rates[0]:.2f}", "bar: >= 0.9")
    ledger.close()
    side.store.close()


def _history(side: Side, ledger: Ledger, short: list[UUID], long: list[UUID]) -> None:
    ratios, folded = [], []
    for _ in range(ROUNDS):
        raw = seconds(lambda: [side.stream(stream_id) for stream_id in short])
        mine = seconds(lambda: [ledger.get(Incident, stream_id) for stream_id in short])
        ratios.append(raw / mine)
        folded.append(mine / len(short) * 1_000)
    tell(f"{side.name}: a ticket of {SHORT} events, read and folded", f"{statistics.median(folded):.2f} ms")
    tell("  to a raw read of its rows, run by run", f"{statistics.median(ratios):.2f}", f"bar: >= {side.floors[0]}")
    whole = share(times(lambda: ledger.get(Incident, long[0]), 5), 0.5)
    tell(f"  a ticket of {LONG:,} events, to one of {SHORT}", f"{whole / statistics.median(folded):.0f}", "bar: <= 120")


def _tickets(ledger: Ledger, events: int, count: int) -> list[UUID]:
    """Tickets of so many events each."""

    def decide(work: Work) -> UUID:
        incident = Incident.open(
            work.new_id(), work.journal, number=work.number("INC"), title="Errors", impact=Level.LOW, urgency=Level.LOW, now=work.now, channel="api"
        )
        work.adopt(incident)
        while incident.version < events:
            incident.assign(team=f"Team {incident.version}", assignee=None)
        return incident.id

    return [ledger.run(Unit(decide, actor="user:bench")) for _ in range(count)]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
