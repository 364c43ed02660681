"""Files that come in with a form: read within limits, never put on a disk in plain, and seen to be what their names say.

Nothing here knows a session or a page, so that every way in can use it. What a file is kept as is the concern of
`engine/attachment.py`; the route that only takes files, and the one that gives them out, are in `api/file_routes.py`.

A file's ending must be on a list, and its beginning must agree with it. So a file that a browser would run or show as a page
(HTML, SVG, scripts, programs) is not taken under any name, and whatever is taken is given out for saving only.
"""

import asyncio
import hashlib
import io
import re
import sys
import weakref
import zipfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import filetype
from fastapi import Request
from pydantic import Field
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from api.commands import LONGEST_TEXT, Body, Command, Context
from api.door import Bodies, house_of
from api.problem import TooLarge
from engine.attachment import SealedFile, attach_file, clean_name, seal_file
from engine.errors import InvalidInput, Overloaded, Phrase, TocsinError
from engine.ticket import Ticket, Visibility
from engine.vault import Vault
from projections.words import as_is, size_of

FILES: Final = "files"
MOST_FILES: Final = 5
MOST_FIELDS: Final = 50
MOST_TEXT_BYTES: Final = 512 * 1024
# Boundaries, and the header lines of each part.
MOST_MARKUP_BYTES: Final = 64 * 1024

# Ending -> media type. What the content must look like is in `_agrees`.
MEDIA_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "log": "text/plain",
    "csv": "text/csv",
    "json": "application/json",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "zip": "application/zip",
    "eml": "message/rfc822",
}
# For the `accept` of a file input.
ACCEPTED: Final = ",".join(f".{ending}" for ending in MEDIA_TYPES)
TAKEN: Final = ", ".join(MEDIA_TYPES)

