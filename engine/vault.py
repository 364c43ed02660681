"""The vault: keys of persons and of bodies, wrapped by the master key, on a keyring of their own (`engine/keyring.py`).

Personal data and bodies are sealed with AES-256-GCM under a key per person or body, bound to the place where they stand.
Destroying a key makes them unreadable for good, while the log's bytes and every hash over them stay as they are.
A key is on disk before the log commit that uses it: `flush` is called by the ledger right before it commits.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import sqlite3
import tempfile
import threading
from base64 import urlsafe_b64encode
from collections import OrderedDict
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import TocsinError
from engine.keyring import Keyring

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
# A restart leaves at most so many unused keys behind (some 100 bytes each).
KEYS_IN_STOCK: Final = 128
MOST_CACHED: Final = 4_096
_DIGEST_KEY: Final = b"store:digest"


class VaultLocked(TocsinError):
    """The master key is missing or is not the one that this store was made with."""


def load_master_key(path: Path, *, create: bool) -> bytes:
    """The 32-byte master key in `path`.

    Raises:
        VaultLocked: no such file (and not to be made), or not a key.
    """
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        if not create:
            raise VaultLocked(f"the master key file {path} is missing; put it back from your backup") from None
        _make_master_key(path)
        text = path.read_text().strip()
    except UnicodeDecodeError:
        text = ""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise VaultLocked(f"{path} does not hold a master key (64 hexadecimal digits)")
    return key


def _make_master_key(path: Path) -> None:
    """Put a new key there, whole or not at all; where another process was first, its key stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


