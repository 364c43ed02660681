"""Pages of a list and the opaque cursors between them.

A cursor says where the last page ended, by the values that the list is sorted by: rows that come or go meanwhile neither
repeat nor skip others.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from engine.errors import InvalidInput, Phrase

T = TypeVar("T")

MOST_ON_A_PAGE: Final = 500


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list.

    Attributes:
        next: the cursor of the following page; None on the last.
        position: the log position that the page stands for.
    """

    items: list[T]
    next: str | None
    position: int


def to_cursor(sort: str, key: Sequence[int | str | bytes]) -> str:
    plain = [part.hex() if isinstance(part, bytes) else part for part in key]
    return base64.urlsafe_b64encode(msgspec.json.encode([sort, *plain])).rstrip(b"=").decode()


def from_cursor(cursor: str | None, sort: str, shape: Sequence[type]) -> tuple[Any, ...] | None:
    """The key in a cursor of a list with this sort; None where there is no cursor.

    Raises:
        InvalidInput: it is no cursor, or one of another list.
    """
    if cursor is None:
        return None
    try:
        content = msgspec.json.decode(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(content, list) or content[0] != sort:
            raise ValueError
        return tuple(_part(value, kind) for value, kind in zip(content[1:], shape, strict=True))
    except (binascii.Error, ValueError, LookupError):  # whatever it is, it did not come from `to_cursor`
        raise InvalidInput("cursor", "the `next` of a page of this list with the same sort") from None


def _part(value: Any, kind: type) -> Any:
    if kind is bytes and type(value) is str:
        return bytes.fromhex(value)
    if type(value) is not kind or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        raise ValueError
    return value


def checked_limit(limit: int) -> int:
    """Raises: InvalidInput: not from 1 to 500."""
    if not 1 <= limit <= MOST_ON_A_PAGE:
        raise InvalidInput("limit", Phrase("a number from 1 to %s", MOST_ON_A_PAGE))
    return limit
