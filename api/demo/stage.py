"""Plays the demo's week under a simulated clock, and lets it live on in real time."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from fastapi import FastAPI
from rich.console import Console
from rich.progress import Progress

from api.commands import COMMANDS_OF, KINDS, Context, OpenIncident, SubmitRequest, open_incident, submit_request
from api.demo.cast import ACCOUNTS, PASSWORD, REGISTERED, SERVICES, TEAMS
from api.demo.week import DAYS, Act, Open, Ring, Step, last_tuesday, trickle, week
from api.hooks import PAGERDUTY_CHANGES
from api.house import DEMO_MARK, House, open_house
from api.scheduler import Scheduler
from api.settings import BadSettings, Settings
from engine.clock import SimulatedClock, rfc3339
from engine.errors import Refused
from engine.service import Service, service_id
from engine.team import Team, team_id
from engine.ticket import Ticket
from engine.work import Unit, Work
from projections.runner import Runner


class Stage:
    """Plays steps on a house; remembers the tickets of scenes."""

    def __init__(self, house: House, clock: SimulatedClock) -> None:
        self.house, self.clock = house, clock
        self._scheduler = Scheduler(house.ledger, house.intake)
        self._scenes: dict[str, UUID] = {}
        self._people = {account.login: house.directory.person_of(account.login) for account in ACCOUNTS}

    async def play(self, step: Step) -> None:
        """Play one step at its time, and what became due before it. A step that the story has overtaken is left out."""
        self.clock.set(max(step.at, self.clock.now()))
        while await asyncio.to_thread(self._scheduler.run_due):
            pass
        await self.perform(step)

    async def perform(self, step: Step) -> None:
        """Play one step now."""
        match step:
            case Ring():
                adapter = PAGERDUTY_CHANGES if step.change else None
                body = msgspec.json.encode(step.payload)
                receipt = await self.house.intake.receive(step.source, body, content_type="application/json", adapter=adapter)
                incident = receipt.monitoring_events[0].incident if receipt.monitoring_events else None
                if step.scene is not None and incident is not None:
                    self._scenes[step.scene] = incident
            case Open():
                self._scenes[step.scene] = await self._commit(step.who, lambda context: _open(step, context))
            case Act():
                if step.scene in self._scenes:
                    with contextlib.suppress(Refused):
                        await self._commit(step.who, lambda context: self._act(step, context))

    async def _commit(self, who: str, decide: Callable[[Context], UUID]) -> UUID:
        person = self._people[who]

        def run(work: Work) -> UUID:
            linked = {f"@{scene}": ticket for scene, ticket in self._scenes.items()}
            return decide(Context(work=work, person=person, handle=self.house.directory.handle, linked=linked))

        return await self.house.ledger.commit(Unit(run, actor=f"user:{person}"))

    def _act(self, step: Act, context: Context) -> UUID:
        kind = "request" if step.scene.startswith("request") else "incident"
        shape, act = COMMANDS_OF[kind][step.command]
        act(context.work.load(KINDS[kind], self._scenes[step.scene]), shape.model_validate(step.body), context)
        return self._scenes[step.scene]


def _open(step: Open, context: Context) -> UUID:
    opened: Ticket
    if step.kind == "incident":
        opened = open_incident(OpenIncident.model_validate(step.body), context)
    else:
        opened = submit_request(SubmitRequest.model_validate(step.body), context)
    return opened.id


def open_demo(settings: Settings, address: str) -> tuple[House, Runner, Callable[[FastAPI], None]]:
    """The demo's store, filled if it is new; the last part lets it live on once the application is made.

    Raises:
        BadSettings: the store holds something else than a demo.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    now = datetime.now(UTC)
    fresh = not settings.log_file.exists()
    clock = SimulatedClock(now - timedelta(days=DAYS) if fresh else now, running=not fresh)
    house = open_house(settings, clock=clock, first_admin=False)
    if house.store.meta(DEMO_MARK) is None and not fresh:
        house.close()
        raise BadSettings(f"--demo: {settings.data} holds a store that is none of a demo; name another folder with --data")
    runner = Runner(house.ledger, settings.data / "views.db")
    if fresh:
        house.ledger.run(Unit(_mark, actor="tocsin"))
        with Progress(console=console, transient=True) as progress:
            _fill(house, clock, now, progress)
            bar = progress.add_task("building the views", total=1)
            runner.catch_up()
            progress.update(bar, completed=1)
        clock = SimulatedClock(datetime.now(UTC))
        house.clock = house.ledger.clock = clock
    token = house.directory.create_token(role="monitor", source="alertmanager", name="demo")
    _tell(console, address, token, now)
    stage = Stage(house, clock)

    def finish(application: FastAPI) -> None:
        application.state.demo_accounts = [(account.login, PASSWORD, account.role) for account in ACCOUNTS]
        application.state.background.append(lambda: _live(stage))

    return house, runner, finish


def _mark(work: Work) -> None:
    work.after.append(lambda store: store.set_meta(DEMO_MARK, "week"))


def _register(work: Work) -> None:
    for name, level in TEAMS.items():
        work.load(Team, team_id(name)).register(name=name, level=level)
    for name, (tier, needs) in REGISTERED.items():
        work.load(Service, service_id(name)).register(name=name, owner_team=SERVICES[name][0], tier=tier, depends_on=needs)


def _fill(house: House, clock: SimulatedClock, now: datetime, progress: Progress) -> None:
    for account in ACCOUNTS:
        house.directory.open_account(
            login=account.login, name=account.name, role=account.role, team=account.team, password=PASSWORD,
            email=f"{account.login}@example.com",
        )
    house.ledger.run(Unit(_register, actor="tocsin"))
    stage, steps = Stage(house, clock), week(now)
    bar = progress.add_task("a week of bells", total=len(steps))

    async def play() -> None:
        for step in steps:
            await stage.play(step)
            progress.advance(bar)

    asyncio.run(play())


async def _live(stage: Stage) -> None:
    """Open and close things slowly, until the server ends."""
    source = random.Random()  # noqa: S311  # a show, not a secret
    async for steps in _paced(source):
        for step in steps:
            await stage.perform(step)


async def _paced(source: random.Random) -> AsyncIterator[list[Step]]:
    for wait, steps in trickle(datetime.now(UTC), source):
        await asyncio.sleep(wait)
        yield steps


def _tell(console: Console, address: str, token: str, now: datetime) -> None:
    """What a visitor can do next."""
    sample: dict[str, Any] = {
        "version": "4", "groupKey": "{}", "status": "firing",
        "alerts": [
            {
                "status": "firing", "startsAt": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "labels": {"alertname": "MyFirstBell", "instance": "srv-web-01", "service": "My service", "severity": "critical"},
                "annotations": {"summary": "I rang the bell"},
            }
        ],
    }
    tuesday = last_tuesday(now) + timedelta(minutes=14)
    console.print(f"\n  [bold]{address}/console[/]   sign in as [bold]nora[/] / [bold]{PASSWORD}[/]\n")
    console.print("  Ring the bell; the incident appears in the open page:\n")
    console.print(
        f"  curl -sS {address}/hooks/alertmanager -H 'Authorization: Bearer {token}' \\\n"
        f"    -H 'Content-Type: application/json' -d '{msgspec.json.encode(sample).decode()}'\n",
        markup=False,
    )
    console.print(f"  The queue as it was last Tuesday 02:14: {address}/console?as_of={rfc3339(tuesday)[:19]}Z\n")
