"""What every view in the registry must bring along."""

import sqlite3
from collections import Counter

import pytest

from engine.event import REGISTRY
from projections.generation import statements
from projections.projection import Projection
from projections.registry import PROJECTIONS


def test_no_two_views_share_a_name_or_a_table() -> None:
    names = Counter([one.name for one in PROJECTIONS] + [table.name for one in PROJECTIONS for table in one.tables])
    names.subtract(one.name for one in PROJECTIONS if one.name in {table.name for table in one.tables})
    assert {name: count for name, count in names.items() if count > 1} == {}


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_view_names_all_of_its_tables_with_their_keys(projection: Projection) -> None:
    connection = sqlite3.connect(":memory:")
    for statement in statements(projection.ddl):
        connection.execute(statement)
    made = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    named = {table.name for table in projection.tables}
    assert {name for name in made if not name.startswith(tuple(f"{virtual}_" for virtual in ("queue_index", "search_index")))} == named
    for table in projection.tables:
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
        assert {part.strip() for part in table.key.split(",")} <= columns


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_view_asks_only_for_events_that_can_be_stored(projection: Projection) -> None:
    assert projection.events
    assert projection.events <= set(REGISTRY.values())
