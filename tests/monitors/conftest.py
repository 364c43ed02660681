"""What the tests of the ears share: captured payloads and sources."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.observation import SourceProfile

PAYLOADS = Path(__file__).parent.parent / "payloads"


@pytest.fixture(scope="session")
def payload() -> Callable[[str], bytes]:
    """The bytes of a captured payload, by its path below tests/payloads."""
    return lambda name: (PAYLOADS / name).read_bytes()


@pytest.fixture(scope="session")
def profile() -> Callable[..., SourceProfile]:
    """A source of that adapter, with whatever else the test says of it."""
    return lambda adapter, **more: SourceProfile(name=adapter, adapter=adapter, **more)
