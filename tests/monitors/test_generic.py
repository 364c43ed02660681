"""Any JSON: the default shape, and a mapping in CEL from whatever shape there is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.errors import InvalidInput, MalformedDelivery
from engine.observation import Observation, ObservationKind, Severity, SourceProfile
from monitors.integrations.generic import parse, read_mapping

TRIGGER, RESOLVE = ObservationKind.TRIGGER, ObservationKind.RESOLVE
CHECKS = """
each = "body.checks"
key = ["item.host", "item.check"]
title = "item.host + ': ' + item.output"
severity = "item.level"
firing = "item.state != 'ok'"
service = "body.site"
started_at = "item.at"
"""


def read(value: Any, mapping: str | None = None, content_type: str = "application/json") -> tuple[Observation, ...]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse(body, content_type, SourceProfile(name="generic", adapter="generic", mapping=mapping, zone="Europe/Paris")).observations


def only(value: Any, mapping: str | None = None) -> Observation:
    [observation] = read(value, mapping)
    return observation


def refusal(value: Any, mapping: str | None = None) -> MalformedDelivery:
    with pytest.raises(MalformedDelivery) as caught:
        read(value, mapping)
    return caught.value


def check(**fields: Any) -> dict[str, Any]:
    return {"host": "h1", "check": "disk", "output": "full", "level": "error", "state": "bad", "at": "2026-03-02T13:00:00"} | fields


def test_the_default_shape() -> None:
    observation = only(
        {"key": "disk", "title": "Disk full", "severity": "high", "service": "shop", "host": "h1", "started_at": 1772452800,
         "labels": {"team": "blue", "n": 5}, "note": "x", "url": "https://example.com/1"}
    )
    assert (observation.kind, observation.dedup_key, observation.title) == (TRIGGER, "disk", "Disk full")
    assert (observation.severity, observation.service, observation.resource) == (Severity.HIGH, "shop", "h1")
    assert observation.labels == {"team": "blue", "n": "5"}
    assert observation.details == {"note": "x"}
    assert observation.occurred_at == datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    assert observation.link == "https://example.com/1"


@pytest.mark.parametrize(("key", "expected"), [(0, "0"), ("0", "0"), (False, "false"), ("", ""), (["a", 0, None], '["a","0",null]'), (None, None)])
def test_falsy_keys_are_keys(key: object, expected: str | None) -> None:
    assert only({"key": key, "title": "x"}).dedup_key == expected


@pytest.mark.parametrize(
    ("fields", "kind"),
    [({"firing": True}, TRIGGER), ({"firing": False}, RESOLVE), ({"status": "Resolved"}, RESOLVE), ({"status": "PROBLEM"}, TRIGGER),
     ({"status": "acknowledged"}, ObservationKind.ACKNOWLEDGE), ({}, TRIGGER), ({"firing": None, "status": None}, TRIGGER)],
)
def test_what_fires_and_what_does_not(fields: dict[str, Any], kind: ObservationKind) -> None:
    assert only({"id": 1, "summary": "x", **fields}).kind is kind


@pytest.mark.parametrize(
    ("value", "path"),
    [({}, "title"), ({"title": ""}, "title"), ({"title": "x", "status": "odd"}, "status"), ({"title": "x", "firing": 5}, "firing"),
     ({"title": "x", "firing": False}, "key"), ({"title": "x", "key": {}}, "key"), ({"title": "x", "key": ["a", []]}, "key[1]"),
     ({"title": "x", "started_at": "soon"}, "started_at"), ([{"title": "x"}, 5], "[1]"), ([{"title": "x"}, {}], "[1].title"), ([], "$"), (None, "$")],
)
def test_a_wrong_default_shape_is_refused_naming_its_place(value: Any, path: str) -> None:
    fault = refusal(value)
    assert (fault.path, fault.status) == (path, 422)


def test_a_key_stands_in_for_a_missing_title() -> None:
    """So that a resolve need say no more than which condition has ended."""
    one = only({"key": "disk", "firing": False})
    assert (one.kind, one.dedup_key, one.title) == (ObservationKind.RESOLVE, "disk", "disk")


def test_arrays_and_lines() -> None:
    assert len(read([{"title": "a"}, {"title": "b"}])) == 2
    assert len(read(b'{"title":"a"}\n{"title":"b"}\n')) == 2


def test_a_mapping_reads_each_item() -> None:
    one, two = read({"site": "shop", "checks": [check(), check(host="h2", state="ok")]}, CHECKS)
    assert (one.kind, one.dedup_key, one.title) == (TRIGGER, '["h1","disk"]', "h1: full")
    assert (one.severity, one.service) == (Severity.HIGH, "shop")
    assert one.occurred_at == datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    assert (two.kind, two.dedup_key) == (RESOLVE, '["h2","disk"]')


def test_a_missing_part_of_a_key_is_its_own_value() -> None:
    without, null, empty, zero = (
        only({"checks": [item]}, 'each = "checks"\nkey = ["item.host", "item.check"]\ntitle = "\'t\'"').dedup_key
        for item in ({"host": "h"}, {"host": "h", "check": None}, {"host": "h", "check": ""}, {"host": "h", "check": 0})
    )
    assert without == null
    assert len({without, empty, zero}) == 3


def test_one_expression_may_give_the_whole_key() -> None:
    assert only({"a": 1, "b": "x"}, 'key = "[item.a, item.b]"\ntitle = "item.b"').dedup_key == '["1","x"]'
    assert only({"a": 1}, 'key = "item.a"').dedup_key == "1"


def test_integers_of_a_key_are_never_rounded() -> None:
    mapping = 'key = ["item.id"]\ntitle = "\'t\'"'
    for number in (7001122334455667789, 2**63, 2**64 + 1, 10**40 + 1, -(2**63) - 1):
        assert only({"id": number}, mapping).dedup_key == str(number)


@pytest.mark.parametrize("each", ["body.data.items", "data.items", "body.data.items.filter(i, i.on)"])
def test_each_is_a_path_or_an_expression(each: str) -> None:
    body = {"data": {"items": [{"id": "a", "on": True}, {"id": "b", "on": True}]}, "site": "s"}
    observations = read(body, f'each = "{each}"\nkey = ["item.id"]\ntitle = "item.id + body.site"')
    assert [observation.title for observation in observations] == ["as", "bs"]


def test_each_may_be_the_body_itself() -> None:
    assert len(read([{"id": 1}, {"id": 2}], 'each = "body"\nkey = ["item.id"]')) == 2
    assert len(read([{"id": 1}, {"id": 2}], 'key = ["item.id"]')) == 2
    assert read([], 'each = "body"') == ()


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"checks": None}, "checks", ["each"]),
        ({"checks": [check(), check(output=5)]}, "checks[1]", ["title", "item.output"]),
        ({"checks": [check(), {"host": "h"}]}, "checks[1]", ["title", "no such field"]),
        ({"checks": [{"host": "h", "output": "o"}]}, "checks[0]", ["firing", "no such field"]),
        ({"checks": [check(at="soon")]}, "checks[0]", ["started_at"]),
        ({"checks": [check(), None]}, "checks[1]", []),
        ({"checks": [5]}, "checks[0]", ["title"]),
        ({"checks": [check(), check(check={})]}, "checks[1]", ["key[1]"]),
    ],
)
def test_a_mapping_that_does_not_fit_names_its_field_and_the_item(changes: dict[str, Any], path: str, words: list[str]) -> None:
    fault = refusal({"site": "s"} | changes, CHECKS)
    assert (fault.path, fault.status) == (path, 422)
    assert all(word in str(fault) for word in words)


def test_what_may_be_missing_is_not_given() -> None:
    observation = only({"checks": [{"host": "h", "output": "o", "state": "x"}]}, CHECKS)
    assert (observation.severity, observation.service, observation.occurred_at) == (None, None, None)


def test_a_key_of_nothing_is_refused() -> None:
    assert "mapping field key" in str(refusal({"x": 1}, 'key = ["item.a", "item.b"]'))


@pytest.mark.parametrize(
    ("mapping", "field"),
    [("= broken", "mapping"), ('titel = "x"', "mapping.titel"), ('title = "1 +"', "mapping.title"), ('key = ["item.a", "("]', "mapping.key[1]"),
     ("key = []", "mapping.key"), ("title = 5", "mapping.title"), ('each = ""', "mapping.each")],
)
def test_a_broken_mapping_is_told_to_whoever_sets_it_and_to_the_sender(mapping: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_mapping(mapping)
    assert caught.value.field == field
    fault = refusal({"title": "x"}, mapping)
    assert fault.path == "$"
    assert field in str(fault)


def test_the_episode_of_a_mapping() -> None:
    mapping = 'key=["item.id"]\nfiring="item.up == false"\nepisode_start="item.from"\nended_at="timestamp(item.to)"\nlink="item.u"'
    body = {"id": 1, "up": True, "from": 1772452800000, "to": "2026-03-02T11:00:00Z", "u": "javascript:x"}
    observation = only(body, mapping)
    assert (observation.kind, observation.flags, observation.link) == (RESOLVE, ("ends_before_start",), None)
    assert observation.ended_at == observation.episode_start == datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def test_many_items_that_each_ask_for_the_body_do_not_copy_it_each_time() -> None:
    body = {"site": "s", "checks": [check(host=f"h{number}") for number in range(700)]}
    assert len(read(body, 'each="checks"\nkey=["item.host"]\ntitle="item.host + body.site"')) == 700
    assert refusal(body, 'each="body.checks.filter(c, true)"\nkey=["item.host"]\ntitle="item.host + body.site"').path == "$"


def test_an_expression_for_the_items_is_not_evaluated_over_a_large_body() -> None:
    big = {"checks": [check(host=f"h{number}") for number in range(6_000)]}
    assert refusal(big, 'each="body.checks.filter(c, true)"\nkey=["item.host"]\ntitle="item.host"').path == "$"
