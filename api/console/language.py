"""Words in the reader's language: every text of the pages goes through `gettext` or `ngettext` of this module.

The catalogues are in `api/locale`; English is what stands in the source. A page is in the language that the person chose,
else in the one that the browser asks for. Dates and figures follow CLDR.
"""

import gettext as catalogues
import io
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import get_decimal_symbol, get_group_symbol

LOCALES: Final = Path(__file__).parent.parent / "locale"
MOST_ACCEPTED: Final = 20
DEFAULT: Final = "en"
# Each by its own name, so that whoever reads it finds it.
LANGUAGES: Final = {"en": "English", "es": "Español", "fr": "Français", "sv": "Svenska"}
# The region whose habits dates and figures follow: "en" alone means the order of the United States.
_HABITS: Final = {"en": "en_GB"}
COOKIE: Final = "tocsin_language"
COOKIE_SECONDS: Final = 365 * 24 * 3600

_chosen: ContextVar[str] = ContextVar("language", default=DEFAULT)


@cache
def _catalogue(name: str) -> catalogues.NullTranslations:
    """Read from what translators write, once a process (some 0.1 s), so that nothing has to be built before it runs."""
    if name == DEFAULT:
        return catalogues.NullTranslations()
    compiled = io.BytesIO()
    with (LOCALES / f"{name}.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=name))
    compiled.seek(0)
    return catalogues.GNUTranslations(compiled)


def language() -> str:
    """The language of this request, as in `<html lang>`."""
    return _chosen.get()


def choose(name: str | None) -> None:
    """From here on this request is answered in that language; one that there is no catalogue for is passed over."""
    if name in LANGUAGES:
        _chosen.set(name)


def wanted(cookie: str | None, accepted: str) -> str:
    """The language for somebody of whom only the browser tells something.

    Args:
        cookie: what was chosen in this browser before.
        accepted: its `Accept-Language` (RFC 9110, 12.5.4).
    """
    if cookie in LANGUAGES:
        return cookie
    weighed: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted.split(",", MOST_ACCEPTED)[:MOST_ACCEPTED]):
        tag, _semicolon, weight = part.partition(";")
        name = tag.strip().lower().partition("-")[0]
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if name in LANGUAGES and quality > 0:
            weighed.append((-quality, place, name))
    return min(weighed, default=(0.0, 0, DEFAULT))[2]


def habits() -> str:
    """The CLDR locale by which dates and figures are written."""
    return _HABITS.get(_chosen.get(), _chosen.get())


@cache
def _marks(locale: str) -> tuple[str, str]:
    """(what groups thousands, what stands before decimals)."""
    return get_group_symbol(locale), get_decimal_symbol(locale)


def figure(value: float, digits: int = 0) -> str:
    """A number as the reader writes it."""
    grouping, point = _marks(habits())
    return f"{value:,.{digits}f}".replace(",", "\0").replace(".", point).replace("\0", grouping)


def gettext(message: str) -> str:
    return _catalogue(_chosen.get()).gettext(message)


def ngettext(singular: str, plural: str, number: int) -> str:
    return _catalogue(_chosen.get()).ngettext(singular, plural, number)


def translator(name: str) -> Callable[[str], str]:
    """The way into one language, for what no request asks for (a notice)."""
    return _catalogue(name).gettext


def mark(message: str) -> str:
    """Names a message for the catalogue where it is only translated later (in a table of constants)."""
    return message
