"""Sums that are kept are those that are counted: for any facts, blocks, window, filter, group and position."""

import sqlite3
import statistics
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ledger import Ledger
from projections.generation import statements
from projections.kpi_page import percentile
from projections.kpi_sums import Asked, Keeper, Ordered, Tally, tallied
from projections.kpis import FACT_COLUMNS, Metric, kept
from projections.views import Reader

pytestmark = pytest.mark.law

TIMED = (Metric.RESPONDED, Metric.RESOLVED)
TEAMS = (None, "web", "db")
AGENTS = (None, b"a" * 16, b"b" * 16)
SIZES = st.sampled_from([(1, 2), (2, 4), (3, 3), (2, 6)])


class Told(msgspec.Struct, frozen=True):
    """A fact: when it was recorded after the one before, how much earlier it happened, and of which of three tickets it is."""

    metric: Metric
    ticket: int
    after: int
    late: int
    duration: int
    target: int | None
    priority: int
    team: str | None
    agent: bytes | None
    imported: bool


a_fact = st.builds(
    Told, st.sampled_from([Metric.RESOLVED, Metric.RESOLVED, Metric.RESPONDED, Metric.REOPENED]), st.integers(1, 3), st.integers(0, 2),
    st.integers(-1, 8) | st.integers(0, 60), st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(1, 2), st.sampled_from(TEAMS),
    st.sampled_from(AGENTS), st.sampled_from([False, False, False, True]),
)
facts = st.lists(a_fact, min_size=1, max_size=40) | st.lists(a_fact, min_size=25, max_size=40)


def rows_of(told: Sequence[Told]) -> list[dict[str, Any]]:
    """As the measures' table holds them, at every second position."""
    now, rows = 100, []
    last: dict[tuple[Metric, int], int] = {}
    for number, fact in enumerate(told, 1):
        now += fact.after
        timed = fact.metric in TIMED
        place = (fact.metric, fact.ticket)
        imported = fact.imported and place not in last  # an import is the first that is heard of a ticket
        rows.append({
            "metric": fact.metric.value, "position": 2 * number, "ticket": fact.ticket, "occurred_at": now - fact.late, "recorded_at": now,
            "duration": fact.duration if timed else None, "kind": "incident", "priority": fact.priority, "service": "shop",
            "team": fact.team, "agent": fact.agent, "channel": "api", "alert": None, "open_after": None,
            "target": fact.target if timed and not imported else None, "imported": int(imported),
            "earlier": last.get(place),
        })
        last[place] = 2 * number
    return rows


@contextmanager
def kept_sums(rows: Sequence[dict[str, Any]], sizes: tuple[int, int], page: int) -> Iterator[Reader]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in statements(kept().ddl):
        connection.execute(statement)
    keeper = Keeper(FACT_COLUMNS, sizes)
    for first in range(0, len(rows), page):
        part = rows[first : first + page]
        connection.executemany(
            f"INSERT INTO kpi_facts ({', '.join(FACT_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in FACT_COLUMNS)})", part
        )
        keeper.keep(connection, [tuple(row[name] for name in FACT_COLUMNS) for row in part])
    yield Reader(connection, cast("Ledger", None), rows[-1]["position"])  # the log is not asked
    connection.close()


def instant_of(row: dict[str, Any], asked: Asked) -> int:
    return int(row["occurred_at"] if asked.occurred or row["imported"] else row["recorded_at"])


def counted(rows: Sequence[dict[str, Any]], asked: Asked) -> dict[Any, tuple[Any, ...]]:
    """By group, one after the other; all together under `whole`."""
    parts: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        instant = instant_of(row, asked)
        if (
            row["metric"] == asked.metric and row["position"] <= asked.at and row["imported"] in asked.imported
            and asked.edges[0] <= instant < asked.edges[-1] and all(row[name] == value for name, value in asked.only.items())
        ):
            group = row[asked.by] if asked.by else bisect_right(asked.edges, instant) - 1
            parts.setdefault(group, []).append(row)
            parts.setdefault("whole", []).append(row)
    return {key: figures_of(found) for key, found in parts.items()}


