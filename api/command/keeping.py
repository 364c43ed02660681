"""`tocsin backup`, `tocsin restore` and `tocsin copy`: the store kept apart, brought back, taken over into another database."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from api.command.opening import DataOption, JsonOption, must_be_there
from api.command.output import print_json
from api.copying import copy
from api.database import origin
from api.house import clock_of
from api.restore import restore
from api.settings import FILE, Settings, load_settings
from engine.backup import REST, back_up, digest_of_manifest, read_manifest
from engine.clock import Clock, rfc3339
from engine.errors import InvalidInput
from engine.tables import Tell

out = Console(highlight=False, soft_wrap=True, markup=False)
KeysOption = Annotated[
    Path | None, typer.Option("--keys", help="Another folder for the copy of the keys", metavar="DIR", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add these commands."""

    @app.command()
    def backup(
        folder: Annotated[Path, typer.Argument(help="An empty folder, or one that holds backups of this store", metavar="DIR")],
        keys: KeysOption = None,
        fast: Annotated[bool, typer.Option("--fast", help="Don't spare a server that runs beside")] = False,
        json: JsonOption = False,
        data: DataOption = None,
    ) -> None:
        """Copy the store, also beside a running server; prints the digest.

        The master key is no part of it and opens it: keep both, apart from each other.
        """
        settings = load_settings(data=data)
        must_be_there(settings)

        def clock(simulated: bool, last: datetime) -> Clock:
            return clock_of(settings, simulated=simulated, last=last)

        if not fast:
            os.nice(10)  # the server goes first
        with _told() as tell:
            made = back_up(
                origin(settings), folder, keys_folder=keys, clock=clock, version=version("tocsin"), tell=tell, rest=0.0 if fast else REST,
            )
        if json:
            print_json({"digest": digest_of_manifest(made), "manifest": made})
            return
        out.print(f"log     {folder / made.log.name}  {made.log.bytes:,} bytes")
        out.print(f"keys    {(keys or folder) / made.keys.name}  {made.keys.bytes:,} bytes")
        out.print(f"up to   event {made.position}, recorded at {rfc3339(made.recorded_at)}")
        out.print(f"digest  {digest_of_manifest(made)}")
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(
            f"The master key is no part of it: {settings.master_key}\n  Keep it too, in another place: without it this backup opens nothing."
        )

    @app.command(name="restore")
    def bring_back(
        folder: Annotated[Path, typer.Argument(help="Where the backup lies", metavar="DIR")],
        keys: KeysOption = None,
        digest: Annotated[str | None, typer.Option(help="Refuse a backup of another digest than this", show_default=False)] = None,
        data: DataOption = None,
    ) -> None:
        """Restore a backup into an empty store, on either database, build the views and compare them with a rebuild.

        The store's master key has to lie where its settings say. Sessions of people have ended; tokens and passwords are valid.
        """
        settings = load_settings(data=data)
        manifest = read_manifest(folder)
        found = digest_of_manifest(manifest)
        if digest is not None and digest.strip().lower() != found:
            raise InvalidInput("digest", f"the digest of the backup in {folder}, which is {found}")
        with _told() as tell:
            position = restore(manifest, folder, keys or folder, settings, tell)
        place = settings.data if settings.server is None else "the database"
        out.print(f"restored up to event {manifest.position}, recorded at {rfc3339(manifest.recorded_at)}, into {place}")
        out.print(f"digest  {found}")
        out.print(f"the views equal a rebuild at position {position}")

    @app.command(name="copy")
    def take_over(
        source: Annotated[str, typer.Option("--from", help="sqlite:///PATH of log.db, or postgresql://…", metavar="DATABASE")],
        target: Annotated[str, typer.Option("--to", help="The other kind, empty (tocsin migrate --tables)", metavar="DATABASE")],
        json: JsonOption = False,
        data: DataOption = None,
    ) -> None:
        """Take a store over from SQLite to PostgreSQL, or back; compare both. Run it again whenever it was interrupted.

        Stop the server first; it is refused while a process has the store open. The source stays as it is, the keys too: the same
        master key opens both. Nothing opens the copy before it is whole. keys.db lies in --data, or beside log.db.
        """
        one, other = (_of(address, data) for address in (source, target))
        # The folder of the files is that of the installation: beside it lies the master key that opens both.
        folder = one.data if one.server is None else other.data
        one, other = (settings.model_copy(update={"data": folder, "database_owner": None}) for settings in (one, other))
        with _told(all_stages=False) as tell:
            position, sums = copy(one, other, tell)
        if json:
            print_json({"position": position, "tables": sums})
            return
        for table in sums:
            out.print(f"{table.table:<15} {table.rows:>12,}  {table.digest}")
        out.print(f"equal: {position:,} events, {len(sums)} tables, and the views of both")


def _of(address: str, data: Path | None) -> Settings:
    file = Path(address.removeprefix(FILE)) if address.startswith(FILE) else None
    return load_settings(data=data or (file.parent if file else None), database=SecretStr(address))


@contextmanager
def _told(*, all_stages: bool = True) -> Iterator[Tell]:
    """A bar for each stage, or only for the present one, on a terminal."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in bars:
                for bar in () if all_stages else bars.values():
                    progress.update(bar, visible=False)
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done, total=total, visible=True)

        yield tell
