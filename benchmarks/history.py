"""Makes stores of a given size: tickets that were opened, worked and closed, and some that are open."""

from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from engine.clock import SimulatedClock
from engine.incident import Incident
from engine.ledger import Ledger
from engine.priority import Level
from engine.ticket import Ticket
from engine.work import Unit, Work

LEVELS = (Level.HIGH, Level.MEDIUM, Level.LOW)
SERVICES = tuple(f"service-{number}" for number in range(50))
TEAMS = ("Shop", "Network", "Databases", "Workplace")
IN_A_UNIT = 50
FIRST_PART = 0.45


def tickets(ledger: Ledger, clock: SimulatedClock, *, closed: int, left_open: int, days: float) -> int:
    """Append the lives of `closed` tickets and the beginnings of `left_open`, spread over `days`; the number of events.

    The ones that stay open are all opened within the first 45 % of the time, so that they are open half-way too.
    """
    total = closed + left_open
    last = int(total * FIRST_PART) if total * FIRST_PART > left_open else total
    stays = frozenset(number * last // left_open for number in range(left_open))
    step, pending, events = timedelta(days=days) / total, [], 0
    for first in range(0, total, IN_A_UNIT):
        part = range(first, min(first + IN_A_UNIT, total))
        clock.advance((step * len(part)).total_seconds())
        pending.append(ledger.submit(Unit(lambda work, part=part: _live(work, part, stays), actor="user:bench")))  # type: ignore[misc]  # mypy can't see through the default
        events += sum(2 if number in stays else 5 for number in part)
        if len(pending) > 100:
            _wait(pending)
    _wait(pending)
    return events


def _wait(pending: "list[Future[Any]]") -> None:
    while pending:
        pending.pop().result()


def _live(work: Work, part: range, stays: frozenset[int]) -> None:
    for number in part:
        incident = Incident.open(
            work.new_id(), work.journal, number=work.number("INC"), title=f"Errors on srv-{number % 997}", impact=LEVELS[number % 3],
            urgency=LEVELS[number // 3 % 3], now=work.now, channel="api", service=SERVICES[number % len(SERVICES)],
        )
        work.adopt(incident)
        _work(incident, number, work.now, close=number not in stays)


def _work(ticket: Ticket, number: int, now: datetime, *, close: bool) -> None:
    ticket.assign(team=TEAMS[number % len(TEAMS)], assignee=None)
    if close:
        assert isinstance(ticket, Incident)
        ticket.acknowledge(by=None)
        ticket.resolve(code="solved", solution="Restarted it.", now=now + timedelta(minutes=5 + number % 90))
        ticket.close()


def start_of(days: float) -> datetime:
    """So that the last event lies a little before the present."""
    return datetime.now(UTC) - timedelta(days=days, hours=1)


def files(folder: Path) -> list[tuple[str, float]]:
    """(name, MiB) of a store's files."""
    return [(file.name, file.stat().st_size / 2**20) for file in sorted(folder.iterdir()) if file.is_file()]

