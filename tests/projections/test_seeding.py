"""The copy of a node's views is of one moment, whatever is folded while it is made."""

import sqlite3
from pathlib import Path

import pytest

from engine.ledger import Ledger
from projections import seeding
from projections.files import Files
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.seeding import copy_views, take_views
from tests.projections.world import World


def test_a_copy_that_is_made_while_events_come_in_is_of_the_moment_it_began(
    world: World, runner: Runner, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "PAGES_IN_A_STEP", 20)
    world.incident()
    began = runner.catch_up()
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) < 4:
            world.incident()
            runner.catch_up()

    copy = tmp_path / "copy"
    copy_views(Files(tmp_path / "views.db"), copy, tell)
    assert len(told) > 4
    assert told[-1][0] == told[-1][1]
    file = sqlite3.connect(copy)
    assert file.execute("SELECT DISTINCT position FROM tracking").fetchall() == [(began,)]
    file.close()
    (tmp_path / "new").mkdir()
    assert take_views(ledger, Files(tmp_path / "new" / "views.db"), copy, PROJECTIONS, lambda _done, _total: None) == began
    other = Runner(ledger, tmp_path / "new" / "views.db")
    assert other.catch_up() == world.head
    assert other.verify() is None
    other.close()