_PICTURES: Final = frozenset({"png", "jpg", "jpeg", "gif", "webp", "pdf"})
_OFFICE: Final = {"docx": "word/", "xlsx": "xl/", "pptx": "ppt/"}
_PACKED: Final = frozenset({"zip", "odt", "ods", *_OFFICE})
_SNIFFED: Final = 4_096
# What a browser or a shell would take a text for.
_ACTIVE: Final = (b"#!", b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<svg", b"<iframe", b"<?php")
_HEADER_LINE: Final = re.compile(rb"(From |[!-9;-~]+:)")
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_MARK: Final = b"\xef\xbb\xbf"


class FileTooLarge(TooLarge):
    """A file, or a form with its files, over the limit; nothing of it was taken."""

    def __init__(self, text: str, limit: int) -> None:
        super().__init__(limit)
        self.args = (text,)


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file as it was sent; its name is clean, its content not yet looked at."""

    name: str
    content: bytes


@dataclass(slots=True, weakref_slot=True)
class PostedForm:
    """A form and its files.

    Attributes:
        fields: its text fields; of several with one name the last.
        files: in the order in which they were sent; inputs that were left empty are none.
        fault: what is wrong with them; the fields are there all the same, for a page that shows them again.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: tuple[UploadedFile, ...] = ()
    fault: TocsinError | None = None

    @property
    def has_files(self) -> bool:
        return bool(self.files) or self.fault is not None

    def digest(self, *, without: Sequence[str] = ()) -> bytes:
        """The same for the same form: fields (but for those named) and files, as what was asked under an idempotency key."""
        parts = [f"{name}={value}" for name, value in sorted(self.fields.items()) if name not in without]
        parts += [f"{file.name}:{hashlib.sha256(file.content).hexdigest()}" for file in self.files]
        return "\0".join(parts).encode("utf-8", "surrogatepass")

    async def sealed(self, vault: Vault) -> tuple[SealedFile, ...]:
        """The files, looked at and sealed; some tens of milliseconds each, off the event loop.

        Raises:
            FileTooLarge, InvalidInput: names the file.
        """
        if self.fault is not None:
            raise self.fault
        return await asyncio.to_thread(_sealed, vault, self.files) if self.files else ()


class Attach(Body):
    """Files without a word."""

    visibility: Visibility = Visibility.INTERNAL


class Say(Attach):
    """Files with one."""

    text: str = Field(min_length=1, max_length=LONGEST_TEXT)


def attaching(files: Sequence[SealedFile]) -> Command:
    """The command that attaches them, after what its body says if it says something."""

    def act(ticket: Ticket, body: Attach, context: Context) -> None:
        if isinstance(body, Say):
            ticket.comment(text=body.text, visibility=body.visibility, author=context.person)
        for file in files:
            attach_file(context.work, ticket, file, visibility=body.visibility, by=context.person)

    return act


def media_type_of(file: UploadedFile) -> str:
    """What the file is.

    Raises:
        InvalidInput: it is empty, of a kind that is not taken, or something else than its name says.
    """
    ending = file.name.rpartition(".")[2].lower() if "." in file.name else ""
    if ending not in MEDIA_TYPES:
        raise InvalidInput(FILES, Phrase("other files than “%s”: taken are %s", file.name, TAKEN))
    if not file.content:
        raise InvalidInput(FILES, Phrase("a file with something in it; “%s” is empty", file.name))
    if not _agrees(ending, file.content):
        raise InvalidInput(FILES, Phrase("a file that is what its name says; the content of “%s” is not %s", file.name, ending))
    return MEDIA_TYPES[ending]


def _sealed(vault: Vault, files: Sequence[UploadedFile]) -> tuple[SealedFile, ...]:
    kinds = [media_type_of(file) for file in files]  # all of them first: sealing is the work
    return tuple(
        seal_file(vault, name=file.name, media_type=kind, content=file.content) for file, kind in zip(files, kinds, strict=True)
    )


def _agrees(ending: str, content: bytes) -> bool:
    if ending in _PICTURES:
        found: str | None = filetype.guess_extension(content)  # type: ignore[no-untyped-call]  # the library has no types
        return found == {"jpeg": "jpg"}.get(ending, ending)
    if ending in _PACKED:
        return content.startswith(b"PK") and _holds(ending, content)
    # No signature is asked for: “BM” begins a bitmap, and a line about a BMW.
    return _is_text(content) and _begins_as(ending, content)


def _holds(ending: str, content: bytes) -> bool:
    """Whether a zip file holds what its ending promises; nothing of it is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if ending in _OFFICE:
                names = archive.namelist()
                return "[Content_Types].xml" in names and any(name.startswith(_OFFICE[ending]) for name in names)
            if ending == "zip":
                return True
            with archive.open("mimetype") as kind:
                return kind.read(100).decode("ascii", "replace").strip() == MEDIA_TYPES[ending]
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, RuntimeError, OSError, EOFError):
        return False


def _is_text(content: bytes) -> bool:
    """Whether it is text of any encoding, and none that a browser or a shell would run."""
    if content.startswith(_UTF_16):
        try:
            content = content.decode("utf-16").encode()
        except UnicodeDecodeError:
            return False
    begins = content[:_SNIFFED].removeprefix(_MARK).lstrip().lower()
    drawn = begins.startswith(b"<?xml") and (b"<svg" in begins or b"<html" in begins)
    return b"\0" not in content and not begins.startswith(_ACTIVE) and not drawn


def _begins_as(ending: str, content: bytes) -> bool:
    begins = content[:_SNIFFED].removeprefix(_MARK).lstrip()
    if ending == "json":
        return begins[:1] in tuple(bytes([code]) for code in b'{["-0123456789tfn')
    return ending != "eml" or _HEADER_LINE.match(begins) is not None


# -- reading -----------------------------------------------------------------------------------------------------------


async def read_posted(request: Request) -> PostedForm:
    """A posted form with its files, in memory; a plain form (url-encoded) has none.

    What is wrong with a file is kept in `fault`, for `sealed` to raise: whoever asked for the form may first see whose it is.
    The bytes count among those that the process holds for as long as the form lives.

    Raises:
        FileTooLarge: the whole is larger than any right form can be.
        InvalidInput: it is no form.
        Overloaded: with others it would be too much now.
    """
    limit = house_of(request).settings.max_file_bytes
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    stream = _Counted(request, MOST_TEXT_BYTES + (MOST_FILES * limit + MOST_MARKUP_BYTES if kind == "multipart/form-data" else 0))
    form = PostedForm()
    weakref.finalize(form, stream.release)
    parser: _InMemory | FormParser
    if kind == "multipart/form-data":
        parser = _InMemory(request, stream.chunks(), limit)
    elif kind in ("application/x-www-form-urlencoded", ""):
        parser = FormParser(request.headers, stream.chunks(), max_fields=MOST_FIELDS, max_part_size=MOST_TEXT_BYTES)
    else:
        raise InvalidInput("Content-Type", "multipart/form-data")
    try:
        found = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        raise InvalidInput("form", Phrase("multipart/form-data; %s", getattr(error, 'message', error))) from None
    form.fields = {name: value for name, value in found.multi_items() if isinstance(value, str)}
    sent = [value for _, value in found.multi_items() if isinstance(value, UploadFile) and (value.filename or value.size)]
    form.fault = parser.fault if isinstance(parser, _InMemory) else None
    if form.fault is None:
        form.files = tuple([UploadedFile(clean_name(file.filename or ""), await file.read()) for file in sent])
    for file in sent:
        await file.close()
    return form


class _Counted:
    """A request's body, counted among all that the process holds."""

    def __init__(self, request: Request, most: int) -> None:
        self._request, self._most, self._size = request, most, 0
        self._bodies: Bodies = request.app.state.bodies
        limit = size_of(house_of(request).settings.max_file_bytes, as_is)
        self._too_large = FileTooLarge(
            f"the form with its files is larger than {size_of(most, as_is)}: at most {MOST_FILES} files of {limit} each", most
        )
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > most:
            raise self._too_large

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._request.stream():
            self._size += len(chunk)
            self._bodies.held += len(chunk)
            if self._size > self._most:
                raise self._too_large
            if self._bodies.held > self._bodies.most:
                raise Overloaded("too many large bodies at once")
            yield chunk

    def release(self) -> None:
        self._bodies.held, self._size = self._bodies.held - self._size, 0


class _InMemory(MultiPartParser):
    """Keeps files in memory; of what is over a limit it reads on and keeps nothing, so that the fields after it are read too."""

    spool_max_size = sys.maxsize  # nothing of a user's file goes to the disk in plain

    def __init__(self, request: Request, stream: AsyncGenerator[bytes, None], limit: int) -> None:
        super().__init__(
            request.headers, stream, max_files=float("inf"), max_fields=MOST_FIELDS, max_part_size=MOST_TEXT_BYTES
        )
        self.fault: FileTooLarge | None = None
        self._limit, self._length, self._sent = limit, 0, 0

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part: Any = self._current_part
        self._length = 0
        if part.file is not None and part.file.filename:
            self._sent += 1
            if self._sent > MOST_FILES and self.fault is None:
                name = clean_name(part.file.filename)
                self.fault = FileTooLarge(f"“{name}” is one file too many: at most {MOST_FILES} at once", MOST_FILES)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        file = self._current_part.file
        if file is not None:
            self._length += end - start
            if self._length > self._limit and self.fault is None:
                name = clean_name(file.filename or "")
                self.fault = FileTooLarge(f"“{name}” is larger than {size_of(self._limit, as_is)}", self._limit)
            if self.fault is not None:
                return
        super().on_part_data(data, start, end)
