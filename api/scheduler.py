"""Fires durable timers when they are due, in the process that leads. A firing is decided on the log, so it happens once."""

import threading
from datetime import timedelta
from typing import Final

import structlog

from engine.clock import from_micros, micros
from engine.errors import TocsinError
from engine.lease import Leadership
from engine.ledger import Ledger
from engine.policy import fire
from monitors.intake import Intake

# A timer that is set while the scheduler sleeps is seen within this time, whichever process set it.
POLL_SECONDS: Final = 1.0
AT_ONCE: Final = 500

log = structlog.get_logger(__name__)


class Scheduler:
    """One thread that sleeps until the next due time."""

    def __init__(self, ledger: Ledger, intake: Intake, leadership: Leadership | None = None) -> None:
        """
        Args:
            leadership: None where nobody else can be at work on this store.
        """
        self._ledger, self._intake, self._leadership = ledger, intake, leadership
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def run_due(self) -> int:
        """Fire what is due now; how many."""
        due = self._ledger.store.due_timers(micros(self._ledger.clock.now()), AT_ONCE)
        units = [fire(timer, self._intake.lease_behind(timer)) for timer in due]
        if self._leadership is not None:
            units = [self._leadership.fenced(unit) for unit in units]
        futures = [self._ledger.submit(unit) for unit in units]
        return sum(future.result() for future in futures)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                fired = self.run_due() if self._leadership is None or self._leadership.leads else 0
            except TocsinError as error:
                log.warning("timers wait for the store", error=str(error))
                fired = 0
            except Exception:  # one timer's fault must not end all of them
                log.exception("a timer failed")
                fired = 0
            if not fired:
                self._stop.wait(self._pause())

    def _pause(self) -> float:
        try:
            due = self._ledger.store.next_due()
        except TocsinError:
            due = None
        if due is None or (self._leadership is not None and not self._leadership.leads):
            return POLL_SECONDS
        left = (from_micros(due) - self._ledger.clock.now()) / timedelta(seconds=1)
        return min(POLL_SECONDS, max(0.0, left))
