"""Who has which ticket open, and who is writing on it: so that two people do not answer the same thing.

A courtesy, kept in this process only. What keeps writers apart for certain is the version that each command carries.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

# A sign of writing holds so long; the page gives one while keys are pressed.
WRITING_SECONDS: Final = 8.0


@dataclass(frozen=True, slots=True, order=True)
class Companion:
    """Somebody else on the same page."""

    name: str
    writing: bool


@dataclass(slots=True, eq=False)
class Visit:
    """One open page of a ticket."""

    number: str
    person: UUID
    name: str
    changed: Callable[[], None]


@dataclass(slots=True)
class Presence:
    """The open ticket pages of this process. Used on the event loop's thread only."""

    _visits: dict[str, set[Visit]] = field(default_factory=dict)
    _writing: dict[tuple[str, UUID], asyncio.TimerHandle] = field(default_factory=dict)

    def enter(self, visit: Visit) -> None:
        """Somebody opens a ticket's page; whoever has it open is told."""
        self._visits.setdefault(visit.number, set()).add(visit)
        self._tell(visit.number)

    def leave(self, visit: Visit) -> None:
        """The page is closed or hidden."""
        visits = self._visits[visit.number]
        visits.discard(visit)
        if not visits:
            del self._visits[visit.number]
        if all(other.person != visit.person for other in visits):
            self._stop_writing(visit.number, visit.person)
        self._tell(visit.number)

    def write(self, number: str, person: UUID) -> None:
        """Somebody who has the page open is writing on it; forgotten after `WRITING_SECONDS`."""
        if all(visit.person != person for visit in self._visits.get(number, ())):
            return
        running = self._writing.pop((number, person), None)
        if running is not None:
            running.cancel()

        def silent() -> None:
            self._stop_writing(number, person)
            self._tell(number)

        self._writing[number, person] = asyncio.get_running_loop().call_later(WRITING_SECONDS, silent)
        if running is None:
            self._tell(number)

    def others(self, number: str, person: UUID | None) -> tuple[Companion, ...]:
        """Who else is there, by name; each once, however many pages they have open."""
        found = {visit.person: visit.name for visit in self._visits.get(number, ()) if visit.person != person}
        return tuple(sorted(Companion(name, (number, other) in self._writing) for other, name in found.items()))

    def _stop_writing(self, number: str, person: UUID) -> None:
        running = self._writing.pop((number, person), None)
        if running is not None:
            running.cancel()

    def _tell(self, number: str) -> None:
        for visit in self._visits.get(number, ()):
            visit.changed()
