"""The schemas that are checked in are those of the code; an event that changed its meaning under its old name is caught."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar
from uuid import UUID

import jsonschema_rs
import msgspec
import pytest

from engine import schema
from engine.event import REGISTRY, UPCASTERS, Event, Personal
from engine.observation import Severity
from engine.ticket import Visibility
from tests.conftest import Bell

schema.load_events()


class Mild(msgspec.Struct, frozen=True, kw_only=True):
    """A nested value."""

    size: int = 0


class Spoken(Event, frozen=True):
    """Something was said."""

    TOPIC: ClassVar[str] = "test.spoken.v1"
    by: UUID
    text: Annotated[str, Personal("by")]
    severity: Severity = Severity.INFO
    tags: tuple[str, ...] = ()
    facts: dict[str, Mild] = {}
    loud: bool = False
    reason: str | None = None


del REGISTRY[Spoken.TOPIC]  # known here only


@contextmanager
def instead(**changes: Any) -> Iterator[dict[str, type[Event]]]:
    """A registry in which `test.spoken.v1` has these fields instead (None: not any more)."""
    fields: list[tuple[str, Any, Any]] = []
    given = {
        "by": (UUID, msgspec.NODEFAULT), "text": (Annotated[str, Personal("by")], msgspec.NODEFAULT),
        "severity": (Severity, Severity.INFO), "tags": (tuple[str, ...], ()), "facts": (dict[str, Mild], {}),
        "loud": (bool, False), "reason": (str | None, None), **changes,
    }
    for name, stated in given.items():
        if stated is not None:
            fields.append((name, *stated))
    event_class = msgspec.defstruct(
        "Spoken", fields, bases=(Event,), namespace={"TOPIC": Spoken.TOPIC, "__doc__": Spoken.__doc__}, frozen=True, kw_only=True
    )
    del REGISTRY[Spoken.TOPIC]
    assert issubclass(event_class, Event)
    yield {Spoken.TOPIC: event_class}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the schema of `test.spoken.v1` as it was released."""
    assert schema.write(tmp_path, {Spoken.TOPIC: Spoken}) == []
    return tmp_path


def test_the_schemas_that_are_checked_in_are_those_of_the_code() -> None:
    assert schema.check() == []


def test_every_event_and_no_other_name_has_one() -> None:
    assert {path.stem for path in schema.FOLDER.glob("*.json")} - set(UPCASTERS) == set(REGISTRY)


def test_the_same_events_in_other_words_change_nothing(folder: Path) -> None:
    with instead() as registry:
        assert schema.contradictions(schema.schema_of(Spoken), schema.schema_of(registry[Spoken.TOPIC])) == []
        assert schema.check(folder, registry) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reason": None}, "reason was removed or renamed"),
        ({"tags": None, "labels": (tuple[str, ...], ())}, "tags was removed or renamed"),
        ({"loud": (int, 0)}, "loud was boolean and is now integer"),
        ({"loud": (bool, True)}, "loud was false where nothing is said and is now true"),
        ({"loud": (bool, msgspec.NODEFAULT)}, "loud is required and was not"),
        ({"where": (str, msgspec.NODEFAULT)}, "where is required and was not"),
        ({"tags": (tuple[int, ...], ())}, "tags[] was string and is now integer"),
        ({"reason": (str, "")}, "reason was one of 2 types and is now string"),
        ({"by": (str, msgspec.NODEFAULT)}, "by was string (uuid) and is now string"),
        ({"severity": (Visibility, Visibility.PUBLIC)}, "severity may no longer be critical, high, warning, info"),
        ({"facts": (dict[str, str], {})}, "facts{} was object and is now string"),
        ({"text": (str, msgspec.NODEFAULT)}, "text was personal data of by and is now string"),
        ({"text": (Annotated[dict[str, str], Personal("by")], msgspec.NODEFAULT)}, "text was string and is now a map"),
    ],
)
def test_a_change_of_meaning_without_a_new_version_is_caught_and_not_written(
    folder: Path, changes: dict[str, Any], sentence: str
) -> None:
    before = (folder / "test.spoken.v1.json").read_bytes()
    with instead(**changes) as registry:
        wrong = schema.write(folder, registry)
        assert f"test.spoken.v1: {sentence}. Logs hold it as it was: give it a new version and an upcaster." in wrong
        assert set(schema.check(folder, registry)) == set(wrong)
    assert (folder / "test.spoken.v1.json").read_bytes() == before


@pytest.mark.parametrize("changes", [{"place": (str | None, None)}, {"place": (str, "")}])
def test_a_new_field_that_may_be_missing_only_makes_the_file_outdated(folder: Path, changes: dict[str, Any]) -> None:
    with instead(**changes) as registry:
        assert schema.check(folder, registry) == ["test.spoken.v1: its schema is outdated; run python -m engine.schema"]
        assert schema.write(folder, registry) == []
        assert schema.check(folder, registry) == []


def test_an_event_that_nothing_reads_any_more_is_caught(folder: Path) -> None:
    assert schema.check(folder, {}) == [
        "test.spoken.v1: nothing reads it any more. Logs hold it: keep its class, or bring an upcaster."
    ]
    UPCASTERS["test.spoken.v1"] = lambda fields: ("test.spoken.v2", fields)
    try:
        assert schema.check(folder, {}) == []
    finally:
        del UPCASTERS["test.spoken.v1"]


def test_what_is_stored_fits_its_schema(bell: Bell) -> None:
    for payload in ("grouped-many.json", "resolved.json", "firing.json", "resolved.json"):
        bell.ring("alertmanager", f"prometheus-alertmanager/{payload}")
    bell.ring("pagerduty", "pagerduty-events-v2/trigger.json")
    person = UUID(int=7)
    for text, author in (("nobody's", None), ("somebody's", person)):
        bell.act(bell.incidents[0], "comment", text=text, visibility=Visibility.PUBLIC, author=author)
    validators: dict[str, jsonschema_rs.Validator] = {}
    rows = bell.ledger.store.log(0, 1_000)
    for row in rows:
        if row.type not in validators:
            text = (schema.FOLDER / f"{row.type}.json").read_text()
            validators[row.type] = jsonschema_rs.validator_for(json.loads(text), validate_formats=True)
        validators[row.type].validate(msgspec.json.decode(row.state))
    assert {"delivery.received.v1", "ticket.commented.v1", "alert.episode_opened.v1"} <= validators.keys()
    with pytest.raises(jsonschema_rs.ValidationError):
        validators["ticket.commented.v1"].validate({"text": {"sealed": 5}, "visibility": "public"})


def test_the_command_says_what_is_wrong_and_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert schema.main(["--check"]) == 0
    monkeypatch.setattr(schema, "check", lambda: ["incident.opened.v1: title was removed or renamed."])
    assert schema.main(["--check"]) == 1
    assert "title was removed" in capsys.readouterr().err
