"""What a record of the deliveries' topic is taken for."""

import base64
import contextlib
import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitors.kafka_record import Headers, Unreadable, envelope, read

CE: dict[str, str] = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "alert", "tocsinsource": "generic"}
STRUCTURED: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def binary(**attributes: str) -> Headers:
    return [(f"ce_{name}", value.encode()) for name, value in {**CE, **attributes}.items()]


def structured(**members: Any) -> bytes:
    return json.dumps({**CE, **members}).encode()


def test_an_envelope_names_source_body_and_identity() -> None:
    arrival = read(b'{"source":"generic","id":"a-1","content_type":"application/json","body":"{\\"title\\":\\"x\\"}"}', [])
    assert (arrival.source, arrival.body, arrival.content_type) == ("generic", b'{"title":"x"}', "application/json")
    assert arrival.identity == "key:a-1"  # as an Idempotency-Key over HTTP


def test_an_envelope_without_an_id_is_identified_by_nothing() -> None:
    assert read(b'{"source":"generic","body":""}', []).identity is None


@given(st.binary(), st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200))
def test_an_envelope_carries_any_body_as_it_is(body: bytes, source: str) -> None:
    arrival = read(envelope(source, body, "text/plain", key="k", delivery=UUID(int=7), mark="m"), [])
    assert (arrival.source, arrival.body, arrival.identity, arrival.accepted) == (source, body, "key:k", (UUID(int=7), "m"))


def test_a_binary_cloudevent_is_its_value_under_its_headers() -> None:
    arrival = read(b"{}", [*binary(), ("content-type", b"application/json")])
    assert (arrival.source, arrival.body, arrival.content_type) == ("generic", b"{}", "application/json")


def test_a_structured_cloudevent_keeps_the_bytes_of_its_data() -> None:
    value = structured().removesuffix(b"}") + b', "data": {"n":  1.50}}'
    assert read(value, STRUCTURED).body == b'{"n":  1.50}'


def test_a_structured_cloudevent_may_carry_packed_or_plain_data() -> None:
    assert read(structured(data_base64=base64.b64encode(b"\xff").decode()), STRUCTURED).body == b"\xff"
    assert read(structured(data="a\nb", datacontenttype="text/plain"), STRUCTURED).body == b"a\nb"
    assert read(structured(data="a", datacontenttype="application/json"), STRUCTURED).body == b'"a"'


def test_both_forms_of_a_cloudevent_have_one_identity() -> None:
    assert read(b"{}", binary()).identity == read(structured(data={}), STRUCTURED).identity == 'ce:["/shop","7"]'


@pytest.mark.parametrize(
    ("value", "headers", "field", "source"),
    [
        (None, [], "$", None),
        (None, binary(), "$", "generic"),
        (b"", [], "$", None),
        (b"{", [], "$", None),
        (b"\xff", [], "$", None),
        (b"[" * 100_000, [], "$", None),
        (b'{"x":' * 100_000, STRUCTURED, "$", None),
        (b"[]", [], "$", None),
        (b'{"body":"x"}', [], "$", None),
        (b'{"source":7,"body":"x"}', [], "source", None),
        (b'{"source":"","body":"x"}', [], "source", None),
        (b'{"source":"a\\u0000","body":"x"}', [], "source", None),
        (b'{"source":"a"}', [], "body", "a"),
        (b'{"source":"a","body":"x","body_base64":""}', [], "body", "a"),
        (b'{"source":"a","body_base64":"%"}', [], "body_base64", "a"),
        (b'{"source":"a","body":"x","id":""}', [], "id", "a"),
        (b'{"source":"a","body":"x","delivery":"7"}', [], "delivery", "a"),
        (b'{"source":"a","body":"x","more":1}', [], "$", "a"),
        (b"{}", binary(specversion="0.3"), "ce_specversion", "generic"),
        (b"{}", binary(id=""), "ce_id", "generic"),
        (b"{}", binary(tocsinsource=""), "ce_tocsinsource", None),
        (b"{}", [*binary(), ("ce_source", b"\xff")], "ce_source", "generic"),
        (b"{}", [("content-type", b"application/cloudevents+avro")], "content-type", None),
        (b"[]", [("content-type", b"application/cloudevents-batch+json")], "content-type", None),
        (structured(), STRUCTURED, "data", "generic"),
        (structured(data=None), STRUCTURED, "data", "generic"),
        (structured(data={}, data_base64=""), STRUCTURED, "data", "generic"),
        (structured(data={}, specversion="1.1"), STRUCTURED, "specversion", "generic"),
        (structured(data={}, id=""), STRUCTURED, "id", "generic"),
    ],
)
def test_what_is_no_delivery_is_said_with_its_place(value: bytes | None, headers: Headers, field: str, source: str | None) -> None:
    with pytest.raises(Unreadable) as refused:
        read(value, headers)
    assert (refused.value.path, refused.value.source) == (field, source)
    assert refused.value.expected.startswith("expected ")


@given(st.one_of(st.none(), st.binary()), st.lists(st.tuples(st.sampled_from(["content-type", "ce_specversion", "ce_id", "other"]), st.binary())))
def test_any_record_is_read_or_refused(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    with contextlib.suppress(Unreadable):
        assert read(value, headers).source
