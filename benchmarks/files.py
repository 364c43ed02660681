"""Files on tickets: what attaching one costs, and everybody else meanwhile; and finding a contact by name among many."""

import argparse
import os
import threading
from datetime import UTC, datetime
from uuid import UUID

from api.contacts import contacts
from api.house import House, open_house
from api.settings import load_settings
from benchmarks.figures import scratch, share, tell, times
from engine.attachment import attach_file, read_file, seal_file
from engine.clock import SimulatedClock
from engine.incident import Incident
from engine.person import Person
from engine.report import Report, open_incident
from engine.ticket import TicketFileAttached, Visibility
from engine.work import Unit, Work
from projections.runner import Runner

MIB = 1024 * 1024
ROUNDS = 200
FIRST = ("Anna", "Bo", "Cem", "Dora", "Emil", "Fatima", "Gro", "Hugo", "Ines", "Jan")
PEOPLE = (1_000, 100_000)
A_UNIT = 1_000


def run(_options: argparse.Namespace) -> None:
    """Files first, then people at two sizes."""
    with scratch() as folder:
        house = open_house(load_settings({}, data=folder / "data"))
        _attaching(house)
        house.close()
        for many in PEOPLE:
            data = folder / f"people-{many}"
            house = open_house(load_settings({}, data=data), clock=SimulatedClock(datetime(2026, 3, 2, tzinfo=UTC), running=False))
            _finding(house, Runner(house.ledger, data / "views.db"), many)
            house.close()


def _attaching(house: House) -> None:
    ticket = house.ledger.run(Unit(lambda work: open_incident(work, Report(title="It shows nonsense", channel="bench")).id, actor="tocsin"))

    def attach(content: bytes) -> None:
        file = seal_file(house.vault, name="screen.png", media_type="image/png", content=content)

        def decide(work: Work) -> None:
            attach_file(work, work.load(Incident, ticket), file, visibility=Visibility.INTERNAL, by=None)

        house.ledger.run(Unit(decide, actor="tocsin"))

    def say() -> None:
        def decide(work: Work) -> None:
            work.load(Incident, ticket).comment(text="Looking.", visibility=Visibility.INTERNAL, author=None)

        house.ledger.run(Unit(decide, actor="tocsin"))

    for size in (MIB, 10 * MIB):
        content = os.urandom(size)
        spent = times(lambda content=content: attach(content), 20)  # type: ignore[misc]  # the default binds this round's
        tell(f"seal and commit a file of {size // MIB} MiB, p50 / p95", f"{share(spent, 0.5):.0f} / {share(spent, 0.95):.0f} ms")
    (row,) = house.store.log(0, 1, types=(TicketFileAttached.TOPIC,))
    event = house.ledger.fact(row).event
    assert isinstance(event, TicketFileAttached)
    last = house.store.log(row.position, 1_000, types=(TicketFileAttached.TOPIC,))[-1]
    largest = house.ledger.fact(last).event
    assert isinstance(largest, TicketFileAttached)
    spent = times(lambda: read_file(house.store, house.vault, largest.digest), 20)
    tell("read a file of 10 MiB, p50", f"{share(spent, 0.5):.0f} ms")
    alone = times(say, ROUNDS)
    tell("a comment's commit, p50 / p95", f"{share(alone, 0.5):.1f} / {share(alone, 0.95):.1f} ms")
    done = threading.Event()
    content = os.urandom(10 * MIB)

    def go_on() -> None:
        while not done.is_set():
            attach(content)

    other = threading.Thread(target=go_on)
    other.start()
    meanwhile = times(say, ROUNDS)
    done.set()
    other.join()
    tell("the same while files of 10 MiB come one after another", f"{share(meanwhile, 0.5):.1f} / {share(meanwhile, 0.95):.1f} ms")


def _finding(house: House, runner: Runner, many: int) -> None:
    for start in range(0, many, A_UNIT):
        house.ledger.run(Unit(lambda work, start=start: _register(work, start), actor="tocsin"))  # type: ignore[misc]  # as above
    runner.catch_up()
    for name, text in (("a common beginning", "an"), ("one in a hundred thousand", "cem 01424"), ("that nobody has", "xylophon"), ("of two words", "öst 0042")):
        with runner.views.reader() as reader:
            spent = times(lambda reader=reader, text=text: contacts(reader, house.directory, text), 50)  # type: ignore[misc]  # as above
        tell(f"{many:,} people: a name, {name}, p50 / p95", f"{share(spent, 0.5):.1f} / {share(spent, 0.95):.1f} ms")
    runner.close()


def _register(work: Work, start: int) -> list[UUID]:
    made = []
    for number in range(start, start + A_UNIT):
        person = work.fresh(Person, work.new_id())
        person.register(name=f"{FIRST[number % len(FIRST)]} {number:06d}-Öst", email=None)
        made.append(person.id)
    return made
