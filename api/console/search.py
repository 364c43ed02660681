"""The search page: tickets by what was said on them. Its box stands in the bar of every page."""

from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from markupsafe import Markup
from starlette.responses import Response

from api.access import Principal
from api.console import words
from api.console.language import gettext as _
from api.console.language import mark
from api.console.layout import ConsoleRoute, Frame, frame, go_to, reading, reading_views, render
from api.console.work_queue import Pill, Row, shown_row
from projections.search_page import Piece, asked, numbered, search

router = APIRouter(route_class=ConsoleRoute)

ROWS: Final = 25
# Address parameters that narrow the search beside what is typed.
NARROWING: Final = ("kind", "state", "priority", "service", "team", "requester", "host")

TIPS: Final = (
    (mark("printer toner"), mark("both words, anywhere in the ticket: title, comments, solution, alerts, …")),
    (mark('"paper jam"'), mark("these words together, as they stand")),
    (mark("printer -toner"), mark("without that word")),
    (mark("INC-1042"), mark("straight to that ticket")),
    (mark("service:mail host:srv-01"), mark("words of the service, of a machine, of the requester (requester:), of the number (number:)")),
    (mark("state:open priority:P1"), mark("as it stands; also team: and kind:incident or kind:request")),
)


@dataclass(frozen=True, slots=True)
class Result:
    """A ticket that was found, and where its text says so."""

    row: Row
    snippet: Markup


def shown_snippet(pieces: list[Piece]) -> Markup:
    """A snippet with what was found in `mark`."""
    parts = []
    for piece in pieces:
        text = " ".join(piece.text.split("\n")) if "\n" in piece.text else piece.text
        parts.append(Markup("<mark>{}</mark>").format(words.shown(text)) if piece.hit else words.shown(text))
    return Markup("").join(parts)


def _pills(around: Frame) -> list[Pill]:
    def pill(label: str, name: str, value: str) -> Pill:
        current = around.kept.get(name) == value
        return Pill(label, around.with_query(**{name: None if current else value}), current)

    none = Pill(_("All"), around.with_query(**dict.fromkeys(NARROWING)), not any(around.kept.get(name) for name in NARROWING))
    pills = [
        none, pill(_("Open"), "state", "open"), pill(_("Resolved"), "state", "resolved"), pill(_("Closed"), "state", "closed"),
        pill(_("Incidents"), "kind", "incident"), pill(_("Requests"), "kind", "request"),
    ]
    labels = {
        "service": _("Service: %s"), "team": _("Team: %s"), "requester": _("Requester: %s"), "host": _("Host: %s"),
        "priority": _("Priority: %s"), "state": _("State: %s"),
    }
    for name, label in labels.items():
        value = around.kept.get(name)
        if value and value not in (("open", "resolved", "closed") if name == "state" else ()):
            pills.append(Pill(label % words.plain(value) + " ✕", around.with_query(**{name: None}), True))
    return pills


@router.get("/console/search")
def search_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """What was found, as it stands or stood; a number alone leads to its ticket."""
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "search")
        text = around.kept.get("q", "")
        looked_for = asked(text)
        number = numbered(reader, looked_for, as_of=around.moment.position)
        narrowing = {name: around.kept.get(name) for name in NARROWING}
        if number is not None and not any(narrowing.values()):
            return go_to(around.carry(f"/console/tickets/{quote(number, safe='')}"))
        cursor = request.query_params.get("cursor") or None
        found = search(reader, looked_for.narrowed(**narrowing), as_of=around.moment.position, cursor=cursor, limit=ROWS)
    return render(
        request, "search.html", frame=around, text=text, tips=TIPS, pills=_pills(around),
        results=[Result(shown_row(item.ticket, around), shown_snippet(item.snippet)) for item in found.items],
        nothing=looked_for.nothing and not any(narrowing.values()), narrowed=any(narrowing.values()),
        all_href=around.with_query(**dict.fromkeys(NARROWING)), first=cursor is None, first_href=around.with_query(),
        next_href=around.with_query(cursor=found.next) if found.next else None,
    )
