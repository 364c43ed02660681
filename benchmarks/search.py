"""Search over 200,000 tickets with mixed text: how long an answer takes, and what the index costs the views."""

import argparse
import random
import statistics
import time
from concurrent.futures import Future
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from benchmarks.figures import scratch, seconds, share, tell
from benchmarks.history import LEVELS, SERVICES, TEAMS, files, start_of
from engine.alert import AlertEpisodeOpened
from engine.clock import SimulatedClock
from engine.incident import Incident
from engine.keyring import SqliteKeyring
from engine.ledger import Ledger
from engine.observation import Severity
from engine.person import Person
from engine.request import ServiceRequest
from engine.sqlite_store import SqliteStore
from engine.ticket import Ticket, Visibility
from engine.vault import Vault
from engine.work import Unit, Work
from projections import search
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.search_page import asked, similar
from projections.search_page import search as search_tickets
from projections.views import Views

TICKETS: Final = 200_000
DAYS: Final = 365.0
IN_A_UNIT: Final = 50
HOSTS: Final = 2_000
ROUNDS: Final = 400

# What tickets of an organisation are made of: everyday words, most of them very common, and a long tail of names and codes.
_EVERYDAY: Final = """
    the to is not and in on for it we a with since error please server user cannot access login password after from
    disk network slow printer mail database payment shop backup certificate expired timeout restart update laptop vpn
    account locked reset drive full memory high load latency queue request failed connection refused response gateway
    monitor screen keyboard docking station wireless meeting room phone licence install software version upgrade
    permission folder share file missing deleted restore order invoice customer report export import sync calendar
    outlook browser cache cookie proxy firewall rule port switch router cable power outage cooling rack replica lag index
    query deadlock migration deploy release rollback pipeline build test container node cluster pod volume mount
"""
EVERYDAY: Final = tuple(_EVERYDAY.split())
SYLLABLES: Final = ("ka", "ro", "mi", "ten", "lo", "vas", "qui", "der", "fan", "zu", "pel", "or", "sim", "bra", "ex", "nu")
QUERIES: Final = (
    # words, common and rare
    "{common}", "{common} {common}", "{common} {rare}", "{rare}", "{common} {common} {common}", "the", "is not",
    # a last word that is being typed
    "{common} {part}", "{part}", "p", "re",
    # phrases and what must not be there
    '"{common} {common}"', '"{common}" -{rare}', "{common} -the",
    # fields
    "service:service-7 {common}", "{common} state:open", "{common} state:closed", "{common} priority:P1", "team:Shop {common}",
    "kind:request {common}", "host:srv-{host}", "requester:{person} {common}", "state:pending priority:P2 the", "service:service-3",
    "state:open priority:P1",
    # numbers
    "INC-{number}", "{number}", "host:srv-{host} {common} state:closed",
)


