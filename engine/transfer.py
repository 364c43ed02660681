"""Taking a store from one database into another: filled page by page, resumed where it was cut off, compared by digests.

What is being filled carries a mark in its `meta`, with which nothing opens it. The log and what only grows go on where they were;
what changes is small and is taken anew each time. `engine/tables.py` says what there is, `engine/sqlite_tables.py` and
`engine/postgres_tables.py` read and write it. That the source stands still meanwhile is its caller's business.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from engine.canonical import digest_of
from engine.errors import TocsinError
from engine.store import SCHEMA_VERSION
from engine.tables import FILLING, KEY_TABLES, PAGE, TABLES, Kind, Source, Sum, Table, Target, Tell, sum_of

# Bodies are large: a page of them ends earlier.
PAGE_OF: Final = {"bodies": 200}


class CannotTransfer(TocsinError):
    """A store cannot be taken from there, or not to there; the message says what stands in the way."""


def transfer(source: Source, target: Target, tell: Tell) -> list[Sum]:
    """Make `target` what `source` is, going on where it was cut off; what each table holds, equal on both.

    The mark stays: `target.finish()` takes it away.

    Raises:
        CannotTransfer: the target holds something else, or is not equal in the end.
    """
    claim(source, target)
    fill(source, target, TABLES, tell)
    return compare(source, target, tell)


def claim(source: Source, target: Target) -> None:
    """See that the target is empty, or holds a beginning of this store, and mark it."""
    store_id, schema = source.meta("store_id"), source.meta("schema_version")
    if store_id is None:
        raise CannotTransfer(f"{source.where} holds no store")
    if source.meta(FILLING) is not None:
        raise CannotTransfer(f"{source.where} is no whole store: it is being filled itself")
    if schema != SCHEMA_VERSION:
        raise CannotTransfer(f"the store in {source.where} is at schema {schema}, this Tocsin's is {SCHEMA_VERSION}: run tocsin migrate on it")
    mark = target.meta(FILLING)
    if mark is None:
        if target.meta("store_id") is not None or target.last() is not None or any(target.count(table) for table in KEY_TABLES):
            what = "this store" if target.meta("store_id") == store_id else "another store"
            raise CannotTransfer(f"{target.where} holds {what} already; give it an empty one (on PostgreSQL: tocsin migrate --tables)")
        target.begin(store_id)
        return
    if mark != store_id:
        raise CannotTransfer(f"{target.where} holds what was begun of another store; give it an empty one")
    reached = target.last()
    if reached is not None:
        mine = source.at(reached.position)
        if mine is None or digest_of(mine) != digest_of(reached):
            raise CannotTransfer(f"{target.where} holds events that {source.where} does not: event {reached.position}; give it an empty one")


def fill(source: Source, target: Target, tables: Sequence[Table], tell: Tell) -> None:
    """Bring these tables of the target to what they are in the source."""
    for table in tables:
        total = source.count(table)
        tell(table.name, 0, total)
        if table.kind is Kind.LOG:
            _append(source, target, table, total, tell)
        elif table.kind is Kind.GROWING:
            _grow(source, target, table, total, tell)
        else:
            target.replace(table, source.rows(table))
        tell(table.name, total, total)


def _append(source: Source, target: Target, table: Table, total: int, tell: Tell) -> None:
    last, done = target.last(), target.count(table)
    for page in _pages(source.rows(table, after=last.position if last else 0), PAGE):
        target.put(table, page)
        done += len(page)
        tell(table.name, done, total)


def _grow(source: Source, target: Target, table: Table, total: int, tell: Tell) -> None:
    begun, done = target.count(table) > 0, 0
    for page in _pages(source.rows(table), PAGE_OF.get(table.name, PAGE)):
        wanted = target.absent(table, [row[0] for row in page]) if begun else None
        missing = page if wanted is None else [row for row in page if row[0] in wanted]
        if missing:
            target.put(table, missing)
        done += len(page)
        tell(table.name, done, total)
    if target.count(table) > total:  # keys that were destroyed since the copy began must not survive in it
        there = {row[0] for row in source.rows(table)}
        target.remove(table, [row[0] for row in target.rows(table) if row[0] not in there])


def _pages(rows: Iterable[Sequence[Any]], size: int) -> Iterator[list[Sequence[Any]]]:
    iterator = iter(rows)
    while page := list(islice(iterator, size)):
        yield page


def compare(source: Source, target: Source, tell: Tell) -> list[Sum]:
    """What each table holds, on both sides.

    Raises:
        CannotTransfer: the two differ; names the table.
    """
    sums = []
    for table in TABLES:
        ours, theirs = sum_of(source, table, tell), sum_of(target, table, tell)
        if ours != theirs:
            raise CannotTransfer(
                f"{table.name} differs: {ours.rows} rows with digest {ours.digest[:16]} in {source.where}, "
                f"{theirs.rows} with {theirs.digest[:16]} in {target.where}"
            )
        sums.append(ours)
    return sums


