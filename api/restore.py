"""The way back from a backup (`engine/backup.py`) to a store that serves.

Everything is built and checked in a folder `restoring` inside the new data folder, and moved into place at the very end.
While that folder is there nothing opens the store (`api/house.py`): an interrupted restore is never taken for one.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from api.house import open_house
from api.settings import BadSettings, Settings
from engine.backup import BadBackup, Manifest, Tell, check, nothing_to_tell, sync_file, sync_folder, take
from engine.installation import INSTALLATION, Installation, InstallationRestored
from engine.ledger import Unit, Work
from engine.store import SCHEMA_VERSION
from engine.vault import check_master_key, load_master_key
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
        position = _build(own, manifest, tell)
        _move(inside, settings)
    return position


def _must_be_empty(settings: Settings) -> None:
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


def _build(settings: Settings, manifest: Manifest, tell: Tell) -> int:
    """Record that it was restored, end the sessions, build the views and compare them with a rebuild."""
    house = open_house(settings, first_admin=False)
    try:
        house.ledger.run(Unit(lambda work: _restored(work, manifest), actor="tocsin"))
        runner = Runner(house.ledger, settings.data / "views.db")
        try:
            head = house.store.head().position
            while runner.step():
                tell("views", runner.position, head)
            difference = runner.verify(lambda reached, goal: tell("views, once more", reached, goal))
            if difference is not None:
                raise BadBackup(f"the views differ from a rebuild: {difference}")
            return runner.position
        finally:
            runner.close()
    finally:
        house.close()


def _restored(work: Work, manifest: Manifest) -> None:
    event = InstallationRestored(position=manifest.position, digest=manifest.head, backed_up_at=manifest.created_at)
    work.load(Installation, INSTALLATION).record(event)
    work.after.append(lambda store: store.drop_sessions())


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
