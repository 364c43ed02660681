"""Records of the deliveries' topic, read: whose delivery a record is, its body, and what identifies it. Pure.

Three forms, told apart as the CloudEvents Kafka protocol binding 1.0.2 says:

    content-type application/cloudevents+json    a structured CloudEvent
    header ce_specversion                        a binary CloudEvent: the value is the body
    else                                         our envelope: {"source", "id"?, "content_type"?, "body" or "body_base64"}

A CloudEvent names its source of ours by the extension attribute `tocsinsource`. `monitors/kafka_intake.py` takes it from there.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.errors import MalformedDelivery
from engine.vault import Vault
from monitors.intake import IDEMPOTENCY_KEY

SOURCE_ATTRIBUTE: Final = "tocsinsource"
CLOUDEVENTS: Final = "application/cloudevents"
STRUCTURED: Final = "application/cloudevents+json"
JSON: Final = "application/json"
LONGEST_TEXT: Final = 255
LONGEST_ATTRIBUTE: Final = 1_024
_PRINTABLE: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")
_WHERE: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_JSON_TYPE: Final = re.compile(r"[^/]+/(?:[^;]+\+)?json\s*(?:;|$)", re.IGNORECASE)

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery that came in a record.

    Attributes:
        identity: as it is stored; None: the adapter may find one in the body.
        accepted: the id that it was given when it was accepted over HTTP, with the mark that shows who gave it.
    """

    source: str
    body: bytes
    content_type: str
    identity: str | None
    accepted: tuple[UUID, str] | None = None


class Unreadable(MalformedDelivery):
    """The record is no delivery. `path` names the header or the member of its value, `$` is the whole.

    Attributes:
        source: of ours, where the record names one.
    """

    def __init__(self, path: str, expected: str, *, source: str | None = None, status: int = 422) -> None:
        super().__init__(path, f"expected {expected}", status=status)
        self.source = source


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Our own form of a record.

    Attributes:
        id: what an `Idempotency-Key` is over HTTP.
        delivery, mark: set by the HTTP side of Tocsin where it puts deliveries into the topic; nobody else has the key for it.
    """

    source: str
    id: str | None = None
    content_type: str = ""
    body: str | None = None
    body_base64: str | None = None
    delivery: UUID | None = None
    mark: str | None = None


class _Event(msgspec.Struct, frozen=True):
    """What we look at of a structured CloudEvent; it may have any other attribute."""

    specversion: str
    id: str
    source: str
    type: str
    tocsinsource: str
    datacontenttype: str = JSON
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str | None = None


_envelope: Final = msgspec.json.Decoder(Envelope).decode
_event: Final = msgspec.json.Decoder(_Event).decode
_named: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


def envelope(source: str, body: bytes, content_type: str, *, key: str | None, delivery: UUID | None, mark: str | None) -> bytes:
    """The value of a record of our own form."""
    try:
        text, packed = body.decode(), None
    except UnicodeDecodeError:
        text, packed = None, base64.b64encode(body).decode()
    return _encode(Envelope(source, key, content_type, text, packed, delivery, mark))


def mark_of(vault: Vault, delivery: UUID) -> str:
    """What shows that a delivery's id was given by a process of this store: short, and the same whenever it is asked."""
    return vault.mark("queued", delivery.bytes)


def read(value: bytes | None, headers: Headers) -> Arrival:
    """The delivery in a record.

    Raises:
        Unreadable: there is none in it.
    """
    found = {name.lower(): text for name, text in headers}
    content_type = _text(found, "content-type")
    if content_type.lower().startswith(CLOUDEVENTS):
        if content_type.partition(";")[0].strip().lower() != STRUCTURED:
            raise Unreadable("content-type", f"{STRUCTURED}, or a CloudEvent in binary mode")
        return _structured(value)
    if "ce_specversion" in found:
        return _binary(value, found, content_type)
    return _enveloped(value)


def _text(headers: Mapping[str, bytes | None], name: str, *, source: str | None = None) -> str:
    """A header as text; empty where it is not there."""
    raw = headers.get(name) or b""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Unreadable(name, "text in UTF-8", source=source) from None
    return printable(text, name, source=source) if text else ""


