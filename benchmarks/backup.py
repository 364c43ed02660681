"""Backing up a store of a million events beside a server under load, and restoring it."""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from api.house import open_house
from api.settings import load_settings
from benchmarks.figures import scratch, seconds, tell
from benchmarks.history import files, start_of, tickets
from benchmarks.intake import SECONDS, load, server, tocsin
from engine.clock import SimulatedClock
from projections.runner import Runner

EVENTS_A_TICKET = 5
MEMBERS, REPEATS, CONNECTIONS = 1, 0.0, 64
PAIRS = 3


def run(options: argparse.Namespace) -> None:
    """Pairs of load alone and load with a backup beside it, taken in turn; then a restore."""
    if shutil.which("wrk") is None:
        raise SystemExit("the load generator wrk is missing; on Debian: apt-get install wrk")
    with scratch() as folder:
        data, backup = folder / "data", folder / "backup"
        _build(data, options.events)
        with server(data) as (address, _):
            token = tocsin("token", "create", "--role", "monitor", "--source", "alertmanager", data=data)
            load(address, token, MEMBERS, REPEATS, CONNECTIONS)  # warms it
            ratios = []
            for _ in range(PAIRS):
                _, _, rate, _, alone = load(address, token, MEMBERS, REPEATS, CONNECTIONS)
                process = _begin(backup, data)
                begun = time.perf_counter()
                _, errors, rate_meanwhile, _, meanwhile = load(address, token, MEMBERS, REPEATS, CONNECTIONS)
                assert process.wait() == 0
                spent = time.perf_counter() - begun
                tell("backup beside the load", f"{spent:.1f} s", f"bar: <= 60 s; the load took {SECONDS} s of it, {errors} not 2xx")
                tell("  deliveries/s alone / meanwhile", f"{rate:,.0f} / {rate_meanwhile:,.0f}")
                tell("  p99 alone / meanwhile", f"{alone:.1f} / {meanwhile:.1f} ms")
                ratios.append(meanwhile / alone)
        tell("  p99 meanwhile against alone, median of the pairs", f"{sorted(ratios)[PAIRS // 2]:.2f}", "bar: <= 2")
        shutil.copy(data.with_suffix(".key"), folder / "new.key")
        tell("the backup", ", ".join(f"{name} {size:,.0f} MiB" for name, size in files(backup)))
        tell("restore, views built and verified", f"{seconds(lambda: tocsin('restore', str(backup), data=folder / 'new')):.0f} s", "bar: <= 300 s")


def _begin(backup: Path, data: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "api.command", "backup", str(backup), "--data", str(data)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _build(data: Path, wanted: int) -> None:
    clock = SimulatedClock(start_of(30), running=False)
    house = open_house(load_settings({}, data=data), clock=clock)
    events = tickets(house.ledger, clock, closed=wanted // EVENTS_A_TICKET, left_open=wanted // 100, days=30)
    runner = Runner(house.ledger, data / "views.db")
    runner.catch_up()
    runner.close()
    house.close()
    tell("store", f"{events:,} events", ", ".join(f"{name} {size:,.0f} MiB" for name, size in files(data) if size > 1))
