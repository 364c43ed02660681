"""Rows become drafts of tickets, or faults by line and column with what was expected. Pure: nothing is looked up.

A draft names people by what the export calls them; `importing` finds or registers them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from api.commands import LONGEST_NAME, LONGEST_TEXT, LONGEST_TITLE
from api.move_in.html_text import text_of
from api.move_in.mapping import TIMES, Mapping
from api.move_in.reading import Record
from engine.errors import InvalidInput
from engine.incident import INCIDENT_STATES, IncidentImported
from engine.priority import DEFAULT_MATRIX, Level, Priority, priority_of
from engine.request import REQUEST_STATES, RequestImported
from engine.ticket import MEANINGS, OPEN, Visibility, check_imported

# Tools round to minutes: what lies so little before the opening happened at the opening.
ROUNDING: Final = timedelta(seconds=60)
EARLIEST_YEAR: Final = 1990
LONGEST_FIELD: Final = 2_000
MOST_COMMENTS: Final = 2_000
# Where an export says a priority only: an impact and urgency that give it.
_LEVELS_OF: Final = {
    Priority.P1: (Level.HIGH, Level.HIGH), Priority.P2: (Level.HIGH, Level.MEDIUM), Priority.P3: (Level.MEDIUM, Level.MEDIUM),
    Priority.P4: (Level.MEDIUM, Level.LOW), Priority.P5: (Level.LOW, Level.LOW),
}
# An incident's state as a request has it, and the other way round, so that a mapping needs one table.
_AS_REQUEST: Final = {"new": "submitted", "resolved": "fulfilled"}
_AS_INCIDENT: Final = {"submitted": "new", "approved": "new", "fulfilled": "resolved", "declined": "cancelled"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row.

    Attributes:
        column: its heading; where several may hold the field, the first.
        value: what stands there.
        file: empty: the file of the tickets.
    """

    line: int
    column: str
    expected: str
    value: str = ""
    file: str = ""

    def __str__(self) -> str:
        given = f", not “{self.value[:60]}”" if self.value else ""
        place = f"{self.file}, " if self.file else ""
        return f"{place}line {self.line}, column “{self.column}”: expected {self.expected}{given}"


@dataclass(frozen=True, slots=True)
class Who:
    """A person as the export has them: a name, an address, or both."""

    name: str
    email: str | None

    @property
    def handle(self) -> str:
        """By what the person is known."""
        return self.email or self.name


@dataclass(frozen=True, slots=True)
class CommentDraft:
    """Something that was said."""

    text: str
    said_at: datetime
    visibility: Visibility
    author: Who | None


@dataclass(slots=True)
class Draft:
    """A ticket to be imported.

    Attributes:
        event: its first fact, with no number and no people yet.
    """

    line: int
    kind: str
    event: IncidentImported | RequestImported
    requester: Who | None
    assignee: Who | None
    comments: list[CommentDraft] = field(default_factory=list)


class _Row:
    """Reads one row by the mapping, and gathers what is wrong."""

    def __init__(self, mapping: Mapping, record: Record, fields: dict[str, tuple[str, ...]]) -> None:
        self.mapping, self.record = mapping, record
        self.fields = _present(tuple(fields.items()), tuple(record.cells))
        self.faults: list[Fault] = []
        self.used: set[str] = set()

    def column(self, name: str) -> str:
        """The column that holds a field: the first filled one, else the first that is there, else the first that might be."""
        columns = self.fields.get(name, ())
        filled = [column for column in columns if self._value(column)]
        there = [column for column in columns if column in self.record.cells]
        return (filled or there or [*columns, name])[0]

    def _value(self, column: str) -> str:
        value = self.record.cells.get(column, "")
        return "" if value in self.mapping.empty else value

    def fault(self, name: str, expected: str, value: str = "") -> None:
        self.faults.append(Fault(self.record.line, self.column(name), expected, value))

    def text(self, name: str, most: int, *, html: bool = False) -> str:
        columns = self.fields.get(name, ())
        self.used.update(columns)
        value = next((found for column in columns if (found := self._value(column))), "")
        if html and self.mapping.html:
            value = text_of(value)
        if len(value) > most:
            self.fault(name, f"at most {most:,} characters", value)
        if "\x00" in value:
            self.fault(name, "a text without NUL characters")
        return value.encode("utf-8", "replace").decode()

    def named(self, name: str) -> str | None:
        return self.text(name, LONGEST_NAME) or None

    def chosen(self, name: str, table: dict[str, str], allowed: Sequence[str], default: str | None) -> str | None:
        """A word of the tool as ours."""
        value = self.text(name, LONGEST_NAME)
        if not value:
            return default
        found = table.get(value) or _folded(table).get(_fold(value))
        if found is None:
            found = next((word for word in allowed if _fold(word) == _fold(value)), None)
        if found is None:
            known = list(table) or list(allowed)
            self.fault(name, f"one of {', '.join(known[:20])}", value)
        return found

    def time(self, name: str) -> datetime | None:
        value = self.text(name, LONGEST_NAME)
        if not value:
            return None
        found = read_time(value, self.mapping)
        if found is None:
            formats = ", ".join(datetime(2024, 5, 31, 16, 45).strftime(form) for form in self.mapping.dates[:3])  # noqa: DTZ001  # an example
            self.fault(name, f"a date and time such as {formats or '2024-05-31 16:45'}, since {EARLIEST_YEAR}", value)
        return found

    def person(self, name: str) -> Who | None:
        text, email = self.named(name), self.named(f"{name}_email")
        return who(text, email, self.mapping.people)


