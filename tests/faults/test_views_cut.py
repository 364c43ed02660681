"""The process that folds may be killed at any of its statements: each event is in each view once."""

import pytest

from tests.faults import pairs
from tests.faults.promises import scratch
from tests.soak import SOAK

pytestmark = [pytest.mark.files, pytest.mark.law]


def test_whoever_folds_may_be_killed_at_any_statement() -> None:
    with scratch() as folder:
        killed = pairs.a_view_has_each_event_once(folder, 1_500 if SOAK else 150)
    assert killed >= (1_000 if SOAK else 100)
