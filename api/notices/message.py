"""What a notice says: made at the moment of sending, from the ticket as it is then, in the recipient's language.

It carries what somebody needs to decide whether to get up, and a link; never a description, a comment or a requester's name.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from api.console import words
from api.console.language import mark, translator
from engine.notice import Purpose
from engine.ticket import OPEN, Ticket

TEST: Final = "test"
_FORMS: Final = {
    Purpose.FIRING: "{what}", Purpose.REPEAT: mark("Nobody is on it yet: {what}"), Purpose.ESCALATION: mark("Escalated to you: {what}"),
    Purpose.END: mark("Over: {what}"), TEST: mark("A test of Tocsin’s notices"),
}


@dataclass(frozen=True, slots=True)
class Message:
    """One notice, ready to be put into a shape.

    Attributes:
        id: of the notice; the same in every attempt.
        purpose: `firing`, `repeat`, `escalation`, `end` or `test`.
        thread: what all notices about one ticket share.
        personal: the title is a person's data.
        at: when it was made.
    """

    id: UUID
    purpose: str
    thread: UUID
    at: datetime
    language: str = "en"
    number: str = ""
    title: str = ""
    personal: bool = False
    priority: str = ""
    service: str | None = None
    team: str | None = None
    state: str = ""
    is_open: bool = False
    since: datetime | None = None
    rule: str = ""
    rulebook_version: int = 0
    link: str = ""

    @property
    def headline(self) -> str:
        """One line: why it is sent, number, priority and title."""
        _ = translator(self.language)
        what = f"{self.number} {self.priority}: {self.title}"
        return _(_FORMS[self.purpose]).replace("{what}", what)

    def facts(self) -> list[tuple[str, str]]:
        """(what, value) of everything else, for people."""
        _ = translator(self.language)
        if self.purpose == TEST:
            return [(_("Sent at"), instant(self.at))]
        found = [(_("State"), _(words.STATES.get(self.state, self.state.replace("_", " "))))]
        if self.service:
            found.append((_("Service"), self.service))
        if self.team:
            found.append((_("Team"), self.team))
        if self.since is not None:
            found.append((_("Since"), instant(self.since)))
        found.append((_("Told by"), _("rule “{rule}”, rulebook version {version}").format(rule=self.rule, version=self.rulebook_version)))
        return found


def instant(at: datetime) -> str:
    """A moment as people read it, in the one zone that nobody has to ask about."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def message_of(
    ticket: Ticket, *, notice: UUID, purpose: str, rule: str, rulebook_version: int, language: str, link: str, at: datetime
) -> Message:
    """The notice about a ticket as it stands."""
    return Message(
        id=notice, purpose=purpose, thread=ticket.id, at=at, language=language, number=ticket.number,
        title=words.plain(ticket.title), personal=ticket.requester is not None, priority=ticket.priority.value,
        service=words.plain(ticket.service) if ticket.service else None, team=words.plain(ticket.team) if ticket.team else None,
        state=ticket.state_name, is_open=ticket.meaning in OPEN, since=ticket.opened_at, rule=words.plain(rule),
        rulebook_version=rulebook_version, link=link,
    )
