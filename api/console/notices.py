"""The notices page: what waits to be sent, what was sent, and the dead letters with the reason and a way to try them again."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import ADMINS, Principal
from api.console.forms import check_form, local_path, read_form
from api.console.language import figure, mark
from api.console.language import gettext as _
from api.console.layout import ConsoleRoute, frame, go_to, page_for, reading, reading_views, render
from api.console.work_queue import Pill
from api.door import house_of
from api.outbox import retry
from api.reading import WAIT_SECONDS
from engine.errors import NotFound
from engine.notice import named
from engine.rulebook import RULEBOOK, Rulebook
from engine.work import Unit, Work
from projections import outbox
from projections.runner import Runner

router = APIRouter(route_class=ConsoleRoute)

ROWS: Final = 50
PURPOSES: Final[Mapping[str, str]] = {
    "firing": mark("it began"), "repeat": mark("nobody is on it yet"), "escalation": mark("escalated"), "end": mark("it is over"),
}
STATUSES: Final[Mapping[str, str]] = {"waiting": mark("waiting"), "sent": mark("sent"), "dead": mark("dead letter")}

administering = page_for(ADMINS)


@router.get("/console/notices")
def notices_page(request: Request, principal: Annotated[Principal, Depends(reading)]) -> Response:
    """Notices, the latest first."""
    asked = request.query_params
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "notices")
        status = asked.get("status") if asked.get("status") in outbox.STATUSES else None
        recipient = asked.get("recipient") or None
        found = outbox.notices(reader, status=status, recipient=recipient, cursor=asked.get("cursor") or None, limit=ROWS)
        counts, known = outbox.counts(reader), outbox.recipients(reader)
    names = {one.name for one in known}
    unknown = [name for name in named(house_of(request).ledger.get(Rulebook, RULEBOOK).notices) if name not in names]
    pills = [
        Pill(_("All"), around.with_query(status=None, recipient=None), status is None and recipient is None),
        *(
            Pill(label, around.with_query(status=None if code == status else code), code == status, figure(count) if count else "")
            for code, label, count in (
                ("waiting", _("Waiting"), counts["waiting"]), ("sent", _("Sent"), 0), ("dead", _("Dead letters"), counts["dead"]),
            )
        ),
        *(Pill(one.name, around.with_query(recipient=None if one.name == recipient else one.name), one.name == recipient) for one in known),
    ]
    return render(
        request, "notices.html", frame=around, rows=found.items, pills=pills, recipients=known, unknown=unknown, counts=counts, purposes=PURPOSES, statuses=STATUSES,
        may_retry=principal.role in ADMINS and not around.moment.past, narrowed=status is not None or recipient is not None,
        next_href=around.with_query(cursor=found.next) if found.next else None, first=not asked.get("cursor"),
        first_href=around.with_query(),
    )


@router.post("/console/notices/{notice}/retry")
async def retry_notice(request: Request, notice: str, principal: Annotated[Principal, Depends(administering)]) -> Response:
    """Try a dead letter again, then 303 to the list.

    Raises:
        NotFound: there is no notice of that id.
        Conflict: it is no dead letter (any more).
    """
    form = await read_form(request)
    check_form(request, principal, form)
    row = await asyncio.to_thread(_row, request, notice)

    def decide(work: Work) -> int:
        retry(work, row)
        return work.stamp()

    position = await house_of(request).ledger.commit(Unit(decide, actor=principal.actor))
    runner: Runner = request.app.state.runner
    await runner.reached(position, WAIT_SECONDS)
    return go_to(local_path(form.get("next"), "/console/notices"))


def _row(request: Request, notice: str) -> outbox.NoticeRow:
    with reading_views(request) as reader:
        try:
            row = outbox.notice(reader, UUID(notice))
        except ValueError:
            row = None
    if row is None:
        raise NotFound(_("notice"), notice)
    return row
