"""Small things that measurements share."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, on the disk that holds temporary files."""
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder:
        yield Path(folder)


def seconds(action: Callable[[], object]) -> float:
    """How long it takes, once."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def times(action: Callable[[], object], rounds: int, *, warm: int = 3) -> list[float]:
    """Milliseconds of each round, ascending, after a few that don't count."""
    for _ in range(warm):
        action()
    return sorted(seconds(action) * 1_000 for _ in range(rounds))


def share(ordered: Sequence[float], part: float) -> float:
    """The value at this share of an ascending list."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def tell(name: str, value: str, bar: str = "") -> None:
    """One line of the report."""
    print(f"  {name:<58} {value:>20}   {bar}", flush=True)
