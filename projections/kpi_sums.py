"""The measures' kept sums: facts in blocks, each added up once, so that a page adds up blocks instead of facts.

Facts never change, and those of one metric come in the order of the log. As soon as a block of them is full, its sums are written: how
many, how many were promised and met, the sum of their durations, and the durations themselves in order, for percentiles stay exact.
A block knows its first and last instant and position, so for any window, zone and `as_of` it is counted whole, left out, or looked into:
a large block through its small ones, those row by row. What was imported has blocks of its own, since it counts by another instant.

`projections/kpis.py` keeps the facts, `projections/kpi_page.py` asks; which filters and groups have sums is said at `kept`.
"""

import sqlite3
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import itemgetter
from typing import Any, Final

from projections.projection import batched
from projections.views import Reader

# How many facts are in a small and in a large block, the second a multiple of the first. Sums by group are kept for large ones only: small
# ones would have nearly as many sums as facts.
SIZES: Final = (128, 2048)
# Runs that are shorter on average are merged at once; longer ones are narrowed to so many values.
SHORT_RUN: Final = 64
MOST_SORTED: Final = 256
ALL: Final = 0
# The numbers are stored.
DIMENSIONS: Final = {"kind": 1, "priority": 2, "service": 3, "team": 4, "agent": 5, "channel": 6}
_SMALL, _LARGE = 0, 1
_NOTHING: Final[Counter[Any]] = Counter()
# What an import told is the first that is heard of a ticket, so none of these are imported.
_AGAIN: Final = {"recorded": "kpi_facts_again", "occurred": "kpi_facts_again_by_occurrence"}

DDL: Final = """
CREATE TABLE kpi_lines (
    metric   INTEGER NOT NULL,
    imported INTEGER NOT NULL,
    number   INTEGER NOT NULL,             -- facts so far
    small    INTEGER NOT NULL,             -- position of the last one that is in a small block,
    large    INTEGER NOT NULL,             -- and in a large one
    PRIMARY KEY (metric, imported)
) WITHOUT ROWID;
CREATE TABLE kpi_blocks (
    metric         INTEGER NOT NULL,
    imported       INTEGER NOT NULL,
    level          INTEGER NOT NULL,       -- 0: small, 1: large
    first          INTEGER NOT NULL,       -- positions
    last           INTEGER NOT NULL,
    first_recorded INTEGER NOT NULL,       -- µs since 1970
    last_recorded  INTEGER NOT NULL,
    first_occurred INTEGER NOT NULL,
    last_occurred  INTEGER NOT NULL,
    PRIMARY KEY (metric, imported, level, first)
) WITHOUT ROWID;
CREATE TABLE kpi_sums (
    metric    INTEGER NOT NULL,
    imported  INTEGER NOT NULL,
    level     INTEGER NOT NULL,
    dimension INTEGER NOT NULL,            -- 0: all facts of the block; else those with this value of kind, priority, service …
    first     INTEGER NOT NULL,            -- which block
    value     NOT NULL,                    -- empty: none
    number    INTEGER NOT NULL,
    promised  INTEGER NOT NULL,
    met       INTEGER NOT NULL,
    total     INTEGER NOT NULL,            -- of the durations, µs
    durations BLOB,                        -- ascending, µs, eight bytes each; NULL: this metric has none
    PRIMARY KEY (metric, imported, level, dimension, first, value)
) WITHOUT ROWID;
"""

