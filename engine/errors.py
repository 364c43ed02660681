"""Every error that Tocsin raises on purpose.

    TocsinError
    ├── Refused                 the request cannot be carried out as asked
    │   ├── InvalidInput        a value is missing or malformed; names the field       422
    │   ├── NotFound            no such record                                         404
    │   ├── IllegalTransition   the record's state does not allow it; lists what does  409
    │   ├── Conflict            clashes with what is stored already                    409
    │   ├── StaleVersion        the writer saw an older version; says what changed     412
    │   └── NotAllowed          the actor's role does not permit it                    403
    ├── MalformedDelivery       a monitor's message cannot be read; names the place    4xx
    └── StoreUnavailable        nothing was stored; try again                          503
        └── Overloaded          too much is waiting to be stored                       503 (429 where an imitated API has it)

`api/problem.py` alone maps these to HTTP.
"""

from collections.abc import Sequence
from typing import Self


class Phrase(str):
    """A text with values in it that can still be said in another language. As a string it is the English one.

    Attributes:
        message: with a `%s` for each value.
    """

    message: str
    values: tuple[object, ...]

    def __new__(cls, message: str, *values: object) -> Self:
        made = super().__new__(cls, message % values)
        made.message, made.values = message, values
        return made


class TocsinError(Exception):
    """The root: whatever Tocsin raises on purpose."""


class Refused(TocsinError):
    """The request was understood and is not carried out; nothing was recorded."""


class InvalidInput(Refused):
    """A value is missing or malformed.

    Attributes:
        field: where, as a dotted path (`impact`, `alerts[1].labels`).
        expected: what would have been right, as a phrase.
        phrase: the same as it can be translated.
    """

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: expected {expected}")
        self.field, self.expected, self.phrase = field, str(expected), expected


class NotFound(Refused):
    """No record of that name or number."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"no {what} {name}")
        self.what, self.name = what, name


class IllegalTransition(Refused):
    """The record is in a state in which this command makes no sense.

    Attributes:
        legal: the commands that its state allows, in the order people would try them.
        why: what else stands in the way, where it is not the state.
    """

    def __init__(self, *, number: str, state: str, command: str, legal: Sequence[str], why: str = "") -> None:
        reason = why or f"it is {state.replace('_', ' ')}"
        allowed = ", ".join(legal) if legal else "nothing"
        super().__init__(f"cannot {command} {number}: {reason}; possible now: {allowed}")
        self.number, self.state, self.command, self.legal, self.why = number, state, command, tuple(legal), why


class Conflict(Refused):
    """Clashes with a record that is already there."""


class StaleVersion(Refused):
    """The writer decided on an older version than the stored one.

    Attributes:
        seen, current: stream versions.
        changes: type and recorded_at of each event since `seen`, oldest first.
    """

    def __init__(self, number: str, *, seen: int, current: int, changes: Sequence[tuple[str, str]]) -> None:
        super().__init__(f"{number} has changed since version {seen}; it is at version {current}")
        self.number, self.seen, self.current, self.changes = number, seen, current, tuple(changes)


class NotAllowed(Refused):
    """The actor may not do this."""


class MalformedDelivery(TocsinError):
    """A monitoring system's message cannot be turned into observations.

    Attributes:
        path: the first place that is wrong, as a JSON path below the body (`alerts[1].labels`; `$` is the whole body).
        expected: what the format asks for there, as a phrase.
        status: the HTTP status for senders that are not promised another one; 422 unless the body is not even readable (400).
    """

    def __init__(self, path: str, expected: str, *, status: int = 422) -> None:
        super().__init__(f"{path}: {expected}")
        self.path, self.expected, self.status = path, expected, status


class StoreUnavailable(TocsinError):
    """The commit did not happen (disk full, I/O error, overload, shutting down). Nothing was stored; the caller may retry."""


class Overloaded(StoreUnavailable):
    """More is waiting to be stored than the process can hold; nothing of this was taken."""
