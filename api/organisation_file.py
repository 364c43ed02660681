"""People, teams and services from a CSV file: all of it or, where a row has a fault, nothing.

What a row does is in `api/organisation.py`, as for a form or a request; here it is read, and each row answered for.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from api.access import Directory
from api.organisation import Organisation, Written
from engine.errors import InvalidInput, Refused
from engine.ledger import Ledger
from engine.work import Unit, Work

# One unit of work holds the committer for a second or so.
MOST_ROWS: Final = 5_000
MOST_BYTES: Final = 8 * 1024 * 1024
FAULT: Final = "fault"

Values = dict[str, Any]


class RowReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one row of a file came to.

    Attributes:
        line: of the file, from 1.
        what: `new`, `changed`, `as it is` or `fault`.
        column, expected: of a fault; the column is empty where the row as a whole is wrong.
        warnings: what was taken as it is although it looks like a mistake.
    """

    line: int
    name: str = ""
    what: str
    column: str | None = None
    expected: str | None = None
    warnings: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a whole file came to; `applied`: it is in force now."""

    kind: str
    applied: bool
    rows: list[RowReport]

    @property
    def faults(self) -> list[RowReport]:
        return [row for row in self.rows if row.what == FAULT]

    def count(self, what: str) -> int:
        return sum(row.what == what for row in self.rows)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file.

    Attributes:
        columns: column -> (its member, how its text is read).
        key: the column that names what the row is about.
    """

    columns: dict[str, tuple[str, Callable[[str], Any]]]
    key: str
    write: Callable[[Organisation, Values], Written]


def _number(expected: str) -> Callable[[str], int | None]:
    def read(text: str) -> int | None:
        if text and not (text.isascii() and text.isdigit() and len(text) < 5):
            raise InvalidInput("", expected)
        return int(text) if text else None

    return read


def _names(text: str) -> tuple[str, ...]:
    for separator in ";,":
        text = text.replace(separator, "|")
    return tuple(name.strip() for name in text.split("|") if name.strip())


KINDS: Final[dict[str, Kind]] = {
    "user": Kind(
        {name: (name, str) for name in ("login", "name", "email", "team", "role")}, "login",
        lambda organisation, values: organisation.put_person(values),
    ),
    "team": Kind(
        {"name": ("name", str), "level": ("level", _number("a support level: 1, 2 or 3")), "email": ("email", str)}, "name",
        lambda organisation, values: organisation.put_team(values),
    ),
    "service": Kind(
        {
            "name": ("name", str), "owner": ("owner_team", str), "tier": ("tier", _number("a tier from 1 (everything hangs on it) to 4")),
            "depends_on": ("depends_on", _names), "description": ("description", str),
        },
        "name", lambda organisation, values: organisation.put_service(values),
    ),
}


class _Abandoned(Refused):
    """Leaves a unit of work without recording anything of it."""

    def __init__(self, rows: list[RowReport]) -> None:
        super().__init__("nothing was applied")
        self.rows = rows


def apply_file(
    ledger: Ledger, directory: Directory, kind: str, data: bytes, *, dry_run: bool = False, actor: str = "tocsin"
) -> Report:
    """Register and change what a CSV file names.

    Args:
        kind: `user`, `team` or `service`.
        dry_run: only say what would be done.

    Returns:
        A row for each row of the file; where one is a fault, nothing was applied.
    """
    chosen = KINDS[kind]
    read = list(_rows(chosen, data))

    def decide(work: Work) -> list[RowReport]:
        organisation = Organisation(work, directory)
        done = [(row, row if isinstance(row, RowReport) else _written(chosen, organisation, *row)) for row in read]
        rows = [
            report if isinstance(row, RowReport) or report.what == FAULT
            else msgspec.structs.replace(report, warnings=tuple(organisation.unknown_in(kind, row[1])))
            for row, report in done
        ]
        if dry_run or any(row.what == FAULT for row in rows):
            raise _Abandoned(rows)
        return rows

    try:
        return Report(kind=kind, applied=True, rows=ledger.run(Unit(decide, actor=actor)))
    except _Abandoned as abandoned:
        return Report(kind=kind, applied=False, rows=abandoned.rows)


def _written(kind: Kind, organisation: Organisation, line: int, values: Values) -> RowReport:
    name = str(values.get(kind.columns[kind.key][0], ""))
    try:
        return RowReport(line=line, name=name, what=kind.write(organisation, values).what)
    except InvalidInput as error:
        column = next((column for column, (member, _) in kind.columns.items() if member == error.field), error.field)
        return RowReport(line=line, name=name, what=FAULT, column=column, expected=error.expected)


def _rows(kind: Kind, data: bytes) -> Iterator[RowReport | tuple[int, Values]]:
    """Each row as its line and values, or what is wrong with it."""
    if len(data) > MOST_BYTES:
        yield _fault(1, f"a file of at most {MOST_BYTES // 1024**2} MiB")
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield _fault(data.count(b"\n", 0, error.start) + 1, f"text in UTF-8; byte {data[error.start]:#04x} is none")
        return
    first = text.lstrip("\r\n").partition("\n")[0]
    table = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True)
    header: list[str] | None = None
    seen: dict[str, int] = {}
    count, line = 0, 1
    while True:
        try:
            cells = next(table)
        except StopIteration:
            break
        except csv.Error as error:
            yield _fault(line, f"a row of CSV ({error})")
            return
        here, line = line, table.line_num + 1
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip().lower() for cell in cells]
            faults = list(_faults_of_header(kind, here, header))
            yield from faults
            if faults:
                return
            continue
        count += 1
        if count > MOST_ROWS:
            yield _fault(here, f"at most {MOST_ROWS:,} rows; cut the file into several")
            return
        yield _row(kind, here, header, cells, seen)
    if header is None:
        yield _fault(1, f"a first row that names its columns: {', '.join(kind.columns)}")


def _faults_of_header(kind: Kind, line: int, header: list[str]) -> Iterator[RowReport]:
    for place, column in enumerate(header):
        if column not in kind.columns:
            yield _fault(line, f"one of {', '.join(kind.columns)}", column or f"{place + 1}")
        elif column in header[:place]:
            yield _fault(line, "each column once", column)
    if kind.key not in header:
        yield _fault(line, f"a column {kind.key}", kind.key)


def _row(kind: Kind, line: int, header: list[str], cells: list[str], seen: dict[str, int]) -> RowReport | tuple[int, Values]:
    if len(cells) != len(header):
        return _fault(line, f"{len(header)} cells as in the first row, not {len(cells)}")
    values: Values = {}
    for column, cell in zip(header, cells, strict=True):
        member, read = kind.columns[column]
        try:
            values[member] = read(cell.strip())
        except InvalidInput as error:
            return _fault(line, error.expected, column)
    key = values[kind.columns[kind.key][0]]
    # Logins are compared without regard to case; other names as they are spelt.
    before = seen.setdefault(key.lower() if kind.key == "login" else key, line)
    if before != line and key:
        return _fault(line, f"each {kind.key} once; {key} is in line {before} already", kind.key)
    return line, values


def _fault(line: int, expected: str, column: str = "") -> RowReport:
    return RowReport(line=line, what=FAULT, column=column, expected=expected)
