"""Keeps the views in step with the log: one thread, woken by each commit and looking once a second besides.

The processes of a node share the file of the views. One of them folds, whoever holds `Files.turn`; the others follow: they look how
far it is, and whoever waits in them is told as if they had folded themselves. When it ends, another takes its turn.

Events are read and decoded once for all projections; their rows and their new position are one transaction, so each event
is in a view exactly once. `projections/rebuild.py` builds the next generation beside the present one.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

import structlog

from engine.errors import Conflict, StoreUnavailable
from engine.ledger import Ledger
from projections import dead_letters
from projections.files import Damaged, Files
from projections.generation import MOST_IN_A_PAGE, Generation
from projections.projection import Projection
from projections.rebuild import Difference, Progress, RebuildFailed, build_beside, clear_old, compare, nothing_to_tell
from projections.registry import PROJECTIONS
from projections.views import Views

POLL_SECONDS: Final = 1.0
# Between two rounds, so that a stream of small commits is taken in gulps: the processor is shared with intake. Whoever waits
# for what they wrote ends it.
REST_SECONDS: Final = 0.03
# Between two looks at the one who folds, while somebody waits or the log is ahead.
FOLLOW_SECONDS: Final = 0.02
# The one who folds has stood still for so long while the log went on: its process is stopped, or it cannot go on.
STILL_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


class Runner:
    """The keeper of the views.

    Attributes:
        views: for reading.
        failure: why the views, or some of them, do not follow any more (or, while the disk is full, not now); None while they do.
        folded: by projection, how many events this process has folded into the live views.
    """

    def __init__(
        self, ledger: Ledger, path: Path, *, projections: Sequence[Projection] = PROJECTIONS, page: int = MOST_IN_A_PAGE,
        still: float = STILL_SECONDS,
    ) -> None:
        """
        Args:
            still: seconds after which another process that folds and does not get on is said to be stuck.

        Raises:
            StoreUnavailable: the views cannot be opened, or another process keeps them and has made none yet.
        """
        place = Files(path)
        self.views = Views(ledger, place)
        self.failure: str | None = None
        self.folded: Counter[str] = Counter()
        self._ledger, self._place, self._projections, self._page, self._still = ledger, place, tuple(projections), page, still
        self._writing = threading.RLock()
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._dead = False
        self._subscribers: list[Callable[[int], None]] = []
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[bool]]] = []
        self._blocked = 0
        self._thread: threading.Thread | None = None
        self._turn = place.turn()
        self._generation: Generation | None = None
        self._position = 0
        self._stopped: tuple[str, ...] = ()
        self._moved_at, self._head = time.monotonic(), (0.0, 0)
        self._enter()
        clear_old(place)

    def _enter(self) -> None:
        """Make the views or find them."""
        until = time.monotonic() + self._still
        while True:
            with self._writing, self._our_turn() as ours:
                try:
                    self._position = self._present().position if ours else self._seen()
                except StoreUnavailable:
                    if ours or time.monotonic() > until:
                        raise
                else:
                    return
            self._stop.wait(FOLLOW_SECONDS)  # the other one is just making them

    # -- the present generation ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _our_turn(self) -> Iterator[bool]:
        """Whether it is ours to fold, for as long as the block lasts; once the thread has its turn it keeps it."""
        kept = self._turn.ours
        ours = self._turn.take()
        try:
            yield ours
        finally:
            if ours and not kept:
                self._turn.give_up()

    def _present(self) -> Generation:
        """The generation to fold into: a newer one where somebody (perhaps another process) has built it."""
        old, present = self._generation, self._place.present()
        if old is None or old.number != present:
            self._generation = self._open(present)
            if old is not None:
                old.close()
        assert self._generation is not None
        return self._generation

    def _open(self, present: int) -> Generation:
        try:
            found = Generation(self._ledger, self._place, present or 1, self._projections)
        except Damaged as error:
            # Nothing in it is lost: it is folded from the log again.
            log.warning("views cannot be read and are rebuilt", error=str(error))
            found = Generation(self._ledger, self._place, present + 1, self._projections)
        if found.number != present:
            self._place.switch(found.number)
        return found

    def step(self) -> int:
        """Take in one page, in the caller's thread; how many events it was.

        Where another process folds, only look how far it is: how many positions it has moved, which may be none although the log is
        ahead.

        Raises:
            sqlite3.Error, StoreUnavailable: as `Generation.advance`.
        """
        return self._step()[1]

    def _step(self) -> tuple[bool, int]:
        """Whether it was ours to fold, and `step`."""
        with self._writing, self._our_turn() as ours:
            if not ours:
                before = self._position
                self._announce(self._seen())
                return False, max(0, self._position - before)
            generation = self._present()
            before_it = generation.positions
            try:
                taken = generation.advance(most=self._page)
                moved = (name for name, position in generation.positions.items() if position != before_it.get(name))
                self.folded.update(dict.fromkeys(moved, taken))
            finally:
                self._announce(generation.position)
            self._stopped = tuple(generation.stopped.values())
            for letter in generation.letters.news:
                log.error("an event is parked: see tocsin deadletters list", **letter)
            generation.letters.news.clear()
            return True, taken

    def _seen(self) -> int:
        """How far the views are that another process folds.

        Raises:
            StoreUnavailable: it has not built them yet, or is of another version.
        """
        with self.views.reader() as reader:
            found = dict(reader.rows("SELECT name, version FROM tracking"))
            wanted = {projection.name: projection.version for projection in self._projections}
            for name in sorted(found.keys() | wanted.keys()):
                if found.get(name) != wanted.get(name):
                    raise StoreUnavailable(
                        f"{self._turn.holder()} keeps these views and is of another version of Tocsin (its {name} is "
                        f"{found.get(name, 'missing')}, here it is {wanted.get(name, 'missing')}); stop it, or start it anew"
                    )
            self._stopped = tuple(why for (why,) in reader.rows("SELECT stopped FROM tracking WHERE stopped IS NOT NULL ORDER BY name"))
            return reader.position

    def catch_up(self) -> int:
        """Take in everything that the log holds, in the caller's thread; the position reached.

        Where another process folds, wait until it has taken in what the log holds now.

        Raises:
            StoreUnavailable: it does not get on. And as `step`.
        """
        goal, since = self._ledger.store.head().position, time.monotonic()
        while True:
            ours, taken = self._step()
            if not taken if ours else self._position >= goal:
                return self.position
            if taken:
                since = time.monotonic()
            elif time.monotonic() - since > self._still:
                raise StoreUnavailable(self._stuck())
            if not ours:
                self._stop.wait(FOLLOW_SECONDS)

    def _stuck(self) -> str:
        return f"{self._turn.holder()} keeps the views of this node and has not moved for {self._still:g} seconds"

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
                with self._writing:
                    self._turn.take()  # for as long as this process lives, if nobody else has it
                ours, taken = self._step()
                self._failed(self._trouble(ours=ours, taken=taken))
            except (sqlite3.OperationalError, StoreUnavailable) as error:
                self._failed(str(error))
                ours, taken = True, 0
            except Exception as error:  # whatever it is, it must be seen and not end in a silent thread
                self._failed(f"{type(error).__name__}: {error}")
                self._die()
                return
            if not ours and (self._awaited or self._behind):
                self._stop.wait(FOLLOW_SECONDS)
            elif taken == 0 or not ours:
                self._wake.wait(POLL_SECONDS)
            elif taken < self._page:
                self._hurry.wait(REST_SECONDS)
                self._hurry.clear()

    @property
    def _awaited(self) -> bool:
        return bool(self._waiting or self._blocked)

    @property
    def _behind(self) -> bool:
        """Whether the log is ahead, as far as this process knows: asked once a second."""
        asked, head = self._head
        if time.monotonic() - asked >= POLL_SECONDS:
            self._head = time.monotonic(), self._ledger.store.head().position
            head = self._head[1]
        return max(head, self._ledger.last_position) > self._position

    def _trouble(self, *, ours: bool, taken: int) -> str | None:
        if ours or taken or not self._behind:
            self._moved_at = time.monotonic()
        elif time.monotonic() - self._moved_at >= self._still:
            return self._stuck()
        return "; ".join(self._stopped) or None

    def _failed(self, why: str | None) -> None:
        if why is not None and why != self.failure:
            log.error("projections stopped", error=why, position=self._position)
        self.failure = why

    def _die(self) -> None:
        self._dead = True
        with self._changed:
            self._changed.notify_all()
            waiting, self._waiting = self._waiting, []
        for _, loop, future in waiting:
            _settle(loop, future, False)
        with self._writing:
            self._turn.give_up()

    def close(self) -> None:
        """Stop the thread and close the files."""
        self._stop.set()
        self._hurry.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._die()
        with self._writing:
            if self._generation is not None:
                self._generation.close()
                self._generation = None
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

    @property
    def folds(self) -> bool:
        """Whether this process keeps the views of its node; else it follows the one that does."""
        return self._turn.ours

    @property
    def parked(self) -> int:
        """How many events are parked because a view cannot take them."""
        with self.views.reader() as reader:
            return sum(dead_letters.parked(reader).values())

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
        if self._position >= position:
            return True
        with self._changed:
            self._blocked += 1
            self._hasten()
            try:
                self._changed.wait_for(lambda: self._position >= position or self._dead, timeout)
            finally:
                self._blocked -= 1
            return self._position >= position

    def _hasten(self) -> None:
        """Somebody waits."""
        self._hurry.set()
        self._wake.set()

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
        self._hasten()
        try:
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return False
        finally:
            with self._changed:
                self._waiting = [waiting for waiting in self._waiting if waiting[2] is not future]

    # -- anew ------------------------------------------------------------------------------------------------------

    def rebuild(self, *names: str, progress: Progress = nothing_to_tell) -> int:
        """Build the views (or some of them) anew beside the present ones, then switch. Returns the position reached.

        In the caller's thread; readers and the live thread go on meanwhile, in every process of the node.

        Raises:
            NotFound: no projection of that name.
            Conflict: a rebuild or verification is running already.
            RebuildFailed: a view that goes on now would be stopped; the present views stay.
        """
        with build_beside(self._ledger, self._place, self._projections, names=names) as beside:
            while beside.position < (head := self._ledger.store.head().position):
                if not beside.advance(most=self._page):
                    break
                progress(beside.position, head)
            with self.views.reader() as live:
                stopped = {name for (name,) in live.rows("SELECT name FROM tracking WHERE stopped IS NOT NULL")}
            for name, why in beside.stopped.items():
                if name not in stopped:
                    raise RebuildFailed(f"the present views stay: built anew, {why}")
            with self._writing:
                while beside.advance(most=self._page):
                    pass
                self._place.switch(beside.number)
                with self._our_turn() as ours:
                    self._announce(self._present().position if ours else self._seen())
                if self.failure and self._dead:
                    log.info("views rebuilt; restart to follow the log again")
            progress(beside.position, beside.position)
        return self.position

    def verify(self, progress: Progress = nothing_to_tell) -> Difference | None:
        """Build the views anew beside the present ones and compare row by row: the first difference, or None.

        Raises:
            Conflict: a rebuild or verification is running already, or a view is still catching up with the others.
        """
        with build_beside(self._ledger, self._place, self._projections, names=()) as beside:
            while beside.position < (goal := self._position):
                if not beside.advance(upto=goal, most=self._page):
                    break
                progress(beside.position, goal)
            with self.views.reader() as live:
                if live.row("SELECT min(position) < max(position) FROM tracking WHERE stopped IS NULL") == (1,):
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