def printable(text: str, name: str, *, source: str | None = None, longest: int = LONGEST_ATTRIBUTE) -> str:
    """The text of an attribute.

    Raises:
        Unreadable: it is empty, too long or holds control characters.
    """
    if not 0 < len(text) <= longest or _PRINTABLE.fullmatch(text) is None:
        raise Unreadable(name, f"1 to {longest} characters, none of them a control character", source=source)
    return text


def _present(value: bytes | None, source: str | None = None) -> bytes:
    if value is None:
        raise Unreadable("$", "a value; the record has none", source=source, status=400)
    return value


def _cloud_identity(source: str, name: str) -> str:
    # Both are unique together only (CloudEvents 1.0.2, "source"); a list in JSON cannot be read in two ways.
    return f"ce:{_encode([source, name]).decode()}"


def _binary(value: bytes | None, headers: Mapping[str, bytes | None], content_type: str) -> Arrival:
    source = _required(headers, f"ce_{SOURCE_ATTRIBUTE}", None)
    if _required(headers, "ce_specversion", source) != "1.0":
        raise Unreadable("ce_specversion", "1.0", source=source)
    _required(headers, "ce_type", source)
    identity = _cloud_identity(_required(headers, "ce_source", source), _required(headers, "ce_id", source))
    return Arrival(source, _present(value, source), content_type, identity)


def _required(headers: Mapping[str, bytes | None], name: str, source: str | None) -> str:
    text = _text(headers, name, source=source)
    if not text:
        raise Unreadable(name, "a header of that name", source=source)
    return text


def _structured(value: bytes | None) -> Arrival:
    value = _present(value)
    try:
        event = _event(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(error, _source_named(value, SOURCE_ATTRIBUTE)) from None
    source = printable(event.tocsinsource, SOURCE_ATTRIBUTE)
    if event.specversion != "1.0":
        raise Unreadable("specversion", "1.0", source=source)
    printable(event.type, "type", source=source)
    identity = _cloud_identity(printable(event.source, "source", source=source), printable(event.id, "id", source=source))
    content_type = printable(event.datacontenttype, "datacontenttype", source=source)
    data = bytes(event.data)
    if event.data_base64 is not None:
        if data:
            raise Unreadable("data", "one of data and data_base64", source=source)
        return Arrival(source, _unpacked(event.data_base64, "data_base64", source), content_type, identity)
    if not data or data == b"null":
        raise Unreadable("data", "what the monitor says", source=source)
    if data.startswith(b'"') and _JSON_TYPE.match(content_type) is None:
        data = msgspec.json.decode(data, type=str).encode()  # text in another format than JSON
    return Arrival(source, data, content_type, identity)


def _enveloped(value: bytes | None) -> Arrival:
    value = _present(value)
    try:
        found = _envelope(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(error, _source_named(value, "source")) from None
    source = printable(found.source, "source")
    identity = None
    if found.id is not None:
        identity = IDEMPOTENCY_KEY + printable(found.id, "id", source=source, longest=LONGEST_TEXT)
    content_type = found.content_type and printable(found.content_type, "content_type", source=source)
    if (found.body is None) is (found.body_base64 is None):
        raise Unreadable("body", "one of body and body_base64", source=source)
    if found.body_base64 is not None:
        body = _unpacked(found.body_base64, "body_base64", source)
    else:
        body = (found.body or "").encode()
    accepted = None if found.delivery is None else (found.delivery, found.mark or "")
    return Arrival(source, body, content_type, identity, accepted)


def _unpacked(text: str, name: str, source: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable(name, "base64", source=source) from None


def _explained(error: Exception, source: str | None) -> Unreadable:
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Unreadable("$", f"JSON in UTF-8: {text}", source=source, status=400)
    found = _WHERE.fullmatch(text)
    path, text = (found[2] or "$", found[1]) if found else ("$", text)
    text = text[:1].lower() + text[1:]
    return Unreadable(path, text.removeprefix("expected ") if text.startswith("expected ") else f"other members: {text}", source=source)


def _source_named(value: bytes, member: str) -> str | None:
    """The source that a record names which is wrong otherwise."""
    try:
        name = _named(value).get(member)
        return printable(name, member) if isinstance(name, str) else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Unreadable):
        return None
