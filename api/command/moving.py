"""`tocsin import`: tickets of another tool, from its export."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from api.command.opening import DataOption, JsonOption, opened
from api.command.output import print_json
from api.house import House
from api.move_in.importing import import_all, is_here
from api.move_in.mapping import Mapping, check_zone, load, ready
from api.move_in.planning import CommentFile, Draft, Fault, Planner
from api.move_in.reading import Record, read
from engine.errors import InvalidInput

out = Console(highlight=False, soft_wrap=True, markup=False)
MOST_TOLD: Final = 50


@dataclass(slots=True)
class _Source:
    """The files of one export and how they are read."""

    file: Path
    mapping: Mapping
    comments: CommentFile
    encoding: str | None
    delimiter: str | None
    now: datetime

    def plan(self) -> Iterator[tuple[Record, Draft | list[Fault]]]:
        records = read(self.file, encoding=self.encoding, delimiter=self.delimiter)
        return Planner(self.mapping, self.now, self.comments).plan(records)


@dataclass(slots=True)
class _Report:
    """What became, or would become, of the rows."""

    dry_run: bool
    imported: int = 0
    here: int = 0
    faulty: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: int, old_number: str, outcome: str, **more: Any) -> None:
        self.rows.append({"line": line, "old_number": old_number, "outcome": outcome, **more})


def register(app: typer.Typer) -> None:
    """Add this command."""

    @app.command(name="import")
    def bring_in(
        file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or JSON Lines", metavar="FILE")],
        mapping: Annotated[str, typer.Option("--mapping", help=f"{', '.join(ready())}, or a TOML file (docs/move-in.md)")],
        comments: Annotated[Path | None, typer.Option("--comments", exists=True, dir_okay=False, help="Comments in a file of their own", show_default=False)] = None,
        system: Annotated[str | None, typer.Option("--system", help="Name of the tool, part of each ticket's identity [default: the mapping's]", show_default=False)] = None,
        zone: Annotated[str | None, typer.Option("--zone", help="IANA zone of times without an offset [default: the mapping's]", show_default=False)] = None,
        encoding: Annotated[str | None, typer.Option("--encoding", help="Instead of what the file looks like", show_default=False)] = None,
        delimiter: Annotated[str | None, typer.Option("--delimiter", help="Instead of what the heading looks like", show_default=False)] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would become of each row; write nothing")] = False,
        skip: Annotated[bool, typer.Option("--skip-faulty", help="Import the good rows, and write the others with the reasons to FILE.faulty.csv")] = False,
        json: JsonOption = False,
        data: DataOption = None,
    ) -> None:
        """Import tickets of another tool. Run it again whenever it was interrupted: what is here already stays as it is."""
        meant = load(mapping)
        if zone is not None:
            check_zone(zone)
        meant = msgspec.structs.replace(meant, system=system or meant.system, zone=zone or meant.zone)
        if delimiter is not None and len(delimiter) != 1:
            raise InvalidInput("delimiter", "one character")
        with opened(data, must_exist=True) as house, _progress() as progress:
            said = CommentFile.of(meant, read(comments, encoding=encoding), comments.name) if comments else CommentFile()
            source = _Source(file, meant, said, encoding, delimiter, house.clock.now())
            report = _Report(dry_run)
            good = _look(source, house, report, progress, every_row=dry_run or json)
            refused = report.faulty > 0 and not skip and not dry_run
            if not dry_run and not refused:
                _run(source, house, report, progress, good)
        if not dry_run and skip and report.faulty:
            _keep_faulty(source, file.with_name(file.name + ".faulty.csv"))
        _tell(report, file, json, refused=refused)
        if report.faulty:
            raise typer.Exit(1)


def _look(source: _Source, house: House, report: _Report, progress: Progress, *, every_row: bool) -> int:
    """Read everything once; how many rows are good."""
    bar, good = progress.add_task("reading", total=None), 0
    numbers: set[str] = set()
    for record, planned in source.plan():
        progress.advance(bar)
        if isinstance(planned, Draft):
            good += 1
            numbers.add(planned.event.old_number)
            if report.dry_run:
                here = is_here(house.ledger, planned)
                report.here, report.imported = report.here + here, report.imported + (not here)
                report.add(
                    planned.line, planned.event.old_number, "already here" if here else "would be imported", kind=planned.kind,
                    state=planned.event.state, comments=len(planned.comments),
                )
        else:
            report.faulty += 1
            if every_row or len(report.rows) < MOST_TOLD:
                report.add(record.line, "", "faulty", faults=[asdict(fault) | {"said": str(fault)} for fault in planned])
    for fault in source.comments.faults.get("", ()):
        report.faulty += 1
        report.add(fault.line, "", "faulty", faults=[asdict(fault) | {"said": str(fault)}])
    progress.remove_task(bar)
    return good


def _run(source: _Source, house: House, report: _Report, progress: Progress, good: int) -> None:
    bar = progress.add_task("importing", total=good)
    drafts = (planned for _, planned in source.plan() if isinstance(planned, Draft))
    for outcome in import_all(house.ledger, drafts, house.directory.handle):
        progress.advance(bar)
        if outcome.number is None:
            report.here += 1
        else:
            report.imported += 1
        report.add(outcome.line, outcome.old_number, "already here" if outcome.number is None else "imported", ticket=outcome.number)


def _keep_faulty(source: _Source, target: Path) -> None:
    """The faulty rows as they were, after what is wrong with them; it can be mended and imported on its own."""
    with target.open("w", encoding="utf-8-sig", newline="") as content:
        target.chmod(0o600)
        headings: list[str] = []
        writer = csv.writer(content)
        for record, planned in source.plan():
            if not headings:
                headings = list(record.cells)
                writer.writerow(["line", "what is wrong", *headings])
            if not isinstance(planned, Draft):
                cells = [record.cells.get(heading, "") for heading in headings]
                writer.writerow([record.line, "; ".join(map(str, planned)), *cells])


def _tell(report: _Report, file: Path, json: bool, *, refused: bool) -> None:
    if json:
        counts = {"imported": report.imported, "already_here": report.here, "faulty": report.faulty, "dry_run": report.dry_run}
        print_json({**counts, "refused": refused, "rows": report.rows})
        return
    for row in report.rows:
        if row["outcome"] == "faulty":
            for fault in row["faults"]:
                out.print(fault["said"])
        elif report.dry_run:
            told = f"line {row['line']}: {row['old_number']} {row['outcome']}"
            out.print(f"{told} as {row['kind']}, {row['state'].replace('_', ' ')}, {row['comments']} comments" if row["outcome"] != "already here" else told)
    if refused:
        out.print(f"{report.faulty} faulty rows: nothing was imported; mend them, or import the others with --skip-faulty")
    elif report.dry_run:
        out.print(f"{report.imported} would be imported, {report.here} are here already, {report.faulty} are faulty; nothing was written")
    else:
        kept = f"; the faulty ones are in {file.name}.faulty.csv" if report.faulty else ""
        out.print(f"{report.imported} imported, {report.here} were here already, {report.faulty} faulty{kept}")


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("tickets"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress
