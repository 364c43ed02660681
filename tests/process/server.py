"""A real `tocsin serve` in a process of its own, and what tests need to drive and to look into it."""

import http.client
import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from api.database import open_store
from api.settings import load_settings
from engine.store import Store
from tests.soak import SOAK

# Seconds after which a test that hangs is given up; nothing is timed by it.
PATIENCE: Final = 900 if SOAK else 180
ROOT: Final = Path(__file__).resolve().parents[2]
COMMAND: Final = (sys.executable, "-m", "api.command")


class Answer(NamedTuple):
    status: int
    content: Any


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**settings: str) -> dict[str, str]:
    """Ours without what is meant for the tests: the command refuses settings that it does not know."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}


def run(*arguments: str, settings: Mapping[str, str] | None = None) -> str:
    """The standard output of a `tocsin` command that must succeed."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, env=environment(**(settings or {})), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"tocsin {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


class Server:
    """One `tocsin serve` (or `api`, `worker`) on a data folder; it may be started again after it was killed.

    Attributes:
        under: a command that runs it, such as strace.
        settings: its `TOCSIN_*`.
        role: `serve`, `api` or `worker`.

    Args:
        command: `tocsin`, or something that stands in for it.
    """

    def __init__(
        self, folder: Path, *, under: Sequence[str] = (), settings: Mapping[str, str] | None = None, role: str = "serve", port: int | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.settings, self.role, self._command = dict(settings or {}), role, tuple(command)
        self.folder, self.data, self.port, self.under = folder, folder / "data", port or free_port(), tuple(under)
        self._process: subprocess.Popen[str] | None = None
        self._said = (folder / "server.err").open("a")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it says that it is ready."""
        self._process = subprocess.Popen(
            [*self.under, *self._command, self.role, "--port", str(self.port), "--data", str(self.data)],
            cwd=ROOT, env=environment(**self.settings), stdout=subprocess.PIPE, stderr=self._said, text=True, start_new_session=True,
        )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if readable else ""
        assert line == f"ready http://127.0.0.1:{self.port}\n", f"it said {line!r}; {(self.folder / 'server.err').read_text()}"

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: it finishes what it has begun."""
        self._end(signal.SIGTERM)

    def tell(self, how: signal.Signals) -> None:
        """Send a signal and go on."""
        os.killpg(self.pid, how)

    def ended(self) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        process, self._process = self._process, None
        assert process is not None
        return process.wait(PATIENCE)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, how)
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()

    def close(self) -> None:
        self.kill()
        self._said.close()

    def token(self, source: str) -> str:
        """A monitor's token, made beside the running server."""
        return self.command("token", "create", "--role", "monitor", "--source", source)

    def command(self, *arguments: str) -> str:
        """A `tocsin` command on the same store."""
        return run(*arguments, "--data", str(self.data), settings=self.settings)

    def store(self) -> Store:
        """The store, opened beside it."""
        return open_store(load_settings({**self.settings}, data=self.data))

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def log(self) -> sqlite3.Connection:
        """The log file, for reading."""
        return sqlite3.connect(f"file:{self.data / 'log.db'}?mode=ro", uri=True, timeout=PATIENCE)


def send(connection: http.client.HTTPConnection, token: str, content: object, *, key: str | None = None) -> None:
    """Send an Alertmanager body; the answer is read by `answer`."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    connection.request("POST", "/hooks/alertmanager", json.dumps(content), headers)


def answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    return Answer(response.status, json.loads(response.read() or b"null"))


def body(*names: str, ended: bool = False, minute: int = 0) -> dict[str, Any]:
    """An Alertmanager notification about these instances."""
    hour, minute = divmod(minute, 60)
    times = {"startsAt": f"2026-03-02T{hour % 24:02}:{minute:02}:00Z", "endsAt": f"2026-03-02T{hour % 24:02}:{minute:02}:30Z"}
    labels = {"alertname": "DiskFull", "severity": "critical", "service": "shop"}
    status = "resolved" if ended else "firing"
    alerts = [{"status": status, "labels": {**labels, "instance": name}, "annotations": {}, **times} for name in names]
    return {"version": "4", "status": status, "receiver": "tocsin", "groupLabels": {}, "alerts": alerts}
