"""A stream that grows long is read from its snapshot on, and is the same."""

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from engine.aggregate import Aggregate, restored, snapshot
from engine.alert import Alert
from engine.correlation import Correlation, CorrelationIncidentOpened
from engine.ledger import LONG_STREAM, Ledger
from engine.work import Unit

if TYPE_CHECKING:
    from tests.conftest import Bell

FLAPS = 2 * LONG_STREAM
EVENT = (
    b'{"routing_key":"k","event_action":"%s","dedup_key":"k",'
    b'"payload":{"summary":"s","source":"h","severity":"critical","custom_details":{"service":"shop"}}}'
)


def flap(bell: "Bell", times: int) -> None:
    for _ in range(times):
        for action in (b"trigger", b"resolve"):
            bell.clock.advance(1)
            bell.ring("pagerduty", EVENT % action)


@pytest.mark.parametrize("kind", [Alert, Correlation])
def test_a_snapshot_holds_everything_that_replay_makes(bell: "Bell", kind: type[Aggregate]) -> None:
    assert set(kind(UUID(int=1)).state()) - {"id", "version"} == set(kind.REMEMBERS)
    flap(bell, 3)
    alert = bell.alert("pagerduty", "k")
    again = restored(Alert, alert.id, alert.version, snapshot(alert))
    assert again is not None
    assert again.state() == alert.state()


def test_a_snapshot_of_another_shape_is_left_aside() -> None:
    assert restored(Alert, UUID(int=1), 3, b'{"number":"ALT-1"}') is None


def test_a_long_stream_read_from_its_snapshot_is_the_replayed_one(bell: "Bell") -> None:
    flap(bell, FLAPS)
    opened = next(fact for fact in bell.ledger.read(0, 100) if isinstance(fact.event, CorrelationIncidentOpened))
    alert = bell.alert("pagerduty", "k")
    for _ in range(2):  # the first reading makes the snapshots, the second reads from them
        restarted = Ledger(bell.ledger.store, bell.ledger.vault, bell.clock)
        found = restarted.run(
            Unit(lambda work: (work.load(Alert, alert.id).state(), work.load(Correlation, opened.stream_id).state()), actor="test")
        )
        restarted.close()
        assert found[0] == bell.ledger.get(Alert, alert.id).state()
        assert found[1] == bell.ledger.get(Correlation, opened.stream_id).state()
    kept = bell.ledger.run(Unit(lambda work: work.store.snapshot(alert.id.bytes), actor="test"))
    assert kept is not None
    flap(bell, 2)
    assert bell.alert("pagerduty", "k").version > kept[0]
    assert bell.clock.now() - bell.alerts[0].ended[0] > timedelta(0)
