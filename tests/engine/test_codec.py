"""Events to stored bytes and back: in any version, with personal data sealed, whatever happened to its key."""

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.codec import ERASED, Codec, UnknownEvent
from engine.event import REGISTRY, UPCASTERS, Event, Fact, Personal, personal_fields, upcasts
from engine.identity import stream_id
from engine.keyring import SqliteKeyring
from engine.person import PersonRegistered
from engine.request import RequestSubmitted
from engine.schema import load_events
from engine.ticket import TicketCommented, Visibility
from engine.vault import Vault, VaultLocked

load_events()

STREAM: Final = stream_id("test", "codec")
NORA: Final = uuid4()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INSTANTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault(SqliteKeyring(tmp_path_factory.mktemp("codec") / "keys.db"), b"k" * 32)


@pytest.fixture
def codec(vault: Vault) -> Codec:
    return Codec(vault)


def fact(event: Event, version: int = 1) -> Fact:
    return Fact(stream_id=STREAM, version=version, event=event, actor="tocsin", correlation_id=NORA)


def again(codec: Codec, event: Event) -> Event:
    return codec.decode(event.TOPIC, codec.encode(fact(event)), STREAM, 1)


def any_event(event_class: type[Event]) -> st.SearchStrategy[Event]:
    return st.builds(event_class, **{field.name: _any(field.type) for field in msgspec.structs.fields(event_class)})


def _any(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.builds(kind, **{field.name: _any(field.type) for field in msgspec.structs.fields(kind)})
    origin = getattr(kind, "__origin__", None)
    if origin is tuple:
        return st.lists(_any(kind.__args__[0]), max_size=2).map(tuple)
    if origin is Annotated:
        return _any(kind.__args__[0])
    if origin is dict:
        return st.dictionaries(TEXT, _any(kind.__args__[1]), max_size=2)
    if hasattr(kind, "__args__"):
        return st.one_of(*(_any(each) for each in kind.__args__))
    scalars: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT, int: st.integers(-(2**63), 2**63 - 1), float: st.floats(allow_nan=False, allow_infinity=False), datetime: INSTANTS,
    }
    return scalars[kind] if kind in scalars else st.from_type(kind)


@pytest.mark.law
@pytest.mark.parametrize("topic", sorted(REGISTRY))
@given(data=st.data())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_event_is_read_back_as_it_was_written(topic: str, codec: Codec, data: st.DataObject) -> None:
    event = data.draw(any_event(REGISTRY[topic]))
    assert again(codec, event) == event


def test_a_stored_name_is_known_once() -> None:
    with pytest.raises(TypeError, match=r"ticket\.commented\.v1 is stored by TicketCommented already"):
        type("Twice", (Event,), {"TOPIC": TicketCommented.TOPIC})
    with pytest.raises(TypeError, match="needs a TOPIC"):
        type("Nameless", (Event,), {})
    with pytest.raises(TypeError, match="known already"):
        upcasts(TicketCommented.TOPIC)(lambda fields: ("x", fields))


# -- personal data -------------------------------------------------------------------------------------------------------------

REQUEST: Final = RequestSubmitted(
    number="REQ-1", title="New badge for Nora", requester=NORA, opened_at=datetime(2026, 3, 2, tzinfo=UTC), channel="portal",
    description="Mine was stolen in Lund", fields={"door": "west"}, item="badge",
)


def test_personal_fields_are_stored_sealed_and_the_others_in_plain(codec: Codec) -> None:
    state = codec.encode(fact(REQUEST))
    for text in (b"Nora", b"Lund", b"west", b"door"):
        assert text not in state
    fields = msgspec.json.decode(state)
    assert (fields["number"], fields["item"], fields["requester"]) == ("REQ-1", "badge", str(NORA))
    assert personal_fields(RequestSubmitted).keys() == {"title", "description", "fields"}
    assert all(fields[name].keys() == {"sealed"} for name in personal_fields(RequestSubmitted))


def test_without_a_person_nothing_is_personal(codec: Codec) -> None:
    comment = TicketCommented(text="the disk is full", visibility=Visibility.PUBLIC)
    assert b"the disk is full" in codec.encode(fact(comment))
    assert again(codec, comment) == comment


def test_a_text_that_looks_sealed_is_a_text(codec: Codec) -> None:
    comment = TicketCommented(text='{"sealed": "AAAA"}', visibility=Visibility.PUBLIC, subject=NORA)
    assert again(codec, comment) == comment


def test_the_same_text_sealed_twice_is_not_the_same_bytes(codec: Codec) -> None:
    assert codec.encode(fact(REQUEST)) != codec.encode(fact(REQUEST))


