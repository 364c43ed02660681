"""The canonical bytes of a stored event: every column and the sealed state, unambiguously. The proof hashes them.

Fixed for good by docs/decisions/0001 and its golden vectors:

    "tocsin.event.1" NUL
    position, version, recorded_at (µs since 1970)        8 bytes each, big-endian, signed
    stream id, correlation id                             16 bytes each
    type, actor, cause, state                             4-byte big-endian length, then the bytes (UTF-8);
                                                          a missing cause is the length 0xFFFFFFFF and no bytes
"""

import hashlib
import struct
from typing import Final
from uuid import UUID

from engine.store import Row

MAGIC: Final = b"tocsin.event.1\x00"
_ABSENT: Final = 0xFFFFFFFF
_NUMBERS: Final = struct.Struct(">qqq")
_LENGTH: Final = struct.Struct(">I")


def canonical_bytes(
    *,
    position: int,
    stream_id: UUID,
    version: int,
    topic: str,
    state: bytes,
    recorded_at: int,
    actor: str,
    correlation_id: UUID,
    cause: str | None,
) -> bytes:
    """What is hashed of one row of the log; `recorded_at` in microseconds since 1970."""
    parts = [MAGIC, _NUMBERS.pack(position, version, recorded_at), stream_id.bytes, correlation_id.bytes]
    for text in (topic.encode(), actor.encode(), None if cause is None else cause.encode(), state):
        parts.append(_LENGTH.pack(_ABSENT if text is None else len(text)))
        if text is not None:
            parts.append(text)
    return b"".join(parts)


def digest_of(row: Row) -> bytes:
    """SHA-256 of a row's canonical bytes: tells this event, in this log, from every other."""
    return hashlib.sha256(
        canonical_bytes(
            position=row.position, stream_id=UUID(bytes=row.stream), version=row.version, topic=row.type, state=row.state,
            recorded_at=row.recorded_at, actor=row.actor, correlation_id=UUID(bytes=row.correlation), cause=row.cause,
        )
    ).digest()
