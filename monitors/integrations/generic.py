"""Any other sender: a JSON shape that is easy to post by hand, or a mapping from whatever shape it has.

Without a mapping, a document (a single one, an array of them, or NDJSON) has these fields, all but a title optional:

    key or id          scalar, or a list of scalars: identifies the condition. None: each document is a new condition
    title, summary, message    the first that holds text; else the key
    severity           a word (`engine/observation.py`); `priority` where it is missing
    firing             true or false; or `status`, a word such as firing, resolved, acknowledged
    service, resource or host
    episode_start      when the episode began, where this tells one episode from the next
    started_at         when the sender saw this
    ended_at           when the condition ended
    labels, details    objects; link or url; whatever else is there is kept among the details

A mapping is TOML: expressions in the Common Expression Language (CEL) over `body`, the document, and `item`, one statement:

    each = "body.checks"                  # optional: the list of items; without it the document is the item
    key = ["item.host", "item.check"]     # parts; a field that is missing is a part of its own kind
    title = "item.host + ': ' + item.output"
    severity = "item.level"
    firing = "item.state != 'ok'"         # a boolean, or a word as above; without it everything fires
    # service, resource, link, started_at, ended_at, episode_start

A field of the payload that `service`, `resource`, `severity`, `link` or a time refers to may be missing: then it is not given.
For `title` and `firing` it must be there; a mapping without `title` takes the item's title, summary or message, else the key.
With a plain path as `each`, the other expressions see `body` without that list. Instants are RFC 3339 text, seconds (or
milliseconds) since 1970, or CEL timestamps.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from engine.cel_library import cel
from engine.errors import InvalidInput, MalformedDelivery
from engine.observation import Observation, ObservationKind, Parsed, SourceProfile, severity_of
from monitors.adapter import Adapter, clamped_end, post_command
from monitors.dates import read_instant_or_epoch
from monitors.dedup import composed_key
from monitors.json_body import ROOT, element, member, read_documents
from monitors.reading import cut, http_link, kind_of, name_of, read_object, scalar_text, shown, texts_of, title_line

_KINDS: Final = {
    word: kind
    for kind, words in {
        ObservationKind.TRIGGER: "firing fire trigger triggered open opened alerting alert problem active down critical warning error failed fail true",
        ObservationKind.RESOLVE: "resolved resolve closed close ok up normal recovered recovery inactive cleared false",
        ObservationKind.ACKNOWLEDGE: "acknowledged acknowledge ack acked",
    }.items()
    for word in words.split()
}
_FIRING_EXPECTED: Final = "expected true or false, or a word such as firing, resolved, acknowledged"
_OPTIONAL: Final = ("severity", "firing", "service", "resource", "link", "started_at", "ended_at", "episode_start")
_FIELDS: Final = ("each", "key", "title", *_OPTIONAL)
_PLAIN_PATH: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_LONG_NUMBER: Final = re.compile(rb"\d{19}")
_CEL_SMALLEST, _CEL_GREATEST = -(2**63), 2**64 - 1
# CEL copies `body` at each evaluation that mentions it: items × bytes that we are willing to copy (about a second).
_MAX_COPIED: Final = 20_000_000
# A macro such as filter() copies its result at each step: 1,300 items take a second, and 13,000 would take minutes.
_MAX_EVALUATED: Final = 128 * 1024
_MAX_MAPPING: Final = 64 * 1024


class Expression(msgspec.Struct, frozen=True):
    """A compiled expression and the field of the mapping that holds it."""

    field: str
    source: str
    program: cel.Program
    uses_body: bool
    uses_item: bool


class PayloadMapping(msgspec.Struct, frozen=True, kw_only=True):
    """A source's mapping, compiled.

    Attributes:
        each: the expression that gives the items; None: the document is the item, or `each_path` tells.
        each_path: the members that lead from the body to the list of items, where `each` is a plain path.
        key: one expression a part; None: no identity, each statement is a new condition.
        fields: the other expressions, by field.
    """

    each: Expression | None
    each_path: tuple[str, ...] | None
    key: tuple[Expression, ...] | None
    fields: dict[str, Expression]


@lru_cache(maxsize=256)
def read_mapping(text: str) -> PayloadMapping:
    """Compile a mapping.

    Raises:
        InvalidInput: no TOML, an unknown field, or an expression that is no CEL; names the field (`mapping.title`).
    """
    if len(text) > _MAX_MAPPING:
        raise InvalidInput("mapping", f"at most {_MAX_MAPPING} characters")
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        raise InvalidInput("mapping", f"TOML ({fault})") from None
    for name in table:
        if name not in _FIELDS:
            raise InvalidInput(f"mapping.{cut(name, 60)}", f"no such field, but {', '.join(_FIELDS)}")
    each, each_path = _read_each(table)
    return PayloadMapping(
        each=each,
        each_path=each_path,
        key=_read_key(table.get("key")),
        fields={name: _compile(table[name], name) for name in ("title", *_OPTIONAL) if name in table},
    )


def parse(body: bytes, content_type: str, profile: SourceProfile) -> Parsed:
    """The statements of a body, by the source's mapping, else in the default shape.

    Raises:
        MalformedDelivery: unreadable (400), or a statement cannot be understood (422): then none of them is taken.
    """
    if profile.mapping is None:
        documents = read_documents(body, content_type)
        return Parsed(observations=tuple(_read_default(document, path, profile) for path, document in documents))
    try:
        mapping = read_mapping(profile.mapping)
    except InvalidInput as fault:
        raise MalformedDelivery(ROOT, f"the source's mapping cannot be used: {fault}") from None
    split = mapping.each is None and mapping.each_path is None
    observations: list[Observation] = []
    for path, document in read_documents(body, content_type, split_array=split):
        if document is None or isinstance(document, str | int | float):
            raise MalformedDelivery(path, f"expected an object or a list, got {kind_of(document)}")
        payload = _for_cel(document) if _LONG_NUMBER.search(body) else document
        observations.extend(_mapped(payload, path, len(body), mapping, profile))
    return Parsed(observations=tuple(observations))


def trial(address: str, token: str) -> str:
    """One alert in the default shape."""
    event = {"key": "trial", "title": "Trial alert", "severity": "info", "firing": True, "service": "trial"}
    return post_command(address, event, token=token)


def snippet(address: str, token: str) -> str:
    """The trial, and what else there is to know."""
    return f"""\
{trial(address, token)}\
# The same with "firing": false resolves it. Several: an array, or one JSON object a line.
# Another shape than this: a source with a mapping reads it as it is (docs/mapping.md).
"""


# The default shape.

_TITLES: Final = ("title", "summary", "message")
_TIMES: Final = ("episode_start", "started_at", "ended_at")
_STATES: Final = ("severity", "priority", "firing", "status")
_DEFAULT_FIELDS: Final = frozenset(
    ("key", "id", *_TITLES, *_STATES, *_TIMES, "service", "resource", "host", "labels", "details", "link", "url")
)


def _read_default(value: object, path: str, profile: SourceProfile) -> Observation:
    document = read_object(value, path)
    name = "key" if document.get("key") is not None else "id"
    key = document.get(name)
    labels, details = document.get("labels"), document.get("details")
    extra = texts_of({other: content for other, content in document.items() if other not in _DEFAULT_FIELDS})
    extra |= texts_of(details) if isinstance(details, dict) else texts_of({"details": details})
    address = document.get("link") or document.get("url")
    link = http_link(address)
    if link is None:
        extra |= texts_of({"link": address})
    dedup_key = None if key is None else composed_key(key if isinstance(key, list) else [key], member(path, name))
    title = _default_title(document, extra) or title_line(dedup_key or "")
    if not title:
        raise MalformedDelivery(member(path, "title"), "expected a title (or summary, or message), or a key")
    return _observation(
        kind=_default_kind(document, path),
        dedup_key=dedup_key,
        title=title,
        values=document | {
            "severity": document.get("severity") or document.get("priority"),
            "resource": document.get("resource") or document.get("host"),
            "link": link,
        },
        where=lambda field: member(path, field),
        profile=profile,
        labels=texts_of(labels) if isinstance(labels, dict) else texts_of({"labels": labels}),
        details=extra,
    )


def _default_kind(document: Mapping[str, Any], path: str) -> ObservationKind:
    for name in ("firing", "status"):
        if document.get(name) is not None:
            return _kind(document[name], member(path, name), _FIRING_EXPECTED)
    return ObservationKind.TRIGGER


def _default_title(document: Mapping[str, Any], extra: dict[str, str]) -> str:
    for name in _TITLES:
        text = scalar_text(document.get(name))
        line = title_line(text) if text else ""
        if line:
            extra |= texts_of({other: document.get(other) for other in _TITLES if other != name or line != text})
            return line
    return ""


# Mapped shapes.


class _Missing:
    """What an expression gives that refers to a field which is not there."""


_MISSING: Final = _Missing()
_FIELD_OF: Final = "mapping."       # stands for a field of the mapping until the item's own path takes its place


class _Scope:
    """What the expressions of one document see."""

    def __init__(self, whole: Any, rest: Any) -> None:
        """Take the document for `each`, and for the items' expressions the document without their list."""
        self._item: Any = None
        try:
            self._whole = cel.Context({"body": whole})
            self._context = cel.Context({"body": rest})
        except (ValueError, TypeError, OverflowError, RecursionError) as fault:
            raise MalformedDelivery(ROOT, f"expected a document that CEL can hold ({cut(str(fault), 200)})") from None
        self._context.set_variable_resolver(self._resolve)
        self._of_body: dict[str, Any] = {}      # an expression over `body` alone is evaluated once a document

    def items(self, expression: Expression, path: str) -> Any:
        return _evaluated(expression, self._whole, path)

    def of(self, expression: Expression, item: Any, path: str) -> Any:
        if not expression.uses_item:
            if expression.field not in self._of_body:
                self._of_body[expression.field] = _evaluated(expression, self._context, path)
            return self._of_body[expression.field]
        self._item = item
        return _evaluated(expression, self._context, path)

    def _resolve(self, name: str) -> Any:
        return self._item if name == "item" else None


