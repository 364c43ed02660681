"""A rulebook as a file: TOML in, an edition out, and every fault named by line and column.

What a rulebook may say is `engine/rulebook.py`'s business; `api/shipped_rules.toml` is the one that a new store starts with.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.errors import InvalidInput
from engine.rulebook import Decision, Document, NoticeRule, RulebookPublished, Template, faults

SHIPPED: Final = Path(__file__).parent / "shipped_rules.toml"
LONGEST_BYTES: Final = 512 * 1024
TABLES: Final[dict[str, type[msgspec.Struct]]] = {
    "decision": Decision, "notice": NoticeRule, "template": Template, "document": Document,
}

_HEADER: Final = re.compile(r"^\s*\[\[\s*([A-Za-z_]+)\s*\]\]")
_KEY: Final = re.compile(r"^(\s*([A-Za-z_]+)\s*=\s*)")
_PLACE: Final = re.compile(r"(\w+)\[(\d+)\](?:\.(\w+))?(?:@(\d+))?")
_TOML_PLACE: Final = re.compile(r"\(at line (\d+), column (\d+)\)")
_QUOTES: Final = ('"""', "'''", '"', "'")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong; line and column count from 1."""

    line: int
    column: int
    path: str
    expected: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"line {self.line}, column {self.column}: {where}expected {self.expected}"


class FaultyRulebook(InvalidInput):
    """A rulebook cannot be put in force; nothing of it was.

    Attributes:
        faults: all of them, by line.
    """

    def __init__(self, found: list[Fault]) -> None:
        self.faults = sorted(found, key=lambda fault: (fault.line, fault.column))
        first = self.faults[0]
        super().__init__(first.path or f"line {first.line}, column {first.column}", first.expected)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


def read_rulebook(text: str) -> RulebookPublished:
    """The edition that a document describes.

    Raises:
        FaultyRulebook: it is not TOML, has an unknown table or member, or says something that cannot be.
    """
    if len(text.encode()) > LONGEST_BYTES:
        raise FaultyRulebook([Fault(1, 1, "", f"a document of at most {LONGEST_BYTES // 1024} KiB")])
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _TOML_PLACE.search(str(error))
        line, column = (int(place[1]), int(place[2])) if place else (text.count("\n") + 1, 1)
        raise FaultyRulebook([Fault(line, column, "", f"TOML ({_TOML_PLACE.sub('', str(error)).strip()})")]) from error
    places = _Places(text)
    found = [
        Fault(*places.of_plain(name), name, f"one of the tables [[{']], [['.join(TABLES)}]]") for name in content if name not in TABLES
    ]
    rows: dict[str, list[Any]] = {name: [] for name in TABLES}
    for name, shape in TABLES.items():
        table = content.get(name, [])
        if not isinstance(table, list):
            found.append(Fault(*places.of_plain(name), name, f"rows that begin with [[{name}]]"))
            continue
        for index, row in enumerate(table):
            made = _converted(places, name, index, row, shape)
            if isinstance(made, Fault):
                found.append(made)
            else:
                rows[name].append(made)
    if not found:
        edition = RulebookPublished(
            decisions=tuple(rows["decision"]), notices=tuple(rows["notice"]), templates=tuple(rows["template"]),
            documents=tuple(rows["document"]), text=text,
        )
        found = [places.fault(path, expected) for path, expected in faults(edition)]
    if found:
        raise FaultyRulebook(found)
    return edition


def _converted(places: "_Places", table: str, index: int, row: Any, shape: type[msgspec.Struct]) -> Any:
    path = f"{table}[{index}]"
    names = [field.name for field in msgspec.structs.fields(shape)]
    if not isinstance(row, dict):
        return places.fault(path, f"a row that begins with [[{table}]]")
    for name in row:
        if name not in names:
            return places.fault(f"{path}.{name}", f"one of {', '.join(names)}")
    for field in msgspec.structs.fields(shape):
        if field.name not in row:
            if field.required:
                return places.fault(path, f"a member {field.name}")
            continue
        try:
            msgspec.convert(row[field.name], field.type)
        except msgspec.ValidationError as error:
            return places.fault(f"{path}.{field.name}", str(error).removeprefix("Expected ").partition(" - at ")[0])
    return msgspec.convert(row, shape)


class _Places:
    """Where rows and their members stand in a document."""

    def __init__(self, text: str) -> None:
        self._rows: dict[tuple[str, int], int] = {}
        self._members: dict[tuple[str, int, str], tuple[int, int]] = {}
        self._plain: dict[str, tuple[int, int]] = {}
        counts: dict[str, int] = {}
        table, index, within = "", 0, ""
        for number, line in enumerate(text.splitlines(), 1):
            if within:  # a text of several lines
                within = "" if within in line else within
                continue
            if header := _HEADER.match(line):
                table = header[1]
                index = counts.get(table, 0)
                counts[table] = index + 1
                self._rows[table, index] = number
                self._plain.setdefault(table, (number, 1))
            elif key := _KEY.match(line):
                value = line[key.end() :]
                quote = next((mark for mark in _QUOTES if value.startswith(mark)), "")
                self._members[table, index, key[2]] = number, key.end() + len(quote)
                if not table:
                    self._plain.setdefault(key[2], (number, 1))
                if len(quote) == 3 and quote not in value[3:]:
                    within = quote

    def of_plain(self, name: str) -> tuple[int, int]:
        return self._plain.get(name, (1, 1))

    def fault(self, path: str, expected: str) -> Fault:
        """The fault of a path such as `decision[2].when@7`, at its line and column."""
        place = _PLACE.fullmatch(path)
        if place is None:
            return Fault(*self.of_plain(path), path, expected)
        table, index = place[1], int(place[2])
        member = self._members.get((table, index, place[3] or ""))
        if member is None:
            return Fault(self._rows.get((table, index), 1), 1, path, expected)
        line, column = member
        return Fault(line, column + int(place[4] or 1), path.partition("@")[0], expected)
