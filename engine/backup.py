"""Backups: the log and the keys of a store, copied from under a running server, and the manifest that says what they are.

The log and the keys are each copied out of one read transaction, so they are the store at one position however much is written
meanwhile: from SQLite page by page of the file, from PostgreSQL row by row into files of the same kind. Keys are on disk before the
log commit that uses them; so the log is copied first and the keys after it, and every key that the copied log needs is among them.
The master key is no part of it. `api/restore.py` is the way back, onto either database.

The manifest is written last and moved into place in one step, and the names of the copies tell what is in them: an
interrupted backup leaves the one before it whole, and is never taken for one.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from engine import postgres_tables, sqlite_tables
from engine.canonical import digest_of
from engine.clock import Clock, from_micros
from engine.errors import TocsinError
from engine.sqlite_store import BUSY_SECONDS, COLUMNS
from engine.store import Row
from engine.tables import FILLING, KEY_TABLES, LOG_TABLES, Source, Table, Tell
from engine.transfer import fill

T = TypeVar("T")

FORMAT: Final = 1
MANIFEST: Final = "tocsin-backup.json"
UNFINISHED: Final = ".part"
PAGES_IN_A_STEP: Final = 256       # 1 MiB
CHUNK_BYTES: Final = 2**20
# After each step the copy rests this many times as long as the step took, its sync to disk included. So it takes at most a
# quarter of the disk and of one core, and less when the server keeps them busy.
REST: Final = 3.0

_OURS: Final = re.compile(rf"(?:log|keys)-\d+-[0-9a-f]{{8}}\.db|(?:log|keys)\.db{re.escape(UNFINISHED)}|{re.escape(MANIFEST)}(?:{re.escape(UNFINISHED)})?")


class BadBackup(TocsinError):
    """A backup cannot be made there, or what lies there is none, not whole, or damaged; the message names the file."""


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a backup."""

    name: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. Digests are SHA-256 in hexadecimal.

    Attributes:
        format: of this file.
        schema_version: of the store.
        position, recorded_at: of the last event (0 and 1970 where there is none).
        head: digest of that event's canonical bytes (docs/decisions/0001); empty where there is none.
    """

    format: int
    tocsin: str
    store_id: str
    schema_version: str
    created_at: datetime
    position: int
    recorded_at: datetime
    head: str
    log: Artefact
    keys: Artefact


def nothing_to_tell(_what: str, _done: int, _all: int) -> None:
    """The progress that nobody watches."""


def digest_of_manifest(manifest: Manifest) -> str:
    """The digest of a whole backup: SHA-256 of its manifest, which holds those of the copies."""
    return hashlib.sha256(_written(manifest)).hexdigest()


def _written(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


# -- making one ------------------------------------------------------------------------------------------------------


class _Head(msgspec.Struct):
    """What the log's copy is."""

    store_id: str
    schema_version: str
    clock: str
    row: Row | None


class Origin(Protocol):
    """A store that is backed up. What is written to the files need not be synced."""

    def log(self, target: Path, tell: Tell, rest: float) -> _Head:
        """Copy the log as it stands at one moment, and say what it is at that moment."""
        ...

    def keys(self, target: Path, tell: Tell, rest: float) -> None: ...


class OnFiles:
    """A store on SQLite."""

    def __init__(self, log_file: Path, key_file: Path) -> None:
        self._log_file, self._key_file = log_file, key_file

    def log(self, target: Path, tell: Tell, rest: float) -> _Head:
        return _copy(self._log_file, target, "log", tell, rest, _look)

    def keys(self, target: Path, tell: Tell, rest: float) -> None:
        _copy(self._key_file, target, "keys", tell, rest, lambda _: None)


class OnServer:
    """A store on PostgreSQL."""

    def __init__(self, address: str) -> None:
        self._address = address

    def log(self, target: Path, tell: Tell, rest: float) -> _Head:
        with postgres_tables.snapshot(self._address) as source:
            head = _head_of(source)
            _take_tables(source, target, LOG_TABLES, tell, rest)
        return head

    def keys(self, target: Path, tell: Tell, rest: float) -> None:
        with postgres_tables.snapshot(self._address) as source:
            _take_tables(source, target, KEY_TABLES, tell, rest)


def _head_of(source: Source) -> _Head:
    if source.meta(FILLING) is not None:
        raise BadBackup(f"{source.where} is no whole store: a copy or a restore into it was begun and not finished")
    store_id = source.meta("store_id")
    if store_id is None:
        raise BadBackup("this store was never finished: there is nothing to back up")
    return _Head(store_id, source.meta("schema_version") or "", source.meta("clock") or "", source.last())


