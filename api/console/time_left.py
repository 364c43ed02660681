"""How long a ticket has got: as words, as a part of its time, and as how bad it is. Colour only repeats the word."""

from dataclasses import dataclass
from datetime import datetime

from api.console import instants
from api.console.language import gettext as _
from projections.ticket_row import TicketRow


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """What is promised next.

    Attributes:
        text: as people say it.
        kind: `ok`, `risk` (the last quarter of its time) or `late`.
        percent: of its time that is left, 0 to 100.
        due: the instant itself.
    """

    text: str
    kind: str
    percent: int
    due: datetime


def time_left(row: TicketRow, now: datetime) -> TimeLeft | None:
    """Of a ticket at an instant; None where it is done."""
    due, risk = row.next_due_at, row.at_risk_at
    if due is None or risk is None:
        return None
    seconds = (due - now).total_seconds()
    if seconds < 0:
        return TimeLeft(_("late by %s") % instants.span(-seconds), "late", 0, due)
    said = instants.span(seconds)
    text = _("%s to answer") % said if row.responded_at is None else _("%s to resolve") % said
    # The last quarter begins at `risk`, so four of them are the whole.
    whole = (due - risk).total_seconds() * 4
    return TimeLeft(text, "risk" if now >= risk else "ok", min(100, round(100 * seconds / whole)) if whole else 0, due)
