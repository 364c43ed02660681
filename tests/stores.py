"""Which database the tests run on: `TESTS_ON` is `sqlite` (default) or `postgres`.

A folder stands for a store on either: opening it again finds what was written before.
"""

import atexit
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from api.settings import Settings, load_settings
from engine.keyring import Keyring, SqliteKeyring
from engine.postgres_keyring import PostgresKeyring
from engine.postgres_store import PostgresStore
from engine.sqlite_store import SqliteStore
from engine.store import Store
from tests.services.postgres import Postgres, running

ON_POSTGRES: Final = os.environ.get("TESTS_ON", "sqlite") == "postgres"

_databases: dict[Path, str] = {}


@cache
def server() -> Postgres:
    """The PostgreSQL server of this test process; it does not survive a crash of the machine, and need not."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running(durable=False))


def database_of(folder: Path) -> str:
    """The address of the database that stands for a folder."""
    folder = folder.resolve()
    if folder not in _databases:
        _databases[folder] = server().database()
    return _databases[folder]


@contextlib.contextmanager
def dropping_databases() -> Iterator[None]:
    """Drop what is made meanwhile: each has 8 MB of catalogue, and thousands of tests fill a disk."""
    before = set(_databases)
    yield
    for folder in set(_databases) - before:
        server().drop(_databases.pop(folder))


if TYPE_CHECKING or not ON_POSTGRES:
    AnyStore = SqliteStore  # to derive from
else:
    AnyStore = PostgresStore


def place_of(folder: Path) -> Any:
    """What a store's class is told of where it is."""
    return database_of(folder) if ON_POSTGRES else folder / "log.db"


def store_at(folder: Path) -> Store:
    """Open the log of a store."""
    return AnyStore(place_of(folder))


def keyring_at(folder: Path) -> Keyring:
    """Open the keys of a store."""
    return PostgresKeyring(database_of(folder)) if ON_POSTGRES else SqliteKeyring(folder / "keys.db")


def bodies_in(folder: Path) -> int:
    """How many bodies a store holds."""
    if ON_POSTGRES:
        with psycopg.connect(database_of(folder)) as connection:
            row = connection.execute("SELECT count(*) FROM ledger.bodies").fetchone()
    else:
        with contextlib.closing(sqlite3.connect(folder / "log.db")) as file:
            row = file.execute("SELECT count(*) FROM bodies").fetchone()
    assert row is not None
    return int(row[0])


def settings_at(data: Path, environment: dict[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings of an installation whose data folder is `data`."""
    more = {}
    if ON_POSTGRES:
        address = database_of(data)
        more = {"TOCSIN_DATABASE": address, "TOCSIN_DATABASE_OWNER": address.replace("//app@", "//owner@")}
    return load_settings({**more, **(environment or {})}, data=data, **overrides)
