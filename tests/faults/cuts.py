"""A process that dies at its nth call of the store, and a check of what is there when the next one has done the work."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from engine.errors import StoreUnavailable
from engine.ledger import Ledger
from engine.store import Answer, Row
from tests.faults.promises import CURSOR, asks, is_consistent, names, process_on, takes
from tests.stores import AnyStore

STEPS: Final = 4
# More calls than the workload makes.
LONGEST_LIFE: Final = 80


class Mortal(AnyStore):
    """A real store whose process dies at a call of it. What is open then is rolled back, as the database does by itself.

    Attributes:
        life: calls that are left; None: it lives on.
    """

    life: int | None = None
    dead = False

    def _tick(self) -> None:
        if self.life is not None and not self.dead:
            self.life -= 1
            if self.life < 0:
                super().rollback()
                self.dead = True
        if self.dead:
            raise StoreUnavailable("the process is dead")

    def begin(self) -> Any:
        self._tick()
        return super().begin()

    def insert(self, rows: Sequence[Row]) -> None:
        self._tick()
        super().insert(rows)

    def set_count(self, kind: str, last: int) -> None:
        self._tick()
        super().set_count(kind, last)

    def set_cursor(self, name: str, position: int) -> None:
        self._tick()
        super().set_cursor(name, position)

    def remember_answer(self, principal: str, route: str, key: str, answer: Answer, recorded_at: int) -> None:
        self._tick()
        super().remember_answer(principal, route, key, answer, recorded_at)

    def commit(self) -> None:
        """It may die before the commit, or after it and before anybody was told."""
        self._tick()
        super().commit()
        self._tick()

    def rollback(self) -> None:
        if not self.dead:
            super().rollback()


def survives(folder: Path, life: int, store_class: type[Mortal] = Mortal, ledger_class: type[Ledger] = Ledger) -> bool:
    """Work until the process dies, then go on in another one as clients and readers do; what was promised holds.

    Returns:
        Whether it died.
    """
    acknowledged: list[str] = []
    died = False
    with process_on(folder, store_class, ledger_class) as ledger:
        assert isinstance(ledger.store, Mortal)
        ledger.store.life = life
        try:
            _work(ledger, acknowledged)
        except StoreUnavailable:
            died = True
    before = list(acknowledged)
    with process_on(folder, store_class) as ledger:
        there = names(ledger)
        assert [name for name in before if name not in there] == [], "acknowledged, and lost"
        is_consistent(ledger)
        again: list[str] = []
        _work(ledger, again)
        assert again[: len(before)] == before, "the same key was answered otherwise"
        is_consistent(ledger)
        assert len(names(ledger)) == 2 * STEPS, f"{2 * STEPS} things were asked for, {len(names(ledger))} happened"
    return died


def _work(ledger: Ledger, acknowledged: list[str]) -> None:
    """Requests under their keys, the first ones again where they were answered; records from the cursor on."""
    for number in range(STEPS):
        acknowledged.append(ledger.run(asks(number)))
        offset = ledger.store.cursor(CURSOR) or 0
        if offset < STEPS:
            ledger.run(takes(offset))
