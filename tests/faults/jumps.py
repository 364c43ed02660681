"""Two processes of one store on a machine whose wall clock is stepped, and a check of what they recorded meanwhile."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast
from uuid import UUID

from engine import notice
from engine.clock import MAX_DRIFT_SECONDS, SimulatedClock, SystemClock, from_micros, micros
from engine.incident import Incident
from engine.lease import Leadership, NotLeading
from engine.ledger import Ledger
from engine.notice import NoticeRequested
from engine.policy import fire
from engine.rule import TicketRule
from engine.rulebook import NoticeRule, NoticeStep
from engine.timer import TimerFired
from engine.vault import Vault
from engine.work import Unit, Work
from projections.queue_page import breached
from projections.runner import Runner
from tests.notices.post import Tower
from tests.stores import keyring_at, store_at

HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR
RULE: Final = NoticeRule(
    name="all", when="true", to=("on-call",), then=(NoticeStep(after_seconds=600, to=("lead",)),), repeat_seconds=1_800, most_repeats=3
)
SETTLE: Final = TicketRule(name="reference", settle_seconds=300)


class Hands:
    """The machine's clocks: the wall clock, which may be stepped, and the monotonic one, which may not."""

    def __init__(self, start: datetime) -> None:
        self.wall, self.monotonic = start.timestamp(), 1_000.0

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


class OfHands(SystemClock):
    """A process's clock on this machine."""

    def __init__(self, hands: Hands) -> None:
        super().__init__(lambda: hands.wall, lambda: hands.monotonic)
        self.hands = hands

    def set(self, _: datetime) -> None:
        """Nobody sets it."""


class Process:
    """A process, and what time it is for it by right: when it started (or its clock was accepted) and what has passed since."""

    def __init__(self, folder: Path, hands: Hands, clock: OfHands) -> None:
        self.hands, self.clock = hands, clock
        self.ledger = Ledger(store_at(folder), Vault(keyring_at(folder), b"k" * 32), clock)
        self.tower = Tower(self.ledger, cast("SimulatedClock", clock))
        self.leadership = Leadership(self.ledger)
        self.begin()

    def begin(self) -> None:
        self._wall, self._monotonic = self.hands.wall, self.hands.monotonic

    @property
    def right(self) -> datetime:
        return datetime.fromtimestamp(self._wall + self.hands.monotonic - self._monotonic, UTC)

    def run_due(self) -> None:
        """As `api/scheduler.py`: what is due by its own clock, where it leads."""
        self.leadership.renew()
        if self.leadership.token is None:
            return
        latest = micros(self.right + timedelta(seconds=MAX_DRIFT_SECONDS))
        while due := self.ledger.store.due_timers(micros(self.clock.now()), 100):
            for timer in due:
                assert timer.due_at <= latest, f"{timer.purpose} is due at {from_micros(timer.due_at)}, and it is {self.right}"
                try:
                    self.ledger.run(self.leadership.fenced(fire(timer, self.tower.intake.lease_behind(timer))))
                except NotLeading:
                    return

    def close(self) -> None:
        self.ledger.close()
        self.ledger.store.close()
        self.ledger.vault.close()


def _acknowledge(work: Work, ticket: UUID) -> None:
    incident = work.load(Incident, ticket)
    if incident.is_open and not incident.acknowledged:
        incident.acknowledge(by=UUID(int=7))


def keeps_time(
    folder: Path, start: datetime, steps: Sequence[tuple[str, float]], clock_class: Callable[[Hands], OfHands] = OfHands
) -> None:
    """Live through `steps`: `pass` and `jump` by seconds; `accept`, `fires`, `ends`, `acknowledge`, `restart` (of the second process).

    What each of them records and fires is checked against the time that has passed.
    """
    hands = Hands(start)
    first = Process(folder, hands, clock_class(hands))
    first.tower.recipient("on-call", "lead")
    first.tower.rules(RULE)
    first.tower.publish(SETTLE)
    second = Process(folder, hands, clock_class(hands))
    try:
        for number, (step, value) in enumerate(steps):
            acts = (first, second)[number % 2]
            match step:
                case "pass":
                    hands.go_on(value)
                case "jump":
                    hands.wall += value
                case "accept":
                    for process in (first, second):
                        process.clock.accept()
                        process.begin()
                case "fires":
                    acts.tower.fires(f"web-{int(value)}")
                case "ends":
                    acts.tower.ends(f"web-{int(value)}")
                case "acknowledge":
                    for incident in acts.tower.incidents[:1]:
                        acts.ledger.run(Unit(lambda work, ticket=incident.id: _acknowledge(work, ticket), actor="user:nora"))  # type: ignore[misc]  # bound per incident
                case "restart":
                    second.close()
                    second = Process(folder, hands, clock_class(hands))
            for process in (first, second) if number % 3 else (second, first):
                off = abs((process.clock.now() - process.right).total_seconds())
                assert off <= MAX_DRIFT_SECONDS, f"a clock is off by {off} s after {step}"
                process.run_due()
        _check_log(first)
        _check_views(folder, first)
    finally:
        first.close()
        second.close()


def _check_log(process: Process) -> None:
    facts = process.ledger.read(0, 1_000_000)
    assert [fact.position for fact in facts] == list(range(1, len(facts) + 1))
    times = [fact.recorded_at for fact in facts]
    assert times == sorted(times), "recorded_at decreases"
    firings = [fact.event.firing for fact in facts if isinstance(fact.event, TimerFired)]
    assert len(set(firings)) == len(firings), "a timer was fired twice"
    assert all(fact.event.due_at <= fact.recorded_at for fact in facts if isinstance(fact.event, TimerFired))
    told = [
        (fact.stream_id, event.purpose, event.recipient, event.step)
        for fact in facts
        if isinstance(event := fact.event, NoticeRequested) and event.purpose in (notice.Purpose.ESCALATION, notice.Purpose.REPEAT)
    ]
    ended = sum(isinstance(fact.event, notice.NoticeOccasionEnded) for fact in facts)
    if not ended:
        assert len(set(told)) == len(told), "somebody was told twice"


def _check_views(folder: Path, process: Process) -> None:
    runner = Runner(process.ledger, folder / "views.db")
    try:
        runner.catch_up()
        with runner.views.reader() as reader:
            assert reader.row("SELECT count(*) FROM kpi_facts WHERE duration < 0") == (0,), "a negative duration"
            late = breached(reader, process.right + timedelta(seconds=MAX_DRIFT_SECONDS))
            assert breached(reader, process.clock.now()) <= late, "a target is missed because the clock was stepped"
    finally:
        runner.close()
