"""Taking a whole store over into another database, and seeing that it is the same there: tables, log and views.

The tables are `engine/transfer.py`'s. The source is not changed; it is the way back as long as nothing was written to the copy.
"""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from api.database import filled, held, must_be_closed, open_keyring, open_store
from api.house import log_clock
from api.settings import BadSettings, Settings
from engine.ledger import Ledger
from engine.tables import Sum, Tell
from engine.transfer import CannotTransfer, transfer
from engine.vault import Vault, VaultLocked, is_empty, load_master_key
from projections.files import Files
from projections.generation import MOST_IN_A_PAGE
from projections.rebuild import build_beside, compare
from projections.registry import PROJECTIONS
from projections.runner import Runner


def copy(source: Settings, target: Settings, tell: Tell) -> tuple[int, list[Sum]]:
    """Copy a store that nobody has open into an empty database, or go on with that; then the copy is a store.

    Args:
        source: whose master key opens both.

    Returns:
        The position of the last event, and what each table holds.

    Raises:
        BadSettings: both are the same, or there is no store.
        CannotTransfer: somebody has the source open, the target holds something else, or the two are not equal in the end.
        NotMigrated, StoreUnavailable, VaultLocked: one of the two cannot be used.
    """
    _must_be_two(source, target)
    _must_open(source)
    with filled(target) as into:
        with held(source) as store:
            sums = transfer(store, into, tell)
            last = store.last()
        position = last.position if last else 0
        _compare_views(source, target, position, tell)
        # Whoever opened the source meanwhile could not write while it was copied, but may have since.
        must_be_closed(source)
        into.finish()
    return position, sums


def _must_be_two(source: Settings, target: Settings) -> None:
    if source.server is None:
        for file in (source.log_file, source.data / "keys.db"):
            if not file.exists():
                raise BadSettings(f"--from: there is no store: {file} is missing")
    if source.server is not None and target.server is not None:
        raise BadSettings("--to: expected another kind of database than --from; PostgreSQL is copied by its own means (docs/backup.md)")
    if source.server is None and target.server is None:
        raise BadSettings("--to: expected another kind of database than --from; a file is copied by tocsin backup and tocsin restore")


def _must_open(source: Settings) -> None:
    """See that the master key lies there and opens the keys: before anything is done, and not in the end."""
    keyring = open_keyring(source)
    if is_empty(keyring):
        keyring.close()
        raise BadSettings("--from: there is no store: it holds no keys")
    try:
        master_key = load_master_key(source.master_key, create=False)
    except VaultLocked:
        keyring.close()
        raise
    Vault(keyring, master_key).close()


def _compare_views(source: Settings, target: Settings, position: int, tell: Tell) -> None:
    """Build the views of both logs, and compare them row by row.

    Raises:
        CannotTransfer: they differ.
    """
    master_key = load_master_key(source.master_key, create=False)
    with (
        tempfile.TemporaryDirectory(prefix="tocsin-copy-") as folder,
        _ledger(source, master_key) as ours,
        _ledger(target, master_key) as theirs,
        closing(Runner(ours, Path(folder) / "source")) as runner,
    ):
        while runner.step():
            tell("views of the source", runner.position, position)
        with build_beside(theirs, Files(Path(folder) / "copy"), PROJECTIONS, names=()) as built, runner.views.reader() as live:
            while built.advance(upto=position, most=MOST_IN_A_PAGE):
                tell("views of the copy", built.position, position)
            if live.position != position:
                raise CannotTransfer("the source was written to meanwhile; stop whatever has it open and run this again")
            difference = compare(live, built, PROJECTIONS)
    if difference is not None:
        raise CannotTransfer(f"the views differ: {difference}")


@contextmanager
def _ledger(settings: Settings, master_key: bytes) -> Iterator[Ledger]:
    """For reading."""
    vault = Vault(open_keyring(settings), master_key)
    with closing(vault), closing(open_store(settings)) as store, closing(Ledger(store, vault, log_clock(store, settings))) as ledger:
        yield ledger
