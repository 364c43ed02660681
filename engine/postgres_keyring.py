"""The keyring on PostgreSQL: schema `keys`, shared by all processes of a store, over connections of its own.

Its commits come before those of the log that use them, so they can't be part of the same transaction.
"""

from collections.abc import Sequence
from typing import Final

from engine.postgres import Connection, Pool

CONNECTIONS: Final = 2


class PostgresKeyring:
    """`engine.keyring.Keyring` on a PostgreSQL database."""

    def __init__(self, address: str, *, pooled: bool = False) -> None:
        self._pool = Pool(address, name="tocsin keys", pooled=pooled, most=CONNECTIONS)

    def get(self, key_id: bytes) -> bytes | None:
        sql = "SELECT wrapped FROM keys.keys WHERE id = %s"
        row = self._pool.ask(lambda connection: connection.execute(sql, (key_id,), binary=True).fetchone(), "keys cannot be read")
        return None if row is None else bytes(row[0])

    def add(self, keys: Sequence[tuple[bytes, bytes]]) -> None:
        ids, wrapped = [key_id for key_id, _ in keys], [text for _, text in keys]
        sql = "INSERT INTO keys.keys (id, wrapped) SELECT * FROM unnest(%s::bytea[], %s::bytea[]) ON CONFLICT DO NOTHING"

        def put(connection: Connection) -> None:
            with connection.transaction():
                connection.execute("SET LOCAL synchronous_commit = on")
                connection.execute(sql, (ids, wrapped))

        self._pool.ask(put, "keys cannot be written")

    def remove(self, key_id: bytes) -> None:
        self._pool.ask(lambda connection: connection.execute("DELETE FROM keys.keys WHERE id = %s", (key_id,)), "keys cannot be removed")

    def close(self) -> None:
        self._pool.close()
