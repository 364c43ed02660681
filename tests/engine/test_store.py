"""What a store keeps beside the log, on either database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.store import Lease, Store
from tests.stores import store_at


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = store_at(tmp_path)
    yield store
    store.close()


def test_a_cursor_moves_with_the_commit_that_it_belongs_to(store: Store) -> None:
    assert store.cursor("in:topic:0") is None
    store.begin()
    store.set_cursor("in:topic:0", 7)
    assert store.pending_cursor("in:topic:0") == 7
    assert store.cursor("in:topic:0") is None
    store.rollback()
    store.begin()
    assert store.pending_cursor("in:topic:0") is None
    store.set_cursor("in:topic:0", 3)
    store.set_cursor("in:topic:0", 4)
    store.commit()
    assert store.cursor("in:topic:0") == 4


def test_a_lease_is_what_was_last_written_of_it(store: Store) -> None:
    store.begin()
    assert store.lease("leader") is None
    store.set_lease("leader", Lease("one", 1, 10))
    store.commit()
    store.begin()
    assert store.lease("leader") == Lease("one", 1, 10)
    store.set_lease("leader", Lease("two", 2, 20))
    assert store.lease("leader") == Lease("two", 2, 20)
    store.rollback()
    store.begin()
    assert store.lease("leader") == Lease("one", 1, 10)
    store.rollback()
