"""The way back from a backup (`engine/backup.py`) to a store that serves, onto either database.

Everything is built and checked in a folder `restoring` inside the new data folder, and moved into place at the very end.
While that folder is there nothing opens the store (`api/house.py`): an interrupted restore is never taken for one.

On PostgreSQL the files of the backup are checked there and then copied (`engine/transfer.py`) into a database that carries a mark
meanwhile; the commit that records the restore takes the mark away.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from api.database import filled, held, is_being_filled, is_there, open_keyring, open_store
from api.house import log_clock, open_house
from api.settings import BadSettings, Settings
from engine.backup import BadBackup, Manifest, check, nothing_to_tell, sync_file, sync_folder, take
from engine.installation import INSTALLATION, Installation, InstallationRestored
from engine.ledger import Ledger
from engine.sqlite_store import SqliteStore
from engine.store import SCHEMA_VERSION
from engine.tables import FILLING, Tell
from engine.transfer import transfer
from engine.vault import Vault, check_master_key, load_master_key
from engine.work import Unit, Work
from projections.runner import Runner


def restore(manifest: Manifest, folder: Path, keys_folder: Path, settings: Settings, tell: Tell = nothing_to_tell) -> int:
    """Make a store of a backup: checked, with its views built and compared with a rebuild; the position reached.

    Args:
        settings: of the new store; the master key lies where they say.

    Raises:
        BadSettings: there is a store already, or what an interrupted restore left of one.
        BadBackup: a copy is missing or damaged, or of a newer Tocsin.
        VaultLocked: the master key is missing or another store's.
    """
    _must_be_empty(settings)
    if int(manifest.schema_version or 0) > int(SCHEMA_VERSION):
        raise BadBackup(f"{folder} was made by a newer Tocsin ({manifest.tocsin}, schema {manifest.schema_version}); use that one")
    master_key = load_master_key(settings.master_key, create=False)
    with _workshop(settings) as inside:
        log_file, key_file = inside / "log.db", inside / "keys.db"
        take(keys_folder, manifest.keys, key_file, "keys", tell)
        check_master_key(key_file, master_key)
        take(folder, manifest.log, log_file, "log", tell)
        check(manifest, log_file, key_file)
        own = settings.model_copy(
            update={"data": inside, "database": SecretStr(f"sqlite:///{log_file}"), "master_key_file": settings.master_key}
        )
        if settings.server is not None:
            return _into_server(own, settings, master_key, manifest, tell)
        position = _build(own, manifest, tell)
        _move(inside, settings)
    return position


def _must_be_empty(settings: Settings) -> None:
    if settings.server is not None:
        if is_there(settings) and not is_being_filled(settings):
            raise BadSettings("there is a store already in the database that TOCSIN_DATABASE names; a backup is restored into an empty one")
        return
    files = [settings.log_file, settings.data / "keys.db", *settings.data.glob("views.db*")]
    there = [file for file in files if file.exists()]
    if not there:
        return
    if settings.restoring.exists():
        raise BadSettings(f"an interrupted restore left {there[0]}; empty {settings.data} and restore again")
    raise BadSettings(f"there is a store already ({there[0]}); a backup is restored into an empty one: choose another --data")


@contextlib.contextmanager
def _workshop(settings: Settings) -> Iterator[Path]:
    """The folder `restoring`, empty; afterwards gone, and the data folder too where it was made for this and nothing is in it."""
    inside, new = settings.restoring, not settings.data.exists()
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir(parents=True, mode=0o700)
    if new:
        settings.data.chmod(0o700)
    sync_folder(settings.data)
    try:
        yield inside
    except BaseException:
        shutil.rmtree(inside, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):
                settings.data.rmdir()
        raise


def _into_server(own: Settings, settings: Settings, master_key: bytes, manifest: Manifest, tell: Tell) -> int:
    """Copy the checked files into the database, build the views and compare them with a rebuild; then it is a store."""
    SqliteStore(own.log_file).close()  # brings the tables of an older Tocsin up to this version
    with held(own) as source, filled(settings) as target:
        transfer(source, target, tell)
    store = open_store(settings)
    ledger = Ledger(store, Vault(open_keyring(settings), master_key), log_clock(store, settings))
    try:
        position = _views(ledger, own, tell)
        for file in settings.data.glob("views.db*"):
            file.unlink()
        for file in own.data.glob("views.db*"):
            file.replace(settings.data / file.name)
        shutil.rmtree(own.data)
        sync_folder(settings.data)
        ledger.run(Unit(lambda work: _restored(work, manifest), actor="tocsin"))
        with contextlib.closing(Runner(ledger, settings.data / "views.db")) as runner:
            runner.catch_up()
    finally:
        ledger.close()
        store.close()
        ledger.vault.close()
    return position


def _views(ledger: Ledger, settings: Settings, tell: Tell) -> int:
    runner = Runner(ledger, settings.data / "views.db")
    try:
        head = ledger.store.head().position
        while runner.step():
            tell("views", runner.position, head)
        difference = runner.verify(lambda reached, goal: tell("views, once more", reached, goal))
        if difference is not None:
            raise BadBackup(f"the views differ from a rebuild: {difference}")
        return runner.position
    finally:
        runner.close()


def _build(settings: Settings, manifest: Manifest, tell: Tell) -> int:
    """Record that it was restored, end the sessions, build the views and compare them with a rebuild."""
    house = open_house(settings, first_admin=False)
    try:
        house.ledger.run(Unit(lambda work: _restored(work, manifest), actor="tocsin"))
        return _views(house.ledger, settings, tell)
    finally:
        house.close()


def _restored(work: Work, manifest: Manifest) -> None:
    event = InstallationRestored(position=manifest.position, digest=manifest.head, backed_up_at=manifest.created_at)
    work.load(Installation, INSTALLATION).record(event)
    work.after.append(lambda store: store.drop_sessions())
    work.after.append(lambda store: store.drop_meta(FILLING))


def _move(inside: Path, settings: Settings) -> None:
    """Into place, the log last; the store is one as soon as `restoring` is gone."""
    for file in inside.glob("*.lock"):
        file.unlink()
    for file in sorted(inside.iterdir(), key=lambda file: file.name.startswith("log.db")):
        if not file.is_symlink():
            sync_file(file)
        name = file.name
        _put(file, settings.log_file.with_name(settings.log_file.name + name.removeprefix("log.db")) if name.startswith("log.db") else settings.data / name)
    sync_folder(settings.log_file.parent)
    sync_folder(settings.data)
    inside.rmdir()
    sync_folder(settings.data)


def _put(file: Path, target: Path) -> None:
    try:
        file.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copy2(file, target)  # TOCSIN_DATABASE names another file system
        sync_file(target)
        file.unlink()