class Words:
    """Draws text, the same in each run."""

    def __init__(self) -> None:
        self.random = random.Random(7)
        tail = ["".join(self.random.choice(SYLLABLES) for _ in range(self.random.randint(2, 5))) for _ in range(20_000)]
        self.all = [*EVERYDAY, *dict.fromkeys(tail)]
        self.tail = self.all[len(EVERYDAY) :]
        self._weights = list(accumulate(1 / (rank + 3) for rank in range(len(self.all))))

    def text(self, least: int, most: int) -> str:
        return " ".join(self.random.choices(self.all, cum_weights=self._weights, k=self.random.randint(least, most)))

    def query(self, form: str) -> str:
        pick = self.random.choice
        return form.format_map(_Picked({
            "common": lambda: pick(EVERYDAY), "rare": lambda: pick(self.tail), "part": lambda: pick(EVERYDAY)[: pick((2, 3, 4))],
            "host": lambda: str(pick(range(HOSTS))), "person": lambda: pick(NAMES), "number": lambda: str(pick(range(1, TICKETS // 2))),
        })) if "{" in form else form


class _Picked(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        raise KeyError(key)

    def __getitem__(self, key: str) -> str:
        drawn: str = super().__getitem__(key)()
        return drawn


NAMES: Final = ("Nora", "Luis", "Ines", "Ada", "Tom", "Mei", "Omar", "Eva", "Jan", "Lea")


def run(_: argparse.Namespace) -> None:
    """Build the store, then ask."""
    with scratch() as folder:
        clock = SimulatedClock(start_of(DAYS), running=False)
        ledger = Ledger(SqliteStore(folder / "log.db"), Vault(SqliteKeyring(folder / "keys.db"), b"k" * 32), clock)
        begun = time.perf_counter()
        events = fill(ledger, clock, TICKETS)
        tell(f"store of {TICKETS:,} tickets", f"{events:,} events", f"made in {time.perf_counter() - begun:.0f} s")
        costs(ledger, folder, events)
        runner = Runner(ledger, folder / "views.db")
        runner.catch_up()
        sizes = dict(files(folder))
        tell("log.db, views.db", f"{sizes['log.db']:,.0f}, {sizes['views.db']:,.0f} MiB")
        questions(runner.views)
        lag(ledger, runner)
        runner.close()
        ledger.close()
        ledger.store.close()


def fill(ledger: Ledger, clock: SimulatedClock, count: int) -> int:
    """Append the lives of `count` tickets, a twentieth of them open; the number of events."""
    words, pending = Words(), []
    people = [UUID(int=number + 1) for number in range(500)]

    def register(work: Work) -> None:
        for number, person in enumerate(people):
            work.fresh(Person, person).register(name=f"{NAMES[number % len(NAMES)]} {words.tail[number]}", email=None)

    ledger.run(Unit(register, actor="user:bench"))
    for first in range(0, count, IN_A_UNIT):
        clock.advance(DAYS * 86_400 / count * IN_A_UNIT)
        part = range(first, min(first + IN_A_UNIT, count))
        pending.append(ledger.submit(Unit(lambda work, part=part: _live(work, words, people, part, count), actor="user:bench")))  # type: ignore[misc]  # mypy can't see through the default
        if len(pending) > 50:
            _wait(pending)
    _wait(pending)
    return ledger.store.head().position


def _wait(pending: "list[Future[Any]]") -> None:
    while pending:
        pending.pop().result()


def _live(work: Work, words: Words, people: list[UUID], part: range, count: int) -> None:
    for number in part:
        requester = people[number % len(people)]
        service = SERVICES[number % len(SERVICES)]
        ticket: Ticket
        if number % 5 == 0:
            ticket = ServiceRequest.submit(
                work.new_id(), work.journal, number=work.number("REQ"), title=words.text(4, 8), requester=requester, now=work.now,
                channel="portal", item="laptop", service=service, description=words.text(10, 40), needs_approval=False,
                fields={"model": words.text(1, 3), "why": words.text(5, 15)},
            )
        else:
            rung = number % 5 < 3
            incident = work.new_id()
            if rung:
                _ring(work, words, number, service, incident)
            ticket = Incident.open(
                incident, work.journal, number=work.number("INC"), title=words.text(4, 8), impact=LEVELS[number % 3],
                urgency=LEVELS[number // 3 % 3], now=work.now, channel="alertmanager" if rung else "console", service=service,
                description=words.text(15, 60), requester=None if rung else requester,
            )
        _work(ticket, words, number, people, work, stays=number % 20 == 7 or number > count - 200)


def _ring(work: Work, words: Words, number: int, service: str, incident: UUID) -> None:
    host = f"srv-{number % HOSTS}"
    work.journal.add(work.new_id(), 1, AlertEpisodeOpened(
        number=work.number("ALT"), source="alertmanager", dedup_key=f"key-{number}", title=words.text(3, 6), severity=Severity.CRITICAL,
        started_at=work.now, service=service, resource=host, incident=incident,
        labels={"instance": f"{host}:9100", "job": "node", "env": "prod", "alertname": words.text(1, 2), "service": service},
    ))


def _work(ticket: Ticket, words: Words, number: int, people: list[UUID], work: Work, *, stays: bool) -> None:
    ticket.assign(team=TEAMS[number % len(TEAMS)], assignee=people[number % 17])
    for told in range(number % 4):
        visibility = Visibility.PUBLIC if told % 2 else Visibility.INTERNAL
        ticket.comment(text=words.text(8, 40), visibility=visibility, author=people[number % 17])
    if stays:
        return
    now = work.now + timedelta(minutes=5 + number % 90)
    if isinstance(ticket, Incident):
        ticket.resolve(code="solved", solution=words.text(6, 20), now=now)
    elif isinstance(ticket, ServiceRequest):
        ticket.fulfil(note=words.text(3, 10), now=now)
    ticket.close()


def costs(ledger: Ledger, folder: Path, events: int) -> None:
    """What the index adds to the views, on the first part of the log."""
    most = min(events, 200_000)
    without = tuple(each for each in PROJECTIONS if each is not search.PROJECTION)
    spent: dict[str, float] = {}
    # In turns, the better of two: other work on the machine must not fall on one side only.
    for name, chosen in (("without", without), ("with", PROJECTIONS)) * 2:
        runner = Runner(ledger, folder / f"{name}-{len(spent)}.db", projections=chosen)
        once = seconds(lambda runner=runner: _advance(runner, most))  # type: ignore[misc]  # mypy can't see through the default
        runner.close()
        for file in folder.glob(f"{name}-*"):
            file.unlink()
        spent[name] = min(once, spent.get(name, once))
    for name in spent:
        tell(f"views {name} search, first {most:,} events", f"{most / spent[name]:,.0f} events/s")
    tell("search adds, for each event", f"{(spent['with'] - spent['without']) / most * 1e6:.0f} µs")


def _advance(runner: Runner, most: int) -> None:
    while runner.position < most and runner.step():
        pass


def questions(views: Views) -> None:
    """Both questions, each once on a reader of its own as a request does."""
    words = Words()
    words.random.seed(11)
    by_form: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        form = QUERIES[number % len(QUERIES)]
        text = words.query(form)
        by_form.setdefault(form, []).append(_timed(views, text))
    spent = sorted(each for found in by_form.values() for each in found)
    tell("search, mixed queries, p50 / p95 / max", f"{share(spent, 0.5):.1f} / {share(spent, 0.95):.1f} / {spent[-1]:.1f} ms", "bar: p95 <= 100 ms")
    for form, found in sorted(by_form.items(), key=lambda pair: -statistics.median(pair[1]))[:6]:
        tell(f"  slowest: {form}", f"{statistics.median(found):.1f} ms")
    alike = []
    for number in range(200):
        asked_for = f"{'REQ' if number % 5 == 0 else 'INC'}-{1 + number * 191}"
        with views.reader() as reader:
            begun = time.perf_counter()
            similar(reader, asked_for)
            alike.append((time.perf_counter() - begun) * 1_000)
    alike.sort()
    tell("similar tickets, p50 / p95 / max", f"{share(alike, 0.5):.1f} / {share(alike, 0.95):.1f} / {alike[-1]:.1f} ms", "bar: p95 <= 150 ms")


def _timed(views: Views, text: str) -> float:
    with views.reader() as reader:
        begun = time.perf_counter()
        search_tickets(reader, asked(text), limit=25)
        return (time.perf_counter() - begun) * 1_000


def lag(ledger: Ledger, runner: Runner) -> None:
    """How long after its commit a new ticket is found, while others are worked."""
    words, waits = Words(), []
    words.random.seed(13)
    people = [UUID(int=number + 1) for number in range(500)]
    runner.start()
    for number in range(40):
        part = range(TICKETS + number * 5, TICKETS + number * 5 + 5)
        ledger.run(Unit(lambda work, part=part: _live(work, words, people, part, TICKETS * 2), actor="user:bench"))  # type: ignore[misc]  # mypy can't see through the default
        begun = time.perf_counter()
        runner.wait_for(ledger.last_position, 10)
        waits.append((time.perf_counter() - begun) * 1_000)
    waits.sort()
    tell("index up to date after a commit, p50 / max", f"{share(waits, 0.5):.0f} / {waits[-1]:.0f} ms", "bar: <= 1 s")
