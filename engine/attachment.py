"""Files attached to tickets: their bytes, kept and sealed apart as deliveries' are, beside the fact on the ticket's own stream.

A file's digest is over its id and its content, so that equal files lie there twice, each under a key of its own: destroying the
key of one (`store.body(digest).key`) makes that one unreadable and no other. What may be attached is the concern of whoever
takes files in (`api/attaching.py`).
"""

import unicodedata
import zlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from engine.clock import micros
from engine.event import Fact
from engine.store import KeptBody, Reader
from engine.ticket import LONGEST_NAME, Ticket, Visibility
from engine.vault import Vault
from engine.work import Work

LONGEST_SUFFIX: Final = 16
NAMELESS: Final = "file"
# What is packed already gains nothing from being packed again.
_PACKS: Final = ("text/", "application/json", "message/")


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file that is ready to be attached: sealed, and not yet stored anywhere.

    Attributes:
        length: of its content, in bytes.
        key: an id in the vault; nothing else is sealed under it.
    """

    id: UUID
    name: str
    media_type: str
    length: int
    digest: bytes
    key: bytes
    sealed: bytes


def clean_name(text: str) -> str:
    """A file's name without folders, without characters that cannot be seen, and of at most 200 characters; its ending stays."""
    name = unicodedata.normalize("NFC", text.replace("\\", "/").rpartition("/")[2])
    name = "".join(" " if unicodedata.category(character) == "Zs" else character for character in name)
    name = " ".join("".join(character for character in name if character.isprintable()).split()).strip(". ")
    if not name:
        return NAMELESS
    stem, dot, suffix = name.rpartition(".")
    if len(name) > LONGEST_NAME and stem and len(suffix) <= LONGEST_SUFFIX:
        return stem[: LONGEST_NAME - len(suffix) - 1].rstrip(". ") + dot + suffix
    return name[:LONGEST_NAME].rstrip(". ")


def seal_file(vault: Vault, *, name: str, media_type: str, content: bytes) -> SealedFile:
    """Pack and seal a file, before its unit of work: the committer's time is everybody's."""
    file = uuid4()
    digest = vault.digest(b"file:" + file.bytes + content)
    packed = zlib.compress(content, 1 if media_type.startswith(_PACKS) else 0)
    key, sealed = vault.seal_apart(_context(digest), packed)
    return SealedFile(file, clean_name(name), media_type, len(content), digest, key, sealed)


def attach_file(work: Work, ticket: Ticket, file: SealedFile, *, visibility: Visibility, by: UUID | None) -> Fact:
    """Attach a file to a ticket; its bytes are stored in the same commit.

    Raises:
        IllegalTransition: the ticket's state allows no more words on it.
    """
    fact = ticket.attach(
        file=file.id, name=file.name, media_type=file.media_type, length=file.length, digest=file.digest.hex(),
        visibility=visibility, by=by,
    )
    kept = KeptBody(file.digest, file.length, file.key, file.sealed, micros(work.now))
    work.keep_body(kept)
    return fact


def read_file(store: Reader, vault: Vault, digest: str) -> bytes | None:
    """The exact content of an attached file; None where its key was destroyed."""
    found = store.body(bytes.fromhex(digest))
    packed = vault.unseal(found.key, _context(found.digest), found.sealed) if found else None
    return None if packed is None else zlib.decompress(packed)


def _context(digest: bytes) -> bytes:
    return b"body:" + digest
