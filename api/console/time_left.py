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
        whole: all of its time, in seconds; `form` is how what is left of it is said, with a pair of braces for the length.
    """

    text: str
    kind: str
    percent: int
    due: datetime
    whole: int
    form: str

    @property
    def late(self) -> str:
        """How it will be said once it is past its time."""
        return _("late by %s") % "{}"


def time_left(row: TicketRow, now: datetime) -> TimeLeft | None:
    """Of a ticket at an instant; None where it is done."""
    due, risk = row.next_due_at, row.at_risk_at
    if due is None or risk is None:
        return None
    seconds = (due - now).total_seconds()
    form = _("%s to answer") if row.responded_at is None else _("%s to resolve")
    # The last quarter begins at `risk`, so four of them are the whole.
    whole, live = (due - risk).total_seconds() * 4, form % "{}"
    if seconds < 0:
        return TimeLeft(_("late by %s") % instants.span(-seconds), "late", 0, due, round(whole), live)
    percent = min(100, round(100 * seconds / whole)) if whole else 0
    return TimeLeft(form % instants.span(seconds), "risk" if now >= risk else "ok", percent, due, round(whole), live)
