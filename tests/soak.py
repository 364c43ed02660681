"""`make soak`: the same tests with larger numbers (`TOCSIN_SOAK=1`), and a word now and then of how far one has come.

Every test of a module that knows `SOAK` or `effort` belongs to it (`tests/conftest.py` marks them).
"""

import os
import shutil
import sys
import tempfile
import time
from typing import Final

SOAK: Final = os.environ.get("TOCSIN_SOAK") == "1"
TELLS_SECONDS: Final = 15.0
# A million deliveries with their views, and the topic that they come from.
ROOM_BYTES: Final = 15 * 2**30


class Course:
    """How far a test has come. It is told in a soak only, and not more often than one can read."""

    def __init__(self, of: int, what: str) -> None:
        self._of, self._what = of, what
        self._begun = self._told = time.monotonic()

    def at(self, done: int, more: object = "") -> None:
        """So many are done; `more` is said as well."""
        now = time.monotonic()
        if SOAK and now - self._told >= TELLS_SECONDS:
            self._told = now
            # Not where the test may be listening to what is printed.
            print(f"    {now - self._begun:6.0f} s: {done} of {self._of} {self._what} {more}", file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < ROOM_BYTES:
        sys.exit(f"a soak needs {ROOM_BYTES >> 30} GB in {tempfile.gettempdir()}, and there are {free >> 30}; TMPDIR names another place")
