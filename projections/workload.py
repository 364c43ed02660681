"""Who has how much: the tickets of the queue by the person or team they are with, now or as of a position.

The queue (`projections/queue_page.py`) says what is open, the measures' transitions what was resolved; nothing is kept here.
"""

import statistics
from collections import Counter
from datetime import datetime, timedelta
from heapq import nsmallest
from typing import Final
from uuid import UUID

import msgspec

from engine.clock import micros
from engine.person import Role
from engine.ticket import Meaning
from projections.kpis import Metric
from projections.queue_page import LEAST_PRIORITY, OpenTicket, QueueFilter, open_tickets, rows_of
from projections.ticket_row import TicketRow
from projections.views import Reader

RESOLVED_DAYS: Final = 7
# Who is shown also without a ticket: they could take some.
TAKERS: Final = (Role.AGENT.value, Role.LEAD.value)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one person or one team has.

    Attributes:
        id: of the person; None of nobody, and of a team.
        name: of the person or team; None of nobody, and of a person whose name is not known (any more).
        team: of the person as registered; None of a team.
        by_priority: of the open ones, by `P1` to `P5`.
        waiting: of them, on hold.
        oldest_seconds, median_seconds: age of the open ones; None without any.
        resolved: how many tickets the person resolved in the seven days before (as the measures count it: each resolve, by who
            did it); of a team: how many of the team's tickets were. Of nobody: by rules and programs.
    """

    id: UUID | None
    name: str | None
    team: str | None
    open: int
    by_priority: dict[str, int]
    waiting: int
    oldest_seconds: float | None
    median_seconds: float | None
    resolved: int


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """Who has how much.

    Attributes:
        people: agents and leads, and whoever else has or resolved something; who has most comes first.
        teams: likewise, by the ticket's team; one without a name holds the tickets of no team.
        nobody: tickets with nobody's name on them, with a team or without.
        total: all of the queue.
    """

    people: list[Load]
    teams: list[Load]
    nobody: Load
    total: Load
    position: int


class _Tally:
    """Tickets of one person or team, while they are counted."""

    __slots__ = ("ages", "priorities", "resolved", "waiting")

    def __init__(self) -> None:
        self.ages: list[float] = []
        self.priorities: Counter[int] = Counter()
        self.waiting = self.resolved = 0

    def add(self, ticket: OpenTicket, until: int) -> None:
        self.ages.append(max(0.0, (until - ticket.opened_at) / 1_000_000))
        self.priorities[ticket.priority] += 1
        self.waiting += ticket.meaning == Meaning.WAITING

    def load(self, *, person: UUID | None = None, name: str | None = None, team: str | None = None) -> Load:
        return Load(
            id=person, name=name, team=team, open=len(self.ages),
            by_priority={f"P{priority}": self.priorities[priority] for priority in range(1, LEAST_PRIORITY + 1)},
            waiting=self.waiting, oldest_seconds=max(self.ages, default=None),
            median_seconds=statistics.median(self.ages) if self.ages else None, resolved=self.resolved,
        )


def workload(reader: Reader, now: datetime, *, as_of: int | None = None) -> Workload:
    """Who has how much. It looks at every ticket in the queue once.

    Args:
        now: to which ages are counted, and the end of the seven days: the present, or the instant of `as_of`.
    """
    at, until = reader.at(as_of), micros(now)
    people: dict[bytes | None, _Tally] = {None: _Tally()}
    teams: dict[str | None, _Tally] = {}
    total = _Tally()
    for ticket in open_tickets(reader, QueueFilter(), at):
        people.setdefault(ticket.assignee, _Tally()).add(ticket, until)
        teams.setdefault(ticket.team, _Tally()).add(ticket, until)
        total.add(ticket, until)
    after = reader.ledger.store.position_at(micros(now - timedelta(days=RESOLVED_DAYS)))
    sql = "SELECT agent, team FROM kpi_facts WHERE metric = :resolved AND imported IN (0, 1) AND position > :after AND position <= :at"
    for agent, team in reader.iterate(sql, {"resolved": Metric.RESOLVED, "after": after, "at": at}):
        people.setdefault(agent, _Tally()).resolved += 1
        teams.setdefault(team, _Tally()).resolved += 1
        total.resolved += 1
    return Workload(
        people=_people(reader, people, at), teams=sorted((tally.load(name=name) for name, tally in teams.items()), key=_most_first),
        nobody=people[None].load(), total=total.load(), position=at,
    )


def _people(reader: Reader, tallies: dict[bytes | None, _Tally], at: int) -> list[Load]:
    loads = {person: tally.load(person=UUID(bytes=person)) for person, tally in tallies.items() if person is not None}
    for person, name, team, role in reader.rows("SELECT person, name, team, role FROM people WHERE position <= :at", {"at": at}):
        if person in loads or role in TAKERS:
            loads[person] = tallies.get(person, _Tally()).load(person=UUID(bytes=person), name=name, team=team)
    return sorted(loads.values(), key=_most_first)


def _most_first(load: Load) -> tuple[int, list[int], str, str]:
    return -load.open, [-number for number in load.by_priority.values()], (load.name or "").casefold(), str(load.id)


def first_of(reader: Reader, person: UUID | str, *, most: int) -> list[TicketRow]:
    """The tickets of a person, or of `nobody`, that press most: by priority, then the oldest.

    Raises:
        InvalidInput: neither a person's id nor `nobody`.
    """
    theirs = open_tickets(reader, QueueFilter(assignee=person), reader.position)
    first = nsmallest(most, ((ticket.priority, ticket.opened_at, ticket.ticket) for ticket in theirs))
    return rows_of(reader, [ticket for *_, ticket in first], reader.position)