@lru_cache(maxsize=64)
def _present(fields: tuple[tuple[str, tuple[str, ...]], ...], headings: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The columns of each field as this file writes them: capitals and blanks make no difference."""
    written = {_fold(heading): heading for heading in reversed(headings)}
    return {name: tuple(written.get(_fold(column), column) for column in columns) for name, columns in fields}


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def _folded(table: dict[str, str]) -> dict[str, str]:
    return {_fold(given): meant for given, meant in table.items()}


def _number(text: str) -> str:
    """Some tools group the digits of a number: `12 345` is 12345."""
    digits = "".join(text.split())
    return digits if digits.isdigit() else text


def who(name: str | None, email: str | None, aliases: dict[str, str]) -> Who | None:
    """Somebody by name and address; an address in a name (`Ann <ann@example.com>`) is taken out of it."""
    if name and not email and name.endswith(">") and "<" in name:
        before, _, inside = name[:-1].rpartition("<")
        if "@" in inside:
            name, email = before.strip().strip('"') or inside, inside.strip()
    if name and not email and "@" in name and " " not in name:
        email = name
    if not name and not email:
        return None
    for given in (name, email):
        if given in aliases:
            meant = aliases[given]
            return Who(given, meant) if meant else None  # the empty text: it stands for nobody
    return Who(name or email or "", email.lower() if email else None)


def read_time(text: str, mapping: Mapping) -> datetime | None:
    """An instant as the export writes it, in UTC; None: no such. A time without an offset is one of the mapping's zone; of
    an hour that the clocks repeat, the first."""
    moment = None
    for form in mapping.dates:
        try:
            moment = datetime.strptime(text, form)  # noqa: DTZ007  # the zone follows
            break
        except ValueError:
            continue
    if moment is None:
        try:
            moment = datetime.fromisoformat(text.replace(" UTC", "+00:00").replace(" +", "+"))
        except ValueError:
            return None
    if not EARLIEST_YEAR <= moment.year <= 9000:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(mapping.zone))).astimezone(UTC)


class Planner:
    """Makes drafts of rows.

    Args:
        now: what lies after it cannot have happened.
        comments: of a file of their own.
    """

    def __init__(self, mapping: Mapping, now: datetime, comments: "CommentFile | None" = None) -> None:
        self._mapping, self._now, self._comments = mapping, now, comments or CommentFile()
        self._lines: dict[str, int] = {}

    def plan(self, records: Iterable[Record]) -> Iterator[tuple[Record, Draft | list[Fault]]]:
        """A draft, or all that is wrong with the row."""
        for record in records:
            yield record, self._plan(record)

    def _plan(self, record: Record) -> Draft | list[Fault]:
        mapping = self._mapping
        row = _Row(mapping, record, mapping.fields)
        number = _number(row.text("number", LONGEST_NAME))
        if not number:
            row.fault("number", "a number")
        elif number in self._lines:
            row.fault("number", f"a number that is not in line {self._lines[number]} already", number)
        else:
            self._lines[number] = record.line
        kind = row.chosen("kind", mapping.kinds, ("incident", "request"), mapping.kind) or mapping.kind
        values = self._values(row, kind, number)
        requester, assignee = row.person("requester"), row.person("assignee")
        row.faults += self._comments.faults.get(number, ())
        comments = [*self._comments.drafts.get(number, ()), *self._own_comments(row, values.get("opened_at"))]
        if len(comments) > MOST_COMMENTS:
            row.fault("number", f"at most {MOST_COMMENTS} comments")
        values["fields"] = self._rest(row)
        if row.faults:
            return row.faults
        event: IncidentImported | RequestImported
        if kind == "incident":
            event = IncidentImported(**values)
        else:
            event = RequestImported(**{name: value for name, value in values.items() if name not in ("impact", "urgency")})
        try:
            check_imported(event, INCIDENT_STATES if kind == "incident" else REQUEST_STATES, self._now)
        except InvalidInput as error:
            row.fault({"old_number": "number"}.get(error.field, error.field), error.expected, record.cells.get(row.column(error.field), ""))
            return row.faults
        return Draft(record.line, kind, event, requester, assignee, sorted(comments, key=lambda comment: comment.said_at))

    def _values(self, row: _Row, kind: str, number: str) -> dict[str, Any]:
        mapping = self._mapping
        title = row.text("title", LONGEST_TITLE, html=True)
        if not title:
            row.fault("title", "a title")
        states = INCIDENT_STATES if kind == "incident" else REQUEST_STATES
        state = row.chosen("state", mapping.states, states, "closed") or "closed"
        state = (_AS_INCIDENT if kind == "incident" else _AS_REQUEST).get(state, state)
        impact, urgency, priority = self._weight(row)
        times = {name: row.time(name) for name in TIMES}
        opened_at = times["opened_at"]
        if opened_at is None:
            if not any(fault.column == row.column("opened_at") for fault in row.faults):
                row.fault("opened_at", "when it was opened")
        else:
            for name, instant in times.items():
                if instant is not None and opened_at - ROUNDING <= instant < opened_at:
                    times[name] = opened_at
        if state in MEANINGS and MEANINGS[state] in OPEN:
            # Of a ticket that was reopened there: the end that was none.
            times["resolved_at"] = times["closed_at"] = None
        elif times["resolved_at"] is None:
            times["resolved_at"] = times["closed_at"]
        code = row.chosen("code", mapping.codes, (), None) if mapping.codes else None
        return {
            "number": "", "system": mapping.system, "old_number": number, "title": title, "state": state, "impact": impact,
            "urgency": urgency, "priority": priority, "channel": row.named("channel") or "import", "service": row.named("service"),
            "description": row.text("description", LONGEST_TEXT, html=True), "team": row.named("team"), "category": row.named("category"),
            "code": code, "solution": row.text("solution", LONGEST_TEXT, html=True), **times,
        }

    def _weight(self, row: _Row) -> tuple[Level, Level, Priority]:
        mapping = self._mapping
        levels = [row.chosen(name, mapping.levels, tuple(Level), None) for name in ("impact", "urgency")]
        given = row.chosen("priority", mapping.priorities, tuple(Priority), None)
        priority = Priority(given) if given in tuple(Priority) else None
        if levels[0] and levels[1]:
            impact, urgency = Level(levels[0]), Level(levels[1])
            return impact, urgency, priority or priority_of(impact, urgency, DEFAULT_MATRIX)
        priority = priority or Priority.P3
        return *_LEVELS_OF[priority], priority

    def _own_comments(self, row: _Row, opened_at: datetime | None) -> list[CommentDraft]:
        shape, record = self._mapping.comments, row.record
        found = [
            CommentDraft(text_of(text) if self._mapping.html else text, opened_at, shape.visibility, None)
            for column in shape.columns for text in record.more.get(column, ()) if text not in self._mapping.empty and opened_at
        ]
        row.used.update(shape.columns)
        for cells in record.comments.get(shape.list or "", ()):
            drafted = draft_comment(self._mapping, Record(record.line, cells, {}, {}), opened_at)
            if isinstance(drafted, CommentDraft):
                found.append(drafted)
            else:
                row.faults += drafted
        return found

    def _rest(self, row: _Row) -> dict[str, str]:
        if not self._mapping.rest:
            return {}
        left_out = {*row.used, *self._mapping.ignore}
        return {
            column[:LONGEST_NAME]: value[:LONGEST_FIELD].replace("\x00", "").encode("utf-8", "replace").decode()
            for column, value in row.record.cells.items()
            if column and column not in left_out and value not in self._mapping.empty
        }


def draft_comment(mapping: Mapping, record: Record, opened_at: datetime | None) -> CommentDraft | list[Fault]:
    """A comment of a row of its own, or what is wrong with it.

    Args:
        opened_at: when it was said where that is not told; None: it has to be told.
    """
    shape = mapping.comments
    row = _Row(mapping, record, shape.fields)
    text = row.text("text", LONGEST_TEXT, html=True)
    if not text:
        row.fault("text", "what was said")
    said_at = row.time("said_at") or opened_at
    if said_at is None and not row.faults:
        row.fault("said_at", "when it was said")
    visibility = row.chosen("visibility", shape.visibilities, tuple(Visibility), shape.visibility.value)
    author = who(row.named("author"), row.named("author_email"), mapping.people)
    if row.faults or said_at is None:
        return row.faults
    return CommentDraft(text, said_at, Visibility(visibility or shape.visibility), author)


@dataclass(slots=True)
class CommentFile:
    """Comments of a file of their own, and what is wrong with them, by the number of their ticket (empty: none is told)."""

    drafts: dict[str, list[CommentDraft]] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    @classmethod
    def of(cls, mapping: Mapping, records: Iterable[Record], name: str) -> "CommentFile":
        found = cls()
        for record in records:
            row = _Row(mapping, record, mapping.comments.fields)
            number = _number(row.text("number", LONGEST_NAME))
            if not number:
                row.fault("number", "the number of its ticket")
            drafted = draft_comment(mapping, record, None)
            if isinstance(drafted, CommentDraft) and not row.faults:
                found.drafts.setdefault(number, []).append(drafted)
            else:
                wrong = [*row.faults, *(drafted if isinstance(drafted, list) else ())]
                found.faults.setdefault(number, []).extend(replace(fault, file=name) for fault in wrong)
        return found
