"""Words in the reader's language: every text of the pages goes through `gettext` or `ngettext` of this module.

The catalogues are in `api/locale`; English is what stands in the source. Which language a request gets is one variable, so
a later choice of the account needs no change elsewhere.
"""

import gettext as catalogues
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Final

LOCALES: Final = Path(__file__).parent.parent / "locale"
DOMAIN: Final = "tocsin"
DEFAULT: Final = "en"

_chosen: ContextVar[str] = ContextVar("language", default=DEFAULT)


@cache
def _catalogue(name: str) -> catalogues.NullTranslations:
    return catalogues.translation(DOMAIN, LOCALES, languages=[name], fallback=True)


def language() -> str:
    """The language of this request, as in `<html lang>`."""
    return _chosen.get()


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