def figures_of(rows: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    durations = sorted(row["duration"] for row in rows if row["duration"] is not None)
    met = [row["duration"] <= row["target"] for row in rows if row["target"] is not None]
    return (
        len(rows), len({row["ticket"] for row in rows}), sum(row["imported"] for row in rows), len(met), sum(met), sum(durations),
        [duration / 1_000_000 for duration in durations],
    )


def told_by(tally: Tally) -> tuple[Any, ...]:
    ordered = tally.ordered()
    return (
        tally.count, tally.count - tally.repeats, tally.imported, tally.promised, tally.met, tally.total,
        [ordered[place] for place in range(len(ordered))],
    )


@settings(max_examples=200, deadline=None)
@given(facts, SIZES, st.integers(1, 9), st.data())
def test_sums_that_are_kept_are_those_that_are_counted(told: list[Told], sizes: tuple[int, int], page: int, data: st.DataObject) -> None:
    rows = rows_of(told)
    with kept_sums(rows, sizes, page) as reader:
        for _ in range(6):
            by = data.draw(st.sampled_from([None, None, "priority", "team", "agent"]))
            edges = sorted(data.draw(st.lists(st.integers(60, 150), min_size=2, max_size=2 if by else 5, unique=True)))
            only: dict[str, Any] = data.draw(st.sampled_from([{}, {}, {"team": "web"}, {"team": None}, {"agent": None}, {"team": "db", "priority": 1}]))
            asked = Asked(
                metric=data.draw(st.sampled_from([Metric.RESOLVED, Metric.RESPONDED, Metric.REOPENED])).value, edges=edges,
                occurred=data.draw(st.booleans()), at=data.draw(st.integers(1, rows[-1]["position"]) | st.just(rows[-1]["position"])), by=by, only=only,
                imported=data.draw(st.sampled_from([(0, 1), (0,), (1,)])),
            )
            whole, groups = tallied(reader, asked)
            found = {key: told_by(tally) for key, tally in groups.items()} | ({"whole": told_by(whole)} if whole.count else {})
            assert found == counted(rows, asked)


@settings(max_examples=50, deadline=None)
@given(facts, SIZES, st.integers(1, 9))
def test_how_facts_come_leaves_no_trace_in_the_sums(told: list[Told], sizes: tuple[int, int], page: int) -> None:
    rows = rows_of(told)

    def stored(page: int) -> list[list[tuple[Any, ...]]]:
        with kept_sums(rows, sizes, page) as reader:
            return [reader.rows(f"SELECT * FROM {table}") for table in ("kpi_lines", "kpi_blocks", "kpi_sums")]

    assert stored(page) == stored(len(rows))


@given(st.lists(st.lists(st.integers(0, 50), max_size=700).map(sorted), max_size=3), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_a_place_in_several_runs_is_that_of_all_of_them_in_order(runs: list[list[int]], percent: int) -> None:
    together = sorted(each / 1_000_000 for run in runs for each in run)
    assert percentile(Ordered(runs), percent / 100) == percentile(together, percent / 100)
    if together:
        assert statistics.median(together) == pytest.approx(percentile(Ordered(runs), 0.5))


def test_long_runs_are_searched_and_short_ones_merged_with_one_result() -> None:
    runs = [sorted((number * 7919 + start) % 10_007 for number in range(1_500)) for start in range(3)]
    together = sorted(each / 1_000_000 for run in runs for each in run)
    found = Ordered(runs)
    assert [found[place] for place in (0, 1, 2_249, 2_250, 4_498, 4_499)] == [together[place] for place in (0, 1, 2_249, 2_250, 4_498, 4_499)]
    with pytest.raises(IndexError):
        found[4_500]
