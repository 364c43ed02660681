"""The alert pages: what fires, since when and how often; one alert with its episodes and what monitors said of it."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import Principal
from api.console import instants, words
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, frame, reading, reading_views, render
from api.console.work_queue import Pill
from engine.errors import NotFound
from engine.observation import Severity
from projections.alert_page import AlertFilter, alert, alerts
from projections.delivery_page import MonitoringEventFilter, monitoring_events
from projections.history_page import history

router = APIRouter(route_class=ConsoleRoute)

ROWS: Final = 50
EVENTS: Final = 25


@router.get("/console/alerts")
def alerts_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """Alerts, newest first: firing ones only, or all."""
    asked = request.query_params
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "alerts")
        firing = {"1": True, "0": False}.get(asked.get("firing", ""))
        filters = AlertFilter(
            firing=firing, severity=asked.get("severity") or None, service=asked.get("service") or None,
            source=asked.get("source") or None, incident=(asked.get("incident") or "").upper() or None,
        )
        found = alerts(reader, filters=filters, as_of=around.moment.position, cursor=asked.get("cursor") or None, limit=ROWS)
    pills = [
        Pill(_("All"), around.with_query(firing=None, severity=None, service=None, source=None, incident=None), not any(
            asked.get(name) for name in ("firing", "severity", "service", "source", "incident"))),
        Pill(_("Firing"), around.with_query(firing=None if firing else "1"), firing is True),
        Pill(_("Ended"), around.with_query(firing=None if firing is False else "0"), firing is False),
        *(
            Pill(words.word(words.SEVERITIES, severity), around.with_query(severity=None if filters.severity == severity else severity), filters.severity == severity)
            for severity in Severity
        ),
    ]
    for name, value in (("service", filters.service), ("source", filters.source), ("incident", filters.incident)):
        if value:
            pills.append(Pill(f"{words.plain(value)} ✕", around.with_query(**{name: None}), True))
    return render(
        request, "alerts.html", frame=around, rows=found.items, pills=pills, narrowed=any(pill.current for pill in pills[1:]),
        next_href=around.with_query(cursor=found.next) if found.next else None, first=not asked.get("cursor"),
        first_href=around.with_query(), lengths={row.number: _length(row.started_at, row.ended_at or around.moment.instant or around.now) for row in found.items},
    )


def _length(start: object, end: object) -> str:
    return instants.span((end - start).total_seconds())  # type: ignore[operator]  # two instants


@router.get("/console/alerts/{number}")
def alert_page(request: Request, number: str, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """One alert.

    Raises:
        NotFound: there is none of that number (by then).
    """
    number = number.upper()
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "alerts")
        row = alert(reader, number, as_of=around.moment.position)
        if row is None:
            raise NotFound(_("alert"), number)
        cursor = request.query_params.get("cursor") or None
        events = monitoring_events(
            reader, filters=MonitoringEventFilter(alert=number), as_of=around.moment.position, cursor=cursor, limit=EVENTS
        )
        life = history(reader, number, as_of=around.moment.position, limit=200, translate=_)
    lengths = [_length(one.started_at, one.ended_at or around.moment.instant or around.now) for one in row.episodes]
    return render(
        request, "alert.html", frame=around, row=row, episodes=list(reversed(list(zip(row.episodes, lengths, strict=True)))),
        events=events.items, next_href=around.with_query(cursor=events.next) if events.next else None, first=cursor is None,
        first_href=around.with_query(), life=list(reversed(life.items)) if life else [],
    )
