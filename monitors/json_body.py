"""Strict reading of a JSON body: what is ambiguous or cannot be stored is refused with its place, never guessed.

One body, one meaning, on every machine and at every replay: duplicate keys, NUL and lone surrogates in text, numbers that
are not finite and absurdly long ones are refused naming the JSON path. `jiter` reads; only when it refuses (or the body
holds an escaped NUL) a slower reading of our own looks for the place. Shapes are the adapters' business (`monitors/reading.py`).

Facts: RFC 8259 (UTF-8 only, §8.1, where a reader may ignore a byte order mark, as we do for the UTF-8 one, because
Windows senders write it; unpaired surrogates, §8.2); U+0000 cannot be stored in a PostgreSQL `text` or `jsonb`.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import jiter
import msgspec

from engine.errors import MalformedDelivery

ROOT: Final = "$"
MAX_DEPTH: Final = 200            # jiter's limit: as many containers around a scalar; nobody's payload is near it
MAX_DIGITS: Final = 4_300         # CPython's limit for turning text into an integer, and jiter's
_MAX_NAME_IN_PATH: Final = 100

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_ESCAPED_NUL: Final = rb"\u0000"
# A float in MessagePack is 0xcb and eight bytes, big-endian; looking for an infinite one there costs a tenth of walking the tree.
_INFINITE: Final = (b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00")
_LINES_TYPES: Final = ("ndjson", "jsonl", "json-lines", "jsonlines")
_PLAIN_NAME: Final = re.compile(r"[\w:/@-]+")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def member(path: str, name: str) -> str:
    """The path of an object's member (`alerts[1]` and `labels` make `alerts[1].labels`); odd names are quoted."""
    if len(name) > _MAX_NAME_IN_PATH:
        name = name[:_MAX_NAME_IN_PATH] + "…"
    if _PLAIN_NAME.fullmatch(name):
        return name if path == ROOT else f"{path}.{name}"
    quoted = json.dumps(name, ensure_ascii=not name.isprintable())
    return f"[{quoted}]" if path == ROOT else f"{path}[{quoted}]"


def element(path: str, index: int) -> str:
    """The path of a list's element (`alerts` and 1 make `alerts[1]`)."""
    return f"[{index}]" if path == ROOT else f"{path}[{index}]"


def within(outer: str, inner: str) -> str:
    """A path below `outer`, for a place that was found reading the value at `outer` alone."""
    if outer == ROOT or inner == ROOT:
        return inner if outer == ROOT else outer
    return outer + inner if inner.startswith("[") else f"{outer}.{inner}"


