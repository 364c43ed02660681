"""The keyring on PostgreSQL: schema `keys`, shared by all processes of a store, over connections of its own.

Its commits come before those of the log that use them, so they can't be part of the same transaction.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from engine.errors import StoreUnavailable

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

CONNECTIONS: Final = 2
WAIT_SECONDS: Final = 5


class PostgresKeyring:
    """`engine.keyring.Keyring` on a PostgreSQL database."""

    def __init__(self, address: str, *, pooled: bool = False) -> None:
        options: dict[str, Any] = {
            "autocommit": True, "connect_timeout": WAIT_SECONDS, "application_name": "tocsin keys", "prepare_threshold": None if pooled else 5,
        }
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            address, kwargs=options, min_size=1, max_size=CONNECTIONS, timeout=WAIT_SECONDS, open=False, name="keys"
        )
        try:
            self._pool.open(wait=True, timeout=WAIT_SECONDS)
        except (psycopg.Error, PoolTimeout) as error:
            self._pool.close()
            raise StoreUnavailable(f"the database cannot be reached: {error}") from error

    def _do(self, action: Callable[[Connection], T], what: str) -> T:
        """Once more where the connection turns out to be dead: nothing here does harm twice."""
        for last in (False, True):
            try:
                with self._pool.connection() as connection:
                    return action(connection)
            except psycopg.OperationalError as error:
                if last:
                    raise StoreUnavailable(f"keys cannot be {what}: {error}") from error
                self._pool.check()
            except (psycopg.Error, PoolTimeout) as error:
                raise StoreUnavailable(f"keys cannot be {what}: {error}") from error
        raise AssertionError("the loop ends by itself")

    def get(self, key_id: bytes) -> bytes | None:
        sql = "SELECT wrapped FROM keys.keys WHERE id = %s"
        row = self._do(lambda connection: connection.execute(sql, (key_id,), binary=True).fetchone(), "read")
        return None if row is None else bytes(row[0])

    def add(self, keys: Sequence[tuple[bytes, bytes]]) -> None:
        ids, wrapped = [key_id for key_id, _ in keys], [text for _, text in keys]
        sql = "INSERT INTO keys.keys (id, wrapped) SELECT * FROM unnest(%s::bytea[], %s::bytea[]) ON CONFLICT DO NOTHING"

        def put(connection: Connection) -> None:
            with connection.transaction():
                connection.execute("SET LOCAL synchronous_commit = on")
                connection.execute(sql, (ids, wrapped))

        self._do(put, "written")

    def remove(self, key_id: bytes) -> None:
        self._do(lambda connection: connection.execute("DELETE FROM keys.keys WHERE id = %s", (key_id,)), "removed")

    def close(self) -> None:
        self._pool.close()
