"""`tocsin kpi`: the measures in the terminal."""

from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from api.command.opening import AsOfOption, DataOption, JsonOption, viewed
from api.command.output import print_json
from api.kpi import measures, window_of
from api.reading import instant, plain
from engine.clock import micros
from projections.kpi_page import Backlog, Figure, KpiFilter, KpiGroup

out = Console(highlight=False)


def register(app: typer.Typer) -> None:
    """Add these commands."""

    @app.command()
    def kpi(
        as_of: AsOfOption = None,
        json: JsonOption = False,
        start: Annotated[str | None, typer.Option("--from", help="Start of the window [default: a week before its end]", show_default=False)] = None,
        end: Annotated[str | None, typer.Option("--to", help="End of the window [default: now]", show_default=False)] = None,
        zone: Annotated[str, typer.Option(help="IANA zone whose midnights part the days")] = "UTC",
        basis: Annotated[str, typer.Option(help="recorded or occurred")] = "recorded",
        by: Annotated[str | None, typer.Option("--by", help="kind, priority, service, team, agent, channel or day", show_default=False)] = None,
        imported: Annotated[str, typer.Option(help="Facts that an import told: include, exclude or only")] = "include",
        data: DataOption = None,
    ) -> None:
        """How many, how long, how loud; docs/measures.md defines each number."""
        with viewed(data) as (house, runner), runner.views.reader() as reader:
            now = instant("--as-of", as_of) if as_of else house.clock.now()
            at = house.store.position_at(micros(now)) if as_of else None
            window = window_of(instant("--from", start) if start else None, instant("--to", end) if end else None, now, zone, basis)
            found = measures(reader, window, now, group_by=by, filters=KpiFilter(imported=imported), as_of=at)
        if json:
            print_json(plain(found))
            return
        title = f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} ({window.basis}, days of {window.zone})"
        out.print(_figures(title, [found["total"], *found["groups"]], by))
        told = found["total"].opened.imported
        if told:
            out.print(f"{told} of the opened tickets were imported; their facts count when they happened (--imported exclude leaves them out)\n")
        elif imported == "exclude":
            out.print("Facts that an import told are left out\n")
        out.print(_backlog(found["backlog"]))
        noise = found["noise"][0]
        if noise.ratio is not None:
            out.print(f"Noise: {noise.monitoring_events} monitoring events for {noise.incidents} incidents, {noise.ratio:.1f} each\n")
        loud = Table(box=box.SIMPLE_HEAD, title="What comes again and again", title_justify="left")
        for column in ("Alert", "What", "Service", "Incidents"):
            loud.add_column(column, overflow="fold")
        for row in found["top_conditions"]:
            loud.add_row(row.alert, row.title, row.service or "", str(row.count))
        if found["top_conditions"]:
            out.print(loud)


def _figures(title: str, groups: list[KpiGroup], by: str | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column((by or "").capitalize(), no_wrap=True)
    for column in ("Opened", "Resolved", "Reopened", "Acknowledge p50 / p90", "Respond p50 / p90", "Restore p50 / p90", "In time"):
        table.add_column(column, justify="right", overflow="fold")
    for group in groups:
        label = "all" if group.key is None else group.label or "none"
        counts = (str(group.opened.count), str(group.resolved.count), str(group.reopened.count))
        table.add_row(label, *counts, *(_spread(figure) for figure in (group.acknowledged, group.responded, group.resolved)), _in_time(group))
    return table


def _in_time(group: KpiGroup) -> str:
    """Answered / resolved within target."""
    shares = [figure.attainment for figure in (group.responded, group.resolved)]
    return "" if shares == [None, None] else " / ".join("–" if share is None else f"{share:.0%}" for share in shares)


def _backlog(rows: list[Backlog]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Backlog and its age", title_justify="left")
    for column in ("", "Open", "p50", "p90", "Oldest"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        ages = (_length(row.median), _length(row.p90), _length(row.oldest))
        table.add_row("all" if row.key is None else row.label or "none", str(row.count), *ages)
    return table


def _spread(figure: Figure) -> str:
    return "" if figure.median is None else f"{_length(figure.median)} / {_length(figure.p90)}"


def _length(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None:
        return ""
    whole = round(seconds)
    days, hours, minutes = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {whole % 60:02} s" if minutes else f"{whole} s"