def _take_tables(source: Source, target: Path, tables: Sequence[Table], tell: Tell, rest: float) -> None:
    pace = _Pace(rest)

    def step(what: str, done: int, total: int) -> None:
        tell(what, done, total)
        pace.rest()

    target.unlink(missing_ok=True)
    with sqlite_tables.draft(target, tables) as copy:
        fill(source, copy, tables, step)


def back_up(
    origin: Origin,
    folder: Path,
    *,
    clock: Callable[[bool, datetime], Clock],
    version: str,
    keys_folder: Path | None = None,
    tell: Tell = nothing_to_tell,
    rest: float = REST,
) -> Manifest:
    """Copy a store into `folder` (the keys into `keys_folder` where that is given), beside whoever works on it.

    Args:
        clock: of a store: (is it simulated?, its last event's time).
        version: of this Tocsin.
        rest: 0 where nobody works on the store.

    Raises:
        BadBackup: the folder holds something else, or another backup is being made there; the store cannot be read.
        OSError: the folder cannot be written.
    """
    keys_folder = keys_folder or folder
    with contextlib.ExitStack() as stack:
        for place in dict.fromkeys((folder, keys_folder)):
            _prepare(place)
            stack.enter_context(_alone(place))
        before = _known(folder)
        log_part, keys_part = folder / f"log.db{UNFINISHED}", keys_folder / f"keys.db{UNFINISHED}"
        stack.callback(_discard, log_part, keys_part, folder / f"{MANIFEST}{UNFINISHED}")
        head = origin.log(log_part, tell, rest)
        if before is not None and before.store_id != head.store_id:
            raise BadBackup(f"{folder} holds backups of another store; choose a folder of its own")
        origin.keys(keys_part, tell, rest)
        for part in (log_part, keys_part):
            sync_file(part)
        row = head.row
        last = from_micros(row.recorded_at if row else 0)
        position = row.position if row else 0
        manifest = Manifest(
            format=FORMAT, tocsin=version, store_id=head.store_id, schema_version=head.schema_version,
            created_at=clock(head.clock == "simulated", last).now(), position=position, recorded_at=last,
            head=digest_of(row).hex() if row else "", log=_artefact(log_part, "log", position, tell, rest),
            keys=_artefact(keys_part, "keys", position, tell, rest),
        )
        log_part.replace(folder / manifest.log.name)
        keys_part.replace(keys_folder / manifest.keys.name)
        for place in (keys_folder, folder):
            sync_folder(place)
        _write(folder, manifest)
        _clear_old(folder, manifest)
        if before is not None and before.keys.name != manifest.keys.name:
            (keys_folder / before.keys.name).unlink(missing_ok=True)  # no more: others may keep their keys there too
    return manifest


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for found in sorted(folder.iterdir()):
        if not _OURS.fullmatch(found.name):
            raise BadBackup(f"{folder} holds {found.name}, which is no part of a backup; choose an empty folder")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadBackup(f"another backup into {folder} is being made") from None
        yield
    finally:
        os.close(descriptor)


def _known(folder: Path) -> Manifest | None:
    """The backup that lies there; one that cannot be read must not keep a new one from being made."""
    try:
        return read_manifest(folder)
    except BadBackup:
        return None


def _discard(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _look(log: sqlite3.Connection) -> _Head:
    meta = dict(log.execute("SELECT key, value FROM meta"))
    row = log.execute(f"SELECT {COLUMNS} FROM events ORDER BY position DESC LIMIT 1").fetchone()
    if FILLING in meta:
        raise BadBackup("this is no whole store: a copy into it was begun and not finished")
    if "store_id" not in meta:
        raise BadBackup("this store was never finished: there is nothing to back up")
    return _Head(meta["store_id"], meta.get("schema_version", ""), meta.get("clock", ""), Row(*row) if row else None)


def _copy(source: Path, target: Path, what: str, tell: Tell, rest: float, look: Callable[[sqlite3.Connection], T]) -> T:
    """Copy a database as it stands at one moment, and say what `look` sees of it at that moment."""
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    try:
        with (
            contextlib.closing(_open(source)) as live,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
            target.open("rb") as written,
        ):
            # The copy is synced here, step by step, and is no backup before its manifest is there: it needs no journal.
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            page_size = int(live.execute("PRAGMA page_size").fetchone()[0])
            # Read once inside a transaction, and every step reads the same snapshot; else each write by the server would
            # make the copy start again.
            live.execute("BEGIN")
            seen = look(live)
            pace = _Pace(rest)

            def step(_status: int, remaining: int, total: int) -> None:
                os.fdatasync(written.fileno())
                tell(what, (total - remaining) * page_size, total * page_size)
                pace.rest()

            live.backup(copy, pages=PAGES_IN_A_STEP, progress=step)
    except sqlite3.Error as error:
        raise BadBackup(f"{source} cannot be copied to {target}: {error}") from error
    return seen


def _open(source: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(source))}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    connection.execute("PRAGMA query_only = ON")
    return connection


