"""Taking a store over into PostgreSQL, against a raw COPY of the same rows into the same table, in turns within one run."""

import argparse
import statistics

import psycopg

from api import copying
from api.database import filled, held
from api.house import open_house
from api.settings import Settings, load_settings
from benchmarks.figures import scratch, seconds, tell
from benchmarks.history import files, start_of, tickets
from engine.clock import SimulatedClock
from engine.postgres_store import COLUMNS
from engine.tables import TABLES
from engine.transfer import claim, compare, fill
from tests.services.postgres import Postgres, running

EVENTS_A_TICKET = 5
ROUNDS = 3


def run(options: argparse.Namespace) -> None:
    """Pairs of raw COPY and of our filling; then a whole copy, compared."""
    with running() as server, scratch() as folder:
        source = load_settings({}, data=folder / "data")
        _build(source, options.events)
        raw, ours = [], []
        for _ in range(ROUNDS):
            raw.append(_raw(source, server))
            ours.append(_ours(source, server))
        tell("raw binary COPY of the log, one commit", f"{statistics.median(raw):,.0f} rows/s")
        tell("tocsin copy, filling all tables, 5,000 rows a commit", f"{statistics.median(ours):,.0f} rows/s")
        tell("  ratio, run by run", f"{statistics.median(one / other for one, other in zip(ours, raw, strict=True)):.2f}")
        there = _empty(source, server)
        with held(source) as store, filled(there) as into:
            claim(store, into)
            fill(store, into, TABLES, _nothing)
            rows = sum(store.count(table) for table in TABLES)
            tell("comparing the digests of both", f"{rows / seconds(lambda: compare(store, into, _nothing)):,.0f} rows/s")
        last: list[int] = []
        spent = seconds(lambda: last.append(copying.copy(source, _empty(source, server), _nothing)[0]))
        tell(f"a whole copy of {last[0]:,} events, compared with its views", f"{spent:.0f} s")


def _nothing(_what: str, _done: int, _all: int) -> None:
    pass


def _empty(source: Settings, server: Postgres) -> Settings:
    return load_settings({}, data=source.data, database=server.database())


def _raw(source: Settings, server: Postgres) -> float:
    """Rows a second of the log alone, from memory."""
    events = next(table for table in TABLES if table.name == "events")
    with held(source) as store:
        rows = list(store.rows(events))
    with psycopg.connect(server.database()) as connection:

        def write() -> None:
            with connection.cursor() as cursor, cursor.copy(f"COPY ledger.events ({COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(events.types)
                for row in rows:
                    copy.write_row(row)
            connection.commit()

        return len(rows) / seconds(write)


def _ours(source: Settings, server: Postgres) -> float:
    with held(source) as store, filled(_empty(source, server)) as into:
        claim(store, into)
        rows = sum(store.count(table) for table in TABLES)
        return rows / seconds(lambda: fill(store, into, TABLES, _nothing))


def _build(source: Settings, wanted: int) -> None:
    clock = SimulatedClock(start_of(30), running=False)
    house = open_house(source, clock=clock)
    events = tickets(house.ledger, clock, closed=wanted // EVENTS_A_TICKET, left_open=wanted // 100, days=30)
    house.close()
    tell("store", f"{events:,} events", ", ".join(f"{name} {size:,.0f} MiB" for name, size in files(source.data) if size > 1))
