"""Whatever arrives, an adapter reads it or says what is wrong with it; identity depends on nothing but the labels."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import MalformedDelivery
from engine.observation import Parsed, SourceProfile
from monitors.adapter import Adapter
from monitors.dedup import composed_key, label_digest
from monitors.integrations import pagerduty
from monitors.integrations.registry import ADAPTERS
from monitors.json_body import read_documents, read_json
from monitors.reading import scalar_text

MAPPING = """
each = "checks"
key = ["item.host", "item.id", "body.site"]
title = "item.title + body.site"
firing = "item.state"
severity = "item.level"
service = "item.service"
started_at = "item.at"
ended_at = "item.until"
episode_start = "item.since"
link = "item.url"
"""
pytestmark = pytest.mark.law

texts = st.text(max_size=8) | st.sampled_from(
    ["", "x", "firing", "resolved", "critical", "ok", "http://a/b", "2026-03-02T10:00:00Z", "0001-01-01T00:00:00Z", "\x00", "\u202e"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.integers(-(10**30), 10**30) | texts
names = texts | st.sampled_from(
    [
        "alerts", "labels", "annotations", "status", "startsAt", "endsAt", "generatorURL", "fingerprint",
        "truncatedAlerts", "severity", "summary", "state", "ruleId", "orgId", "evalMatches", "tags", "values",
        "routing_key", "event_action", "dedup_key", "payload", "source", "timestamp", "custom_details",
        "links", "href", "client_url", "checks", "host", "id", "key", "title", "level", "service", "at",
        "until", "since", "url", "site", "firing", "details",
    ]
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6), max_leaves=25)
labels = st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=6)


def some(*fields: str) -> dict[str, st.SearchStrategy[Any]]:
    """Fields that may be there and may hold anything."""
    return dict.fromkeys(fields, values)


def several(required: dict[str, st.SearchStrategy[Any]], *fields: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries(required, optional=some(*fields)), max_size=3)


grouped = st.fixed_dictionaries(
    {
        "alerts": several(
            {"labels": st.dictionaries(texts, scalars, min_size=1, max_size=4)},
            "status", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint", "values",
        )
    },
    optional={"status": texts, "state": texts, "truncatedAlerts": scalars},
)
legacy = st.fixed_dictionaries(
    {"state": st.sampled_from(["alerting", "ok"]), "ruleId": scalars},
    optional=some("evalMatches", "tags", "orgId", "ruleUrl", "message", "ruleName"),
)
events = st.fixed_dictionaries(
    {
        "routing_key": st.just("k"),
        "event_action": st.sampled_from(["trigger", "resolve", "acknowledge"]),
        "payload": st.fixed_dictionaries(
            {"summary": texts, "source": texts, "severity": st.just("info")},
            optional=some("timestamp", "component", "group", "class", "custom_details"),
        ),
    },
    optional=some("dedup_key", "links", "images", "client", "client_url"),
)
checks = st.fixed_dictionaries(
    {"checks": several({"title": texts, "state": scalars}, "host", "id", "level", "service", "at", "until", "since", "url")},
    optional={"site": scalars},
)
plain = st.fixed_dictionaries(
    {"title": scalars}, optional=some("key", "id", "firing", "status", "labels", "details", "url", "started_at")
)
near = grouped | legacy | events | checks | plain


def parse_or_refuse(adapter: Adapter, body: bytes, content_type: str = "") -> None:
    profiles = [SourceProfile(name="s", adapter=adapter.name, ignored_labels=("x",))]
    if adapter.name == "generic":
        profiles.append(SourceProfile(name="s", adapter=adapter.name, mapping=MAPPING))
    for profile in profiles:
        try:
            parsed = adapter.parse(body, content_type, profile)
        except MalformedDelivery as fault:
            refused, stored = fault.status, str(fault)
        else:
            assert isinstance(parsed, Parsed)
            refused, stored = 0, repr(msgspec.to_builtins(parsed))
        assert refused == 0 or 400 <= refused < 500
        assert "\x00" not in stored
        assert "\\x00" not in stored.replace("\\\\", "")
        stored.encode()


@given(labels, st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order(found: dict[str, str], random: Any) -> None:
    pairs = list(found.items())
    random.shuffle(pairs)
    assert label_digest(dict(pairs)) == label_digest(found)


@given(labels, st.dictionaries(st.text(max_size=6), st.sampled_from([None, ""]), max_size=4))
def test_the_digest_does_not_depend_on_null_and_empty_labels(found: dict[str, str], void: dict[str, str | None]) -> None:
    assert label_digest({**void, **found}) == label_digest(found)


@given(st.dictionaries(st.text(max_size=6), st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6), max_size=6))
def test_the_digest_of_scalars_is_that_of_their_texts(found: dict[str, object]) -> None:
    assert label_digest(found) == label_digest({name: scalar_text(value) for name, value in found.items()})


@given(labels, labels)
def test_two_label_sets_meet_only_where_they_are_equal(one: dict[str, str], other: dict[str, str]) -> None:
    equal = {name: text for name, text in one.items() if text} == {name: text for name, text in other.items() if text}
    assert (label_digest(one) == label_digest(other)) is equal


part = st.none() | st.text(alphabet='a"[],\\', max_size=5)


@given(st.lists(part, min_size=1, max_size=3), st.lists(part, min_size=1, max_size=3))
def test_two_composed_keys_meet_only_where_they_are_equal(one: list[object], other: list[object]) -> None:
    keys = composed_key(one, "key"), composed_key(other, "key")
    if keys[0] is not None and keys[1] is not None:
        assert (keys[0] == keys[1]) is (one == other)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0d8Ee+-1.ntfab \n', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (read_json, lambda data: list(read_documents(data)), lambda data: list(read_documents(data, "application/x-ndjson"))):
        try:
            read(body)
        except MalformedDelivery as fault:
            str(fault).encode()
    for adapter in ADAPTERS:
        parse_or_refuse(adapter, body)


@given(values | near)
def test_what_is_read_is_what_was_written(value: Any) -> None:
    try:
        found = read_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    except MalformedDelivery:
        return
    assert found == value


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
@given(value=values | near | st.lists(near, max_size=2) | near.map(lambda body: body.get("alerts", body)))
def test_any_value_of_nearly_the_right_shape_is_read_or_refused(adapter: Adapter, value: Any) -> None:
    parse_or_refuse(adapter, json.dumps(value).encode())


@given(values | near)
def test_any_change_event_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(pagerduty.InvalidEvent):
        pagerduty.parse_change(json.dumps(value).encode(), "", SourceProfile(name="s", adapter="pagerduty"))
