"""`tocsin user|team|service`: who is there and what is run, one by one or from a CSV file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from api.command.administration import users
from api.command.opening import DataOption, JsonOption, opened, viewed
from api.command.output import print_json
from api.organisation import Organisation, Written
from api.organisation_file import FAULT, KINDS, Report, apply_file
from api.reading import plain
from engine.errors import TocsinError
from engine.work import Unit
from projections import organisation, people

out = Console(highlight=False, soft_wrap=True, markup=False)

teams = typer.Typer()
services = typer.Typer()

FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE.csv", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done")]
_HOW: Final = "; its first row names them, in any order. All of it or, where a row has a fault, nothing."


class FaultyFile(TocsinError):
    """Rows of a file are wrong."""


def register(app: typer.Typer) -> None:
    """Add these commands; `user` is there already."""
    app.add_typer(teams, name="team", help="Who works on tickets together.", no_args_is_help=True)
    app.add_typer(services, name="service", help="What is monitored and supported.", no_args_is_help=True)
    for group, kind in ((users, "user"), (teams, "team"), (services, "service")):
        group.command("import", help=f"Register and change from CSV: columns {', '.join(KINDS[kind].columns)}{_HOW}")(_importing(kind))


@teams.command("add")
def add_team(
    name: Annotated[str, typer.Argument(help="The team's name", show_default=False)],
    level: Annotated[int | None, typer.Option("--level", help="Its support level: 1, 2 or 3 [default: 1]", show_default=False)] = None,
    email: Annotated[str | None, typer.Option("--email", help="Where the team is reached", show_default=False)] = None,
    data: DataOption = None,
) -> None:
    """Register a team, or change what is known of it; what is left out stays."""
    values = {"name": name, "level": level, "email": email}
    _write("team", values, lambda organisation, given: organisation.put_team(given), data)


@services.command("add")
def add_service(
    name: Annotated[str, typer.Argument(help="Its name, as monitoring spells it", show_default=False)],
    owner: Annotated[str | None, typer.Option("--owner", metavar="TEAM", help="Who answers for it", show_default=False)] = None,
    tier: Annotated[int | None, typer.Option("--tier", help="From 1, everything hangs on it, to 4 [default: 3]", show_default=False)] = None,
    depends_on: Annotated[list[str] | None, typer.Option("--depends-on", metavar="SERVICE", help="It needs this one; several times", show_default=False)] = None,
    description: Annotated[str | None, typer.Option("--description", show_default=False)] = None,
    data: DataOption = None,
) -> None:
    """Register a service, or change what is known of it; what is left out stays."""
    values = {"name": name, "owner_team": owner, "tier": tier, "depends_on": tuple(depends_on) if depends_on else None, "description": description}
    _write("service", values, lambda organisation, given: organisation.put_service(given), data)


def _write(kind: str, values: Mapping[str, Any], write: Callable[[Organisation, Mapping[str, Any]], Written], data: Path | None) -> None:
    given = {name: value for name, value in values.items() if value is not None}
    with opened(data) as house:

        def decide(work: Any) -> tuple[str, list[str]]:
            organisation = Organisation(work, house.directory)
            return write(organisation, given).what, list(organisation.unknown_in(kind, given))

        what, warnings = house.ledger.run(Unit(decide, actor="tocsin"))
    out.print(f"{kind} {given['name'].strip()}: {what}")
    for warning in warnings:
        out.print(f"  {warning}")


def _importing(kind: str) -> Callable[..., None]:
    def run(file: FileArgument, dry_run: DryRun = False, as_json: JsonOption = False, data: DataOption = None) -> None:
        with opened(data) as house:
            report = apply_file(house.ledger, house.directory, kind, file.read_bytes(), dry_run=dry_run)
        if as_json:
            print_json({"applied": report.applied, "dry_run": dry_run, "rows": report.rows})
        else:
            _show(report, dry_run)
        if report.faults:
            raise FaultyFile(f"{file}: {len(report.faults)} of {len(report.rows)} rows are wrong; nothing was applied")

    return run


def _show(report: Report, dry_run: bool) -> None:
    for row in report.rows:
        if row.what == FAULT:
            out.print(f"line {row.line}{f', column {row.column}' if row.column else ''}: expected {row.expected}")
        else:
            out.print(f"line {row.line}: {row.name}: {row.what}{''.join(f'; {warning}' for warning in row.warnings)}")
    if report.faults:
        return
    said = f"{report.count('new')} new, {report.count('changed')} changed, {report.count('as it is')} as they are"
    out.print(f"{said}; nothing was applied, this was a dry run" if dry_run else said)
    if report.kind == "user" and report.count("new"):
        out.print("who is new signs in after: tocsin user password LOGIN")


@users.command("list")
def list_users(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Who may sign in."""
    with viewed(data) as (house, runner):
        accounts = house.store.accounts()
        with runner.views.reader() as reader:
            known = people.known(reader, [UUID(bytes=account.person) for account in accounts])
    rows = [
        {"login": account.login, "name": row.name if row else None, "team": row.team if row else None, "role": account.role}
        for account in accounts for row in (known.get(UUID(bytes=account.person)),)
    ]
    _list(rows, ("login", "name", "team", "role"), as_json)


@teams.command("list")
def list_teams(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Registered teams."""
    with viewed(data) as (_, runner), runner.views.reader() as reader:
        rows = plain(organisation.teams(reader))
    _list(rows, ("name", "level", "members", "email"), as_json)


@services.command("list")
def list_services(
    heard: Annotated[bool, typer.Option("--heard", help="Names that alerts and tickets use and nobody has registered")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Registered services, or those that wait for adoption."""
    with viewed(data) as (_, runner), runner.views.reader() as reader:
        if heard:
            _list(plain(organisation.for_adoption(reader)), ("name", "alerts", "tickets", "last_at"), as_json)
            return
        rows, cursor = [], None
        while True:
            page = organisation.services(reader, cursor=cursor, limit=500)
            rows += plain(page.items)
            cursor = page.next
            if cursor is None:
                break
    _list(rows, ("name", "tier", "owner_team", "depends_on", "open_tickets"), as_json)


def _list(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*("" if (value := row[column]) is None else ", ".join(value) if isinstance(value, list) else str(value) for column in columns))
    out.print(table)
