"""A world and the views of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.clock import SimulatedClock
from engine.ledger import Ledger
from projections.runner import Runner
from tests.projections.world import World


@pytest.fixture
def world(ledger: Ledger, clock: SimulatedClock) -> World:
    return World(ledger, clock)


@pytest.fixture
def runner(ledger: Ledger, tmp_path: Path) -> Iterator[Runner]:
    """Not started: tests say when it catches up."""
    runner = Runner(ledger, tmp_path / "views.db")
    yield runner
    runner.close()
