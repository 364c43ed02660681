"""Stream ids that are computed, not looked up: UUIDv5 of what makes a thing unique.

The parts are length-prefixed before hashing, so ("a", "bc") and ("ab", "c") can't meet. A missing part is its own value.
"""

import hashlib
import os
from functools import lru_cache
from typing import Final
from uuid import UUID

# uuid5(NAMESPACE_DNS, "tocsin.example"), written out: a namespace may never change.
NAMESPACE: Final = UUID("eae13ccd-9c15-5394-bd2a-dbb7c44cfa8c")
_PREFIX: Final = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)


def encode(parts: tuple[str | None, ...]) -> bytes:
    """An unambiguous encoding: each part as `length:utf-8`, a missing one as `-`."""
    pieces = []
    for part in parts:
        if part is None:
            pieces.append(b"-")
        else:
            raw = part.encode()
            pieces.append(b"%d:%s" % (len(raw), raw))
    return b"".join(pieces)


def stream_id(kind: str, *parts: str | None) -> UUID:
    """The id of the stream of `kind` that these parts identify (UUIDv5, RFC 9562 §5.5)."""
    digest = _PREFIX.copy()
    digest.update(encode((kind, *parts)))
    # Version and variant are set by hand: uuid.uuid5 takes text only and costs five times as much.
    number = int.from_bytes(digest.digest()[:16], "big")
    number = number & ~(0xF000 << 64) & ~(0xC000 << 48) | 5 << 76 | 0x8000 << 48
    return UUID(int=number)


class NewIds:
    """Ids for records that nothing outside identifies: UUIDv7 (RFC 9562 §5.7), so that new streams lie side by side in the
    index of the log and a commit touches few of its pages. For one thread."""

    def __init__(self) -> None:
        self._noise, self._place = b"", 0

    def at(self, milliseconds: int) -> UUID:
        """A new id of this moment (ms since 1970)."""
        if self._place >= len(self._noise):
            self._noise, self._place = os.urandom(10 * 256), 0
        noise = int.from_bytes(self._noise[self._place : self._place + 10], "big")
        self._place += 10
        number = milliseconds << 80 | noise & ~(0xF000 << 64) & ~(0xC000 << 48) | 7 << 76 | 0x8000 << 48
        return UUID(int=number)


@lru_cache(maxsize=16_384)  # asked again with every repeat
def alert_id(source: str, dedup_key: str) -> UUID:
    return stream_id("alert", source, dedup_key)


def correlation_id(rule: str, field: str, value: str) -> UUID:
    return stream_id("correlation", rule, field, value)


def incident_id(correlation: UUID, ordinal: int) -> UUID:
    """An incident that intake opens: the `ordinal`-th (from 1) of its correlation stream."""
    return stream_id("incident", str(correlation), str(ordinal))


def source_id(name: str) -> UUID:
    return stream_id("source", name)


def rule_id(name: str) -> UUID:
    return stream_id("rule", name)


def timer_id(owner: UUID, purpose: str) -> UUID:
    return stream_id("timer", str(owner), purpose)


def imported_id(system: str, old_number: str) -> UUID:
    """A ticket of the tool that was used before: importing it again finds the one that is there."""
    return stream_id("imported", system, old_number)


def delivery_id(source: str, identity: str) -> UUID:
    """A delivery that its sender identified; unidentified ones get a random id."""
    return stream_id("delivery", source, identity)
