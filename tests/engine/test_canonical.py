"""The bytes that stand for a stored event never change: the proof hashes them, also those of years ago."""

import hashlib
import json
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.canonical import canonical_bytes
from engine.clock import micros
from engine.ledger import Ledger
from engine.source import Source, SourceAdded
from engine.store import Row
from engine.work import Unit

GOLDEN: Final[list[dict[str, Any]]] = json.loads((Path(__file__).parent / "golden" / "canonical_bytes.json").read_text())


def bytes_of(row: Row) -> bytes:
    return canonical_bytes(
        position=row.position, stream_id=UUID(bytes=row.stream), version=row.version, topic=row.type, state=row.state,
        recorded_at=row.recorded_at, actor=row.actor, correlation_id=UUID(bytes=row.correlation), cause=row.cause,
    )


def read_back(content: bytes) -> Row:
    """The row that these bytes say, by the description in `engine/canonical.py` alone."""
    assert content.startswith(b"tocsin.event.1\0")
    position, version, recorded_at = struct.unpack_from(">qqq", content, 15)
    stream, correlation, rest = content[39:55], content[55:71], content[71:]
    texts: list[bytes | None] = []
    for _ in range(4):
        length = int.from_bytes(rest[:4], "big")
        texts.append(None if length == 0xFFFFFFFF else rest[4 : 4 + length])
        rest = rest[4 + len(texts[-1] or b"") :]
    assert rest == b""
    topic, actor, cause, state = texts
    assert topic is not None
    assert actor is not None
    assert state is not None
    return Row(
        position, stream, version, topic.decode(), state, recorded_at, actor.decode(), correlation,
        None if cause is None else cause.decode(),
    )


NUMBERS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
IDS = st.binary(min_size=16, max_size=16)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROWS = st.builds(Row, NUMBERS, IDS, NUMBERS, TEXTS, st.binary(max_size=20), NUMBERS, TEXTS, IDS, st.none() | TEXTS)


@pytest.mark.parametrize("vector", GOLDEN, ids=[vector["name"] for vector in GOLDEN])
def test_golden_vector(vector: dict[str, Any]) -> None:
    row = Row(
        vector["position"], UUID(vector["stream"]).bytes, vector["version"], vector["type"], vector["state"].encode(),
        vector["recorded_at"], vector["actor"], UUID(vector["correlation"]).bytes, vector["cause"],
    )
    content = bytes_of(row)
    assert content.hex() == vector["bytes"]
    assert hashlib.sha256(content).hexdigest() == vector["sha256"]


@pytest.mark.law
@given(ROWS)
def test_the_bytes_say_every_column_and_nothing_else(row: Row) -> None:
    assert read_back(bytes_of(row)) == row


def test_a_row_of_the_log_has_them(ledger: Ledger) -> None:
    stream_id = uuid4()
    event = SourceAdded(name="Überwachung", adapter="generic")
    ledger.run(Unit(lambda work: work.load(Source, stream_id).add(event), actor="user:nora", correlation_id=UUID(int=5)))
    (row,) = ledger.store.log(0, 10)
    recorded_at = micros(datetime(2026, 3, 2, 12, tzinfo=UTC))
    state = '{"name":"Überwachung","adapter":"generic"}'.encode()
    assert row == Row(1, stream_id.bytes, 1, "source.added.v1", state, recorded_at, "user:nora", UUID(int=5).bytes, None)
    assert read_back(bytes_of(row)) == row
