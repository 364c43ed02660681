"""The wiring: opens a store, makes what a new one needs, and holds the parts that a process shares."""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import structlog

from api.access import Directory
from api.database import must_be_whole, open_keyring, open_store
from api.rulebook_file import SHIPPED, read_rulebook
from api.settings import BadSettings, Settings
from engine import notice
from engine.clock import MAX_DRIFT_SECONDS, Clock, SimulatedClock, SystemClock, from_micros, rfc3339
from engine.errors import TocsinError
from engine.identity import rule_id, source_id
from engine.installation import INSTALLATION, ClockAccepted, Installation
from engine.ledger import Ledger
from engine.rule import REFERENCE, Rule
from engine.rulebook import RULEBOOK, Rulebook
from engine.source import Source, SourceAdded
from engine.store import SCHEMA_VERSION, Store
from engine.tables import FILLING
from engine.target import DEFAULT_TARGETS, TARGETS, Targets
from engine.vault import Vault, is_empty, load_master_key
from engine.work import Unit, Work
from monitors.intake import Intake
from monitors.integrations.registry import ADAPTERS

ADMIN_LOGIN: Final = "admin"
DEMO_MARK: Final = "demo"
CLOCK_ACCEPTED: Final = "clock_accepted"
REAL: Final = "real"
SIMULATED: Final = "simulated"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class House:
    """The parts of one process around one store.

    Attributes:
        first_admin: (login, password) if this start made the store; printed once and kept nowhere.
        new_key: the master key file if this start made it.
    """

    settings: Settings
    clock: Clock
    store: Store
    vault: Vault
    ledger: Ledger
    intake: Intake
    directory: Directory
    store_id: str
    first_admin: tuple[str, str] | None = None
    new_key: Path | None = None
    clock_accepted: str | None = None
    closed: bool = field(default=False)

    def clock_trouble(self) -> str | None:
        """What is wrong with the wall clock; None where it can be followed. Follows a step that an operator has accepted."""
        accepted = self.store.meta(CLOCK_ACCEPTED)
        if accepted != self.clock_accepted:
            self.clock_accepted = accepted
            self.clock.accept()
        drift = self.clock.drift_seconds()
        if abs(drift) > MAX_DRIFT_SECONDS:
            return f"the wall clock was stepped by {drift:.0f} s; if it is right now: tocsin clock accept"
        behind = (from_micros(self.store.head().recorded_at) - self.clock.now()).total_seconds()
        if behind > MAX_DRIFT_SECONDS and accepted is None:
            return f"the wall clock is {behind:.0f} s behind the log; if it is right now: tocsin clock accept"
        return None

    def accept_clock(self) -> None:
        """Record that the wall clock is right as it is; every process of this store follows it within seconds."""
        wall = datetime.now(UTC)
        head = from_micros(self.store.head().recorded_at)

        def decide(work: Work) -> None:
            event = ClockAccepted(wall=wall, drift_seconds=(wall - head).total_seconds())
            work.load(Installation, INSTALLATION).record(event)
            work.after.append(lambda store: store.set_meta(CLOCK_ACCEPTED, rfc3339(wall)))

        self.ledger.run(Unit(decide, actor="tocsin"))

    def close(self) -> None:
        """Finish what waits and close the files."""
        if self.closed:
            return
        self.closed = True
        self.ledger.close()
        self.store.close()
        self.vault.close()


