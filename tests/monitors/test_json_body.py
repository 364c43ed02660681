"""A body has one meaning or none; what is wrong with it is named by its place."""

import pytest

from engine.errors import MalformedDelivery
from monitors.json_body import MAX_DEPTH, element, member, read_documents, read_json, within


def refusal(body: bytes) -> MalformedDelivery:
    with pytest.raises(MalformedDelivery) as caught:
        read_json(body)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [b"", b" \r\n\t", b"{", b'{"a":1,}', b"[1 2]", b"nul", b'"open', b"01", b'{"a":1}{"b":2}', b'"\x01"', b"{'a':1}",
     '{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-16-le"), b'"\xff"', b'"\xed\xa0\x80"', b"\x1f\x8b\x08"],
)
def test_what_is_no_json_in_utf_8_is_refused_as_a_whole(body: bytes) -> None:
    fault = refusal(body)
    assert (fault.path, fault.status) == ("$", 400)


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [
        (b'{"alerts":[{"labels":{"instance":"a","x":1,"instance":"b"}}]}', "alerts[0].labels.instance", 422),
        (b'{"a":1,"b":{"c":1,"c":2},"a":2}', "b.c", 422),
        (b'[{},{"response time":1,"response time":1}]', '[1]["response time"]', 422),
        (b'{"a":["x","\\u0000"]}', "a[1]", 422),
        (b'{"a\\u0000b":1}', '["a\\u0000b"]', 422),
        (b'{"a":"\\ud800"}', "a", 422),
        (b'{"a":{"\\udc00":1}}', 'a["\\udc00"]', 422),
        (b'"\\udc00x"', "$", 422),
        (b'{"a":NaN}', "a", 400),
        (b'{"a":[-Infinity]}', "a[0]", 400),
        (b'{"a":1e999}', "a", 422),
        (b'{"a":-1e999}', "a", 422),
        (b'{"a":1e999,"b":' + b"9" * 30 + b"}", "a", 422),
        (b'{"a":' + b"1" * 5000 + b"}", "a", 422),
        (b'{"a":' + b"1" * 5000 + b".5}", "a", 422),
    ],
)
def test_what_cannot_be_kept_is_refused_naming_its_place(body: bytes, path: str, status: int) -> None:
    fault = refusal(body)
    assert (fault.path, fault.status) == (path, status)


def test_the_refusal_itself_can_be_stored() -> None:
    for body in (b'{"a\\u0000":1}', b'{"\\ud800":1}', b'{"\\u0000":1,"\\u0000":2}'):
        str(refusal(body)).encode()
        assert "\x00" not in str(refusal(body))


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
def test_too_deep_a_nesting_is_refused(depth: int) -> None:
    for body in (b"[" * depth + b"1" + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        fault = refusal(body)
        assert fault.status == 422
        assert f"at most {MAX_DEPTH} levels" in fault.expected


def test_the_deepest_nesting_is_read_with_and_without_the_slower_reading() -> None:
    assert read_json(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH)
    assert read_json(b"[" * (MAX_DEPTH - 1) + b'["\\\\u0000"]' + b"]" * (MAX_DEPTH - 1))


def test_a_byte_order_mark_is_ignored() -> None:
    assert read_json(b'\xef\xbb\xbf{"a":1}') == {"a": 1}
    assert refusal(b'\xef\xbb\xbf{"a":1,"a":2}').path == "a"


def test_integers_stay_exact() -> None:
    assert read_json(b'{"groupKey":7001122334455667789}') == {"groupKey": 7001122334455667789}
    assert read_json(b"9" * 4_000) == int("9" * 4_000)


def test_an_escaped_backslash_before_u0000_is_text() -> None:
    assert read_json(b'{"a":"\\\\u0000"}') == {"a": "\\u0000"}


def test_surrogate_pairs_and_odd_code_points_stay() -> None:
    assert read_json('{"a":"\\ud83d\\ude42 ‮\\uffff\\ufffe"}'.encode()) == {"a": "🙂 ‮\uffff\ufffe"}


def test_a_single_value_an_array_and_lines_are_documents() -> None:
    assert list(read_documents(b'{"a":1}')) == [("$", {"a": 1})]
    assert list(read_documents(b'[{"a":1},{"b":2}]')) == [("[0]", {"a": 1}), ("[1]", {"b": 2})]
    assert list(read_documents(b'{"a":1}\n\n{"b":2}\r\n')) == [("[0]", {"a": 1}), ("[1]", {"b": 2})]
    assert list(read_documents(b'{"a":1}\n', "application/x-ndjson")) == [("[0]", {"a": 1})]
    assert list(read_documents(b'{"a":\n1}\n')) == [("$", {"a": 1})]
    assert list(read_documents(b"[1,2]", split_array=False)) == [("$", [1, 2])]


@pytest.mark.parametrize(
    ("body", "path"),
    [(b"[]", "$"), (b'{"a":1}\n{"b":1,"b":2}', "[1].b"), (b'{"a":1}\n{"b"', "[1]"), (b'{"a":1}\n}', "$"), (b"[\n1,\n", "$")],
)
def test_a_fault_among_several_documents_is_named(body: bytes, path: str) -> None:
    with pytest.raises(MalformedDelivery) as caught:
        list(read_documents(body))
    assert caught.value.path == path


def test_paths_read_as_people_write_them() -> None:
    assert member(element(member("$", "alerts"), 1), "labels") == "alerts[1].labels"
    assert member("a", "b.c") == 'a["b.c"]'
    assert member("a", "région") == "a.région"
    assert within("[1]", "a.b") == "[1].a.b"
    assert within("[1]", "$") == "[1]"
    assert within("$", "a") == "a"
    assert len(member("a", "x" * 10_000)) < 120
