"""Keys are fixed for good: two conditions never meet, one condition never splits."""

import pytest

from engine.errors import MalformedDelivery
from monitors.dedup import composed_key, label_digest, sender_of


def test_the_digest_is_the_one_that_stored_alerts_were_found_by() -> None:
    assert label_digest({}) == "cae66941d9efbd404e4d88758ea67670"
    assert label_digest({"alertname": "DiskAlmostFull", "instance": "srv-db-01"}) == "ea39743890891e58f5bf5427ba041b5b"


def test_scalars_are_as_their_text_and_absent_as_empty() -> None:
    assert label_digest({"code": 503, "canary": False, "owner": None, "ratio": 1.0}) == label_digest(
        {"ratio": "1.0", "canary": "false", "code": "503", "shard": ""}
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": "bc"}, {"ab": "c"}), ({"a": "b", "c": "d"}, {"a": "bc", "": "d"}), ({"a": "1:b"}, {"a": "1", "b": ""}),
     ({"a": "é"}, {"a": "e\u0301"}), ({"a": "0"}, {}), ({"a": "A"}, {"a": "a"})],
)
def test_different_label_sets_never_meet(one: dict[str, object], other: dict[str, object]) -> None:
    assert label_digest(one) != label_digest(other)


def test_falsy_is_not_missing_in_a_key() -> None:
    assert [composed_key([part], "key") for part in (0, "0", False, "", None)] == ["0", "0", "false", "", None]
    keys = [composed_key(["disk", part], "key") for part in (0, "", False, None, "null")]
    assert keys == ['["disk","0"]', '["disk",""]', '["disk","false"]', '["disk",null]', '["disk","null"]']


def test_composed_keys_never_meet() -> None:
    tuples: list[list[object]] = [["a", "b"], ["a,b"], ['["a","b"]'], ["a", "b", None], [None, "a", "b"], ["ab"], ['a","b'], ["[", "b"]]
    assert len({composed_key(parts, "key") for parts in tuples}) == len(tuples)


@pytest.mark.parametrize(("parts", "path"), [([["a"]], "key"), (["a", {}], "key[1]"), (["x" * 513], "key"), (["x" * 300, "y" * 300], "key")])
def test_what_is_no_key_is_refused_naming_its_place(parts: list[object], path: str) -> None:
    with pytest.raises(MalformedDelivery) as caught:
        composed_key(parts, "key")
    assert caught.value.path == path


def test_the_sender_is_canonical() -> None:
    labels = {"replica": "a", "cluster": 'x"y', "job": "node"}
    assert sender_of(labels, ("replica", "cluster")) == sender_of(labels, ("cluster", "replica")) == 'cluster="x\\"y",replica="a"'
    assert sender_of(labels, ("absent",)) is None