@pytest.mark.parametrize("field", ["title", "fields"])
def test_a_sealed_field_that_was_altered_moved_or_copied_is_refused(codec: Codec, field: str) -> None:
    state = codec.encode(fact(REQUEST))
    fields = msgspec.json.decode(state)
    sealed = bytearray(base64.b64decode(fields[field]["sealed"]))
    sealed[-1] ^= 1
    altered = {**fields, field: {"sealed": base64.b64encode(sealed).decode()}}
    swapped = {**fields, "title": fields["fields"], "fields": fields["title"]}
    others = {**fields, "requester": str(uuid4())}
    codec.encode(fact(msgspec.structs.replace(REQUEST, requester=UUID(others["requester"]))))  # that person has a key too
    cut = {**fields, field: {"sealed": fields[field]["sealed"][:-3]}}
    for changed, version in ((altered, 1), (cut, 1), (swapped, 1), (others, 1), (fields, 2)):
        with pytest.raises(VaultLocked, match="does not belong where it stands"):
            codec.decode(REQUEST.TOPIC, msgspec.json.encode(changed), STREAM, version)


def test_after_its_key_is_destroyed_personal_data_reads_erased_and_the_rest_as_before(vault: Vault, codec: Codec) -> None:
    person, somebody = uuid4(), uuid4()
    request = msgspec.structs.replace(REQUEST, requester=person)
    registered = PersonRegistered(person=person, name="Nora Berg", email="nora@example.org", team="service desk")
    theirs = PersonRegistered(person=somebody, name="Ida", email=None)
    states = [codec.encode(fact(event)) for event in (request, registered, theirs)]
    vault.destroy(person.bytes)
    assert codec.decode(request.TOPIC, states[0], STREAM, 1) == msgspec.structs.replace(
        request, title=ERASED, description=ERASED, fields={}
    )
    assert codec.decode(registered.TOPIC, states[1], STREAM, 1) == msgspec.structs.replace(registered, name=ERASED, email=ERASED)
    assert codec.decode(theirs.TOPIC, states[2], STREAM, 1) == theirs


# -- versions ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rung() -> Iterator[type[Event]]:
    """An event in its third version, known only to the test, with the way there from the first two."""

    class BellRung(Event, frozen=True):
        """A bell was rung."""

        TOPIC: ClassVar[str] = "test.bell_rung.v3"
        by: UUID
        reason: Annotated[str, Personal("by")]
        strokes: int
        loud: bool = True

    @upcasts("test.bell_rung.v1")
    def _counted(fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "test.bell_rung.v2", {**fields, "strokes": 1}

    @upcasts("test.bell_rung.v2")
    def _named(fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "test.bell_rung.v3", {"by": fields["who"], "reason": fields["reason"], "strokes": fields["strokes"]}

    yield BellRung
    del REGISTRY[BellRung.TOPIC], UPCASTERS["test.bell_rung.v1"], UPCASTERS["test.bell_rung.v2"]


STORED_V1: Final = b'{"who":"6f0f1c3e-0c9b-4f0e-9a39-3c2b8f7f4a11","reason":"fire in the mill"}'
STORED_V2: Final = b'{"who":"6f0f1c3e-0c9b-4f0e-9a39-3c2b8f7f4a11","reason":"flood","strokes":9}'


def test_a_stored_event_of_an_older_version_is_read_in_its_present_shape(codec: Codec, rung: Callable[..., Event]) -> None:
    by = UUID("6f0f1c3e-0c9b-4f0e-9a39-3c2b8f7f4a11")
    assert codec.decode("test.bell_rung.v1", STORED_V1, STREAM, 1) == rung(by=by, reason="fire in the mill", strokes=1)
    assert codec.decode("test.bell_rung.v2", STORED_V2, STREAM, 1) == rung(by=by, reason="flood", strokes=9)


def test_what_was_sealed_in_an_older_version_is_unsealed_in_the_present_one(
    vault: Vault, codec: Codec, rung: Callable[..., Event]
) -> None:
    by = uuid4()
    sealed = vault.seal(by.bytes, f"{STREAM}:4:reason".encode(), b'"smoke"')
    state = msgspec.json.encode({"who": str(by), "reason": {"sealed": base64.b64encode(sealed).decode()}})
    assert codec.decode("test.bell_rung.v1", state, STREAM, 4) == rung(by=by, reason="smoke", strokes=1)
    vault.destroy(by.bytes)
    assert codec.decode("test.bell_rung.v1", state, STREAM, 4) == rung(by=by, reason=ERASED, strokes=1)


def test_an_event_of_a_newer_version_is_named_and_not_guessed(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(UnknownEvent, match=r"the log holds incident\.opened\.v9"):
        codec.decode("incident.opened.v9", b"{}", STREAM, 1)


def test_what_a_newer_version_added_to_an_event_does_not_stand_in_the_way(codec: Codec) -> None:
    state = b'{"text":"up again","visibility":"public","mood":"relieved"}'
    assert codec.decode(TicketCommented.TOPIC, state, STREAM, 1) == TicketCommented(text="up again", visibility=Visibility.PUBLIC)
