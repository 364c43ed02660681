"""Rows of an export: CSV in the encodings and dialects that tools and spreadsheets write, or JSON, one object a line."""

import codecs
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from engine.errors import InvalidInput

SAMPLE_BYTES: Final = 64 * 1024
DELIMITERS: Final = (";", ",", "\t", "|")
LONGEST_CELL: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One row.

    Attributes:
        line: where it begins in the file, from 1.
        cells: column to text, without outer blanks; a column that is there several times keeps each filled value in `more`.
        comments: what a JSON row holds as a list of objects, by column.
    """

    line: int
    cells: dict[str, str]
    more: dict[str, list[str]]
    comments: dict[str, list[dict[str, str]]]


class Unreadable(InvalidInput):
    """A line of the file cannot be read at all."""


def encoding_of(file: Path) -> str:
    """By its byte order mark; else UTF-8 where the whole file is, else Windows-1252."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with file.open("rb") as content:
        head = content.read(4)
        for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
            if head.startswith(mark):
                return name
        # Without a mark: every other byte of Latin text is zero.
        if len(head) == 4 and head[1] == head[3] == 0:
            return "utf-16-le"
        if len(head) == 4 and head[0] == head[2] == 0:
            return "utf-16-be"
        content.seek(0)
        try:
            while chunk := content.read(SAMPLE_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


def delimiter_of(line: str) -> str:
    """The one that parts the heading, outside of quotes, most often; a comma where none does."""
    counts = dict.fromkeys(DELIMITERS, 0)
    quoted = False
    for character in line:
        if character == '"':
            quoted = not quoted
        elif not quoted and character in counts:
            counts[character] += 1
    best = max(DELIMITERS, key=lambda delimiter: counts[delimiter])
    return best if counts[best] else ","


def read(file: Path, *, encoding: str | None = None, delimiter: str | None = None) -> Iterator[Record]:
    """The rows of a file; JSON Lines where it is named so (`.jsonl`, `.ndjson`) or begins with a brace.

    Raises:
        Unreadable: names the line.
        InvalidInput: an unknown encoding.
    """
    try:
        content = file.open(encoding=encoding or encoding_of(file), newline="", errors="strict" if encoding else "replace")
    except LookupError:
        raise InvalidInput("encoding", "one that Python knows, such as utf-8 or cp1252") from None
    with content:
        try:
            if file.suffix.lower() in (".jsonl", ".ndjson") or _begins_with_brace(content):
                yield from _objects(content)
            else:
                yield from _rows(content, delimiter)
        except UnicodeDecodeError as error:
            raise InvalidInput("encoding", f"that of the file; it is not {error.encoding}") from None


def _begins_with_brace(content: TextIO) -> bool:
    begin = content.read(64).lstrip("\ufeff \r\n\t")
    content.seek(0)
    return begin.startswith("{")


def _rows(content: TextIO, delimiter: str | None) -> Iterator[Record]:
    csv.field_size_limit(LONGEST_CELL)
    if delimiter is None:
        first = content.readline()
        if first.lower().startswith("sep="):  # a line that Excel puts there for itself
            delimiter = first[4:].strip("\r\n") or ","
            skipped = 1
        else:
            delimiter, skipped = delimiter_of(_whole(first, content)), 0
            content.seek(0)
    else:
        skipped = 0
    reader = csv.reader(content, delimiter=delimiter, strict=True)
    headings: list[str] | None = None
    line = skipped + 1
    try:
        for row in reader:
            begun, line = line, skipped + reader.line_num + 1
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if headings is None:
                headings = [_heading(cell) for cell in cells]
                continue
            if len(cells) > len(headings) and any(cells[len(headings) :]):
                raise Unreadable(f"line {begun}", f"{len(headings)} columns as in the heading, not {len(cells)}")
            yield _record(begun, headings, cells)
    except csv.Error as error:
        raise Unreadable(f"line {line}", f"CSV: {error}") from None


def _whole(first: str, content: TextIO) -> str:
    """A heading may hold line breaks in quotes."""
    while first.count('"') % 2 and (more := content.readline()):
        first += more
    return first


def _heading(text: str) -> str:
    return " ".join(text.lstrip("\ufeff").split())


def _record(line: int, headings: list[str], cells: list[str]) -> Record:
    record = Record(line, {}, {}, {})
    for heading, cell in zip(headings, cells, strict=False):
        if heading not in record.cells or not record.cells[heading]:
            record.cells[heading] = cell
        if cell:
            record.more.setdefault(heading, []).append(cell)
    return record


def _objects(content: TextIO) -> Iterator[Record]:
    for line, text in enumerate(content, 1):
        text = text.strip().lstrip("\ufeff")
        if not text:
            continue
        try:
            found = json.loads(text)
        except ValueError as error:
            raise Unreadable(f"line {line}", f"a JSON object: {error}") from None
        if not isinstance(found, dict):
            raise Unreadable(f"line {line}", "a JSON object")
        record = Record(line, {}, {}, {})
        _flatten(record, "", found)
        yield record


def _flatten(record: Record, path: str, value: Any) -> None:
    """Members of members are columns with a dot: `requester.email`."""
    if isinstance(value, dict):
        for name, part in value.items():
            _flatten(record, f"{path}.{name}" if path else str(name), part)
    elif isinstance(value, list):
        if value and all(isinstance(part, dict) for part in value):
            rows = []
            for part in value:
                inner = Record(record.line, {}, {}, {})
                _flatten(inner, "", part)
                rows.append(inner.cells)
            record.comments[path] = rows
        else:
            record.cells[path] = ", ".join(_text(part) for part in value)
    else:
        record.cells[path] = _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).strip() if not isinstance(value, dict | list) else json.dumps(value, ensure_ascii=False)
