"""`tocsin search` and `tocsin workload`: what was said and who has how much, in the terminal."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.command.opening import AsOfOption, DataOption, JsonOption, viewed
from api.command.output import print_json
from api.command.viewing import STYLES, position_of
from api.finding import found_page
from api.reading import instant, plain
from projections import search_page
from projections.search_page import Piece
from projections.workload import Load
from projections.workload import workload as who_has_what

out = Console(highlight=False)


def near(then: datetime, now: datetime) -> str:
    """How long ago, in the two largest units."""
    seconds = max(0, int((now - then).total_seconds()))
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Quote it for the shell: 'printer service:payments -toner'")],
    json: JsonOption = False,
    cursor: Annotated[str | None, typer.Option(help="`next` of the page before", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 25,
    data: DataOption = None,
) -> None:
    """Tickets by what was said on them, the best first.

    All words must stand in the ticket: in its number, title, description,
    comments, solution, request fields, service, requester's name, or in what
    its alerts said. The last word may be unfinished. "A phrase" is looked for
    as it stands; -word must not be there.

    Fields narrow it: service: team: state: kind: priority: requester: host:
    number:, as in state:open priority:P1. A text that begins with a minus sign
    comes after --, as in: tocsin search -- -printer
    """
    with viewed(data) as (house, runner), runner.views.reader() as reader:
        page = search_page.search(reader, search_page.asked(text), cursor=cursor, limit=limit)
        now = house.clock.now()
    if json:
        print_json(found_page(page))
        return
    if not page.items:
        out.print(Text("No ticket fits. Fewer words find more; a word is found by its beginning only where it is the last."))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("Number", "Prio", "What", "Service", "State", "Age"):
        table.add_column(
            column, no_wrap=column in ("Number", "Prio", "Age"), overflow="fold", min_width=24 if column == "What" else None
        )
    for found in page.items:
        row = found.ticket
        what = Text(row.title)
        if found.snippet:
            what.append("\n").append(_marked(found.snippet))
        table.add_row(
            row.number, Text(row.priority, STYLES[row.priority]), what, row.service or "", row.state.replace("_", " "),
            near(row.opened_at, now),
        )
    out.print(table)
    if page.next:
        out.print(f"more: --cursor {page.next}")


def _marked(pieces: Iterable[Piece]) -> Text:
    return Text.assemble(*((" ".join(piece.text.split("\n")), "bold" if piece.hit else "dim") for piece in pieces))


def workload(as_of: AsOfOption = None, json: JsonOption = False, data: DataOption = None) -> None:
    """Who has how much, of what priority and age, now or as of an instant."""
    with viewed(data) as (house, runner), runner.views.reader() as reader:
        now = instant("--as-of", as_of) if as_of else house.clock.now()
        found = who_has_what(reader, now, as_of=position_of(house, as_of))
    if json:
        print_json(plain(found))
        return
    title = f"Workload as of {now:%Y-%m-%d %H:%M:%S} UTC"
    nobody = ("nobody", found.nobody)
    out.print(_loads(title, [*((load.name or "somebody", load) for load in found.people), nobody, ("all", found.total)], now))
    out.print(_loads("By team", [(load.name or "no team", load) for load in found.teams], now))


def _loads(title: str, rows: Iterable[tuple[str, Load]], now: datetime) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("", overflow="fold", min_width=12)
    for column in ("Open", "P1", "P2", "P3", "P4", "P5", "Wait", "Oldest", "Median", "Done, 7 d"):
        table.add_column(column, justify="right", no_wrap=column in ("Oldest", "Median"), overflow="fold")
    for name, load in rows:
        numbers = (str(number) if number else "" for number in load.by_priority.values())
        ages = ("" if age is None else near(now - timedelta(seconds=age), now) for age in (load.oldest_seconds, load.median_seconds))
        table.add_row(Text(name), str(load.open), *numbers, str(load.waiting or ""), *ages, str(load.resolved or ""))
    return table


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (search, workload):
        app.command()(command)
