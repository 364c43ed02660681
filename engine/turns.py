"""A bounded queue in which each sender has a lane of its own, and the lanes take turns: a busy one can't starve the others."""

import threading
from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

from engine.errors import Overloaded, StoreUnavailable

T = TypeVar("T")

MOST_WAITING: Final = 8_192
MOST_OF_ONE: Final = 2_048


class Turns(Generic[T]):
    """What waits. Any number of threads put; one takes."""

    def __init__(self, most: int = MOST_WAITING, most_of_one: int = MOST_OF_ONE) -> None:
        self._most, self._most_of_one = most, most_of_one
        # In the order of their turns; only lanes in which something waits.
        self._lanes: OrderedDict[str, deque[T]] = OrderedDict()
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._waiting

    def put(self, lane: str, thing: T) -> None:
        """
        Raises:
            Overloaded: too much waits already, in all or of this one.
            StoreUnavailable: it is closed.
        """
        with self._changed:
            if self._closed:
                raise StoreUnavailable("Tocsin is shutting down")
            waiting = self._lanes.get(lane)
            if self._waiting >= self._most or (waiting is not None and len(waiting) >= self._most_of_one):
                raise Overloaded("too much is waiting to be stored")
            if waiting is None:
                self._lanes[lane] = deque((thing,))
            else:
                waiting.append(thing)
            self._waiting += 1
            self._changed.notify()

    def wait(self) -> bool:
        """Wait until something is there; False: it is closed, and nothing is left."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return self._waiting > 0

    def take(self) -> T | None:
        """The next thing, from the lane whose turn it is; None: nothing waits."""
        with self._changed:
            if not self._waiting:
                return None
            lane, waiting = self._lanes.popitem(last=False)
            thing = waiting.popleft()
            if waiting:
                self._lanes[lane] = waiting
            self._waiting -= 1
            return thing

    def close(self) -> None:
        """Take no more in; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
