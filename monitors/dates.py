"""Instants as monitoring systems write them, into aware UTC.

RFC 3339 and the extended form of ISO 8601: offsets with or without a colon, any number of digits of a second (cut to
microseconds), a leap second, and times without an offset, which are read in the source's own zone (an ambiguous one, when clocks go
back, as the first of the two). Go's zero time, `0001-01-01T00:00:00Z`, and any other instant of the year 1 mean "not given".
An old instant is data; only one outside of 1900 … 2200 is no date of an alert.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from engine.errors import MalformedDelivery

EARLIEST_YEAR: Final = 1900
LATEST_YEAR: Final = 2200
_GO_ZERO: Final = "0001-01-01T00:00:00Z"
_EXPECTED: Final = f"expected an RFC 3339 instant between the years {EARLIEST_YEAR} and {LATEST_YEAR}"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Seconds since 1970 stay below this until the year 5138, milliseconds were above it from 1973 on.
_MILLISECONDS_FROM: Final = 100_000_000_000


def read_instant(value: object, path: str, *, zone: str = "UTC") -> datetime | None:
    """The instant that a JSON value stands for.

    Args:
        value: text; null, the empty text and the year 1 are "not given".
        path: where it was found, for the error.
        zone: the IANA zone of a time without an offset.

    Returns:
        An aware datetime in UTC, to the microsecond below; None: not given.

    Raises:
        MalformedDelivery: no such instant (422).
    """
    if value is None or value == "" or value == _GO_ZERO:
        return None
    if not isinstance(value, str):
        raise MalformedDelivery(path, _EXPECTED)
    moment = _read(value, path)
    if moment.year == 1:
        return None
    if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        raise MalformedDelivery(path, _EXPECTED)
    if moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.astimezone(UTC)


def read_instant_or_epoch(value: object, path: str, *, zone: str = "UTC") -> datetime | None:
    """As `read_instant`; takes numbers too, as seconds (or milliseconds, from 10¹¹ on) since 1970, and aware datetimes.

    Raises:
        MalformedDelivery: no such instant (422).
    """
    if isinstance(value, datetime):
        return read_instant(value.isoformat(), path, zone=zone)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return read_instant(value, path, zone=zone)
    try:
        seconds = value / 1000 if value >= _MILLISECONDS_FROM else value
        moment = _EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise MalformedDelivery(path, _EXPECTED) from None
    if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        raise MalformedDelivery(path, _EXPECTED)
    return moment


def _read(text: str, path: str) -> datetime:
    # `fromisoformat` takes any character between date and time, and ISO week dates; neither is RFC 3339.
    if text[4:5] == "-" and text[10:11] in ("T", "t", " ") and text[5:6] != "W":
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
        try:
            return _with_oddities(text)
        except (ValueError, OverflowError):
            pass
    raise MalformedDelivery(path, _EXPECTED)


def _with_oddities(text: str) -> datetime:
    """What `fromisoformat` does not know: a lower-case z, a blank before the offset, the leap second 23:59:60 (read as 00:00:00)."""
    text = text[:11] + text[11:].replace(" ", "").replace("z", "Z")
    if text[16:19] == ":60":
        return datetime.fromisoformat(text[:16] + ":59" + text[19:]) + timedelta(seconds=1)
    return datetime.fromisoformat(text)
