"""Which database the settings name, and how what lies in it is opened: the log and, apart from it, the keys."""

from api.settings import Settings
from engine.keyring import Keyring, SqliteKeyring
from engine.postgres_keyring import PostgresKeyring
from engine.postgres_schema import NotMigrated
from engine.postgres_store import PostgresStore
from engine.sqlite_store import SqliteStore
from engine.store import Store


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
