"""The log page: every event as it was recorded, newest first, for those who audit."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import Principal
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, auditing, frame, reading_views, render
from api.console.telling import sentence_of
from api.console.ticket import raw_json
from engine.errors import InvalidInput
from projections.history_page import HistoryItem, items

router = APIRouter(route_class=ConsoleRoute)

ROWS: Final = 50
# Positions have holes after conflicts: more are looked at than are shown.
STRETCH: Final = 400


@dataclass(frozen=True, slots=True)
class Row:
    """One event of the log."""

    item: HistoryItem
    sentence: str
    raw: str


@router.get("/console/log")
def log_page(request: Request, principal: Annotated[Principal, Depends(auditing)]) -> Response:
    """A page of the log that ends at `upto` (the head, or the instant that is looked at)."""
    asked = request.query_params.get("upto", "")
    if asked and not (asked.isascii() and asked.isdigit() and len(asked) < 18):
        raise InvalidInput("upto", _("a position in the log"))
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "log")
        head = reader.at(around.moment.position)
        upto = min(int(asked), head) if asked else head
        stored = reader.ledger.store.log(max(0, upto - STRETCH), STRETCH, upto=upto)[-ROWS:]
        facts = [reader.ledger.fact(row) for row in stored]
        told = items(reader, facts, _)
    rows = [Row(item, sentence_of(fact, item), raw_json(item)) for fact, item in zip(reversed(facts), reversed(told), strict=True)]
    older = rows[-1].item.position - 1 if rows else 0
    return render(
        request, "log.html", frame=around, rows=rows, head=head, older_href=around.with_query(upto=str(older)) if older > 0 else None,
        newer_href=around.with_query(upto=str(min(head, upto + ROWS))) if upto < head else None, first_href=around.with_query(upto=None),
    )
