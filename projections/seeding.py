"""The views of a new node from a copy of another's file, which is faster than folding a long log. The copy is no backup."""

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from engine.canonical import digest_of
from engine.errors import Conflict, InvalidInput, StoreUnavailable
from engine.ledger import Ledger
from projections.files import Files
from projections.projection import Projection
from projections.rebuild import Progress

PAGES_IN_A_STEP: Final = 256       # 1 MiB
CHUNK_BYTES: Final = 2**20


def copy_views(place: Files, target: Path, tell: Progress) -> int:
    """Copy the present generation as it stands at one moment, beside whoever folds; the bytes of the copy.

    Args:
        tell: of the pages copied.

    Raises:
        Conflict: there is a file already.
        StoreUnavailable: there are no views, or they cannot be read.
        OSError: the copy cannot be written.
    """
    if target.exists():
        raise Conflict(f"there is a file already: {target}")
    live = place.reader(place.present())
    if live is None:
        raise StoreUnavailable("there are no views to copy yet")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # names and texts of people stand in it
    try:
        with contextlib.closing(live), contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            # Read once inside a transaction, and every step reads the same snapshot; else each fold would begin the copy again.
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM tracking").fetchone()
            live.backup(copy, pages=PAGES_IN_A_STEP, progress=lambda _, remaining, total: tell(total - remaining, total))
        _sync(part)
        os.link(part, target)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the views cannot be copied: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


def take_views(ledger: Ledger, place: Files, file: Path, projections: Sequence[Projection], tell: Progress) -> int:
    """Put a copy where no views are yet; the position that it holds. Whoever opens the views then goes on from there.

    Args:
        tell: of the bytes copied.

    Raises:
        Conflict: there are views already, or a process keeps some there.
        InvalidInput: the file holds no views, or those of another log or another version.
        OSError: it cannot be read or written.
    """
    turn = place.turn()
    with place.alone() as alone:
        try:
            if not alone or not turn.take() or place.present() or place.generations():
                raise Conflict(f"there are views already: {place.path}; stop what runs on them and remove {place.path.name}* to take others")
            target = place.file(1)
            try:
                _copied(file, target, tell)
                position = _checked(target, file, ledger, projections)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
            place.switch(1)
        finally:
            turn.give_up()
    return position


def _copied(file: Path, target: Path, tell: Progress) -> None:
    with file.open("rb") as source:
        size, done = os.fstat(source.fileno()).st_size, 0
        with os.fdopen(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as copy:
            while chunk := source.read(CHUNK_BYTES):
                copy.write(chunk)
                done += len(chunk)
                tell(done, size)
    _sync(target)


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _checked(copy: Path, file: Path, ledger: Ledger, projections: Sequence[Projection]) -> int:
    """The position of views that belong to this log and this version."""
    sql = "SELECT name, version, position, store, digest, stopped FROM tracking"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(copy))}?mode=ro&immutable=1", uri=True)) as connection:
            rows = {row[0]: row[1:] for row in connection.execute(sql)}
            [(sound,)] = connection.execute("PRAGMA quick_check(1)")
    except sqlite3.DatabaseError as error:
        raise InvalidInput(str(file), f"a file made by tocsin views copy ({error})") from error
    if sound != "ok":
        raise InvalidInput(str(file), f"a whole file made by tocsin views copy ({sound})")
    wanted = {projection.name: projection.version for projection in projections}
    for name in sorted(rows.keys() | wanted.keys()):
        if name not in rows or name not in wanted or rows[name][0] != wanted[name]:
            there = rows[name][0] if name in rows else "missing"
            raise InvalidInput(str(file), f"views of this version of Tocsin: {name} is {there} there and {wanted.get(name, 'missing')} here")
    for name, (_, position, store, digest, _stopped) in sorted(rows.items()):
        if store != ledger.store.meta("store_id"):
            raise InvalidInput(str(file), f"views of the store {ledger.store.meta('store_id')}; they are of {store}")
        row = ledger.store.at(position) if position else None
        if position and (row is None or digest_of(row) != digest):
            raise InvalidInput(str(file), f"views of this log; {name} is at position {position}, where this log {'holds another event' if row else 'is not yet'}")
    return min((int(position) for _, position, *_ in rows.values()), default=0)
