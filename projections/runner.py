"""Keeps the views in step with the log: one thread, woken by each commit and looking once a second besides.

Events are read and decoded once for all projections; their rows and their new position are one transaction, so each event
is in a view exactly once. `projections/rebuild.py` builds the next generation beside the present one.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import structlog

from engine.errors import Conflict, StoreUnavailable
from engine.ledger import Ledger
from projections.files import Damaged, Files
from projections.generation import MOST_IN_A_PAGE, Generation, Poisoned
from projections.projection import Projection
from projections.rebuild import Difference, Progress, build_beside, clear_old, compare, nothing_to_tell
from projections.registry import PROJECTIONS
from projections.views import Views

POLL_SECONDS: Final = 1.0
# Between two rounds, so that a stream of small commits is taken in gulps: the processor is shared with intake. Whoever waits
# for what they wrote ends it.
REST_SECONDS: Final = 0.03

log = structlog.get_logger(__name__)


class Runner:
    """The keeper of the views.

    Attributes:
        views: for reading.
        failure: why the views do not follow any more (or, while the disk is full, not now); None while they do.
    """

    def __init__(
        self, ledger: Ledger, path: Path, *, projections: Sequence[Projection] = PROJECTIONS, page: int = MOST_IN_A_PAGE
    ) -> None:
        place = Files(path)
        self.views = Views(ledger, place)
        self.failure: str | None = None
        self._ledger, self._place, self._projections, self._page = ledger, place, tuple(projections), page
        self._writing = threading.RLock()
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._dead = False
        self._subscribers: list[Callable[[int], None]] = []
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[bool]]] = []
        self._thread: threading.Thread | None = None
        self._generation = self._open()
        self._position = self._generation.position
        clear_old(place)

    # -- the present generation ------------------------------------------------------------------------------------

    def _open(self) -> Generation:
        present = self._place.present()
        if not present:
            present = 1
            self._place.switch(present)
        try:
            return Generation(self._ledger, self._place, present, self._projections)
        except Damaged as error:
            # Nothing in it is lost: it is folded from the log again.
            log.warning("views cannot be read and are rebuilt", error=str(error))
            self._place.switch(present + 1)
            return Generation(self._ledger, self._place, present + 1, self._projections)

    def _follow_switch(self) -> None:
        """Go on in a newer generation that somebody (perhaps another process) has built."""
        if self._generation.number != self._place.present():
            old, self._generation = self._generation, self._open()
            old.close()

    def step(self) -> int:
        """Take in one page, in the caller's thread; how many events it was.

        Raises:
            Poisoned, sqlite3.Error, StoreUnavailable: as `Generation.advance`.
        """
        with self._writing:
            self._follow_switch()
            try:
                taken = self._generation.advance(most=self._page)
            finally:
                self._announce(self._generation.position)
            return taken

    def catch_up(self) -> int:
        """Take in everything that the log holds, in the caller's thread; the position reached."""
        while self.step():
            pass
        return self.position

    # -- the thread ------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="projections", daemon=True)
        self._ledger.listen(self._woken)
        self._thread.start()
        return self

    def _woken(self, _: int) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                taken = self.step()
                self.failure = None
            except (sqlite3.OperationalError, StoreUnavailable) as error:
                self._failed(str(error))
                taken = 0
            except Exception as error:  # whatever it is, it must be seen and not end in a silent thread
                self._failed(str(error) if isinstance(error, Poisoned) else f"{type(error).__name__}: {error}")
                self._die()
                return
            if taken == 0:
                self._wake.wait(POLL_SECONDS)
            elif taken < self._page:
                self._hurry.wait(REST_SECONDS)
                self._hurry.clear()

    def _failed(self, why: str) -> None:
        if why != self.failure:
            log.error("projections stopped", error=why, position=self._position)
        self.failure = why

    def _die(self) -> None:
        self._dead = True
        with self._changed:
            self._changed.notify_all()
            waiting, self._waiting = self._waiting, []
        for _, loop, future in waiting:
            _settle(loop, future, False)

    def close(self) -> None:
        """Stop the thread and close the files."""
        self._stop.set()
        self._hurry.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._die()
        with self._writing:
            self._generation.close()
        self.views.close()

    # -- how far it is ---------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The last event that is in every view."""
        return self._position

    @property
    def lag(self) -> int:
        """How many positions the views are behind the log."""
        return max(0, self._ledger.store.head().position - self._position)

    def subscribe(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call `callback` with the new position after each commit of the views, on the runner's thread: it must not block.

        Returns:
            A function that ends the subscription.
        """
        self._subscribers.append(callback)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers.remove(callback)

        return end

    def _announce(self, position: int) -> None:
        if position == self._position:
            return
        reached: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[bool]]] = []
        with self._changed:
            self._position = position
            self._changed.notify_all()
            still = []
            for waiting in self._waiting:
                if waiting[0] <= position:
                    reached.append(waiting[1:])
                else:
                    still.append(waiting)
            self._waiting = still
        for loop, future in reached:
            _settle(loop, future, True)
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(position)
            except Exception as error:  # a page that is gone must not stop the views of all the others
                log.warning("a subscriber failed", error=str(error))

    def wait_for(self, position: int, timeout: float = 2.0) -> bool:
        """Whether the views hold this position, waiting at most `timeout` seconds; not for the event loop's thread."""
        self._hurry.set()
        with self._changed:
            self._changed.wait_for(lambda: self._position >= position or self._dead, timeout)
            return self._position >= position

    async def reached(self, position: int, timeout: float = 2.0) -> bool:
        """`wait_for` without blocking the event loop."""
        if self._position >= position:
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        with self._changed:
            if self._position >= position or self._dead:
                return self._position >= position
            self._waiting.append((position, loop, future))
        self._hurry.set()
        try:
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return False
        finally:
            with self._changed:
                self._waiting = [waiting for waiting in self._waiting if waiting[2] is not future]

    # -- anew ------------------------------------------------------------------------------------------------------

    def rebuild(self, name: str | None = None, progress: Progress = nothing_to_tell) -> int:
        """Build the views (or one of them) anew beside the present ones, then switch. Returns the position reached.

        In the caller's thread; readers and the live thread go on meanwhile.

        Raises:
            NotFound: no projection of that name.
            Conflict: a rebuild or verification is running already.
            Poisoned: a projection cannot take an event; the present views stay.
        """
        with build_beside(self._ledger, self._place, self._projections, name=name) as beside:
            while beside.position < (head := self._ledger.store.head().position):
                if not beside.advance(most=self._page):
                    break
                progress(beside.position, head)
            with self._writing:
                while beside.advance(most=self._page):
                    pass
                self._place.switch(beside.number)
                self._follow_switch()
                self._announce(self._generation.position)
                if self.failure and self._dead:
                    log.info("views rebuilt; restart to follow the log again")
            progress(beside.position, beside.position)
        return self.position

    def verify(self, progress: Progress = nothing_to_tell) -> Difference | None:
        """Build the views anew beside the present ones and compare row by row: the first difference, or None.

        Raises:
            Conflict: a rebuild or verification is running already, or a view is still catching up with the others.
            Poisoned: a projection cannot take an event.
        """
        with build_beside(self._ledger, self._place, self._projections, name=None) as beside:
            while beside.position < (goal := self._position):
                if not beside.advance(upto=goal, most=self._page):
                    break
                progress(beside.position, goal)
            with self.views.reader() as live:
                if live.row("SELECT min(position) < max(position) FROM tracking") == (1,):
                    raise Conflict("a view is still catching up with the others; verify again afterwards")
                while beside.advance(upto=live.position, most=self._page):
                    pass
                progress(live.position, live.position)
                return compare(live, beside, self._projections)


def _settle(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[bool]", reached: bool) -> None:
    def settle() -> None:
        if not future.done():
            future.set_result(reached)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
