"""Which database the settings name, and how what lies in it is opened: the log and, apart from it, the keys."""

import contextlib
import sqlite3
from urllib.parse import quote

import psycopg

from api.settings import BadSettings, Settings
from engine import postgres_tables, sqlite_tables
from engine.backup import OnFiles, OnServer, Origin
from engine.keyring import Keyring, SqliteKeyring
from engine.postgres_keyring import PostgresKeyring
from engine.postgres_schema import NotMigrated, version_of
from engine.postgres_store import PostgresStore
from engine.sqlite_store import SqliteStore
from engine.store import Store
from engine.tables import FILLING, Source, Target


def is_there(settings: Settings) -> bool:
    """Whether there is a store already; on a server, one that `tocsin migrate` has been to.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    if settings.server is None:
        return settings.log_file.exists()
    try:
        store = open_store(settings)
    except NotMigrated:
        return False
    try:
        return store.meta("store_id") is not None
    finally:
        store.close()


def must_be_whole(settings: Settings) -> None:
    """See that no copy and no restore into this database was begun and not finished.

    Raises:
        BadSettings: one was.
    """
    if is_being_filled(settings):
        where = settings.log_file if settings.server is None else postgres_tables.where(settings.server.get_secret_value())
        raise BadSettings(f"a copy or a restore into {where} was begun and not finished: run it again, and it goes on where it was")


def is_being_filled(settings: Settings) -> bool:
    """Whether a copy or a restore into it has begun and is not finished; what cannot be asked now is told by whoever opens it next."""
    sql = f"SELECT 1 FROM {{}} WHERE key = '{FILLING}'"
    if settings.server is not None:
        with contextlib.suppress(psycopg.Error), psycopg.connect(settings.server.get_secret_value(), connect_timeout=5) as connection:
            return bool(version_of(connection)) and connection.execute(sql.format("ledger.meta")).fetchone() is not None
    elif settings.log_file.exists():
        address = f"file:{quote(str(settings.log_file))}?mode=ro"
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
            return connection.execute(sql.format("meta")).fetchone() is not None
    return False


def origin(settings: Settings) -> Origin:
    """The store as a backup reads it."""
    if settings.server is None:
        return OnFiles(settings.log_file, settings.data / "keys.db")
    return OnServer(settings.server.get_secret_value())


def held(settings: Settings) -> contextlib.AbstractContextManager[Source]:
    """The tables of a store that nobody else has open or writes to meanwhile.

    Raises:
        BadSettings: a pooler stands before it.
        CannotTransfer: somebody has it open.
        NotMigrated, StoreUnavailable: it cannot be read.
    """
    if settings.server is None:
        return sqlite_tables.held(settings.log_file, settings.data / "keys.db")
    return postgres_tables.held(_itself(settings))


def filled(settings: Settings) -> contextlib.AbstractContextManager[Target]:
    """The tables of a database that is being filled, by us alone.

    Raises:
        BadSettings: a pooler stands before it.
        CannotTransfer: somebody else has it open or fills it.
        NotMigrated, StoreUnavailable: it cannot be written.
    """
    if settings.server is None:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        return sqlite_tables.filled(settings.log_file, settings.data / "keys.db")
    return postgres_tables.filled(_itself(settings))


def _itself(settings: Settings) -> str:
    """The address of the server."""
    assert settings.server is not None
    if settings.database_pooler:
        raise BadSettings("TOCSIN_DATABASE_POOLER: this works past the pooler; unset it and name the address of PostgreSQL for this command")
    return settings.server.get_secret_value()


def must_be_closed(settings: Settings) -> None:
    """See that nobody has the store open.

    Raises:
        CannotTransfer: somebody has.
    """
    if settings.server is None:
        sqlite_tables.must_be_closed(settings.log_file)
    else:
        postgres_tables.must_be_closed(settings.server.get_secret_value())


def open_store(settings: Settings) -> Store:
    """Open the log, making it where it is a file.

    Raises:
        StoreUnavailable: it cannot be opened.
        NotMigrated: the database has no tables of this version.
    """
    if settings.server is None:
        return SqliteStore(settings.log_file)
    return PostgresStore(settings.server.get_secret_value(), pooled=settings.database_pooler)


def open_keyring(settings: Settings) -> Keyring:
    """Open what holds the keys, making it where it is a file.

    Raises:
        StoreUnavailable: it cannot be opened.
    """
    if settings.server is None:
        return SqliteKeyring(settings.data / "keys.db")
    return PostgresKeyring(settings.server.get_secret_value(), pooled=settings.database_pooler)
