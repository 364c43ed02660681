"""Keys: made once, kept wrapped, destroyed for good; and nothing sealed is ever read from where it does not belong."""

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import StoreUnavailable
from engine.keyring import SqliteKeyring
from engine.sqlite_store import SqliteStore
from engine.vault import Vault, VaultLocked, load_master_key

NORA = b"n" * 16


@pytest.fixture
def keyring(tmp_path: Path) -> SqliteKeyring:
    return SqliteKeyring(tmp_path / "keys.db")


@pytest.fixture
def vault(keyring: SqliteKeyring) -> Vault:
    return Vault(keyring, b"k" * 32)


def test_the_master_key_file_is_made_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "master.key"
    key = load_master_key(path, create=True)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_master_key(path, create=False) == load_master_key(path, create=True) == key


def test_a_missing_master_key_is_named_and_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(VaultLocked, match=r"master\.key is missing; put it back from your backup"):
        load_master_key(tmp_path / "master.key", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "not hexadecimal", "abcd", "00" * 31, "00" * 33])
def test_a_file_that_holds_no_master_key_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(content)
    with pytest.raises(VaultLocked, match=r"master\.key does not hold a master key"):
        load_master_key(path, create=True)


def test_another_stores_master_key_opens_nothing(tmp_path: Path) -> None:
    Vault(SqliteKeyring(tmp_path / "keys.db"), b"k" * 32).close()
    with pytest.raises(VaultLocked, match="not the one that this store was made with"):
        Vault(SqliteKeyring(tmp_path / "keys.db"), b"x" * 32)


def test_the_key_file_is_its_owners_and_holds_no_key_in_plain(tmp_path: Path, vault: Vault) -> None:
    vault.seal(NORA, b"here", b"secret")
    vault.flush()
    assert stat.S_IMODE((tmp_path / "keys.db").stat().st_mode) == 0o600
    rows = sqlite3.connect(tmp_path / "keys.db").execute("SELECT id, length(wrapped) FROM keys").fetchall()
    assert {len for _, len in rows} == {12 + 32 + 16}  # noqa: A001  # nonce, key, tag: wrapped
    assert NORA in {key_id for key_id, _ in rows}


@pytest.mark.law
@given(content=st.binary(max_size=64), context=st.binary(max_size=16), flip=st.integers(min_value=0))
def test_what_is_sealed_is_read_back_where_it_stands_and_nowhere_else(
    content: bytes, context: bytes, flip: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    vault = _vault_of(tmp_path_factory)
    sealed = vault.seal(NORA, context, content)
    assert vault.unseal(NORA, context, sealed) == content
    assert vault.seal(NORA, context, content) != sealed
    tampered = bytearray(sealed)
    tampered[flip % len(sealed)] ^= 1 << flip % 8
    vault.seal(b"somebody else...", context, b"")
    for key_id, where, bytes_there in (
        (NORA, context, bytes(tampered)), (NORA, context + b"!", sealed), (b"somebody else...", context, sealed),
        (NORA, context, sealed[: flip % len(sealed)]),
    ):
        with pytest.raises(VaultLocked, match="does not belong where it stands"):
            vault.unseal(key_id, where, bytes_there)


_KEPT: dict[str, Vault] = {}


def _vault_of(factory: pytest.TempPathFactory) -> Vault:
    """One vault for all examples: a new file each would be what takes the time."""
    if "one" not in _KEPT:
        _KEPT["one"] = Vault(SqliteKeyring(factory.mktemp("vault") / "keys.db"), b"k" * 32)
    return _KEPT["one"]


def test_a_flushed_key_outlives_the_process_and_an_unflushed_one_does_not(tmp_path: Path, vault: Vault) -> None:
    kept = vault.seal(NORA, b"here", b"kept")
    vault.flush()
    vault.flush()
    lost = vault.seal(b"m" * 16, b"here", b"lost")
    vault.close()
    again = Vault(SqliteKeyring(tmp_path / "keys.db"), b"k" * 32)
    assert again.unseal(NORA, b"here", kept) == b"kept"
    assert again.unseal(b"m" * 16, b"here", lost) is None
    again.close()


def test_a_destroyed_key_is_gone_from_memory_and_from_disk(tmp_path: Path, keyring: SqliteKeyring, vault: Vault) -> None:
    sealed = vault.seal(NORA, b"here", b"secret")
    other = vault.seal(b"m" * 16, b"here", b"other")
    vault.flush()
    (wrapped,) = keyring._connection.execute("SELECT wrapped FROM keys WHERE id = ?", (NORA,)).fetchone()
    vault.destroy(NORA)
    assert vault.unseal(NORA, b"here", sealed) is None
    assert vault.unseal(b"m" * 16, b"here", other) == b"other"
    keyring._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert wrapped not in (tmp_path / "keys.db").read_bytes()
    vault.close()


def test_a_key_that_was_dropped_before_it_was_stored_is_made_anew(vault: Vault) -> None:
    first = vault.seal(NORA, b"here", b"never stored")
    vault.forget_unsaved()
    assert vault.unseal(NORA, b"here", first) is None
    again = vault.seal(NORA, b"here", b"stored")
    vault.flush()
    vault.forget_unsaved()
    assert vault.unseal(NORA, b"here", again) == b"stored"


def test_keys_that_cannot_be_written_are_a_store_that_is_unavailable(keyring: SqliteKeyring, vault: Vault) -> None:
    keyring._connection.execute("PRAGMA query_only = ON")
    sealed = vault.seal(NORA, b"here", b"secret")
    with pytest.raises(StoreUnavailable, match="keys cannot be written"):
        vault.flush()
    with pytest.raises(StoreUnavailable):
        vault.seal_apart(b"here", b"body")
    keyring._connection.execute("PRAGMA query_only = OFF")
    vault.flush()
    assert vault.unseal(NORA, b"here", sealed) == b"secret"


def test_a_key_apart_is_on_disk_before_it_is_used_and_used_once(tmp_path: Path, vault: Vault) -> None:
    used = [vault.seal_apart(b"here", b"body") for _ in range(300)]
    assert len({key_id for key_id, _ in used}) == 300
    vault.close()  # nothing was flushed
    again = Vault(SqliteKeyring(tmp_path / "keys.db"), b"k" * 32)
    assert {again.unseal(key_id, b"here", sealed) for key_id, sealed in used} == {b"body"}
    again.close()


def test_the_keyed_digest_is_this_stores_own(tmp_path: Path, vault: Vault) -> None:
    (tmp_path / "other").mkdir()
    other = Vault(SqliteKeyring(tmp_path / "other" / "keys.db"), b"k" * 32)
    assert vault.digest(b"body") == vault.digest(b"body") != vault.digest(b"bodY")
    assert vault.digest(b"body") != other.digest(b"body")
    vault.close()
    assert Vault(SqliteKeyring(tmp_path / "keys.db"), b"k" * 32).digest(b"body") == vault.digest(b"body")


def test_of_processes_that_start_at_once_one_makes_the_key_and_all_use_it(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_master_key(file, create=True), range(16)))
    assert len(keys) == 1
    assert [found.name for found in tmp_path.iterdir()] == ["master.key"]


def test_a_key_file_of_any_other_bytes_is_named(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    file.write_bytes(b"\xff\xfe\x00not a key")
    with pytest.raises(VaultLocked, match=r"master\.key"):
        load_master_key(file, create=True)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    file.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnavailable, match=r"log\.db"):
        SqliteStore(file)
