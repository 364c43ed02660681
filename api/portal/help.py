"""What may help before a report is sent: documents of the rulebook that answer it, and disturbances that are known."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from api.console.instants import ZONE_NAME, short_form
from api.console.language import gettext as _
from api.console.language import language
from api.console.words import plain
from api.house import House
from api.portal.form_token import FormToken
from engine.report import Report, record_before
from engine.rulebook import Document
from engine.triage import rulebook_in
from engine.work import Unit, Work
from projections.queue_page import QueueFilter, queue
from projections.ticket_row import TicketRow
from projections.views import Reader

MOST_DOCUMENTS: Final = 3
URGENT: Final = ("P1", "P2")
MOST_LOOKED_AT: Final = 20


@dataclass(frozen=True, slots=True)
class Help:
    """What is shown above the form.

    Attributes:
        disturbances: sentences.
    """

    documents: tuple[Document, ...] = ()
    disturbances: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.documents or self.disturbances)


async def documents_for(house: House, kind: str, report: Report, actor: str) -> tuple[Document, ...]:
    """Documents of the rulebook in force that may answer this report; nothing is recorded."""

    spoken = language()  # the committer's thread knows no reader

    def ask(work: Work) -> list[Document]:
        return rulebook_in(work).documents_for(record_before(work, kind, report), spoken)

    return tuple((await house.ledger.commit(Unit(ask, actor=actor)))[:MOST_DOCUMENTS])


def disturbance(reader: Reader, service: str, now: datetime) -> tuple[str, ...]:
    """A sentence where the service is known to be disturbed: which one and since when, and nothing of what is known of it.

    An open incident of priority P1 or P2 counts once monitoring or a person vouches for it: not on a stranger's word alone.
    """
    for priority in URGENT:
        page = queue(reader, filters=QueueFilter(kind="incident", service=service, priority=priority), limit=MOST_LOOKED_AT)
        vouched = [row for row in page.items if _vouched(row)]
        if vouched:
            since = min(row.opened_at for row in vouched)
            values = {"service": plain(service), "moment": f"{short_form(since, now)} {ZONE_NAME}"}
            return (_("%(service)s is disturbed since %(moment)s. We are working on it.") % values,)
    return ()


def _vouched(row: TicketRow) -> bool:
    return row.alerts_total > 0 or row.acknowledged_at is not None or row.assignee_id is not None


def offering(token: FormToken, help_: Help) -> FormToken:
    """The form's token once this was shown with it."""
    documents = tuple((document.name, document.title) for document in help_.documents)
    return msgspec.structs.replace(token, documents=documents, told=help_.disturbances, offered=True)
