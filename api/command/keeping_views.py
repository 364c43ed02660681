"""`tocsin deadletters` and `tocsin views`: events that a view could not take, and the views of a new node from another's file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from api.command.opening import DataOption, JsonOption, opened, viewed
from api.command.output import print_json
from api.reading import plain
from engine.clock import rfc3339
from engine.errors import NotFound
from projections.dead_letters import CODEC, letters, parked
from projections.files import Files
from projections.rebuild import Progress
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.seeding import copy_views, take_views
from projections.views import Reader

MOST_SHOWN = 1_000

out = Console(highlight=False, soft_wrap=True, markup=False)

dead = typer.Typer()
views = typer.Typer()


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(dead, name="deadletters", help="Events that a view could not take.", no_args_is_help=True)
    app.add_typer(views, name="views", help="The views of a new node, from a copy of another node's.", no_args_is_help=True)


@dead.command("list")
def list_dead(json: JsonOption = False, data: DataOption = None) -> None:
    """List the parked events, by view and position; at most 1,000 of them."""
    with viewed(data) as (_, runner), runner.views.reader() as reader:
        found, total, stopped = letters(reader, MOST_SHOWN), sum(parked(reader).values()), _stopped(reader)
    if json:
        print_json({"items": [plain(letter) for letter in found], "total": total, "stopped": stopped})
        return
    for why in stopped.values():
        out.print(why)
    if not found:
        out.print("nothing is parked")
        return
    table = Table(box=box.SIMPLE, show_edge=False)
    for heading in ("View", "Position", "Record", "Event", "Reason", "Since"):
        table.add_column(heading, justify="right" if heading == "Position" else "left")
    for letter in found:
        record = letter.ticket or str(letter.stream)
        cells = (letter.projection, str(letter.position), record, letter.type, letter.reason, rfc3339(letter.since))
        table.add_row(*(Text(cell) for cell in cells))
    out.print(table)
    if total > len(found):
        out.print(f"… and {total - len(found):,} more")


@dead.command("retry")
def retry(
    projection: Annotated[str | None, typer.Argument(help="One view; all that have parked events by default", show_default=False)] = None,
    data: DataOption = None,
) -> None:
    """Build the views that have parked events anew, beside the live ones, and switch; exit 1 where something is still parked.

    Run it after what was wrong has been mended, with the mended version. Events that could not be decoded concern all views.
    """
    with viewed(data) as (_, runner):
        with runner.views.reader() as reader:
            affected = parked(reader).keys() | _stopped(reader).keys()
        if projection is not None and projection not in {one.name for one in PROJECTIONS} | {CODEC}:
            raise NotFound("projection", projection)
        chosen = affected if projection is None else affected & {projection}
        if not chosen:
            out.print("nothing is parked")
            return
        with _progress("reading the log") as tell:
            position = runner.rebuild(*(() if CODEC in chosen else sorted(chosen)), progress=tell)
        out.print(f"rebuilt {'all views' if CODEC in chosen else ', '.join(sorted(chosen))} up to position {position}")
        _tell_what_is_left(runner)


def _tell_what_is_left(runner: Runner) -> None:
    with runner.views.reader() as reader:
        left, stopped = parked(reader), _stopped(reader)
    for why in stopped.values():
        out.print(why)
    for name, count in sorted(left.items()):
        out.print(f"still parked for {name}: {count:,}")
    if left or stopped:
        raise typer.Exit(1)
    out.print("nothing is parked any more")


def _stopped(reader: Reader) -> dict[str, str]:
    return dict(reader.rows("SELECT name, stopped FROM tracking WHERE stopped IS NOT NULL ORDER BY name"))


@views.command("copy")
def copy(
    file: Annotated[Path, typer.Argument(help="A new file; texts and names of people stand in it", metavar="TO_FILE")],
    data: DataOption = None,
) -> None:
    """Copy this node's views as they are now, also beside a running server."""
    with opened(data, must_exist=True) as house, _progress("copying", pages=True) as tell:
        size = copy_views(Files(house.settings.data / "views.db"), file, tell)
    out.print(f"{file}  {size:,} bytes")


@views.command("take")
def take(
    file: Annotated[Path, typer.Argument(help="A copy of another node's views", metavar="FILE", exists=True, dir_okay=False)],
    data: DataOption = None,
) -> None:
    """Begin this node's views with a copy of another node's, checked against the log, and catch up. There must be none here yet."""
    with opened(data, must_exist=True) as house:
        place = Files(house.settings.data / "views.db")
        with _progress("copying", size=True) as tell:
            position = take_views(house.ledger, place, file, PROJECTIONS, tell)
        runner = Runner(house.ledger, place.path)
        try:
            with _progress("reading the log") as tell:
                while runner.step():
                    tell(runner.position, house.store.head().position)
            out.print(f"taken at position {position}, caught up to {runner.position}")
        finally:
            runner.close()


@contextmanager
def _progress(what: str, *, size: bool = False, pages: bool = False) -> Iterator[Progress]:
    unit = () if size or pages else (TextColumn("events"),)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn() if size else MofNCompleteColumn(), *unit, TimeRemainingColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
