"""What the ledger remembers of its last commits is what reading them from the store gives."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from monitors.intake import Rejected

if TYPE_CHECKING:
    from tests.conftest import Bell

PAYLOADS = Path(__file__).parents[1] / "payloads"
FOLDERS = {"prometheus-alertmanager": "alertmanager", "grafana": "grafana", "pagerduty-events-v2": "pagerduty"}


@pytest.mark.parametrize(("folder", "source"), FOLDERS.items())
def test_a_remembered_fact_equals_the_stored_one(bell: "Bell", folder: str, source: str) -> None:
    for file in sorted((PAYLOADS / folder).iterdir()):
        try:
            bell.ring(source, file.read_bytes())
        except Rejected:
            continue
    rows = bell.ledger.store.log(0, 10_000)
    remembered = [bell.ledger.fact(row) for row in rows]
    bell.ledger.vault.destroy(b"nobody's key")  # whatever was remembered is dropped when a key is destroyed
    stored = [bell.ledger.fact(row) for row in rows]
    assert len(remembered) > 10
    assert all(fact is not other for fact, other in zip(remembered, stored, strict=True))
    assert remembered == stored