def _evaluated(expression: Expression, context: cel.Context, path: str) -> Any:
    try:
        value = expression.program.execute(context)
    except LookupError:
        return _MISSING
    except Exception as fault:      # the library raises whatever the operation's own kind of error is
        raise _mapping_fault(expression, path, str(fault)) from None
    except BaseException as fault:
        if type(fault).__name__ != "PanicException":    # a panic of the Rust side is no reason to stop the process
            raise
        raise _mapping_fault(expression, path, "the expression cannot be evaluated") from None
    return value


def _mapping_fault(expression: Expression, path: str, why: str) -> MalformedDelivery:
    return MalformedDelivery(path, f"mapping field {expression.field} ({cut(expression.source, 100)}): {cut(why, 300)}")


def _mapped(body: Any, path: str, size: int, mapping: PayloadMapping, profile: SourceProfile) -> Iterator[Observation]:
    if mapping.each_path is not None:
        items, within, rest = _picked(body, path, mapping.each_path)
        scope = _Scope(None, rest)
    elif mapping.each is not None:
        if size > _MAX_EVALUATED:
            raise MalformedDelivery(
                path, f"expected at most {_MAX_EVALUATED} bytes for a mapping whose `each` is an expression; a plain path has no such limit"
            )
        scope = _Scope(body, body)
        items, within = scope.items(mapping.each, path), member(path, "each")
        if not isinstance(items, list):
            raise _mapping_fault(mapping.each, path, "expected a list" if items is not _MISSING else "no such field")
        mixed = any(expression.uses_body and expression.uses_item for expression in (*(mapping.key or ()), *mapping.fields.values()))
        if mixed and len(items) * size > _MAX_COPIED:
            raise MalformedDelivery(path, "too many items for a mapping with expressions over both body and item; use a plain path as `each`")
    else:
        scope, items, within = _Scope(None, body), [body], ""
    for index, item in enumerate(items):
        where = element(within, index) if within else path
        if item is None:
            raise MalformedDelivery(where, "expected an item, got null")
        yield _read_item(item, where, scope, mapping, profile)


