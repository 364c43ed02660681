"""The sender: takes from the outbox what is due and sends it, from the server's process, beside everything else.

At least once: what was sent and not yet recorded when the process was killed is sent again, under the same id. Each recipient has
a few places of its own, so a slow one holds up nobody else.
"""

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from typing import Final
from uuid import UUID

import structlog

from api.measures import NOTICES
from api.notices import mail, webhook
from api.notices.mail import MailServer
from api.notices.message import Message, message_of
from api.notices.outcome import MOST_ATTEMPTS, Outcome, pause
from api.outward import Guard
from api.settings import Settings
from engine.clock import Clock
from engine.errors import TocsinError
from engine.ledger import Ledger
from engine.notice import OPENINGS, Notices, notices_id
from engine.recipient import Channel, Recipient, recipient_id
from engine.ticket import Ticket
from engine.work import Unit, Work
from projections.outbox import Due, due
from projections.runner import Runner

# At a time: for one recipient, and in all.
MOST_EACH: Final = 4
MOST_AT_ONCE: Final = 48
# Taken from the outbox ahead of their turn, of each recipient.
MOST_TAKEN: Final = 50
# Retries are due by the clock, which wakes nobody.
POLL_SECONDS: Final = 1.0
# Between two rounds, so that a storm's commits are looked at in gulps.
REST_SECONDS: Final = 0.05
# What is under way when the process stops may end.
GRACE_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Channels:
    """The ways out of one process, as its settings have them."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._server = MailServer.of(settings)
        self._guard = Guard(settings.allowed_networks, plain=settings.plain_webhooks)
        self._clock = clock

    async def send(self, recipient: Recipient, message: Message) -> Outcome:
        """Send once, whatever the way; never raises."""
        try:
            if recipient.channel is Channel.MAIL:
                return await mail.send(recipient, message, self._server)
            return await webhook.send(recipient, message, self._guard, self._clock.now())
        except Exception as error:  # a notice must not be lost to a fault of ours: it is tried again, and shows it
            log.error("a notice could not be sent", notice=str(message.id), error=type(error).__name__)  # the text may hold the address
            return Outcome(sent=False, said=f"something broke on our side ({type(error).__name__})")


class Sender:
    """Empties the outbox.

    Args:
        address: how people reach the console, for links.
        leads: whether it is this process that sends. Asked again before each notice; one that was being sent while another process took
            over may be sent twice, under the same id.
        chance: of the jitter between attempts.
    """

    def __init__(
        self, ledger: Ledger, runner: Runner, channels: Channels, *, address: str, leads: Callable[[], bool] = lambda: True,
        chance: random.Random | None = None,
    ) -> None:
        self._ledger, self._runner, self._channels = ledger, runner, channels
        self._address, self._leads = address.rstrip("/"), leads
        self._chance = chance or random.Random()  # noqa: S311  # jitter, no secret
        self._wake = asyncio.Event()
        self._places: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MOST_EACH))
        self._all = asyncio.Semaphore(MOST_AT_ONCE)
        # Taken; and done at a position that the view has not reached.
        self._taken: dict[UUID, str] = {}
        self._done: dict[UUID, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self) -> None:
        """Until it is cancelled; then what is under way may end."""
        loop = asyncio.get_running_loop()

        def woken(_: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._wake.set)

        end = self._runner.subscribe(woken)
        try:
            while True:
                self._wake.clear()
                await self._round()
                # Not `wait_for`: under Python 3.11 it can swallow the cancellation that ends this.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wake.wait()
                await asyncio.sleep(REST_SECONDS)
        finally:
            end()
            await self._stop()

    async def _stop(self) -> None:
        """What is being sent may end; what only waits for its turn is sent after the next start."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE_SECONDS)
        for task in self._tasks:
            task.cancel()

    async def _round(self) -> None:
        """Take whatever is due."""
        if not self._leads():
            return
        without = {*self._taken, *self._done}
        try:
            position, found = await asyncio.to_thread(self._due, without)
        except Exception as error:  # whatever it is, the next round may do better
            log.warning("the outbox cannot be read now", error=str(error))
            return
        self._done = {notice: done for notice, done in self._done.items() if done > position}
        taken = Counter(self._taken.values())
        for notice in found:
            if taken[notice.recipient] < MOST_TAKEN:
                taken[notice.recipient] += 1
                self._taken[notice.id] = notice.recipient
                task = asyncio.create_task(self._deliver(notice))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _due(self, without: Collection[UUID]) -> tuple[int, list[Due]]:
        with self._runner.views.reader() as reader:
            return reader.position, due(reader, self._ledger.clock.now(), MOST_TAKEN, without=without)

    async def _deliver(self, notice: Due) -> None:
        try:
            async with self._places[notice.recipient], self._all:
                if self._stopping or not self._leads():
                    return
                outcome = await self._send(notice)
                # None: the view was behind, and showed what was sent long ago as waiting.
                self._done[notice.id] = self._ledger.last_position if outcome is None else await self._note(notice, outcome)
        finally:
            del self._taken[notice.id]
            self._wake.set()

    async def _send(self, notice: Due) -> Outcome | None:
        """Make it and send it, once; None where the log says that it does not wait any more. Never raises."""
        try:
            recipient, message = await asyncio.to_thread(self._made, notice)
            if message is None:
                return None
        except Exception as error:  # it is tried again, and shows that something is wrong
            log.exception("a notice could not be made", notice=str(notice.id))
            return Outcome(sent=False, said=f"something broke on our side ({type(error).__name__})")
        if not recipient.active:
            return Outcome(sent=False, said="the recipient was removed", final=True)
        outcome = await self._channels.send(recipient, message)
        way = recipient.channel.value if recipient.channel is Channel.MAIL else recipient.shape.value
        NOTICES.labels(way, outcome.word).inc()
        return outcome

    async def _note(self, notice: Due, outcome: Outcome) -> int:
        """Record what came of it, however long that takes: sending it again instead would repeat it for as long as a disk is full."""
        while True:
            try:
                return await self._ledger.commit(Unit(lambda work: self._record(work, notice, outcome), actor="tocsin"))
            except TocsinError as error:
                log.warning("what came of a notice cannot be recorded now", notice=str(notice.id), error=str(error))
                await asyncio.sleep(POLL_SECONDS)

    def _made(self, notice: Due) -> tuple[Recipient, Message | None]:
        """The recipient and the text, as both are now; no text where the log says that it does not wait any more."""
        recipient = self._ledger.get(Recipient, recipient_id(notice.recipient))
        if notice.id not in self._ledger.get(Notices, notices_id(notice.ticket)).waiting:
            return recipient, None
        facts = self._ledger.stream(notice.ticket)
        ticket: Ticket = OPENINGS[type(facts[0].event)](notice.ticket)
        for fact in facts:
            ticket.apply(fact)
        message = message_of(
            ticket, notice=notice.id, purpose=notice.purpose, rule=notice.rule, rulebook_version=notice.rulebook_version,
            language=recipient.language, link=f"{self._address}/console/tickets/{ticket.number}", at=self._ledger.clock.now(),
        )
        return recipient, message

    def _record(self, work: Work, notice: Due, outcome: Outcome) -> int:
        notices = work.load(Notices, notices_id(notice.ticket))
        letter = notices.waiting.get(notice.id)
        if letter is None:
            return work.stamp()  # another process was faster
        with work.caused_by(notices.reference(notice.id)):
            if outcome.sent:
                notices.sent(notice.id, answer=outcome.said)
            elif outcome.final or letter.attempts + 1 >= MOST_ATTEMPTS:
                notices.abandoned(notice.id, reason=outcome.said)
            else:
                after = pause(letter.attempts + 1, outcome.wait_seconds, self._chance)
                notices.failed(notice.id, reason=outcome.said, retry_at=work.now + after)
            recipient = work.load(Recipient, recipient_id(notice.recipient))
            if outcome.gone and recipient.active:
                recipient.remove(reason="gone")
        return work.stamp()
