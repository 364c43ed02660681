"""What the AsyncAPI document says of Kafka is what is read from it and written into it."""

import json
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import jsonschema_rs
import pytest

from api import asyncapi
from engine import schema
from engine.event import REGISTRY
from engine.store import Row
from monitors.kafka_record import envelope
from projections.kafka_relay import MOST_BYTES, record_of

# The official schema, without what concerns other protocols than Kafka.
OFFICIAL: Final = Path(__file__).with_name("asyncapi-3.0.0.json")
DOCUMENT: Final[dict[str, Any]] = json.loads(asyncapi.FILE.read_text())
STORE: Final = "0190a3c4-0000-7000-8000-000000000001"


def pointed(reference: str) -> Any:
    """What a reference of the document points at."""
    file, _, pointer = reference.partition("#")
    found = json.loads((asyncapi.FILE.parent / file).read_text()) if file else DOCUMENT
    for name in pointer.strip("/").split("/") if pointer else ():
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for each in node for found in references(each)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for each in node.values() for found in references(each)]


def valid(of: str, found: Any) -> bool:
    """Whether something is as a schema of the components says."""
    return jsonschema_rs.is_valid({"$ref": f"#/components/schemas/{of}", "components": DOCUMENT["components"]}, found)


def row(state: bytes, *, cause: str | None) -> Row:
    stream = UUID("0190a3c4-1111-7000-8000-000000000002")
    return Row(42, stream.bytes, 3, "incident.opened.v1", state, 1_772_445_600_000_000, "user:x", stream.bytes, cause)


def test_the_document_that_is_checked_in_is_that_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert asyncapi.main(["--check"]) == 0, capsys.readouterr().err


def test_it_is_written_anew_where_it_is_outdated(tmp_path: Path) -> None:
    file = tmp_path / "asyncapi.json"
    assert asyncapi.main(["--check"], file) == 1
    assert asyncapi.main([], file) == 0
    assert asyncapi.main(["--check"], file) == 0


def test_it_is_an_asyncapi_document_by_the_official_schema() -> None:
    official = jsonschema_rs.validator_for(json.loads(OFFICIAL.read_text()))
    assert [error.message for error in official.iter_errors(DOCUMENT)] == []
    assert not official.is_valid({**DOCUMENT, "channels": {"events": {"messages": {"x": {"payload": {"type": 7}}}}}})


def test_all_that_it_refers_to_is_there() -> None:
    found = references(DOCUMENT)
    assert len(found) > 2 * len(REGISTRY)
    for reference in found:
        assert isinstance(pointed(reference), dict), reference


def test_each_event_is_a_message_with_the_schema_of_its_state() -> None:
    schema.load_events()
    assert set(DOCUMENT["channels"]["events"]["messages"]) == set(REGISTRY)
    for topic in REGISTRY:
        message = DOCUMENT["components"]["messages"][topic]
        payload = pointed(message["payload"]["schema"]["$ref"])
        assert payload["title"] == topic
        assert jsonschema_rs.meta.is_valid(payload)
    for name, found in DOCUMENT["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid({"$schema": schema.DIALECT, **found}), name


@pytest.mark.parametrize("cause", [None, "0190a3c4-1111-7000-8000-000000000002:2"])
@pytest.mark.parametrize("length", [2, MOST_BYTES, MOST_BYTES + 1])
def test_the_headers_of_a_record_are_those_that_it_names(length: int, cause: str | None) -> None:
    record = record_of(row(b"{" + b" " * (length - 2) + b"}", cause=cause), STORE, "https://tocsin")
    headers = {name: text.decode() for name, text in record.headers}
    assert len(headers) == len(record.headers)
    assert valid("EventHeaders", headers), headers
    assert headers["ce_source"] == f"urn:uuid:{STORE}"
    assert ("ce_tocsincause" in headers) == (cause is not None)
    if length > MOST_BYTES:
        assert record.value == b""
        assert headers["ce_dataref"] == "https://tocsin/api/v1/log?after=41&limit=1"
    else:
        assert len(record.value) == length
    assert not valid("EventHeaders", {**headers, "ce_other": "x"})


def test_an_envelope_is_what_it_says() -> None:
    for body in (b"{}", b"\xff"):
        found = json.loads(envelope("generic", body, "application/json", key="k", delivery=None, mark=None))
        assert valid("Envelope", found)
        assert not valid("Envelope", {**found, "other": 1})
        assert not valid("Envelope", {name: value for name, value in found.items() if not name.startswith("body")})
