"""Lengths of time as people type them: `15m`, `4h`, `2d`."""

import re
from typing import Final

from engine.errors import InvalidInput

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "min": 60, "s": 1}
_LENGTH: Final = re.compile(r"(\d{1,7})\s*(s|min|m|h|d)")


def seconds_of(field: str, text: str) -> float:
    """The seconds of a typed length.

    Raises:
        InvalidInput: it is none.
    """
    found = _LENGTH.fullmatch(text.strip().lower())
    if found is None:
        raise InvalidInput(field, "a length such as 15m, 4h or 2d")
    return float(int(found[1]) * _UNITS[found[2]])


def typed(seconds: float) -> str:
    """What `seconds_of` reads as these seconds."""
    unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0 or unit == "s")
    return f"{int(seconds // _UNITS[unit])}{unit}"
