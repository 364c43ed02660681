"""Intake over HTTP into SQLite, the load generator (wrk) on the same machine, the views following."""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import scratch, seconds, tell

SECONDS = 8
LUA = Path(__file__).with_name("wrk") / "alerts.lua"
# name, members, share of repeats, connections, bar
CASES = (
    ("one alert a delivery, distinct", 1, 0.0, 64, "bar: >= 2,000 deliveries/s, p99 <= 100 ms"),
    ("one alert a delivery, 90 % repeats", 1, 0.9, 64, ""),
    ("100 alerts a delivery, 95 % repeats", 100, 0.95, 16, "bar: >= 30,000 alerts/s"),
    ("100 alerts a delivery, all distinct", 100, 0.0, 16, "bar: >= 8,000 alerts/s"),
)


def run(_: argparse.Namespace) -> None:
    """Each case on a fresh store."""
    if shutil.which("wrk") is None:
        raise SystemExit("the load generator wrk is missing; on Debian: apt-get install wrk")
    for name, members, repeats, connections, bar in CASES:
        with scratch() as folder, server(folder / "data") as (address, pid):
            token = tocsin("token", "create", "--role", "monitor", "--source", "alertmanager", data=folder / "data")
            requests, errors, rate, p50, p99 = load(address, token, members, repeats, connections)
            text = f"{rate:,.0f} deliveries/s" if members == 1 else f"{rate * members:,.0f} alerts/s"
            tell(name, text, bar)
            tell(f"  {requests} deliveries, {errors} not 2xx, p50 / p99", f"{p50:.1f} / {p99:.1f} ms")
            tell("  memory of the server", f"{memory_mib(pid):.0f} MiB", "bar: <= 160 MiB")
            tell("  the views caught up after", f"{seconds(lambda: caught_up(address)):.1f} s")


def load(address: str, token: str, members: int, repeats: float, connections: int) -> tuple[int, int, float, float, float]:
    """(requests, errors, requests/s, p50 ms, p99 ms)."""
    done = subprocess.run(
        [
            "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--timeout", "20s", "-s", str(LUA), f"{address}/hooks/alertmanager",
            "--", token, str(members), str(repeats),
        ],
        capture_output=True, text=True, check=True,
    )
    found = re.search(r"^RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    requests, errors, duration = int(found[1]), int(found[2]), int(found[3]) / 1_000_000
    return requests, errors, requests / duration, float(found[4]), float(found[5])


@contextmanager
def server(data: Path, **settings: str) -> Iterator[tuple[str, int]]:
    """A real `tocsin serve` on a free port: (address, process id)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "api.command", "serve", "--port", str(port), "--data", str(data)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **settings},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready "), line
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(60)


def tocsin(*arguments: str, data: Path) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "api.command", *arguments, "--data", str(data)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def caught_up(address: str) -> None:
    """Return when the views have reached the log's head."""
    import json

    while True:
        with urllib.request.urlopen(f"{address}/readyz") as answer:
            if json.load(answer)["lag_events"] == 0:
                return


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
