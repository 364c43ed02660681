"""A bell whose tickets tell people."""

import pytest

from engine.clock import SimulatedClock
from engine.ledger import Ledger
from tests.notices.post import Tower


@pytest.fixture
def tower(ledger: Ledger, clock: SimulatedClock) -> Tower:
    return Tower(ledger, clock)
