"""Where wrapped keys lie: apart from the log, so that neither is of use without the other.

A key is durable when `add` returns, and gone when `remove` does. Wrapping and opening are the vault's (`engine/vault.py`).
"""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from engine.errors import StoreUnavailable

KEYS: Final = "CREATE TABLE IF NOT EXISTS keys (id BLOB PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID"


class Keyring(Protocol):
    """Wrapped keys by their ids. Safe to use from several threads."""

    def get(self, key_id: bytes) -> bytes | None: ...

    def add(self, keys: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep (id, wrapped) pairs; of one that is there already, the first stays.

        Raises:
            StoreUnavailable: none of them was kept.
        """
        ...

    def remove(self, key_id: bytes) -> None: ...

    def close(self) -> None: ...


class SqliteKeyring:
    """A file, `keys.db`."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(KEYS)

    def get(self, key_id: bytes) -> bytes | None:
        with self._lock:
            row = self._connection.execute("SELECT wrapped FROM keys WHERE id = ?", (key_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def add(self, keys: Sequence[tuple[bytes, bytes]]) -> None:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT OR IGNORE INTO keys (id, wrapped) VALUES (?, ?)", keys)
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise StoreUnavailable(f"keys cannot be written: {error}") from error

    def remove(self, key_id: bytes) -> None:
        with self._lock:
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.execute("DELETE FROM keys WHERE id = ?", (key_id,))

    def close(self) -> None:
        with self._lock:
            self._connection.close()