def _picked(body: Any, path: str, names: tuple[str, ...]) -> tuple[list[Any], str, Any]:
    """The items at a plain path, where they are, and the body without them."""
    if not names:
        if not isinstance(body, list):
            raise MalformedDelivery(path, f"expected a list (mapping field each), got {kind_of(body)}")
        return body, path, []
    value = body.get(names[0]) if isinstance(body, dict) else None
    inner = member(path, names[0])
    if len(names) == 1:
        if not isinstance(value, list):
            raise MalformedDelivery(inner, f"expected a list (mapping field each), got {kind_of(value)}")
        return value, inner, {name: content for name, content in body.items() if name != names[0]}
    items, found, rest = _picked(value, inner, names[1:])
    return items, found, body | {names[0]: rest}


def _read_item(item: Any, path: str, scope: _Scope, mapping: PayloadMapping, profile: SourceProfile) -> Observation:
    values: dict[str, Any] = {}
    for field, expression in mapping.fields.items():
        value = scope.of(expression, item, path)
        if value is _MISSING:
            if field in ("title", "firing"):
                raise _mapping_fault(expression, path, "no such field")
            value = None
        values[field] = value
    kind = ObservationKind.TRIGGER
    if "firing" in mapping.fields:
        expression = mapping.fields["firing"]
        kind = _kind(values["firing"], path, f"mapping field firing ({cut(expression.source, 100)}): {_FIRING_EXPECTED}")
    details = texts_of({name: value for name, value in item.items() if not isinstance(value, list | dict)}) if isinstance(item, dict) else {}
    try:
        key = _mapped_key(item, path, scope, mapping)
        title = _mapped_title(item, path, key, values, mapping, details)
        return _observation(
            kind=kind,
            dedup_key=key,
            title=title,
            values=values | {"link": http_link(values.get("link"))},
            where=lambda field: _FIELD_OF + field,
            profile=profile,
            labels={},
            details=details,
        )
    except MalformedDelivery as fault:
        if not fault.path.startswith(_FIELD_OF):
            raise
        raise MalformedDelivery(path, f"mapping field {fault.path.removeprefix(_FIELD_OF)}: {fault.expected}") from None


