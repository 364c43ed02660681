"""The ledger without HTTP, against raw SQLite and against the library's stock recorder, in turns within one run."""

import argparse
import asyncio
import os
import sqlite3
import statistics
import time
from pathlib import Path
from uuid import uuid4

from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from benchmarks.figures import scratch, seconds, tell
from engine.alert import AlertSeverityChanged
from engine.clock import SystemClock
from engine.keyring import SqliteKeyring
from engine.ledger import Ledger
from engine.observation import Severity
from engine.sqlite_store import COLUMNS, SCHEMA, SqliteStore
from engine.store import Row, Store
from engine.vault import Vault
from engine.work import Unit, Work

ROUNDS = 5
BATCH, BATCHES = 1_000, 30
CALLERS, EACH = 128, 150
STATE = os.urandom(508)


def run(_: argparse.Namespace) -> None:
    """Both bars of the ledger."""
    with scratch() as folder:
        raw, ours = [], []
        for number in range(ROUNDS):
            raw.append(BATCH * BATCHES / _raw(folder / f"raw-{number}.db"))
            ours.append(BATCH * BATCHES / _batches(folder / f"ours-{number}.db"))
        tell("raw executemany, 1,000 rows a commit", f"{statistics.median(raw):,.0f} rows/s")
        tell("ledger's store, 1,000 rows a commit", f"{statistics.median(ours):,.0f} rows/s")
        ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, raw, strict=True))
        tell("  ratio, run by run", f"{ratio:.2f}", "bar: >= 0.70")
        stock, group = [], []
        for number in range(ROUNDS):
            stock.append(_stock(folder / f"stock-{number}.db"))
            group.append(_callers(folder / f"callers-{number}"))
        tell("library's stock save, one caller", f"{statistics.median(stock):,.0f} events/s")
        tell("ledger, 128 callers, each durable", f"{statistics.median(group):,.0f} events/s")
        ratio = statistics.median(mine / theirs for mine, theirs in zip(group, stock, strict=True))
        tell("  ratio, run by run", f"{ratio:.1f}", "bar: >= 9")


def batch_of(first: int) -> list[Row]:
    """Rows of a thousand new streams, from a position on."""
    return [
        Row(first + place, uuid4().bytes, 1, "alert.severity_changed.v1", STATE, first, "source:bench", uuid4().bytes, None)
        for place in range(BATCH)
    ]


def _raw(path: Path) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(SCHEMA)
    batches = [batch_of(1 + number * BATCH) for number in range(BATCHES)]
    sql = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

    def write() -> None:
        for rows in batches:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(sql, rows)
            connection.execute("COMMIT")

    spent = seconds(write)
    connection.close()
    return spent


def _batches(path: Path) -> float:
    """The same rows through the store's own begin, insert and commit."""
    store = SqliteStore(path)
    batches = [batch_of(1 + number * BATCH) for number in range(BATCHES)]

    def write() -> None:
        for rows in batches:
            store.begin()
            store.insert(rows)
            store.commit()

    spent = seconds(write)
    store.close()
    return spent


def _stock(path: Path) -> float:
    """Events a second of the library's own recorder, one event a save."""
    datastore = SQLiteDatastore(str(path))
    recorder = SQLiteApplicationRecorder(datastore)
    recorder.create_table()
    with datastore.get_connection(commit=True) as connection:
        connection.cursor().execute("PRAGMA synchronous = FULL")
    events = [StoredEvent(originator_id=uuid4(), originator_version=1, topic="x", state=STATE) for _ in range(2_000)]

    def save() -> None:
        for event in events:
            recorder.insert_events([event])

    rate = len(events) / seconds(save)
    datastore.close()
    return rate


def _callers(folder: Path) -> float:
    folder.mkdir()
    return many_callers(SqliteStore(folder / "log.db"), Vault(SqliteKeyring(folder / "keys.db"), b"k" * 32))[0]


def many_callers(store: Store, vault: Vault) -> tuple[float, list[float]]:
    """Many callers who each wait for their own commit, as the interface's requests do: (events a second, their waits in ms)."""
    ledger = Ledger(store, vault, SystemClock())
    event = AlertSeverityChanged(severity=Severity.HIGH)
    waits: list[float] = []

    def decide(work: Work) -> None:
        work.journal.add(work.new_id(), 1, event)

    async def caller() -> None:
        for _ in range(EACH):
            begun = time.perf_counter()
            await ledger.commit(Unit(decide, actor="bench"))
            waits.append((time.perf_counter() - begun) * 1_000)

    async def work() -> None:
        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    rate = CALLERS * EACH / seconds(lambda: asyncio.run(work()))
    ledger.close()
    store.close()
    vault.close()
    return rate, sorted(waits)