_SMALL_COLUMNS: Final = ("position", "recorded_at", "occurred_at", "duration", "target")
_COLUMNS: Final = (_SMALL_COLUMNS, (*_SMALL_COLUMNS, *DIMENSIONS))
_INSERT_BLOCK: Final = (
    "INSERT INTO kpi_blocks (metric, imported, level, first, last, first_recorded, last_recorded, first_occurred, last_occurred) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_SUMS: Final = (
    "INSERT INTO kpi_sums (metric, imported, level, first, dimension, value, number, promised, met, total, durations) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


# -- keeping ---------------------------------------------------------------------------------------------------------


class Keeper:
    """Adds up the blocks that become full.

    Args:
        columns: of the facts that it is given, in their order; they are columns of `kpi_facts`.
        sizes: how many facts are in a small and in a large block.
    """

    def __init__(self, columns: Sequence[str], sizes: tuple[int, int] = SIZES) -> None:
        self._sizes = sizes
        self._line = itemgetter(columns.index("metric"), columns.index("imported"))
        self._of = tuple(itemgetter(*map(columns.index, wanted)) for wanted in _COLUMNS)

    def keep(self, connection: sqlite3.Connection, facts: Iterable[tuple[Any, ...]]) -> None:
        """Take in facts that were just written."""
        lines: defaultdict[tuple[int, int], list[tuple[Any, ...]]] = defaultdict(list)
        for fact in facts:
            lines[self._line(fact)].append(fact)
        for (metric, imported), added in lines.items():
            line = (metric, int(imported))
            row = connection.execute("SELECT number, small, large FROM kpi_lines WHERE metric = ? AND imported = ?", line).fetchone()
            before, *ends = row or (0, 0, 0)
            number = before + len(added)
            for level, size in enumerate(self._sizes):
                if number // size > before // size:
                    ends[level] = self._add_up(connection, line, level, ends[level], added)
            connection.execute(
                "INSERT INTO kpi_lines (metric, imported, number, small, large) VALUES (?, ?, ?, ?, ?) ON CONFLICT (metric, imported) "
                "DO UPDATE SET number = excluded.number, small = excluded.small, large = excluded.large",
                (*line, number, *ends),
            )

    def _add_up(
        self, connection: sqlite3.Connection, line: tuple[int, int], level: int, after: int, added: Sequence[tuple[Any, ...]]
    ) -> int:
        """The blocks of a line that are full now; the position at which the last one ends."""
        size, of = self._sizes[level], self._of[level]
        new = list(map(of, added))
        rows = connection.execute(
            f"SELECT {', '.join(_COLUMNS[level])} FROM kpi_facts WHERE metric = ? AND imported = ? AND position > ? AND position < ? "
            "ORDER BY position",
            (*line, after, new[0][0]),
        ).fetchall()
        rows += new
        for start in range(0, len(rows) - size + 1, size):
            after = _add_up_block(connection, line, level, rows[start : start + size])
        return after


def _add_up_block(connection: sqlite3.Connection, line: tuple[int, int], level: int, rows: list[tuple[Any, ...]]) -> int:
    first, last, timed = rows[0], rows[-1], rows[0][3] is not None  # of a metric all facts have a duration or none has
    if timed:
        rows.sort(key=itemgetter(3))
    _, _, occurred, durations, targets, *values = zip(*rows, strict=True)
    connection.execute(_INSERT_BLOCK, (*line, level, first[0], last[0], first[1], last[1], min(occurred), max(occurred)))
    promised = met = None
    if timed and targets.count(None) < len(rows):
        promised = [target is not None for target in targets]
        met = [target is not None and duration <= target for duration, target in zip(durations, targets, strict=True)]
    sums = list(_sums(ALL, ("",) * len(rows), durations if timed else None, promised, met))
    for dimension, column in enumerate(values, 1):
        sums += _sums(dimension, column, durations if timed else None, promised, met)
    connection.executemany(_INSERT_SUMS, [(*line, level, first[0], *each) for each in sums])
    return int(last[0])


def _sums(
    dimension: int, column: Sequence[Any], durations: Sequence[int] | None, promised: Sequence[bool] | None, met: Sequence[bool] | None
) -> Iterator[tuple[Any, ...]]:
    """A row for each value of a column."""
    if durations is None:
        for value, number in Counter(column).items():
            yield dimension, "" if value is None else value, number, 0, 0, 0, None
        return
    groups: defaultdict[Any, list[int]] = defaultdict(list)
    if dimension == ALL:
        groups[""] = list(durations)
    else:
        for value, duration in zip(column, durations, strict=True):
            groups[value].append(duration)
    promises, kept = (Counter(compress(column, flags)) if flags else _NOTHING for flags in (promised, met))
    for value, group in groups.items():
        yield (
            dimension, "" if value is None else value, len(group), promises[value], kept[value], sum(group), array("q", group).tobytes(),
        )


# -- reading ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """Facts of one metric and one group, added up.

    Attributes:
        repeats: how many of them are of a ticket that has an earlier one among them.
        total: of the durations, µs.
        runs: the durations, each run ascending, µs.
    """

    count: int = 0
    imported: int = 0
    repeats: int = 0
    promised: int = 0
    met: int = 0
    total: int = 0
    runs: list[Sequence[int]] = field(default_factory=list)
    loose: list[int] = field(default_factory=list)

    def add_fact(self, duration: int | None, target: int | None, imported: int) -> None:
        self.count += 1
        self.imported += imported
        if duration is not None:
            self.total += duration
            self.loose.append(duration)
            if target is not None:
                self.promised += 1
                self.met += duration <= target

    def add_sum(self, number: int, promised: int, met: int, total: int, durations: Sequence[int] | None, imported: int) -> None:
        self.count += number
        self.imported += number * imported
        self.promised += promised
        self.met += met
        self.total += total
        if durations is not None:
            self.runs.append(durations)

    def add(self, other: "Tally") -> None:
        """Also what another holds, its repeats left aside: they are of its own group."""
        self.count += other.count
        self.imported += other.imported
        self.promised += other.promised
        self.met += other.met
        self.total += other.total
        self.runs += other.runs
        self.loose += other.loose

    def ordered(self) -> "Ordered":
        return Ordered([*self.runs, sorted(self.loose)])


class Ordered(Sequence[float]):
    """Seconds in order, of several runs of µs that are each in order: one is looked up without merging them all."""

    def __init__(self, runs: Iterable[Sequence[int]]) -> None:
        self._runs = [run for run in runs if run]
        self._length = sum(map(len, self._runs))
        if self._length < SHORT_RUN * len(self._runs):
            merged: list[int] = []
            for run in self._runs:
                merged += run
            merged.sort()
            self._runs = [merged]
        self._known: dict[int, float] = {}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: Any) -> Any:
        if place not in self._known:
            if not 0 <= place < self._length:
                raise IndexError(place)
            value, following = self._at(place)
            self._known[place], self._known[place + 1] = value / 1_000_000, following / 1_000_000  # a percentile lies between two
        return self._known[place]

    def _at(self, place: int) -> tuple[int, int]:
        """What is at a place, and the next one (the same again where it is the last): the runs are narrowed to a part that is sorted."""
        runs = self._runs
        lows, highs = [0] * len(runs), [len(run) for run in runs]
        left = self._length
        while left > MOST_SORTED:
            longest = max(range(len(runs)), key=lambda number: highs[number] - lows[number])
            pivot = runs[longest][(lows[longest] + highs[longest]) // 2]
            below = [bisect_left(run, pivot, low, high) for run, low, high in zip(runs, lows, highs, strict=True)]
            less = sum(below) - sum(lows)
            if place < less:
                highs, left = below, less
                continue
            until = [bisect_right(run, pivot, low, high) for run, low, high in zip(runs, below, highs, strict=True)]
            upto = sum(until) - sum(lows)
            if place < upto:
                return pivot, pivot if place + 1 < upto else self._least(until, pivot)
            place, lows, left = place - upto, until, left - upto
        part = sorted(value for run, low, high in zip(runs, lows, highs, strict=True) for value in run[low:high])
        return part[place], part[place + 1] if place + 1 < len(part) else self._least(highs, part[place])

    def _least(self, places: Sequence[int], last: int) -> int:
        return min((run[place] for run, place in zip(self._runs, places, strict=True) if place < len(run)), default=last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which facts of which metric, and how they are parted.

    Attributes:
        edges: instants at which the spans of the window begin, and its end; each span is a group of its own unless `by` parts them.
        occurred: whether they count when they are claimed to have happened; what was imported does so in any case.
        at: the last position that is known.
        by: a dimension.
        only: dimensions that are asked for, with the value of each.
        imported: of which lines: 0 for what happened here, 1 for what an import told.
    """

    metric: int
    edges: Sequence[int]
    occurred: bool
    at: int
    by: str | None
    only: Mapping[str, Any]
    imported: Sequence[int]

    @property
    def kept(self) -> bool:
        """Whether there are sums for it: by one dimension, of all or of one value of it; else facts are counted."""
        return not self.only or (len(self.only) == 1 and self.by in (None, *self.only))

    def where(self) -> str:
        return "".join(f" AND {name} IS :{name}" for name in self.only)

    def clock(self, imported: int) -> str:
        return "occurred" if self.occurred or imported else "recorded"


def tallied(reader: Reader, asked: Asked) -> tuple[Tally, dict[Any, Tally]]:
    """All together, and by group: a value of `by`, else the number of a span. A value of none is None."""
    groups: defaultdict[Any, Tally] = defaultdict(Tally)
    for imported in asked.imported:
        for first, last in _whole_blocks(reader, asked, imported, groups) if asked.kept else [(0, asked.at)]:
            _count_facts(reader, asked, imported, first, last, groups)
    whole = Tally()
    for tally in groups.values():
        whole.add(tally)
    if 0 in asked.imported:
        _count_repeats(reader, asked, whole, groups)
    return whole, groups


def _whole_blocks(reader: Reader, asked: Asked, imported: int, groups: "defaultdict[Any, Tally]") -> list[tuple[int, int]]:
    """Add the sums of blocks that are counted whole; the ranges of positions that are to be looked into."""
    dimension = DIMENSIONS[asked.by or next(iter(asked.only))] if asked.by or asked.only else ALL
    line = reader.row("SELECT small, large FROM kpi_lines WHERE metric = :m AND imported = :i", {"m": asked.metric, "i": imported})
    if line is None:
        return []
    small, large = line
    left = _take(reader, asked, imported, _LARGE, dimension, (0, large), groups)
    if dimension == ALL:
        finer = [part for span in [*left, (large + 1, small)] for part in _take(reader, asked, imported, _SMALL, ALL, span, groups)]
        return [*finer, (small + 1, asked.at)]
    return [*left, (large + 1, asked.at)]


def _take(
    reader: Reader, asked: Asked, imported: int, level: int, dimension: int, span: tuple[int, int], groups: "defaultdict[Any, Tally]"
) -> list[tuple[int, int]]:
    """Blocks of one level in a range of positions: sums of those that lie within a span of the window, ranges of those that are cut."""
    clock, edges = asked.clock(imported), asked.edges
    values = {
        "metric": asked.metric, "imported": imported, "level": level, "from": span[0], "to": min(span[1], asked.at),
        "start": edges[0], "end": edges[-1], "dimension": dimension,
    }
    blocks = reader.rows(
        f"SELECT first, last, first_{clock}, last_{clock} FROM kpi_blocks WHERE metric = :metric AND imported = :imported AND level = :level "
        f"AND first >= :from AND first <= :to AND last_{clock} >= :start AND first_{clock} < :end ORDER BY first",
        values,
    )
    whole: dict[int, int] = {}
    cut: list[tuple[int, int]] = []
    runs: list[list[int]] = []
    follows = False
    for first, last, begins, ends in blocks:
        number = bisect_right(edges, begins) - 1
        if number >= 0 and ends < edges[number + 1] and last <= asked.at:
            if follows:
                runs[-1][1] = first
            else:
                runs.append([first, first])
            whole[first], follows = number, True
        else:
            cut.append((first, last))
            follows = False
    only = next(iter(asked.only.values())) if asked.only else None
    value = " AND value = :value" if asked.only else ""
    for low, high in runs:
        for first, key, number, promised, met, total, durations in reader.iterate(
            "SELECT first, value, number, promised, met, total, durations FROM kpi_sums WHERE metric = :metric AND imported = :imported "
            f"AND level = :level AND dimension = :dimension AND first >= :from AND first <= :to{value}",
            {**values, "from": low, "to": high, "value": "" if only is None else only},
        ):
            if first in whole:  # one that lies between them may be outside of the window
                group = whole[first] if asked.by is None else (None if key == "" else key)
                groups[group].add_sum(number, promised, met, total, _unpacked(durations), imported)
    return cut


def _unpacked(durations: bytes | None) -> Sequence[int] | None:
    if durations is None:
        return None
    run = array("q")
    run.frombytes(durations)
    return run


def _count_facts(
    reader: Reader, asked: Asked, imported: int, first: int, last: int, groups: "defaultdict[Any, Tally]"
) -> None:
    """Facts of a range of positions, one by one."""
    instant = f"{asked.clock(imported)}_at"
    by, edges = asked.by or "NULL", asked.edges
    bounds = {"metric": asked.metric, "imported": imported, "first": first, "last": min(last, asked.at), "start": edges[0], "end": edges[-1]}
    for key, at, duration, target in reader.iterate(
        f"SELECT {by}, {instant}, duration, target FROM kpi_facts WHERE metric = :metric AND imported = :imported "
        f"AND position >= :first AND position <= :last AND {instant} >= :start AND {instant} < :end{asked.where()}",
        {**bounds, **asked.only},
    ):
        groups[key if asked.by else bisect_right(edges, at) - 1].add_fact(duration, target, imported)


def _count_repeats(reader: Reader, asked: Asked, whole: Tally, groups: Mapping[Any, Tally]) -> None:
    """How many facts are of a ticket that has an earlier one among them: only those are read that have any earlier one."""
    instant, edges, by = f"{asked.clock(0)}_at", asked.edges, asked.by or "NULL"
    bounds = {"metric": asked.metric, "start": edges[0], "end": edges[-1], "at": asked.at}
    again = reader.rows(
        f"SELECT earlier, {instant}, {by} FROM kpi_facts INDEXED BY {_AGAIN[asked.clock(0)]} "
        "WHERE metric = :metric AND earlier IS NOT NULL "
        f"AND {instant} >= :start AND {instant} < :end AND position <= :at{asked.where()}",
        {**bounds, **asked.only},
    )
    if not again:
        return
    before = _earlier(reader, asked, {row[0] for row in again})

    def group(at: int, key: Any) -> Any:
        return key if asked.by else bisect_right(edges, at) - 1

    for place, at, key in again:
        among = {group(*known) for known in _chain(before, place) if known is not None}
        if among:
            whole.repeats += 1
            groups[group(at, key)].repeats += group(at, key) in among


_Before = dict[int, tuple[int | None, tuple[int, Any] | None]]


def _chain(before: _Before, place: int | None) -> Iterator[tuple[int, Any] | None]:
    while place is not None:
        place, known = before[place]
        yield known


def _earlier(reader: Reader, asked: Asked, places: set[int]) -> _Before:
    """The facts at these positions and all that were before them: (the one before, (instant, group) where it is among those asked for)."""
    columns = f"position, earlier, occurred_at, {asked.clock(0)}_at, imported, {asked.by or 'NULL'}, (1{asked.where()})"
    found: _Before = {}
    while places:
        following: set[int] = set()
        rows = (
            row
            for part in batched(sorted(places))
            for row in reader.rows(
                f"SELECT {columns} FROM kpi_facts WHERE metric = :metric AND imported IN (0, 1) AND position IN ({', '.join(map(str, part))})",
                {"metric": asked.metric, **asked.only},
            )
        )
        for position, earlier, occurred_at, at, imported, key, fitting in rows:
            instant = occurred_at if imported else at
            among = fitting and imported in asked.imported and asked.edges[0] <= instant < asked.edges[-1]
            found[position] = (earlier, (instant, key) if among else None)
            if earlier is not None and earlier not in found:
                following.add(earlier)
        places = following
    return found
