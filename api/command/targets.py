"""`tocsin targets`: the table of what is promised for each priority."""

from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from api.command.opening import DataOption, JsonOption, opened
from api.command.output import print_json
from api.console.instants import length
from api.lengths import seconds_of
from engine.errors import InvalidInput
from engine.priority import Priority
from engine.target import TARGETS, Target, Targets
from engine.work import Unit, Work

out = Console()
targets = typer.Typer(no_args_is_help=True, help="By when tickets are to be answered and resolved, by priority.")



def register(app: typer.Typer) -> None:
    app.add_typer(targets, name="targets")


@targets.command("show")
def show(json: JsonOption = False, data: DataOption = None) -> None:
    """The table in force."""
    with opened(data, must_exist=True) as house:
        known = house.ledger.get(Targets, TARGETS)
    if json:
        rows = {
            priority.value: {"response_seconds": target.response_seconds, "resolution_seconds": target.resolution_seconds}
            for priority, target in known.table.items()
        }
        print_json({"version": known.version, "targets": rows})
        return
    table = Table(box=box.SIMPLE_HEAD, title=f"Targets, version {known.version}, in clock time", title_justify="left")
    for column in ("Priority", "Answer within", "Resolve within"):
        table.add_column(column)
    for priority in Priority:
        target = known.table[priority]
        table.add_row(priority.value, length(target.response_seconds), length(target.resolution_seconds))
    out.print(table)


@targets.command("set")
def change(
    priority: Annotated[str, typer.Argument(help="P1 to P5")],
    response: Annotated[str | None, typer.Option(help="Answer within: 15m, 4h, 2d", show_default=False)] = None,
    resolution: Annotated[str | None, typer.Option(help="Resolve within", show_default=False)] = None,
    data: DataOption = None,
) -> None:
    """Change what is promised for a priority; tickets that are open keep their promise until their priority changes."""
    if priority.upper() not in Priority.__members__:
        raise InvalidInput("priority", "P1, P2, P3, P4 or P5")
    chosen = Priority(priority.upper())

    def decide(work: Work) -> int:
        known = work.load(Targets, TARGETS)
        old = known.table[chosen]
        new = Target(
            response_seconds=old.response_seconds if response is None else seconds_of("response", response),
            resolution_seconds=old.resolution_seconds if resolution is None else seconds_of("resolution", resolution),
        )
        known.set({**known.table, chosen: new})
        return known.version

    with opened(data, must_exist=True) as house:
        version = house.ledger.run(Unit(decide, actor="tocsin"))
    out.print(f"the table is in force as version {version}")