def _mapped_title(
    item: Any, path: str, key: str | None, values: Mapping[str, Any], mapping: PayloadMapping, details: dict[str, str]
) -> str:
    if "title" not in mapping.fields:
        return (_default_title(item, details) if isinstance(item, dict) else "") or title_line(key or "") or "alert"
    text = scalar_text(values["title"]) or ""
    title = title_line(text)
    if not title:
        raise _mapping_fault(mapping.fields["title"], path, "expected text that is not empty")
    if text != title:
        details["title"] = text
    return title


def _mapped_key(item: Any, path: str, scope: _Scope, mapping: PayloadMapping) -> str | None:
    if mapping.key is None:
        return None
    found = [scope.of(expression, item, path) for expression in mapping.key]
    parts = [None if part is _MISSING else part for part in found]
    if len(parts) == 1 and isinstance(parts[0], list):
        parts = parts[0]
    key = composed_key(parts, _FIELD_OF + "key")
    if key is None:
        raise MalformedDelivery(_FIELD_OF + "key", "expected a value for at least one part of the key")
    return key


# Both shapes.


def _observation(
    *,
    kind: ObservationKind,
    dedup_key: str | None,
    title: str,
    values: Mapping[str, Any],
    where: Callable[[str], str],
    profile: SourceProfile,
    labels: dict[str, str],
    details: dict[str, str],
) -> Observation:
    if dedup_key is None and kind is not ObservationKind.TRIGGER:
        raise MalformedDelivery(where("key"), "expected the key of the condition that is resolved or acknowledged")
    start, seen, end = (
        read_instant_or_epoch(values.get(field), where(field), zone=profile.zone) for field in _TIMES
    )
    ended_at, flags = clamped_end(end, start) if kind is ObservationKind.RESOLVE else (None, ())
    return Observation(
        kind=kind,
        dedup_key=dedup_key,
        title=title,
        severity=severity_of(values.get("severity")),
        service=name_of(values.get("service")),
        resource=name_of(values.get("resource")),
        labels=labels,
        details=details,
        episode_start=start,
        occurred_at=seen,
        ended_at=ended_at,
        link=values.get("link"),
        flags=flags,
    )


def _kind(value: object, path: str, expected: str) -> ObservationKind:
    if isinstance(value, bool):
        return ObservationKind.TRIGGER if value else ObservationKind.RESOLVE
    kind = _KINDS.get(value.strip().lower()) if isinstance(value, str) else None
    if kind is None:
        raise MalformedDelivery(path, f"{expected}; got {kind_of(value) if value is None else shown(value)}")
    return kind


def _read_each(table: Mapping[str, Any]) -> tuple[Expression | None, tuple[str, ...] | None]:
    source = table.get("each")
    if source is None:
        return None, None
    if isinstance(source, str) and source and _PLAIN_PATH.fullmatch(source.strip()):
        names = source.strip().split(".")
        return None, tuple(names[1:] if names[0] == "body" else names)
    return _compile(source, "each"), None


def _read_key(sources: object) -> tuple[Expression, ...] | None:
    if sources is None:
        return None
    if not isinstance(sources, list):
        return (_compile(sources, "key"),)
    if not sources:
        raise InvalidInput("mapping.key", "at least one expression")
    return tuple(_compile(source, f"key[{index}]") for index, source in enumerate(sources))


def _compile(source: object, field: str) -> Expression:
    if not isinstance(source, str) or not source.strip():
        raise InvalidInput(f"mapping.{field}", "an expression as text")
    try:
        program = cel.compile(source)
        names = program.variables()
    except Exception as fault:      # whatever the library says against it
        first_line = str(fault).partition("\n")[0]      # the others draw an arrow
        raise InvalidInput(f"mapping.{field}", f"a CEL expression ({cut(first_line, 300)})") from None
    return Expression(field, source, program, "body" in names, "item" in names)


def _for_cel(value: Any) -> Any:
    """The same value with integers as text that CEL would round (beyond 64 bits), so that a key is never rounded."""
    if isinstance(value, dict):
        return {name: _for_cel(content) for name, content in value.items()}
    if isinstance(value, list):
        return [_for_cel(content) for content in value]
    if isinstance(value, int) and not _CEL_SMALLEST <= value <= _CEL_GREATEST:
        return str(value)
    return value


ADAPTER: Final = Adapter(name="generic", title="Any JSON (mapped)", parse=parse, snippet=snippet, trial=trial)