def read_json(body: bytes) -> Any:
    """The one JSON value that a body holds.

    Integers stay exact whatever their size; other numbers become floats, always finite.

    Raises:
        MalformedDelivery: 400 where this is no JSON text in UTF-8 (path `$`, or the place of a `NaN`); 422 naming the path of a
            duplicated key, of text that cannot be stored, of a number out of range, or of a too deep nesting.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        value = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as refusal:
        raise _explained(body, str(refusal)) from None
    if _ESCAPED_NUL in body or _holds_infinity(value):
        _check(body)
    return value


def read_documents(body: bytes, content_type: str = "", *, split_array: bool = True) -> Iterator[tuple[str, Any]]:
    """The documents of a body that may be a single value, an array or NDJSON, each with its path, in order.

    A single value has the path `$`; the n-th of an array or of NDJSON (empty lines not counted) `[n]`. Lines are read one by
    one as they are asked for, so a reader that stops at the first fault does not pay for the rest.

    Args:
        body: as received.
        content_type: NDJSON is recognised by it, or by its look.
        split_array: False keeps an array as the one document that it is.

    Raises:
        MalformedDelivery: as `read_json`; an empty array holds nothing to be read (422, `$`).
    """
    if _is_lines(body, content_type):
        yield from _lines(body)
        return
    value = read_json(body)
    if not split_array or not isinstance(value, list):
        yield ROOT, value
        return
    if not value:
        raise MalformedDelivery(ROOT, "expected at least one document, got an empty list")
    for index, document in enumerate(value):
        yield element(ROOT, index), document


def _is_lines(body: bytes, content_type: str) -> bool:
    if any(word in content_type.lower() for word in _LINES_TYPES):
        return True
    first, newline, rest = body.removeprefix(_BYTE_ORDER_MARK).lstrip().partition(b"\n")
    if not newline or first.rstrip()[-1:] not in (b"}", b"]") or rest.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        jiter.from_json(first)
    except ValueError:
        return False
    return True


def _lines(body: bytes) -> Iterator[tuple[str, Any]]:
    count = 0
    for line in body.removeprefix(_BYTE_ORDER_MARK).splitlines():
        if not line.strip():
            continue
        path = element(ROOT, count)
        try:
            value = read_json(line)
        except MalformedDelivery as fault:
            raise MalformedDelivery(within(path, fault.path), fault.expected, status=fault.status) from None
        yield path, value
        count += 1
    if not count:
        raise MalformedDelivery(ROOT, "expected JSON, got an empty body", status=400)


def _holds_infinity(value: Any) -> bool:
    try:
        packed = msgspec.msgpack.encode(value)
    except (OverflowError, ValueError, RecursionError):     # an integer beyond 64 bits: legal, but not packable
        return _infinite_below(value)
    return _INFINITE[0] in packed or _INFINITE[1] in packed


def _infinite_below(value: Any) -> bool:
    if isinstance(value, float):
        return math.isinf(value)
    if isinstance(value, dict):
        return any(map(_infinite_below, value.values()))
    return isinstance(value, list) and any(map(_infinite_below, value))


# The slower reading: the standard library's parser keeps every pair, faults stay in the tree as values, and a walk in
# document order names the first of them.


class _Pairs(list[tuple[str, Any]]):
    """An object as written, duplicates included."""


class _Fault:
    """A place that cannot be accepted: what was wrong with it, and the status."""

    __slots__ = ("expected", "status")

    def __init__(self, expected: str, status: int = 422) -> None:
        self.expected, self.status = expected, status


_TOO_LONG: Final = _Fault(f"expected a number of at most {MAX_DIGITS} digits")
_TOO_DEEP: Final = _Fault(f"expected a nesting of at most {MAX_DEPTH} levels")
_NOT_FINITE: Final = _Fault("expected a finite number (64-bit floating point)")
_NUL: Final = _Fault("expected text without the character NUL (U+0000)")
_SURROGATE: Final = _Fault("expected text without unpaired surrogates")
_DUPLICATED: Final = _Fault("duplicated key")


def _integer(digits: str) -> int | _Fault:
    return _TOO_LONG if len(digits) > MAX_DIGITS else int(digits)


def _float(digits: str) -> float | _Fault:
    number = float(digits)
    return number if math.isfinite(number) else _NOT_FINITE


def _constant(name: str) -> _Fault:
    return _Fault(f"expected a JSON value, got {name}", status=400)


_decode: Final[Callable[[str], Any]] = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_integer, parse_float=_float, parse_constant=_constant
).decode


def _explained(body: bytes, refusal: str) -> MalformedDelivery:
    """The error for a body that jiter refused, with the place if there is one."""
    if not body.strip():
        return MalformedDelivery(ROOT, "expected JSON, got an empty body", status=400)
    try:
        _check(body)
    except MalformedDelivery as fault:
        return fault
    if "recursion" in refusal:
        return MalformedDelivery(ROOT, _TOO_DEEP.expected)
    # Both readers must agree; where ours finds nothing, the stricter one still wins.
    return MalformedDelivery(ROOT, f"expected JSON ({refusal[:200]!a})", status=400)


def _check(body: bytes) -> None:
    try:
        text = body.decode()
    except UnicodeDecodeError as fault:
        raise MalformedDelivery(ROOT, f"expected JSON in UTF-8; byte {fault.start} is not", status=400) from None
    try:
        tree = _decode(text)
    except RecursionError:
        raise MalformedDelivery(ROOT, _TOO_DEEP.expected) from None
    except ValueError as fault:
        where = f"{fault.msg} at line {fault.lineno} column {fault.colno}" if isinstance(fault, json.JSONDecodeError) else "unreadable"
        raise MalformedDelivery(ROOT, f"expected JSON: {where}", status=400) from None
    found = _first_fault(tree, 0)
    if found:
        steps, fault_found = found
        raise MalformedDelivery(_joined(steps), fault_found.expected, status=fault_found.status)


def _joined(steps: list[str | int]) -> str:
    path = ROOT
    for step in reversed(steps):
        path = element(path, step) if isinstance(step, int) else member(path, step)
    return path


def _first_fault(value: Any, depth: int) -> tuple[list[str | int], _Fault] | None:
    """The first fault in document order, with the steps that lead to it, innermost first."""
    if isinstance(value, str):
        fault = _text_fault(value)
        return ([], fault) if fault else None
    if isinstance(value, _Fault):
        return [], value
    if not isinstance(value, list):
        return None
    if depth > MAX_DEPTH:
        return [], _TOO_DEEP
    return _first_in_object(value, depth + 1) if isinstance(value, _Pairs) else _first_in_list(value, depth + 1)


def _first_in_list(values: list[Any], depth: int) -> tuple[list[str | int], _Fault] | None:
    for index, value in enumerate(values):
        found = _first_fault(value, depth)
        if found:
            found[0].append(index)
            return found
    return None


def _first_in_object(pairs: _Pairs, depth: int) -> tuple[list[str | int], _Fault] | None:
    seen: set[str] = set()
    for name, value in pairs:
        if name in seen:
            return [name], _DUPLICATED
        seen.add(name)
        fault = _text_fault(name)
        if fault:
            return [name], fault
        found = _first_fault(value, depth)
        if found:
            found[0].append(name)
            return found
    return None


def _text_fault(text: str) -> _Fault | None:
    found = _UNSTORABLE.search(text)
    if not found:
        return None
    return _NUL if found.group() == "\x00" else _SURROGATE
