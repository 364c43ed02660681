"""A real `tocsin intake` in a process of its own."""

import itertools
import json
import os
import select
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.process.server import COMMAND, PATIENCE, ROOT, environment, free_port

_NUMBERS: Final = itertools.count(1)


class Reader:
    """One process; it runs from the start on."""

    def __init__(self, data: Path, settings: Mapping[str, str], *options: str) -> None:
        self.port = free_port()
        self.said = data.parent / f"reader-{next(_NUMBERS)}.err"
        with self.said.open("a") as said:
            self._process = subprocess.Popen(
                [*COMMAND, "intake", "--port", str(self.port), "--data", str(data), *options],
                cwd=ROOT, env=environment(**settings), stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True,
            )

    def ready(self) -> "Reader":
        """Returns when it says so."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if readable else ""
        assert line == f"ready http://127.0.0.1:{self.port}\n", f"it said {line!r}; {self.said.read_text()}"
        return self

    def kill(self) -> None:
        """SIGKILL: no handler runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM: it finishes and leaves the group; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self._process.poll() is None:
            os.killpg(self._process.pid, how)
        code = self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def state(self) -> dict[str, Any]:
        """What `/readyz` says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=PATIENCE) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            found = json.load(error)
        return found

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
        return text
