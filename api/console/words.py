"""The words of the pages for what the engine stores as codes: states, priorities, commands, dispositions, relations.

A code that is not listed is shown as it is, with blanks for underscores, so an organisation's own states read well too.
"""

from collections.abc import Callable, Mapping
from typing import Final

from markupsafe import Markup, escape

from api.console.instants import many
from api.console.language import gettext as _
from api.console.language import mark
from engine.errors import IllegalTransition, InvalidInput, NotFound, Phrase, TocsinError

STATES: Final[Mapping[str, str]] = {
    "new": mark("new"),
    "submitted": mark("submitted"),
    "approved": mark("approved"),
    "assigned": mark("assigned"),
    "in_progress": mark("in progress"),
    "pending": mark("pending"),
    "resolved": mark("resolved"),
    "fulfilled": mark("fulfilled"),
    "closed": mark("closed"),
    "cancelled": mark("cancelled"),
    "declined": mark("declined"),
}
PRIORITIES: Final[Mapping[str, str]] = {
    "P1": mark("critical"),
    "P2": mark("high"),
    "P3": mark("medium"),
    "P4": mark("low"),
    "P5": mark("planning"),
}
KINDS: Final[Mapping[str, str]] = {"incident": mark("incident"), "request": mark("service request")}
LEVELS: Final[Mapping[str, str]] = {"high": mark("high"), "medium": mark("medium"), "low": mark("low")}
SEVERITIES: Final[Mapping[str, str]] = {
    "critical": mark("critical"), "high": mark("high"), "warning": mark("warning"), "info": mark("info"),
}
CODES: Final[Mapping[str, str]] = {
    "solved": mark("solved for good"),
    "workaround": mark("workaround in place"),
    "duplicate": mark("duplicate of another"),
    "no_fault": mark("no fault found"),
    "no_longer_reported": mark("no longer reported"),
    "answered_by_document": mark("answered by a document"),
    "restart": mark("restart"),
    "fulfilled": mark("fulfilled"),
}
RELATIONS: Final[Mapping[str, str]] = {
    "related": mark("related to"),
    "duplicate_of": mark("duplicate of"),
    "caused_by": mark("caused by"),
    "parent_of": mark("parent of"),
    "child_of": mark("child of"),
    "successor_of": mark("successor of"),
}
# The same relations seen from the other ticket.
INVERSES: Final[Mapping[str, str]] = {
    "related": mark("related to"),
    "duplicate_of": mark("has the duplicate"),
    "caused_by": mark("cause of"),
    "parent_of": mark("child of"),
    "child_of": mark("parent of"),
    "successor_of": mark("came back as"),
}
DISPOSITIONS: Final[Mapping[str, str]] = {
    "opened": mark("opened"),
    "repeated": mark("repeated"),
    "resolved": mark("resolved"),
    "acknowledged": mark("acknowledged"),
    "suppressed": mark("suppressed"),
    "inhibited": mark("inhibited"),
    "held": mark("held"),
    "late": mark("late"),
    "unmatched": mark("unmatched"),
    "ignored": mark("ignored"),
    "rejected": mark("rejected"),
}
DISPOSITION_MEANINGS: Final[Mapping[str, str]] = {
    "opened": mark("an episode begins"),
    "repeated": mark("one more occurrence of the open episode"),
    "resolved": mark("the episode is over"),
    "acknowledged": mark("somebody at the sender is on it"),
    "suppressed": mark("a silence or maintenance window covers it"),
    "inhibited": mark("another alert explains it"),
    "held": mark("flapping, not yet hard, or settling"),
    "late": mark("of an episode that had ended: recorded, changes nothing"),
    "unmatched": mark("nothing open that it could speak of"),
    "ignored": mark("not about a condition"),
    "rejected": mark("could not be read"),
}
ROLES: Final[Mapping[str, str]] = {
    "requester": mark("requester"), "agent": mark("agent"), "lead": mark("lead"), "auditor": mark("auditor"),
    "admin": mark("administrator"),
}
# What a command is called on a button, in a message after it was done, and as a thing to do.
COMMANDS: Final[Mapping[str, str]] = {
    "acknowledge": mark("Acknowledge"),
    "take": mark("Take"),
    "assign": mark("Assign"),
    "comment": mark("Comment"),
    "attach": mark("Attach a file"),
    "escalate": mark("Escalate"),
    "hold": mark("Hold"),
    "resume": mark("Resume"),
    "set-priority": mark("Set priority"),
    "set-impact": mark("Set impact"),
    "resolve": mark("Resolve"),
    "reopen": mark("Reopen"),
    "close": mark("Close"),
    "cancel": mark("Cancel"),
    "categorise": mark("Categorise"),
    "link": mark("Link"),
    "renew-link": mark("Renew the private link"),
    "approve": mark("Approve"),
    "decline": mark("Decline"),
    "fulfil": mark("Fulfil"),
}
DONE: Final[Mapping[str, str]] = {
    "acknowledge": mark("%s is acknowledged: it is yours to work on."),
    "take": mark("%s is yours."),
    "assign": mark("%s is assigned."),
    "comment": mark("Your comment stands on %s."),
    "attach": mark("The file stands on %s."),
    "escalate": mark("%s is escalated."),
    "hold": mark("%s waits."),
    "resume": mark("%s goes on."),
    "set-priority": mark("The priority of %s is set."),
    "set-impact": mark("Impact and urgency of %s are set."),
    "resolve": mark("%s is resolved."),
    "reopen": mark("%s is open again."),
    "close": mark("%s is closed."),
    "cancel": mark("%s is cancelled."),
    "categorise": mark("The category of %s is set."),
    "link": mark("%s is linked."),
    "renew-link": mark("The private link to %s is another one now; the one before is void."),
    "approve": mark("%s is approved."),
    "decline": mark("%s is declined."),
    "fulfil": mark("%s is fulfilled."),
    "opened": mark("%s is open."),
}
# The same for several at once.
DONE_MANY: Final[Mapping[str, Callable[[int], str]]] = {
    "take": lambda number: many("%s ticket is yours.", "%s tickets are yours.", number),
    "assign": lambda number: many("%s ticket is assigned.", "%s tickets are assigned.", number),
    "set-priority": lambda number: many("The priority of %s ticket is set.", "The priority of %s tickets is set.", number),
    "hold": lambda number: many("%s ticket waits.", "%s tickets wait.", number),
    "resume": lambda number: many("%s ticket goes on.", "%s tickets go on.", number),
    "escalate": lambda number: many("%s ticket is escalated.", "%s tickets are escalated.", number),
    "resolve": lambda number: many("%s ticket is resolved.", "%s tickets are resolved.", number),
    "categorise": lambda number: many("The category of %s ticket is set.", "The category of %s tickets is set.", number),
    "close": lambda number: many("%s ticket is closed.", "%s tickets are closed.", number),
}
# What needs no number to be told.
DONE_ALONE: Final[Mapping[str, str]] = {"view-saved": mark("The view is saved: it stands beside the queue.")}

