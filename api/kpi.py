"""The measures as one answer: shared by the interface, the command line and the console."""

from datetime import datetime, timedelta
from typing import Any, Final

from engine.errors import InvalidInput
from projections import kpi_page
from projections.kpi_page import EXPECTED_YEARS, FIRST_YEAR, KpiFilter, Window
from projections.views import Reader

DEFAULT_DAYS: Final = 7
MOST_REPEATERS: Final = 10


def window_of(start: datetime | None, end: datetime | None, now: datetime, zone: str, basis: str) -> Window:
    """The window that was asked for; by default the week that ends now.

    Raises:
        InvalidInput: an end before the start, an instant far outside the calendar, an unknown zone or basis.
    """
    end = end or now
    if end.year < FIRST_YEAR:
        raise InvalidInput("to", EXPECTED_YEARS)
    return Window(start=start or end - timedelta(days=DEFAULT_DAYS), end=end, zone=zone, basis=basis)


def measures(
    reader: Reader, window: Window, now: datetime, *, group_by: str | None, filters: KpiFilter, as_of: int | None
) -> dict[str, Any]:
    """All measures of a window; docs/measures.md defines each.

    Args:
        now: to which the age of the backlog is counted.

    Raises:
        InvalidInput: an unknown group.
    """
    report = kpi_page.kpis(reader, window, group_by=group_by, filters=filters, as_of=as_of)
    aged = group_by if group_by in ("kind", "priority", "service", "team") else None
    return {
        "from": window.start,
        "to": window.end,
        "zone": window.zone,
        "basis": window.basis,
        "mtta": report.total.acknowledged,
        "mttr": report.total.resolved,
        "first_response": report.total.responded,
        "total": report.total,
        "groups": report.groups,
        "backlog": kpi_page.backlog(reader, now, group_by=aged, as_of=as_of),
        "noise": kpi_page.noise(reader, window, group_by="day" if group_by == "day" else None, as_of=as_of),
        "top_repeaters": kpi_page.top_repeaters(reader, window, limit=MOST_REPEATERS, as_of=as_of),
        "top_conditions": kpi_page.top_conditions(reader, window, limit=MOST_REPEATERS, as_of=as_of),
        "position": report.position,
    }

