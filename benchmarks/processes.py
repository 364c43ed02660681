"""One `tocsin api` against two on the same port and the same PostgreSQL, in turns; the load generator shares the cores."""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.figures import scratch, tell
from benchmarks.intake import caught_up, load
from tests.process.server import COMMAND, PATIENCE, environment, free_port
from tests.services.postgres import running

ROUNDS = 3
CONNECTIONS = 32


def run(_options: argparse.Namespace) -> None:
    """Reading (the queue, as JSON) and writing (an alert a delivery, all distinct)."""
    found: dict[tuple[str, int], list[float]] = {}
    with running() as database, scratch() as folder:
        for _round in range(ROUNDS):
            for count in (1, 2):
                settings = {"TOCSIN_DATABASE": database.database(), "TOCSIN_MASTER_KEY_FILE": str(folder / "master.key")}
                (folder / "master.key").unlink(missing_ok=True)
                with processes(count, folder / f"{_round}-{count}", settings) as (address, data):
                    token = _command("token", "create", "--role", "admin", data=data, settings=settings)
                    written, errors, rate, _p50, p99 = load(address, token, 1, 0.0, CONNECTIONS)
                    assert errors == 0, (written, errors)
                    found.setdefault(("writing", count), []).append(rate)
                    found.setdefault(("writing, p99 ms", count), []).append(p99)
                    caught_up(address)
                    found.setdefault(("reading", count), []).append(_reads(address, token))
    for name in ("writing", "reading"):
        one, two = found[name, 1], found[name, 2]
        tell(f"{name}: one process", f"{statistics.median(one):,.0f} requests/s")
        tell(f"{name}: two processes", f"{statistics.median(two):,.0f} requests/s")
        tell("  ratio, round by round", f"{statistics.median(b / a for a, b in zip(one, two, strict=True)):.2f}", "bar: >= 1 where a core is left free")


@contextmanager
def processes(count: int, folder: Path, settings: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """(address, a data folder) of so many `tocsin api` on one machine: they share the folder of views too."""
    port = free_port()
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen(
                [*COMMAND, "api", "--port", str(port), "--data", str(folder)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(**settings),
            )
            stack.callback(process.wait, PATIENCE)
            stack.callback(process.terminate)
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready ")
        yield f"http://127.0.0.1:{port}", folder


def _reads(address: str, token: str) -> float:
    done = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", "-d4s", "-H", f"Authorization: Bearer {token}", f"{address}/api/v1/queue?limit=50"],
        capture_output=True, text=True, check=True,
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    return float(done.stdout.partition("Requests/sec:")[2].split()[0])


def _command(*arguments: str, data: Path, settings: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "api.command", *arguments, "--data", str(data)], capture_output=True, text=True, check=True, env=environment(**settings)
    )
    return done.stdout.strip()