def check_master_key(path: Path, master_key: bytes) -> None:
    """See whether `master_key` opens the keys in this file, which nobody writes to meanwhile; nothing is changed.

    Raises:
        VaultLocked: it does not, or the file holds no keys of a store.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            row = connection.execute("SELECT wrapped FROM keys WHERE id = ?", (_DIGEST_KEY,)).fetchone()
    except sqlite3.Error as error:
        raise VaultLocked(f"{path} cannot be read as a store's keys: {error}") from error
    if row is None:
        raise VaultLocked(f"{path} holds no keys of a store")
    _unwrapped(AESGCM(master_key), _DIGEST_KEY, row[0])


def is_empty(keyring: Keyring) -> bool:
    """Whether no store has ever kept a key there: then a master key may be made for it."""
    return keyring.get(_DIGEST_KEY) is None


def _unwrapped(wrap: AESGCM, key_id: bytes, wrapped: bytes) -> bytes:
    try:
        return wrap.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], key_id)
    except (InvalidTag, ValueError):
        raise VaultLocked("the master key is not the one that this store was made with") from None


class Vault:
    """Seals and unseals; makes, keeps and destroys keys. Safe to use from several threads.

    Attributes:
        destroyed: how many keys this process has destroyed: whoever keeps opened text drops it when this moves.
    """

    def __init__(self, keyring: Keyring, master_key: bytes) -> None:
        """
        Raises:
            VaultLocked: the keys were wrapped by another master key; the keyring is closed then.
        """
        self._keyring = keyring
        self._wrap = AESGCM(master_key)
        self._lock = threading.RLock()
        self._cache: OrderedDict[bytes, AESGCM] = OrderedDict()
        self._pending: dict[bytes, bytes] = {}
        self._spare: list[tuple[bytes, AESGCM]] = []
        self.destroyed = 0
        try:
            self._digest_key = self._store_key()
        except BaseException:
            keyring.close()
            raise

    def _store_key(self) -> bytes:
        wrapped = self._keyring.get(_DIGEST_KEY)
        if wrapped is None:
            # Two processes may start at once: whoever comes second takes the first one's key.
            self._keyring.add([(_DIGEST_KEY, self._wrapped(_DIGEST_KEY, secrets.token_bytes(KEY_BYTES)))])
            wrapped = self._keyring.get(_DIGEST_KEY)
            assert wrapped is not None, "it was put there just now"
        return self._unwrap(_DIGEST_KEY, wrapped)

    def _wrapped(self, key_id: bytes, key: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._wrap.encrypt(nonce, key, key_id)

    def _unwrap(self, key_id: bytes, wrapped: bytes) -> bytes:
        return _unwrapped(self._wrap, key_id, wrapped)

    def digest(self, content: bytes) -> bytes:
        """A keyed digest (HMAC-SHA256): equal for equal content in this store, and useless to anybody without its key."""
        return hmac.digest(self._digest_key, content, hashlib.sha256)

    def mark(self, purpose: str, content: bytes) -> str:
        """16 characters (96 bits) that only this store's processes can make of `content`; apart from every digest.

        Args:
            purpose: at most 16 ASCII characters; marks of one purpose say nothing about another.
        """
        made = hashlib.blake2b(content, digest_size=12, key=self._digest_key, person=purpose.encode())
        return urlsafe_b64encode(made.digest()).decode()

    def seal(self, key_id: bytes, context: bytes, content: bytes) -> bytes:
        """Encrypt `content` under the key of `key_id` (made if new), bound to `context`."""
        cipher = self._cipher(key_id, create=True)
        assert cipher is not None
        nonce = os.urandom(NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, content, context)

    def seal_apart(self, context: bytes, content: bytes) -> tuple[bytes, bytes]:
        """Encrypt under a key that nothing else has, taken from a stock that is on disk already: (key id, sealed)."""
        with self._lock:
            self.stock()
            key_id, cipher = self._spare.pop()
        nonce = os.urandom(NONCE_BYTES)
        return key_id, nonce + cipher.encrypt(nonce, content, context)

    def stock(self) -> None:
        """See that a body will find a key. They are put on disk many in one commit, so that a body costs none of its own.

        Raises:
            StoreUnavailable: there is none left, and more cannot be kept.
        """
        with self._lock:
            if not self._spare:
                fresh = [(os.urandom(KEY_ID_BYTES), os.urandom(KEY_BYTES)) for _ in range(KEYS_IN_STOCK)]
                self._insert(fresh)
                self._spare = [(key_id, AESGCM(key)) for key_id, key in fresh]

    def unseal(self, key_id: bytes, context: bytes, sealed: bytes) -> bytes | None:
        """The content, or None where the key was destroyed.

        Raises:
            VaultLocked: the sealed bytes do not belong to this key and context (they were tampered with).
        """
        cipher = self._cipher(key_id, create=False)
        if cipher is None:
            return None
        try:
            return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise VaultLocked(f"sealed data does not belong where it stands ({context.decode(errors='replace')})") from None

    def _cipher(self, key_id: bytes, *, create: bool) -> AESGCM | None:
        with self._lock:
            cipher = self._cache.get(key_id)
            if cipher is not None:
                self._cache.move_to_end(key_id)
                return cipher
            wrapped = self._keyring.get(key_id)
            if wrapped is not None:
                key = self._unwrap(key_id, wrapped)
            elif key_id in self._pending:
                key = self._pending[key_id]
            elif create:
                key = self._pending[key_id] = secrets.token_bytes(KEY_BYTES)
            else:
                return None
            cipher = self._cache[key_id] = AESGCM(key)
            if len(self._cache) > MOST_CACHED:
                self._cache.popitem(last=False)
            return cipher

    def flush(self) -> None:
        """Put new keys on disk. Returns after they are durable."""
        with self._lock:
            if not self._pending:
                return
            self._insert(list(self._pending.items()))
            self._pending.clear()

    def _insert(self, keys: list[tuple[bytes, bytes]]) -> None:
        self._keyring.add([(key_id, self._wrapped(key_id, key)) for key_id, key in keys])

    def forget_unsaved(self) -> None:
        """Drop the keys that were made and not flushed: nothing that was stored is sealed under them.

        Kept, one could be used after another process has made, and stored, a key for the same person.
        """
        with self._lock:
            for key_id in self._pending:
                self._cache.pop(key_id, None)
            self._pending.clear()

    def destroy(self, key_id: bytes) -> None:
        """Make everything sealed under this key unreadable, for good."""
        with self._lock:
            self._keyring.remove(key_id)
            self.destroyed += 1
            self._cache.pop(key_id, None)
            self._pending.pop(key_id, None)

    def close(self) -> None:
        with self._lock:
            self._keyring.close()