def open_house(settings: Settings, *, clock: Clock | None = None, first_admin: bool = True) -> House:
    """Open the store of these settings, making it where there is none.

    Args:
        clock: instead of the one that the settings ask for.
        first_admin: make the first administrator where nobody has an account yet.

    Raises:
        BadSettings: the store was made with another kind of clock, or by a newer Tocsin.
        VaultLocked: the master key is missing or another store's.
    """
    if settings.restoring.exists():
        raise BadSettings(f"a restore into {settings.data} was begun and not finished: run it again, or empty that folder")
    must_be_whole(settings)
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if settings.master_key.resolve().is_relative_to(settings.data.resolve()):
        raise BadSettings("TOCSIN_MASTER_KEY_FILE: expected a place outside the data folder")
    key_file = settings.master_key
    new_key = None if key_file.exists() else key_file
    keyring = open_keyring(settings)
    try:
        master_key = load_master_key(key_file, create=is_empty(keyring))
    except TocsinError:
        keyring.close()
        raise
    vault = Vault(keyring, master_key)
    try:
        store = open_store(settings)
    except TocsinError:
        vault.close()
        raise
    try:
        clock = clock or log_clock(store, settings)
        _check(store, clock)
        ledger = Ledger(store, vault, clock)
        ledger.react(notice.WATCHED, notice.tell)
    except TocsinError:
        store.close()
        vault.close()
        raise
    directory = Directory(ledger)
    store_id = store.meta("store_id")
    if store_id is None:
        store_id = str(uuid4())
        ledger.run(Unit(lambda work: _found(work, str(store_id), clock), actor="tocsin"))
        store_id = store.meta("store_id") or store_id
    ledger.run(Unit(_defaults, actor="tocsin"))
    house = House(
        settings, clock, store, vault, ledger, Intake(ledger), directory, store_id, new_key=new_key,
        clock_accepted=store.meta(CLOCK_ACCEPTED),
    )
    if first_admin and not store.accounts():
        password = secrets.token_urlsafe(12)
        directory.open_account(login=ADMIN_LOGIN, name="Administrator", role="admin", password=password)
        house.first_admin = (ADMIN_LOGIN, password)
    return house


def _check(store: Store, clock: Clock) -> None:
    version = store.meta("schema_version")
    if version is not None and int(version) > int(SCHEMA_VERSION):
        raise BadSettings(f"TOCSIN_DATA: this store was made by a newer Tocsin (schema {version}); use that one")
    if clock.simulated and store.meta("clock") == REAL:
        raise BadSettings("TOCSIN_CLOCK: this store holds events of the real clock; start it without TOCSIN_CLOCK")


def log_clock(store: Store, settings: Settings) -> Clock:
    """The clock of these settings, for this log."""
    return clock_of(settings, simulated=store.meta("clock") == SIMULATED, last=from_micros(store.head().recorded_at))


def clock_of(settings: Settings, *, simulated: bool, last: datetime) -> Clock:
    """The clock of these settings; of a simulated store it never starts before the last event.

    So a command beside the server, and a server that starts again, see what was recorded since the first start.
    """
    if settings.clock is None and not simulated:
        return SystemClock()
    return SimulatedClock(max(last, settings.clock) if settings.clock is not None else last)


def _kind(clock: Clock) -> str:
    return SIMULATED if clock.simulated else REAL


def _found(work: Work, store_id: str, clock: Clock) -> None:
    """Write what a store is, once; a second process that starts at the same moment finds it there."""
    if work.store.meta("store_id") is not None:
        return
    if work.store.meta(FILLING) is not None:
        raise BadSettings("TOCSIN_DATABASE: a copy into this database has begun: wait until it is finished")
    kind = _kind(clock)
    work.after.append(lambda store: store.set_meta("store_id", store_id))
    work.after.append(lambda store: store.set_meta("schema_version", SCHEMA_VERSION))
    work.after.append(lambda store: store.set_meta("clock", kind))


def _defaults(work: Work) -> None:
    """From the first start on: a source for each adapter, the reference rule, the shipped rulebook, the usual targets."""
    reference = work.load(Rule, rule_id(REFERENCE.name))
    if not reference.exists:
        reference.publish(REFERENCE)
    rulebook = work.load(Rulebook, RULEBOOK)
    if not rulebook.exists:
        rulebook.publish(read_rulebook(SHIPPED.read_text()))
    targets = work.load(Targets, TARGETS)
    if not targets.exists:
        targets.set(DEFAULT_TARGETS)
    for adapter in ADAPTERS:
        source = work.load(Source, source_id(adapter.name))
        if not source.exists:
            source.add(SourceAdded(name=adapter.name, adapter=adapter.name))


def source_names(ledger: Ledger) -> list[str]:
    """Names of all configured sources, in the order in which they were added."""
    rows = ledger.store.log(0, 10_000, types=(SourceAdded.TOPIC,))
    return [event.name for row in rows if isinstance(event := ledger.fact(row).event, SourceAdded)]
