"""What stands in the portal's form: its fields, and what is wrong with them, in the reader's words."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from api.access import mail_address
from api.commands import LONGEST_NAME, LONGEST_TITLE
from api.console.language import gettext as _
from api.console.language import mark
from engine.errors import InvalidInput
from engine.incident import Incident
from engine.request import ServiceRequest

LONGEST_DESCRIPTION: Final = 20_000
KINDS: Final = (Incident.KIND, ServiceRequest.KIND)
# The questions that the shipped rules know, as a form asks them; yes is recorded.
QUESTIONS: Final[Mapping[str, str]] = {
    "work_affected": mark("I cannot work, or only badly, because of it"),
    "task_needed": mark("Somebody has to do something for it"),
    "talk_needed": mark("I would like to talk to somebody about it"),
}
# A field that nobody sees: only a program fills it in.
TRAP: Final = "website"


@dataclass(frozen=True, slots=True)
class Draft:
    """A form as it was filled in.

    Attributes:
        kind: `incident` or `request`; empty: not chosen.
        service: the name of a registered one; empty: none.
        answers: questions that were answered with yes.
        name, email: of a stranger.
        faults: field -> what was expected, in the order of the form.
    """

    kind: str = ""
    title: str = ""
    description: str = ""
    service: str = ""
    answers: tuple[str, ...] = ()
    name: str = ""
    email: str = ""
    trap: str = ""
    faults: Mapping[str, str] = field(default_factory=dict)

    @property
    def trapped(self) -> bool:
        return bool(self.trap)


def read_draft(form: Mapping[str, str], *, services: Collection[str], stranger: bool) -> Draft:
    """The form that was sent, with its faults."""

    def text(name: str) -> str:
        return form.get(name, "").replace("\r\n", "\n").strip()

    kind, title, description, service, name, email = (text(each) for each in ("kind", "title", "description", "service", "name", "email"))
    title = " ".join(title.split())  # one line, whoever sends it
    faults: dict[str, str] = {}
    if kind not in KINDS:
        faults["kind"] = _("Choose one of the two.")
    if not title or len(title) > LONGEST_TITLE:
        faults["title"] = _("Say in one line what it is about, in at most %s characters.") % LONGEST_TITLE
    if len(description) > LONGEST_DESCRIPTION:
        faults["description"] = _("Use at most %s characters.") % f"{LONGEST_DESCRIPTION:,}"
    if service and service not in services:
        faults["service"] = _("Choose one of the list, or none.")
    if stranger:
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            faults["name"] = _("Say what you are called, in at most %s characters.") % LONGEST_NAME
        if not _is_address(email):
            faults["email"] = _("Give an address such as nora@example.org.")
    if form.get(TRAP, ""):
        faults[TRAP] = _("This field is a trap for programs: leave it empty.")
    answers = tuple(question for question in QUESTIONS if form.get(question) == "yes")
    return Draft(
        kind if kind in KINDS else "", title, description, service, answers, name if stranger else "", email if stranger else "",
        form.get(TRAP, ""), faults,
    )


def _is_address(text: str) -> bool:
    try:
        return mail_address(text) is not None
    except InvalidInput:
        return False
