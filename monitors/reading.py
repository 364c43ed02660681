"""What every adapter does with a JSON value: demand a shape, take a scalar as text, cut a title, trust a link or not.

Strict about shapes that carry meaning (422 naming the path), lenient about decoration: nothing descriptive may lose an alert.
"""

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from engine.errors import MalformedDelivery

MAX_TITLE: Final = 1_024
MAX_NAME: Final = 255      # service, resource, fingerprint: they are indexed

# An absolute http(s) address with a host, without blanks, quotes, control or direction-changing characters.
_LINK: Final = re.compile(
    r"https?://[^\s/?#\\\"'<>@\x00-\x20\x7f-\x9f]+[^\s\"<>\x00-\x20\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]*", re.IGNORECASE
)
_MAX_LINK: Final = 8_192


def read_object(value: object, path: str, *, what: str = "an object") -> dict[str, Any]:
    """The value as an object.

    Raises:
        MalformedDelivery: it is none (422).
    """
    if isinstance(value, dict):
        return value
    raise MalformedDelivery(path, f"expected {what}, got {kind_of(value)}")


def read_list(value: object, path: str, *, what: str = "a list") -> list[Any]:
    """The value as a list.

    Raises:
        MalformedDelivery: it is none (422).
    """
    if isinstance(value, list):
        return value
    raise MalformedDelivery(path, f"expected {what}, got {kind_of(value)}")


def kind_of(value: object) -> str:
    """What a JSON value is, in words for an error message."""
    if value is None:
        return "null or nothing"
    for kinds, word in (((bool,), "a boolean"), ((int, float), "a number"), ((str,), "text"), ((list,), "a list"), ((dict,), "an object")):
        if isinstance(value, kinds):
            return word
    return type(value).__name__


def scalar_text(value: object) -> str | None:
    """A scalar as text: text as it is, `true`, `503`, `1.0`; None for null, for lists and objects, and for what is not finite."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        try:
            return str(value)
        except ValueError:      # more digits than CPython turns into text; `json_body` lets none in
            return None
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    return None


def any_text(value: object) -> str | None:
    """Any JSON value as text for people: scalars as `scalar_text`, lists and objects as compact JSON; None for null and the empty text."""
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, list | dict):
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
        except (ValueError, RecursionError):
            return None
    return scalar_text(value)


def texts_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Each member of an object as text for people; null and empty ones dropped."""
    details = {}
    for name, value in values.items():
        text = value if type(value) is str else any_text(value)
        if text:
            details[name] = text
    return details


def cut(text: str, limit: int) -> str:
    """The text in at most `limit` characters; a longer one ends in an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def name_of(value: object) -> str | None:
    """A scalar as a name that can be indexed: cut at 255 characters; None where it is missing or empty."""
    text = value if isinstance(value, str) else scalar_text(value)
    return cut(text, MAX_NAME) if text else None


def title_line(text: str) -> str:
    """The first line that is not blank, in at most 1,024 characters; empty where there is none. All other code points stay."""
    if "\n" in text:
        text = next((line for line in text.split("\n") if line and not line.isspace()), "").rstrip("\r")
    elif text.isspace():
        return ""
    return cut(text, MAX_TITLE)


def http_link(value: object) -> str | None:
    """The value where it is an absolute http(s) address that a page may link to, else None."""
    return value if isinstance(value, str) and _is_link(value) else None


@lru_cache(maxsize=1024)      # the alerts of one rule share their address
def _is_link(text: str) -> bool:
    return len(text) <= _MAX_LINK and _LINK.fullmatch(text) is not None


def shown(value: object) -> str:
    """A value as it may stand in an error message: quoted, escaped and short."""
    return json.dumps(value if isinstance(value, str) else any_text(value), ensure_ascii=True)[:60]
