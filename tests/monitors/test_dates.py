"""Instants are read as their senders mean them, in UTC, or refused naming the place."""

from datetime import UTC, datetime

import pytest

from engine.errors import MalformedDelivery
from monitors.dates import read_instant, read_instant_or_epoch

NOON = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-02T12:00:00Z", NOON),
        ("2026-03-02t12:00:00z", NOON),
        ("2026-03-02 12:00:00Z", NOON),
        ("2026-03-02T13:00:00+01:00", NOON),
        ("2026-03-02T12:00:00.000+0000", NOON),
        ("2026-03-02T06:30:00-0530", NOON),
        ("2026-03-02 13:00:00 +0100", NOON),
        ("2026-03-02T12:00:00.123456789Z", NOON.replace(microsecond=123456)),
        ("2026-03-02T12:00:00.999999999Z", NOON.replace(microsecond=999999)),
        ("2026-03-02T12:00:00.1Z", NOON.replace(microsecond=100000)),
        ("2026-03-02T11:59:60Z", NOON),
        ("1999-12-31T23:59:59Z", datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read(text: str, instant: datetime) -> None:
    found = read_instant(text, "at", zone="Europe/Paris")
    assert found == instant
    assert found is not None
    assert found.tzinfo is UTC


def test_a_time_without_offset_is_in_the_sources_zone() -> None:
    assert read_instant("2026-03-02T13:00:00", "at", zone="Europe/Paris") == NOON
    assert read_instant("2026-07-02T14:00:00.5", "at", zone="Europe/Paris") == datetime(2026, 7, 2, 12, 0, 0, 500000, tzinfo=UTC)
    assert read_instant("2026-10-25T02:30:00", "at", zone="Europe/Paris") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # twice: the first


@pytest.mark.parametrize("value", [None, "", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000+00:00", "0001-01-01T00:00:00", "0001-01-01T00:00:00+05:00"])
def test_the_zero_time_is_not_given(value: object) -> None:
    assert read_instant(value, "at") is None


@pytest.mark.parametrize(
    "value",
    ["yesterday", "2026-13-02T12:00:00Z", "2026-02-30T12:00:00Z", "2026-03-02T25:00:00Z", "0000-01-01T00:00:00Z", "99999-01-01T00:00:00Z",
     "2201-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1066-10-14T09:00:00Z", "2026-03-02", "20260302T120000Z", "2026-W10-1T12:00:00Z",
     "2026-03-02x12:00:00Z", "2026-03-02T12:00:00+25:00", "2026-03-02T12:00:00Zjunk", "٢٠٢٦-03-02T12:00:00Z", 5, 1.5, True, [], {}],
)
def test_what_is_no_instant_is_refused_naming_its_place(value: object) -> None:
    with pytest.raises(MalformedDelivery) as caught:
        read_instant(value, "alerts[0].startsAt")
    assert (caught.value.path, caught.value.status) == ("alerts[0].startsAt", 422)


@pytest.mark.parametrize("value", [1772452800, 1772452800.0, 1772452800000, NOON, "2026-03-02T12:00:00Z"])
def test_where_a_format_allows_it_numbers_are_seconds_or_milliseconds_since_1970(value: object) -> None:
    assert read_instant_or_epoch(value, "at") == NOON


@pytest.mark.parametrize("value", [10**30, 10**400, -(10**20), 1e308, float("nan"), True, "1772452800"])
def test_absurd_numbers_are_no_instants(value: object) -> None:
    with pytest.raises(MalformedDelivery):
        read_instant_or_epoch(value, "at")
