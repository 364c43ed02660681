"""Instants and lengths of time as people read and write them: near ones relative, far ones exact, always with their zone.

Everything is UTC until accounts have a zone; the one place that says so is `ZONE`.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from babel.dates import format_date, format_skeleton
from markupsafe import Markup, escape

from api.console.language import figure, habits, mark, ngettext
from api.console.language import gettext as _
from engine.clock import rfc3339
from engine.errors import InvalidInput

ZONE: Final = UTC
ZONE_NAME: Final = "UTC"
NEAR: Final = timedelta(hours=20)
_ALLOWED: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?")
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)

# Seconds of a unit, and its short form; lengths are said in the two largest that they have.
_UNITS: Final = (
    (86_400 * 365, mark("%d y")),
    (86_400, mark("%d d")),
    (3_600, mark("%d h")),
    (60, mark("%d min")),
    (1, mark("%d s")),
)


def read_instant(text: str, field: str = "as_of") -> datetime:
    """An instant as a form or an address gives it; without a zone it is in `ZONE`.

    Raises:
        InvalidInput: it is none.
    """
    text = text.strip()
    try:
        if not _ALLOWED.fullmatch(text):
            raise ValueError
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=ZONE) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(field, _("a date and time, such as 2026-03-02T02:14")) from None


def for_input(instant: datetime) -> str:
    """The form that `<input type="datetime-local">` wants."""
    return instant.astimezone(ZONE).strftime("%Y-%m-%dT%H:%M:%S")


def length(seconds: float | None) -> str:
    """A length in its two largest units; a dash where there is none."""
    if seconds is None:
        return "–"
    if 0 < seconds < 10 and seconds != int(seconds):
        return _("%s s") % figure(seconds, 1)
    rest = max(0, int(seconds))
    parts: list[str] = []
    for size, form in _UNITS:
        if rest >= size or (size == 1 and not parts):
            parts.append(_(form) % (rest // size))
            rest %= size
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(part for index, part in enumerate(parts) if index == 0 or not part.startswith("0 "))


def measure(seconds: float | None) -> str:
    """A measured length: to the second while it is short, to the minute from ten minutes on."""
    return length(seconds) if seconds is None or seconds < 600 else length(seconds // 60 * 60)


def span(seconds: float) -> str:
    """A length that began long ago: without seconds once it has minutes."""
    return length(max(1, int(seconds) // 60 * 60 if seconds >= 60 else seconds // 1))


def long_form(instant: datetime) -> str:
    """Exact, with weekday, seconds and zone: for titles and for bands."""
    local = instant.astimezone(ZONE)
    return f"{format_date(local, 'full', locale=habits())}, {local:%H:%M:%S} {ZONE_NAME}"


def short_form(instant: datetime, now: datetime) -> str:
    """Exact to the minute, with as much of the date as `now` does not say already."""
    local, today = instant.astimezone(ZONE), now.astimezone(ZONE)
    if local.date() == today.date():
        return f"{local:%H:%M}"
    return f"{day_form(local, today)}, {local:%H:%M}"


def day_form(day: date, today: date | None = None) -> str:
    """A day, short: with its weekday where it is of this year, else with the year; without `today` neither."""
    if today is not None and day.year != today.year:
        return dated(day)
    return str(format_skeleton("MMMd" if today is None else "MMMEd", day, locale=habits()))


def dated(day: date) -> str:
    """A day, short, with its year."""
    return str(format_skeleton("yMMMd", day, locale=habits()))


def relative(instant: datetime, now: datetime) -> str:
    """How long ago it was, or how soon it is."""
    seconds = (now - instant).total_seconds()
    if abs(seconds) < 5:
        return _("just now")
    said = span(abs(seconds))
    return _("%s ago") % said if seconds > 0 else _("in %s") % said


def time_tag(instant: datetime | None, now: datetime, *, exact: bool = False) -> Markup:
    """A `time` element: relative while near (unless `exact`), and always exact in its title."""
    if instant is None:
        return Markup("–")
    near = not exact and abs(now - instant) < NEAR
    text = relative(instant, now) if near else short_form(instant, now)
    live = Markup(" data-ago") if near else Markup("")
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(rfc3339(instant), long_form(instant), live, text)


def clock_tag(instant: datetime, now: datetime) -> Markup:
    """A `time` element to the second, for logs and timelines."""
    local = instant.astimezone(ZONE)
    clock = f"{local:%H:%M:%S}"
    if local.date() != now.astimezone(ZONE).date():
        clock = f"{day_form(local, now)} {clock}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(rfc3339(instant), long_form(instant), escape(clock))


@dataclass(frozen=True, slots=True)
class Preset:
    """A moment that people often want to go back to."""

    label: str
    instant: datetime


def presets(now: datetime) -> list[Preset]:
    """Moments to go back to, nearest first."""
    local = now.astimezone(ZONE)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    tuesday = midnight - timedelta(days=(midnight.weekday() - 1) % 7 or 7)
    found = [
        Preset(_("an hour ago"), now - timedelta(hours=1)),
        Preset(_("this morning 08:00"), midnight + timedelta(hours=8)),
        Preset(_("yesterday 18:00"), midnight - timedelta(hours=6)),
        Preset(_("last Tuesday 02:14"), tuesday + timedelta(hours=2, minutes=14)),
        Preset(_("a week ago"), now - timedelta(days=7)),
    ]
    return sorted((preset for preset in found if preset.instant < now), key=lambda preset: preset.instant, reverse=True)


def many(singular: str, plural: str, number: int) -> str:
    """`ngettext` with the number grouped in thousands and put in for `%s`."""
    return ngettext(singular, plural, number) % figure(number)