class _Pace:
    """Lets others to the disk and the processor: after a piece of work, a rest of so many times its length."""

    def __init__(self, rest: float) -> None:
        self._rest, self._since = rest, time.monotonic()

    def rest(self) -> None:
        time.sleep(self._rest * (time.monotonic() - self._since))
        self._since = time.monotonic()


def _artefact(part: Path, what: str, position: int, tell: Tell, rest: float) -> Artefact:
    size, pace = part.stat().st_size, _Pace(rest)
    done, digest = 0, hashlib.sha256()
    for chunk in _chunks(part):
        digest.update(chunk)
        done += len(chunk)
        tell(f"digest of {what}", done, size)
        pace.rest()
    hexadecimal = digest.hexdigest()
    return Artefact(name=f"{what}-{position}-{hexadecimal[:8]}.db", bytes=size, sha256=hexadecimal)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            yield chunk


def _write(folder: Path, manifest: Manifest) -> None:
    part = folder / f"{MANIFEST}{UNFINISHED}"
    part.write_bytes(_written(manifest))
    sync_file(part)
    part.replace(folder / MANIFEST)
    sync_folder(folder)


def _clear_old(folder: Path, manifest: Manifest) -> None:
    """Remove the copies that no manifest names any more."""
    for found in folder.iterdir():
        if found.name not in (MANIFEST, manifest.log.name, manifest.keys.name) and _OURS.fullmatch(found.name):
            found.unlink()


def sync_file(file: Path) -> None:
    """Returns when its content is on disk."""
    with file.open("rb") as content:
        os.fsync(content.fileno())


def sync_folder(folder: Path) -> None:
    """Returns when the names in it are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- reading one -----------------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest:
    """What the backup in `folder` holds.

    Raises:
        BadBackup: there is none, or none that this version can read.
    """
    file = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except FileNotFoundError:
        begun = any(folder.glob(f"*{UNFINISHED}"))
        why = "a backup was begun there and never finished" if begun else f"{MANIFEST} is missing"
        raise BadBackup(f"{folder} holds no whole backup: {why}") from None
    except NotADirectoryError:
        raise BadBackup(f"{folder} is no folder") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBackup(f"{file} is damaged: {error}") from error
    if manifest.format != FORMAT:
        raise BadBackup(f"{file} was written by Tocsin {manifest.tocsin} in format {manifest.format}; this one reads format {FORMAT}")
    for artefact in (manifest.log, manifest.keys):
        if not _OURS.fullmatch(artefact.name):
            raise BadBackup(f"{file} is damaged: {artefact.name!r} is no name of a copy")
    return manifest


def take(folder: Path, artefact: Artefact, target: Path, what: str, tell: Tell = nothing_to_tell) -> None:
    """Copy one file of a backup to `target`, synced, and see that it is what the manifest says.

    Raises:
        BadBackup: it is missing or damaged; `target` is then gone.
    """
    source = folder / artefact.name
    digest, done = hashlib.sha256(), 0
    try:
        with target.open("wb") as copy:
            os.fchmod(copy.fileno(), 0o600)
            for chunk in _chunks(source):
                copy.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                tell(what, done, artefact.bytes)
            copy.flush()
            os.fsync(copy.fileno())
    except FileNotFoundError as error:
        target.unlink(missing_ok=True)
        raise BadBackup(f"{source} is missing" if error.filename == str(source) else str(error)) from None
    if digest.hexdigest() != artefact.sha256:
        target.unlink()
        raise BadBackup(f"{source} is damaged: its digest is not the one in {MANIFEST}")


def check(manifest: Manifest, log_file: Path, key_file: Path) -> None:
    """See that these copies are sound databases, and that the log is the one that the manifest tells of.

    Raises:
        BadBackup: they are not.
    """
    for file in (log_file, key_file):
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro&immutable=1", uri=True)) as connection:
            try:
                found = connection.execute("PRAGMA quick_check(1)").fetchone()
                if found != ("ok",):
                    raise BadBackup(f"{file.name} is damaged: {found[0]}")
                if file == log_file and not _is_of(manifest, _look(connection)):
                    raise BadBackup(f"{file.name} is not the log that {MANIFEST} tells of")
            except sqlite3.Error as error:
                raise BadBackup(f"{file.name} is damaged: {error}") from error


def _is_of(manifest: Manifest, head: _Head) -> bool:
    row = head.row
    found = (head.store_id, row.position if row else 0, digest_of(row).hex() if row else "")
    return found == (manifest.store_id, manifest.position, manifest.head)
