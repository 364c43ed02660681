"""The rulebook: what is decided about a ticket that opens, who is told of it, the texts that are sent, and what helps beforehand.

It is one document, published as an event with a version, and every decision names both. Conditions are written in the
Common Expression Language (https://cel.dev): no loops, no side effects, and an answer in microseconds. This module says what
a rulebook is and when a condition holds; `engine/triage.py` decides by it, `engine/notice.py` tells people by it, and
`engine/rule.py` has the rules that group alerts into incidents.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from engine.aggregate import Aggregate, Journal, applies
from engine.cel_library import cel
from engine.errors import InvalidInput
from engine.event import Event, Fact
from engine.identity import stream_id
from engine.priority import Level, Priority

RULEBOOK: Final = stream_id("rulebook")

# What a condition may ask for. Each name is always there: what does not apply is empty text, false, 0 or an empty list.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ticket": (
        "kind", "title", "description", "service", "team", "category", "channel", "priority", "impact", "urgency", "item",
        "level", "fields",
    ),
    "requester": ("name", "team"),
    "alert": ("source", "severity", "resource", "labels"),
    "report": (
        "talk_needed", "task_needed", "work_affected", "answered_by_document", "document", "restarted", "page", "seconds",
        "suggestions",
    ),
    "service": ("tier", "owner_team", "registered"),
}
# Besides: where it comes from (`alert` or `person`), and title and description in small letters: whole, and as words.
PLAIN: Final = ("origin", "text", "words")
LONGEST_TITLE: Final = 200
_WORD: Final = re.compile(r"\w+")
_QUOTED: Final = re.compile(r"""r?("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_BOUND: Final = re.compile(r"\.(?:exists|exists_one|all|filter|map)\(\s*(\w+)\s*,")
_ASKED: Final = re.compile(r"(?<![\w.])(\w+)\s*\.\s*(\w+)")
# Of the maps whose members nobody knows beforehand.
OPEN_FIELDS: Final = frozenset({"labels", "fields"})

class Record:
    """What conditions see of one ticket: made once, asked often.

    Attributes:
        values: `FIELDS` and `PLAIN`.
    """

    __slots__ = ("context", "values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.context = cel.Context(dict(values))


class Origin(StrEnum):
    """What a decision is about."""

    ALERT = "alert"
    PERSON = "person"


class Outcome(StrEnum):
    """What becomes of it. `close`: a ticket that is resolved and closed at once; `ignore`: an alert that opens none."""

    OPEN = "open"
    CLOSE = "close"
    IGNORE = "ignore"


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of the table of decisions. All rows whose condition holds apply; for each effect the first one that has it.

    Attributes:
        on: alerts that would open an incident, people's reports, or both.
        when: a CEL condition.
        code, reason: of the resolution, where the outcome is `close`.
        to_owner: route it to the team that owns its service, where that is known.
        reply: the template that answers the requester.
    """

    name: str
    when: str
    on: tuple[Origin, ...] = (Origin.ALERT, Origin.PERSON)
    outcome: Outcome | None = None
    code: str | None = None
    reason: str | None = None
    service: str | None = None
    category: str | None = None
    impact: Level | None = None
    urgency: Level | None = None
    priority: Priority | None = None
    team: str | None = None
    to_owner: bool = False
    level: int | None = None
    reply: str | None = None


class NoticeStep(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to tell next where nobody has acknowledged the ticket this long after it opened."""

    after_seconds: float
    to: tuple[str, ...]


class NoticeRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who is told of a ticket.

    Attributes:
        to: names of recipients that are told at once.
        then: who is told next, while nobody has acknowledged it.
        repeat_seconds: everybody told so far is told again at this interval, while nobody has acknowledged it; None: never.
        most_repeats: and at most so often.
    """

    name: str
    when: str
    to: tuple[str, ...]
    then: tuple[NoticeStep, ...] = ()
    repeat_seconds: float | None = None
    most_repeats: int = 6


class Template(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A text that is sent to requesters, by name and language. `{number}`, `{title}`, `{name}` and `{link}` are filled in."""

    name: str
    text: str
    language: str = "en"


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is offered to people before they send a report that it may answer. By name and language, as templates are.

    Attributes:
        title: what it answers, in the reader's words.
        when: a CEL condition over the report, as it stands before it is sent.
        text: the answer itself; `address`: where it stands, https only. At least one of the two.
    """

    name: str
    title: str
    when: str
    text: str = ""
    address: str = ""
    language: str = "en"


PLACEHOLDERS: Final = ("number", "title", "name", "link")
_PLACE: Final = re.compile(r"\{([^{}]*)\}")


def filled(text: str, values: Mapping[str, str]) -> str:
    """A template's text with its placeholders filled in; what is no placeholder stays as it is."""
    return _PLACE.sub(lambda found: values.get(found[1], found[0]), text)


class RulebookPublished(Event, frozen=True):
    """A rulebook is in force from here on.

    Attributes:
        text: the document as it was written, for reading and for the next edition.
    """

    TOPIC: ClassVar[str] = "rulebook.published.v1"
    decisions: tuple[Decision, ...] = ()
    notices: tuple[NoticeRule, ...] = ()
    templates: tuple[Template, ...] = ()
    text: str = ""
    documents: tuple[Document, ...] = ()


class Rulebook(Aggregate):
    """The editions of the rulebook; the latest is in force. Its version is that of its stream.

    Attributes:
        for_alerts, for_people: the decisions that concern either, in order.
        judges_alerts: whether one of them says which alerts are worth an incident.
    """

    KIND: ClassVar[str] = "rulebook"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.decisions: tuple[Decision, ...] = ()
        self.for_alerts: tuple[Decision, ...] = ()
        self.for_people: tuple[Decision, ...] = ()
        self.judges_alerts = False
        self.notices: tuple[NoticeRule, ...] = ()
        self.templates: tuple[Template, ...] = ()
        self.documents: tuple[Document, ...] = ()
        self.text = ""

    def publish(self, edition: RulebookPublished) -> Fact | None:
        """Put an edition in force; None where it is in force already.

        Raises:
            InvalidInput: the first fault of it (`faults` lists all).
        """
        for path, expected in faults(edition):
            raise InvalidInput(path, expected)
        if self.exists and edition.text == self.text:
            return None
        return self.record(edition)

    def template(self, name: str, language: str) -> Template | None:
        """The text of this name, in this language where there is one, else in the first that it was written in."""
        found = [template for template in self.templates if template.name == name]
        return next((template for template in found if template.language == language), found[0] if found else None)

    def documents_for(self, record: "Record", language: str) -> list[Document]:
        """What may answer a report, in the order of the rulebook; each in this language where it is, else in its first."""
        found: dict[str, Document] = {}
        for document in self.documents:
            known = found.get(document.name)
            wanted = known is None or (document.language == language and known.language != language)
            if wanted and matches(document.when, record):
                found[document.name] = document
        return list(found.values())

    @applies(RulebookPublished)
    def _published(self, event: RulebookPublished) -> None:
        self.decisions, self.notices, self.templates, self.text = event.decisions, event.notices, event.templates, event.text
        self.documents = event.documents
        self.for_alerts = tuple(decision for decision in event.decisions if Origin.ALERT in decision.on)
        self.judges_alerts = any(decision.outcome is not None for decision in self.for_alerts)
        self.for_people = tuple(decision for decision in event.decisions if Origin.PERSON in decision.on)


# -- conditions --------------------------------------------------------------------------------------------------------


def record_of(
    *,
    origin: Origin,
    ticket: Mapping[str, Any],
    requester: Mapping[str, Any] | None = None,
    alert: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    service: Mapping[str, Any] | None = None,
) -> Record:
    """What a condition sees: `FIELDS`, filled with what is known; None and what is left out become empty."""
    given = {"ticket": ticket, "requester": requester, "alert": alert, "report": report, "service": service}
    values: dict[str, Any] = {name: _filled(name, given[name] or {}) for name in FIELDS}
    text = f"{values['ticket']['title']}\n{values['ticket']['description']}".lower()
    return Record(values | {"origin": origin.value, "text": text, "words": _WORD.findall(text)})


def _filled(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {field: _empty(field) if given.get(field) is None else given[field] for field in FIELDS[name]}


_NUMBERS: Final = frozenset({"level", "seconds", "tier"})
_CLAIMS: Final = frozenset({"talk_needed", "task_needed", "work_affected", "answered_by_document", "restarted", "registered"})


def _empty(field: str) -> Any:
    if field in OPEN_FIELDS:
        return {}
    if field in _NUMBERS:
        return 0
    if field in _CLAIMS:
        return False
    return [] if field == "suggestions" else ""


@lru_cache(maxsize=1_024)
def _program(when: str) -> cel.Program:
    return cel.compile(when)


def matches(when: str, record: Record) -> bool:
    """Whether the condition holds. One that asks for a label or field that is not there does not hold."""
    try:
        return _program(when).execute(record.context) is True
    except (ValueError, RuntimeError, TypeError, KeyError, ArithmeticError):
        return False


_SAMPLES: Final = tuple(
    record_of(
        origin=origin, ticket={"kind": "incident", "title": "VPN is down", "priority": "P1", "level": 1},
        report={"talk_needed": True, "seconds": 40}, alert={"severity": "critical", "labels": {"alertname": "VpnDown"}},
        service={"tier": 1, "registered": True},
    )
    for origin in Origin
)


def fault_of(when: str) -> tuple[int, str] | None:
    """(column from 1, what was expected) of what is wrong with a condition; None where it is right."""
    try:
        program = _program(when)
    except ValueError as error:
        place = re.search(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)", str(error))
        column = int(place[2]) if place else 1
        return column, f"a condition in CEL ({place[3] if place else error})"
    known = {*FIELDS, *PLAIN}
    bound = set(_BOUND.findall(when))
    for name in program.variables():
        if name not in known and name not in bound:
            place = re.search(rf"(?<![\w.]){re.escape(name)}\b", when)
            return (place.start() + 1 if place else 1), f"one of {', '.join(sorted(known))}; there is no {name}"
    # Strings may hold anything, so that they are blanked; columns stay.
    bare = _QUOTED.sub(lambda found: '"' + " " * (len(found[0]) - 2) + '"', when)
    for found in _ASKED.finditer(bare):
        room, field = found[1], found[2]
        if room in FIELDS and field not in FIELDS[room]:
            return found.start(2) + 1, f"a field of {room}: {', '.join(FIELDS[room])}; there is no {field}"
    for sample in _SAMPLES:
        try:
            answer = program.execute(sample.context)
        except KeyError:
            continue  # a label or field that the sample does not have
        except (ValueError, RuntimeError, TypeError, ArithmeticError) as error:
            return 1, f"a condition that can be evaluated ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        if not isinstance(answer, bool):
            return 1, "a condition: something that is true or false"
    return None


def faults(edition: RulebookPublished) -> list[tuple[str, str]]:
    """(path, what was expected) of everything that is wrong with an edition; a path is like `decision[2].when`.

    Whoever knows the document's text can say the line; a fault within a condition has its column after an `@`.
    """
    templates = {template.name for template in edition.templates}
    found: list[tuple[str, str]] = []
    for place, decision in enumerate(edition.decisions):
        found += _of_decision(f"decision[{place}]", decision, templates)
    for place, notice in enumerate(edition.notices):
        found += _of_notice(f"notice[{place}]", notice)
    for place, template in enumerate(edition.templates):
        for name in _PLACE.findall(template.text):
            if name not in PLACEHOLDERS:
                found.append((f"template[{place}].text", f"only {{{'}, {'.join(PLACEHOLDERS)}}} in braces; there is no {{{name}}}"))
    for place, document in enumerate(edition.documents):
        found += _of_document(f"document[{place}]", document)
    found += _twice("decision", [decision.name for decision in edition.decisions])
    found += _twice("notice", [notice.name for notice in edition.notices])
    found += _twice("template", [f"{template.name} ({template.language})" for template in edition.templates])
    found += _twice("document", [f"{document.name} ({document.language})" for document in edition.documents])
    return found


def _of_decision(path: str, decision: Decision, templates: Collection[str]) -> Iterator[tuple[str, str]]:
    yield from _condition(path, decision.when)
    if decision.reply is not None and decision.reply not in templates:
        yield f"{path}.reply", f"the name of a template; there is no {decision.reply}"
    if decision.outcome is Outcome.CLOSE and not (decision.code and decision.reason):
        yield f"{path}.outcome", "code and reason beside the outcome close"
    if decision.outcome is Outcome.CLOSE and Origin.ALERT in decision.on:
        yield f"{path}.on", 'on = ["person"]: an alert is ignored, not closed'
    if decision.outcome is Outcome.IGNORE and Origin.PERSON in decision.on:
        yield f"{path}.on", 'on = ["alert"]: what a person reports is never ignored'
    if decision.level is not None and not 1 <= decision.level <= 3:
        yield f"{path}.level", "a support level: 1, 2 or 3"


def _of_notice(path: str, notice: NoticeRule) -> Iterator[tuple[str, str]]:
    yield from _condition(path, notice.when)
    if not notice.to:
        yield f"{path}.to", "at least one recipient"
    if notice.repeat_seconds is not None and not 30 <= notice.repeat_seconds <= 7 * 86_400:
        yield f"{path}.repeat_seconds", "seconds from 30 to a week"
    if not 0 <= notice.most_repeats <= 1_000:
        yield f"{path}.most_repeats", "a number from 0 to 1000"
    if any(not 0 < step.after_seconds <= 31 * 86_400 or not step.to for step in notice.then):
        yield f"{path}.then", "after_seconds from 1 to a month, and at least one recipient in to"


def _of_document(path: str, document: Document) -> Iterator[tuple[str, str]]:
    yield from _condition(path, document.when)
    for field in ("name", "title"):
        if not getattr(document, field).strip() or len(getattr(document, field)) > LONGEST_TITLE:
            yield f"{path}.{field}", f"a text of at most {LONGEST_TITLE} characters"
    if not document.text.strip() and not document.address:
        yield path, "a text, an address, or both"
    if document.address and not _https(document.address):
        yield f"{path}.address", "an address such as https://help.example.org/printer"


def _https(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme == "https" and bool(parts.hostname) and address.isprintable() and " " not in address
    except ValueError:
        return False


def _condition(path: str, when: str) -> list[tuple[str, str]]:
    fault = fault_of(when)
    return [] if fault is None else [(f"{path}.when@{fault[0]}", fault[1])]


def _twice(table: str, names: list[str]) -> list[tuple[str, str]]:
    return [
        (f"{table}[{place}].name", f"a name of its own; {name} is there already")
        for place, name in enumerate(names)
        if not name.strip() or name in names[:place]
    ]
