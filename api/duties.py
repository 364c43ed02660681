"""What a store has done for it besides answering: timers fire, notices leave, events are published. Every process may offer; the one that leads does it."""

import asyncio

from api.house import House
from api.notices.sender import Channels, Sender
from api.scheduler import Scheduler
from engine.lease import Leadership
from projections.kafka_relay import Relay
from projections.runner import Runner


class Duties:
    """The duties of one process, which begin when it leads and end when it does not any more.

    Attributes:
        relay: publishes the log to Kafka; None: the settings name none.
    """

    def __init__(self, house: House, runner: Runner, address: str) -> None:
        """
        Args:
            address: how people reach the console, for links in notices.
        """
        self.leadership = Leadership(house.ledger)
        self._scheduler = Scheduler(house.ledger, house.intake, self.leadership)
        channels = Channels(house.settings, house.clock)
        self._sender = Sender(house.ledger, runner, channels, address=address, leads=lambda: self.leadership.leads)
        self.relay = _relay_of(house, self.leadership, address)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """From the event loop that shall send the notices."""
        self.leadership.start()
        self._scheduler.start()
        if self.relay is not None:
            self.relay.start()
        self._tasks = [asyncio.create_task(self._sender.run())]

    async def stop(self) -> None:
        """Finish what is under way, and let somebody else lead."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._scheduler.stop)
        if self.relay is not None:
            await asyncio.to_thread(self.relay.stop)
        await asyncio.to_thread(self.leadership.stop)


def _relay_of(house: House, leadership: Leadership, address: str) -> Relay | None:
    if house.settings.kafka is None:
        return None
    from api.kafka_out import relay_of  # the library is loaded where there is a Kafka

    return relay_of(house, leadership, address)
