"""Events to stored bytes and back: JSON by msgspec, over the closed registry of stored names; sealing; upcasting.

The state of an event is a JSON object of its fields. A personal field is stored as `{"sealed": BASE64}`: nonce and
AES-256-GCM ciphertext of its JSON value under its subject's key, bound to stream, version and field.
"""

import base64
from typing import Any, Final
from uuid import UUID

import msgspec
from eventsourcing.persistence import Mapper, StoredEvent

from engine.errors import TocsinError
from engine.event import REGISTRY, UPCASTERS, Event, Fact, personal_fields
from engine.vault import Vault

ERASED: Final = "(erased)"
_NOBODY: Final = UUID(int=0)


class UnknownEvent(TocsinError):
    """The log holds an event that this version of Tocsin does not know: it was written by a newer one."""


class Codec(Mapper[UUID]):
    """The library's mapper, with our bytes: a fact's envelope lies in columns beside the state."""

    def __init__(self, vault: Vault) -> None:
        # The library's transcoder, cipher and compressor have no part in this: encode and decode below do their work.
        self._vault = vault
        self._encoder = msgspec.json.Encoder()
        self._decoders: dict[str, msgspec.json.Decoder[Event]] = {}

    def encode(self, fact: Fact) -> bytes:
        """The state column of a fact."""
        event = fact.event
        personal = personal_fields(type(event))
        if not personal:
            return self._encoder.encode(event)
        fields: dict[str, Any] = msgspec.to_builtins(event)
        for name, subject_field in personal.items():
            subject: UUID | None = getattr(event, subject_field)
            if subject is not None and name in fields:
                content = self._encoder.encode(fields[name])
                sealed = self._vault.seal(subject.bytes, _context(fact.stream_id, fact.version, name), content)
                fields[name] = {"sealed": base64.b64encode(sealed).decode()}
        return self._encoder.encode(fields)

    def decode(self, topic: str, state: bytes, stream_id: UUID, version: int) -> Event:
        """The event of a stored row, in its current shape; personal text reads `(erased)` where its key is gone.

        Raises:
            UnknownEvent: the stored name is neither known nor upcast.
        """
        event_class = REGISTRY.get(topic)
        if event_class is not None and not personal_fields(event_class):
            decoder = self._decoders.get(topic)
            if decoder is None:
                decoder = self._decoders[topic] = msgspec.json.Decoder(event_class)
            return decoder.decode(state)
        fields: dict[str, Any] = msgspec.json.decode(state)
        while topic in UPCASTERS:
            topic, fields = UPCASTERS[topic](fields)
        event_class = REGISTRY.get(topic)
        if event_class is None:
            raise UnknownEvent(f"the log holds {topic}, which this version does not know; use a newer Tocsin")
        for name, subject_field in personal_fields(event_class).items():
            value = fields.get(name)
            if isinstance(value, dict) and value.keys() == {"sealed"} and fields.get(subject_field):
                fields[name] = self._unsealed(event_class, name, UUID(fields[subject_field]), value["sealed"], stream_id, version)
        return msgspec.convert(fields, event_class)

    def _unsealed(self, event_class: type[Event], name: str, subject: UUID, sealed: str, stream_id: UUID, version: int) -> Any:
        try:
            stored = base64.b64decode(sealed, validate=True)
        except ValueError:
            stored = b""  # tampered with: what follows says so
        content = self._vault.unseal(subject.bytes, _context(stream_id, version, name), stored)
        if content is not None:
            return msgspec.json.decode(content)
        field_type = next(field.type for field in msgspec.structs.fields(event_class) if field.name == name)
        kind = str(field_type)
        return {} if "dict" in kind else [] if "tuple" in kind else ERASED

    # -- the library's protocol -----------------------------------------------------------------------------------

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        fact: Fact = domain_event
        return StoredEvent(
            originator_id=fact.stream_id, originator_version=fact.version, topic=fact.type, state=self.encode(fact)
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        stream_id = stored_event.originator_id
        assert isinstance(stream_id, UUID)
        event = self.decode(stored_event.topic, stored_event.state, stream_id, stored_event.originator_version)
        return Fact(
            stream_id=stream_id, version=stored_event.originator_version, event=event, actor="", correlation_id=_NOBODY
        )


def _context(stream_id: UUID, version: int, field: str) -> bytes:
    return f"{stream_id}:{version}:{field}".encode()
