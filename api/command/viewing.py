"""`tocsin queue`, `history`, `log`, `kpi` and `why`: the views in the terminal, as tables for people or as JSON."""

import sys
import time
from datetime import datetime
from typing import Annotated

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.command.measures import register as register_measures
from api.command.opening import AsOfOption, DataOption, JsonOption, opened, viewed
from api.command.output import print_json
from api.console.time_left import time_left
from api.house import House
from api.reading import instant, page_of, plain
from api.watch import LAST_POSITION, shown_fact
from engine.clock import micros
from engine.errors import NotFound
from projections import history_page, queue_page
from projections.queue_page import QueueFilter
from projections.ticket_row import TicketRow
from projections.why import why as explain

MOST_IN_A_TABLE = 500
STYLES = {"P1": "bold red", "P2": "dark_orange", "P3": "yellow", "P4": "cyan", "P5": "dim"}

out = Console(highlight=False)


def position_of(house: House, as_of: str | None) -> int | None:
    """The position of an `--as-of`."""
    return None if as_of is None else house.store.position_at(micros(instant("--as-of", as_of)))


def queue(
    as_of: AsOfOption = None,
    json: JsonOption = False,
    kind: Annotated[str | None, typer.Option(help="incident or request", show_default=False)] = None,
    priority: Annotated[str | None, typer.Option(help="P1 to P5", show_default=False)] = None,
    service: Annotated[str | None, typer.Option(show_default=False)] = None,
    team: Annotated[str | None, typer.Option(show_default=False)] = None,
    sort: Annotated[str, typer.Option(help="priority, due, newest, number, service or updated")] = queue_page.DEFAULT_SORT,
    cursor: Annotated[str | None, typer.Option(help="`next` of the page before", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_IN_A_TABLE)] = 50,
    data: DataOption = None,
) -> None:
    """What needs somebody, now or as of an instant."""
    with viewed(data) as (house, runner), runner.views.reader() as reader:
        filters = QueueFilter(kind=kind, priority=priority, service=service, team=team)
        at = position_of(house, as_of)
        page = queue_page.queue(reader, filters=filters, sort=sort, as_of=at, cursor=cursor, limit=limit)
        now = instant("--as-of", as_of) if as_of else house.clock.now()
    if json:
        print_json(page_of(page))
        return
    if not page.items:
        out.print("Nothing waits for anybody. :bell:")
        return
    table = Table(box=box.SIMPLE_HEAD, title=f"Queue as of {now:%Y-%m-%d %H:%M:%S} UTC", title_justify="left")
    for column in ("Number", "Prio", "What", "State", "With", "Time left"):
        table.add_column(column, no_wrap=column in ("Number", "Prio"), overflow="fold")
    for row in page.items:
        with_whom = row.assignee or row.team or "nobody"
        table.add_row(
            row.number, Text(row.priority, STYLES[row.priority]), Text.assemble(row.title, (f"  {row.service}" if row.service else "", "dim")),
            row.state.replace("_", " "), Text(with_whom), _left(row, now),
        )
    out.print(table)
    if page.next:
        out.print(f"more: --cursor {page.next}")


def _left(row: TicketRow, now: datetime) -> Text:
    left = time_left(row, now)
    return Text("") if left is None else Text(left.text, {"late": "bold red", "risk": "yellow", "ok": ""}[left.kind])


def history(
    number: Annotated[str, typer.Argument(help="Of a ticket or an alert, such as INC-1")],
    as_of: AsOfOption = None,
    json: JsonOption = False,
    cursor: Annotated[str | None, typer.Option(help="`next` of the page before", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_IN_A_TABLE)] = MOST_IN_A_TABLE,
    data: DataOption = None,
) -> None:
    """What happened, in log order, as sentences."""
    with viewed(data) as (house, runner), runner.views.reader() as reader:
        page = history_page.history(reader, number, as_of=position_of(house, as_of), cursor=cursor, limit=limit)
    if page is None:
        raise NotFound("ticket or alert", number)
    if json:
        print_json(page_of(page))
        return
    table = Table(box=box.SIMPLE_HEAD, title=f"{number}: what happened", title_justify="left")
    for column in ("When (UTC)", "What", "Who"):
        table.add_column(column, no_wrap=column == "When (UTC)", overflow="fold")
    for item in page.items:
        said = Text(item.summary, "bold" if item.key else "")
        if item.text:
            said.append(f"\n{item.text}", "italic")
        table.add_row(f"{item.recorded_at:%Y-%m-%d %H:%M:%S}", said, Text(item.actor, "" if not item.automatic else "dim"))
    out.print(table)
    if page.next:
        out.print(f"more: --cursor {page.next}")


def log(
    after: Annotated[int, typer.Option("--after", min=0, max=LAST_POSITION, help="Position; what follows it is shown")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many events", show_default=False)] = None,
    data: DataOption = None,
) -> None:
    """The log, one JSON document a line."""
    left = limit
    with opened(data, must_exist=True) as house:
        while left is None or left > 0:
            facts = house.ledger.read(after, min(500, left or 500))
            for fact in facts:
                sys.stdout.write(msgspec.json.encode(shown_fact(fact)).decode() + "\n")
                after = fact.position
            left = None if left is None else left - len(facts)
            if not facts and not follow:
                return
            if not facts:
                sys.stdout.flush()
                time.sleep(0.5)


def why(
    number: Annotated[str, typer.Argument(help="Of a ticket or an alert, such as INC-1")],
    field: Annotated[str | None, typer.Argument(help="One field, such as priority; all by default", show_default=False)] = None,
    as_of: AsOfOption = None,
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """The chain of facts and rules behind a value."""
    with viewed(data) as (house, runner), runner.views.reader() as reader:
        explained = explain(reader, number, field, as_of=position_of(house, as_of))
    if json:
        print_json({"number": number, "fields": plain(explained)})
        return
    for explanation in explained:
        out.print(Text.assemble((f"{number} {explanation.field}", "bold"), f" is {'not set' if explanation.value is None else explanation.value}, since"))
        for depth, reason in enumerate(explanation.chain):
            rule = f" by rule {reason.rule}, version {reason.rule_version}" if reason.rule else ""
            arrow = "because " if depth else ""
            out.print(Text(f"  {'  ' * depth}{arrow}{reason.type} at {reason.recorded_at:%Y-%m-%d %H:%M:%S} ({reason.actor}){rule}"))


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (queue, history, log, why):
        app.command()(command)
    register_measures(app)
