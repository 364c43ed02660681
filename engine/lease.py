"""Leadership: timers, notices and the relay are the duty of one process of a store, the one that holds its lease.

The lease is a row that ends unless it is renewed, and whoever finds it ended takes it. A process that was stopped for a while
(SIGSTOP, a machine that slept) may wake up believing that it still leads. So what a leader commits is *fenced*: the unit looks,
inside the commit, whether the lease still carries the token that this process got with it; if not, nothing of it happens.
"""

import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

import structlog

from engine.clock import micros
from engine.errors import TocsinError
from engine.ledger import Ledger
from engine.store import Lease
from engine.work import Unit, Work

T = TypeVar("T")

LEADER: Final = "leader"
LEASE_SECONDS: Final = 12.0
# A renewal may be late or fail twice.
RENEW_SECONDS: Final = 3.5

log = structlog.get_logger(__name__)


class NotLeading(TocsinError):
    """Another process leads; nothing was stored."""


class Leadership:
    """One process's part in it: a thread that takes the lease when it is free and renews it.

    Attributes:
        token: of the lease while this process holds it, as far as it knows; None: another one leads.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._holder = f"{_machine()}/{_process('self')}/{uuid4().hex[:8]}"
        self.token: int | None = None
        self._until = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leadership", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let it go, so that another process need not wait for its end."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self.token is not None:
            try:
                self._ledger.run(Unit(self._release, actor="tocsin"))
            except TocsinError as error:
                log.info("the lease could not be let go; it ends by itself", error=str(error))
            self.token = None

    @property
    def leads(self) -> bool:
        """Whether this process leads, as far as it can know: by a clock that goes on while the process is stopped."""
        return self.token is not None and time.monotonic() < self._until

    def fenced(self, unit: Unit[T]) -> Unit[T]:
        """The unit, refused with `NotLeading` where another process has taken over."""
        token = self.token

        def decide(work: Work) -> T:
            held = work.store.lease(LEADER)
            if held is None or held.holder != self._holder or held.token != token:
                raise NotLeading("another process leads")
            return unit.decide(work)

        return replace(unit, decide=decide)

    def renew(self) -> bool:
        """Take the lease where it is free, or renew it; whether this process leads now."""
        begun = time.monotonic()
        led = self.leads
        self.token = self._ledger.run(Unit(self._take, actor="tocsin"))
        if self.token is not None:
            self._until = begun + LEASE_SECONDS
            if not led:
                log.info("leads now", token=self.token)
        elif led:
            log.warning("does not lead any more")
        return self.leads

    def _take(self, work: Work) -> int | None:
        now = micros(work.now)
        held = work.store.lease(LEADER)
        mine = held is not None and held.holder == self._holder
        if held is not None and not mine and held.until > now and not gone(held.holder):
            return None
        token = 1 if held is None else held.token + (0 if mine else 1)
        taken = Lease(self._holder, token, now + int(LEASE_SECONDS * 1_000_000))
        work.after.append(lambda store: store.set_lease(LEADER, taken))
        return token

    def _release(self, work: Work) -> None:
        held = work.store.lease(LEADER)
        if held is not None and held.holder == self._holder:
            work.after.append(lambda store: store.set_lease(LEADER, held._replace(until=0)))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.renew()
            except TocsinError as error:
                log.warning("the lease cannot be renewed now", error=str(error))
            self._stop.wait(RENEW_SECONDS)


def gone(holder: str) -> bool:
    """Whether a lease's holder was a process of this machine that has ended; its successor then need not wait."""
    machine, _, rest = holder.partition("/")
    process = rest.split("/")[0]
    return machine == _machine() != "" and _process(process.split(".")[0]) != process


@cache
def _machine() -> str:
    """This machine since it was started, and the space in which its process ids count; "" where that can't be told."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process(process: str) -> str:
    """A process by its id and its start, since ids come again; "" where there is none."""
    try:
        said = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    fields = said.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else f"{said.split(' ', 1)[0]}.{fields[19]}"
