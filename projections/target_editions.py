"""Which table of targets was in force when: a promise is made by the edition of its moment, and stays."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping

from engine.event import Fact
from engine.ledger import Ledger
from engine.priority import Priority
from engine.target import DEFAULT_TARGETS, TARGETS, Target, TargetsSet

Table = Mapping[Priority, Target]


class Editions:
    """The tables, by the log position from which on each is in force."""

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._tables: list[Table] = []

    def add(self, position: int, table: Mapping[str, Target]) -> None:
        """The next one; positions increase."""
        self._positions.append(position)
        self._tables.append({Priority(name): target for name, target in table.items()})

    def at(self, position: int) -> Table:
        place = bisect_right(self._positions, position)
        return self._tables[place - 1] if place else DEFAULT_TARGETS


def editions_of(facts: Iterable[Fact]) -> Editions:
    found = Editions()
    for fact in facts:
        if isinstance(fact.event, TargetsSet):
            found.add(fact.position, fact.event.table)
    return found


def editions_in(ledger: Ledger) -> Editions:
    """All of them, from the log."""
    return editions_of(ledger.stream(TARGETS))
