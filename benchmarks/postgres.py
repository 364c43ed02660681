"""The ledger on PostgreSQL, against raw statements and against the library's stock recorder, in turns within one run."""

import argparse
import statistics
import time
from pathlib import Path
from uuid import uuid4

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

from benchmarks.figures import scratch, seconds, share, tell
from benchmarks.ledger import BATCH, STATE, batch_of, many_callers
from engine.keyring import SqliteKeyring
from engine.postgres_store import COLUMNS, PostgresStore
from engine.store import Row
from engine.vault import Vault
from tests.services.postgres import Postgres, running

ROUNDS = 3
BATCHES = 20
SINGLE = 1_000


def run(_: argparse.Namespace) -> None:
    """The bars of the ledger on a server of our own, with fsync, on this machine."""
    with running() as server, scratch() as folder:
        single, raw, ours, stock, group, waits = [], [], [], [], [], []
        for number in range(ROUNDS):
            single.append(SINGLE / _single(server))
            raw.append(BATCH * BATCHES / _copy(server))
            ours.append(BATCH * BATCHES / _batches(server))
            stock.append(_stock(server))
            rate, waited = _callers(server, folder / str(number))
            group.append(rate)
            waits.append(share(waited, 0.99) / (1_000 / single[-1]))
        tell("raw INSERT, a commit each", f"{statistics.median(single):,.0f} rows/s")
        tell("raw binary COPY, 1,000 rows a commit", f"{statistics.median(raw):,.0f} rows/s")
        tell("ledger's store, 1,000 rows a commit", f"{statistics.median(ours):,.0f} rows/s")
        tell("  to raw single commits", f"{_ratio(ours, single):.1f}", "bar: >= 12")
        tell("  to raw COPY", f"{_ratio(ours, raw):.2f}", "bar: >= 0.50")
        tell("library's stock save, one caller", f"{statistics.median(stock):,.0f} events/s")
        tell("ledger, 128 callers, each durable", f"{statistics.median(group):,.0f} events/s")
        tell("  ratio, run by run", f"{_ratio(group, stock):.1f}", "bar: >= 30")
        tell("  p99 of a caller's wait, in raw single commits", f"{statistics.median(waits):.1f}", "bar: <= 10")


def _ratio(mine: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))


_INSERT = f"INSERT INTO ledger.events ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"


def _single(server: Postgres) -> float:
    rows = batch_of(1)[:SINGLE]
    with psycopg.connect(server.database(), autocommit=True) as connection:

        def write() -> None:
            for row in rows:
                connection.execute(_INSERT, row)

        return seconds(write)


def _copy(server: Postgres) -> float:
    batches = [batch_of(1 + number * BATCH) for number in range(BATCHES)]
    with psycopg.connect(server.database()) as connection:

        def write() -> None:
            for rows in batches:
                with connection.cursor() as cursor, cursor.copy(f"COPY ledger.events ({COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(("int8", "bytea", "int4", "text", "bytea", "int8", "text", "bytea", "text"))
                    for row in rows:
                        copy.write_row(row)
                connection.commit()

        return seconds(write)


def _batches(server: Postgres) -> float:
    store = PostgresStore(server.database())
    batches: list[list[Row]] = [batch_of(1 + number * BATCH) for number in range(BATCHES)]

    def write() -> None:
        for rows in batches:
            store.begin()
            store.insert(rows)
            store.commit()

    spent = seconds(write)
    store.close()
    return spent


def _stock(server: Postgres) -> float:
    """Events a second of the library's own recorder, one event a save."""
    with server.superuser() as connection:
        name = f"stock{time.monotonic_ns()}"
        connection.execute(f"CREATE DATABASE {name} OWNER owner")
    datastore = PostgresDatastore(dbname=name, host=str(server.folder), port="5432", user="owner", password="")
    recorder = PostgresApplicationRecorder(datastore)
    recorder.create_table()
    events = [StoredEvent(originator_id=uuid4(), originator_version=1, topic="x", state=STATE) for _ in range(SINGLE)]

    def save() -> None:
        for event in events:
            recorder.insert_events([event])

    rate = len(events) / seconds(save)
    datastore.close()
    return rate


def _callers(server: Postgres, folder: Path) -> tuple[float, list[float]]:
    folder.mkdir()
    return many_callers(PostgresStore(server.database()), Vault(SqliteKeyring(folder / "keys.db"), b"k" * 32))