# The ways in that Tocsin itself has; others are shown as they were named.
CHANNELS: Final[Mapping[str, str]] = {
    "monitoring": mark("monitoring"), "console": mark("console"), "portal": mark("portal"), "mail": mark("mail"), "phone": mark("phone"),
    "chat": mark("chat"), "api": mark("interface"),
}

# What the engine says besides the state when a command makes no sense; here so that the catalogues have it.
WHY_NOT: Final = (mark("it is approved already"), mark("it is not approved"), mark("it is acknowledged already"))

# Characters that change how their neighbours are read (text direction), or that nobody sees. Joiners stay: emoji and
# several scripts need them.
_TRICKY: Final = {
    *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x200E, 0x200F, 0x061C, 0xFEFF, 0x2028, 0x2029, 0x180E,
    *range(0xFFF9, 0xFFFC), *range(0xD800, 0xE000), *range(0xE0000, 0xE0080),
}


def word(table: Mapping[str, str], code: str | None) -> str:
    """The reader's word for a code."""
    if code is None:
        return "–"
    known = table.get(code)
    return _(known) if known is not None else code.replace("_", " ")


def said(text: str) -> str:
    """A text of the engine in the reader's language."""
    if isinstance(text, Phrase):
        return _(text.message) % tuple(said(value) if isinstance(value, Phrase) else value for value in text.values)
    return _(text) if text else ""


def refusal(error: TocsinError) -> str:
    """What stood in the way, in the reader's words."""
    match error:
        case InvalidInput():
            return _("%(field)s: expected %(expected)s") % {"field": error.field, "expected": said(error.phrase)}
        case NotFound():
            return _("there is no %(what)s %(name)s") % {"what": _(error.what), "name": error.name}
        case IllegalTransition():
            reason = _(error.why) if error.why else _("it is “%s”") % word(STATES, error.state)
            text = _("“%(command)s” is not possible on %(number)s: %(reason)s.")
            return text % {"command": word(COMMANDS, error.command), "number": error.number, "reason": reason}
    return said(error.args[0]) if error.args and isinstance(error.args[0], str) else str(error)


def _symbol(code: int, keep: str) -> str | None:
    """What is shown instead of a character; None: the character itself."""
    if chr(code) in keep:
        return None
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if code in _TRICKY or 0x80 <= code < 0xA0:
        return f"U+{code:04X}"
    return None


def plain(text: str | None) -> str:
    """Text of somebody else for an attribute or a title bar: what hides or turns text is named in brackets."""
    if not text:
        return ""
    if text.isprintable():  # none of the characters in question is
        return text
    parts = []
    for character in text:
        symbol = _symbol(ord(character), "")
        parts.append(character if symbol is None else symbol if len(symbol) == 1 else f"[{symbol}]")
    return "".join(parts)


def shown(text: str | None, keep: str = "") -> Markup:
    """Text of somebody else, isolated from what stands around it; characters that hide or turn text are shown as symbols.

    Args:
        keep: control characters that stay as they are (line ends in a comment).
    """
    if not text:
        return Markup("")
    if text.isprintable():
        return Markup("<bdi>{}</bdi>").format(text)
    parts = []
    for character in text:
        symbol = _symbol(ord(character), keep)
        parts.append(escape(character) if symbol is None else Markup('<span class="ctl">{}</span>').format(symbol))
    return Markup('<bdi dir="auto">{}</bdi>').format(Markup("").join(parts))


def shown_lines(text: str | None) -> Markup:
    """`shown` for text of several lines."""
    return shown((text or "").replace("\r\n", "\n"), keep="\n\t")


def initials(name: str | None) -> str:
    """At most two letters for a person's mark."""
    words = [part for part in (name or "").split() if part[0].isalnum()]
    letters = [words[0][0], words[-1][0]] if len(words) > 1 else [words[0][:2]] if words else ["?"]
    return plain("".join(letters).upper())
