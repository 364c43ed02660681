"""What the columns of an export mean: a TOML file, ready ones for some tools beside this module.

A field names the columns that may hold it, the first that is filled counts. Tables turn the tool's words into ours.
"""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from engine.errors import InvalidInput
from engine.incident import INCIDENT_STATES, RESOLUTION_CODES
from engine.priority import Level, Priority
from engine.request import REQUEST_STATES
from engine.ticket import Visibility

TIMES: Final = ("opened_at", "acknowledged_at", "first_responded_at", "resolved_at", "closed_at")
FIELDS: Final = (
    "number", "title", "description", "kind", "state", "priority", "impact", "urgency", "service", "team", "category", "requester",
    "requester_email", "assignee", "assignee_email", "channel", "code", "solution", *TIMES,
)
COMMENT_FIELDS: Final = ("number", "text", "author", "author_email", "said_at", "visibility")


class Comments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where comments stand: in a file of their own, in a list within a JSON row, or in columns that repeat.

    Attributes:
        list: the column of a JSON row that holds them.
        columns: columns of the row, each filled one a comment of the ticket's opening time.
        fields: of a comment.
        visibility: where none is told.
    """

    list: str | None = None
    columns: tuple[str, ...] = ()
    fields: dict[str, tuple[str, ...]] = {}
    visibilities: dict[str, str] = {}
    visibility: Visibility = Visibility.INTERNAL


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the columns of one export mean.

    Attributes:
        system: the name of the tool, part of each ticket's identity.
        kind: of tickets where no column tells.
        zone: IANA zone of times without an offset.
        dates: formats (as `strptime` has them) besides ISO 8601, in the order in which they are tried.
        empty: what stands for nothing.
        html: description, solution and comments are HTML.
        strip: texts to be taken off the beginning of states and priorities.
        rest: keep the filled columns that are not mapped as fields of the ticket.
        ignore: columns that are not kept.
        people: what stands in the export to a login or address here.
    """

    system: str
    kind: str = "incident"
    zone: str = "UTC"
    dates: tuple[str, ...] = ()
    empty: tuple[str, ...] = ("", "-", "--", "n/a", "N/A", "NULL", "null")
    html: bool = False
    rest: bool = True
    ignore: tuple[str, ...] = ()
    fields: dict[str, tuple[str, ...]]
    kinds: dict[str, str] = {}
    states: dict[str, str] = {}
    priorities: dict[str, str] = {}
    levels: dict[str, str] = {}
    codes: dict[str, str] = {}
    people: dict[str, str] = {}
    comments: Comments = Comments()


@cache
def ready() -> tuple[str, ...]:
    """Names of the mappings that come along."""
    return tuple(sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml")))


def _folder() -> Any:
    return resources.files("api.move_in") / "mappings"


def load(name: str) -> Mapping:
    """A ready mapping by its name, or one from a file.

    Raises:
        InvalidInput: there is none, or it cannot be; names the member.
    """
    if name in ready():
        return parse((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    file = Path(name)
    if not file.is_file():
        raise InvalidInput("mapping", f"a TOML file, or one of {', '.join(ready())}")
    try:
        return parse(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput("mapping", f"TOML in UTF-8: {error}") from None


def parse(text: str) -> Mapping:
    """A mapping from its TOML text.

    Raises:
        InvalidInput: names the member that is wrong.
    """
    try:
        found = msgspec.convert(tomllib.loads(text), Mapping)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidInput("mapping", f"TOML as docs/move-in.md has it: {error}") from None
    for table, known in (("fields", FIELDS), ("comments.fields", COMMENT_FIELDS)):
        names = found.fields if table == "fields" else found.comments.fields
        for name in names:
            if name not in known:
                raise InvalidInput(f"mapping: {table}.{name}", f"one of {', '.join(known)}")
    for name in ("number", "title", "opened_at"):
        if not found.fields.get(name):
            raise InvalidInput(f"mapping: fields.{name}", "the columns that may hold it")
    for label, values, allowed in (
        ("kinds", found.kinds, ("incident", "request")), ("states", found.states, (*INCIDENT_STATES, *REQUEST_STATES)),
        ("priorities", found.priorities, tuple(Priority)), ("levels", found.levels, tuple(Level)),
        ("codes", found.codes, RESOLUTION_CODES), ("comments.visibilities", found.comments.visibilities, tuple(Visibility)),
        ("kind", {"": found.kind}, ("incident", "request")),
    ):
        for given, meant in values.items():
            if meant not in allowed:
                raise InvalidInput(f"mapping: {label}{'.' + given if given else ''}", f"one of {', '.join(allowed)}")
    check_zone(found.zone)
    return found


def check_zone(zone: str) -> None:
    """Raises: InvalidInput: no such zone."""
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise InvalidInput("zone", "an IANA zone such as Europe/Stockholm") from None
