"""The projection runner: events a second for the queue alone and for all views, at two sizes (it should be linear)."""

import argparse
import resource

from benchmarks.figures import scratch, seconds, tell
from benchmarks.history import start_of, tickets
from engine.clock import SimulatedClock
from engine.keyring import SqliteKeyring
from engine.ledger import Ledger
from engine.sqlite_store import SqliteStore
from engine.vault import Vault
from projections import work_queue
from projections.registry import PROJECTIONS
from projections.runner import Runner


def run(_: argparse.Namespace) -> None:
    """Build the views from nothing."""
    with scratch() as folder:
        clock = SimulatedClock(start_of(90), running=False)
        ledger = Ledger(SqliteStore(folder / "log.db"), Vault(SqliteKeyring(folder / "keys.db"), b"k" * 32), clock)
        events = 0
        for round_, size in enumerate((20_000, 80_000)):
            events += tickets(ledger, clock, closed=size * 9 // 10, left_open=size // 10, days=30)
            for name, chosen, bar in (("queue", (work_queue.PROJECTION,), "bar: >= 25,000 events/s"), ("all views", PROJECTIONS, "")):
                runner = Runner(ledger, folder / f"{name}-{round_}.db", projections=chosen)
                spent = seconds(runner.catch_up)
                runner.close()
                tell(f"{name}, {events:,} events", f"{events / spent:,.0f} events/s", bar)
        tell("peak memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
        ledger.close()
        ledger.store.close()
