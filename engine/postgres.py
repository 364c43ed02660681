"""Connections to PostgreSQL whose every wait has an end.

`statement_timeout` ends what the server is still able to end. A server that hangs (its host is stopped, its disk does not answer)
says nothing at all, and TCP sees nothing wrong with that: so each wait has a deadline on this side too, after which the connection is
thrown away. What was under way then is unknown, as after any lost connection.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg_pool import ConnectionPool, PoolTimeout

from engine.errors import StoreUnavailable

T = TypeVar("T")

CONNECT_SECONDS: Final = 4
# On the server. Whoever waits for the append lock longer than this is told that the store is unavailable.
STATEMENT_SECONDS: Final = 4
# On this side; the server, while it can, speaks first.
ANSWER_SECONDS: Final = 5.0
PREPARE_AFTER: Final = 5


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up, and closes, where an answer does not come."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As psycopg's, with a deadline where the caller has none of its own.

        Raises:
            OperationalError: no answer came; the connection is closed.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, ANSWER_SECONDS)
        except errors._WaitTimeout as error:  # psycopg has no public name for it
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the database did not answer within {ANSWER_SECONDS:.0f} s") from error


def options(*, name: str, pooled: bool) -> dict[str, Any]:
    """How every connection of ours is made.

    Args:
        name: what the server's lists call it.
        pooled: a pooler in transaction mode stands between, so nothing may be kept in a session.
    """
    return {
        "autocommit": True, "connect_timeout": CONNECT_SECONDS, "application_name": name,
        "prepare_threshold": None if pooled else PREPARE_AFTER,
        # A peer that is gone without a word (its machine lost power) is noticed by a connection that only listens.
        "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    }


class Pool:
    """A bounded number of connections for questions. What cannot be answered within the deadline is refused, not waited for."""

    def __init__(self, address: str, *, name: str, pooled: bool, most: int) -> None:
        """
        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            address, connection_class=Connection, kwargs=options(name=name, pooled=pooled), min_size=1, max_size=most,
            timeout=CONNECT_SECONDS, open=False, name=name,
            # It tries at twice the interval each time: after a long absence the next try would be minutes away. Who asks begins anew.
            reconnect_timeout=CONNECT_SECONDS,
        )
        try:
            self._pool.open(wait=True, timeout=CONNECT_SECONDS)
        except (psycopg.Error, PoolTimeout) as error:
            self._pool.close()
            raise StoreUnavailable(f"the database cannot be reached: {said(error)}") from error

    def ask(self, question: Callable[[Connection], T], failure: str) -> T:
        """The answer. Asked once more where the connection turns out to be dead: nothing that is asked here does harm twice.

        Args:
            failure: the beginning of what is said where there is no answer.

        Raises:
            StoreUnavailable: no answer.
        """
        off_the_loop()
        for last in (False, True):
            connection: Connection | None = None
            try:
                with self._pool.connection() as connection:
                    return question(connection)
            except psycopg.Error as error:
                # A full disk and a pool that has none to give are errors of the same kind as a connection that is dead.
                if last or connection is None or not connection.closed or hung(error):
                    raise StoreUnavailable(f"{failure}: {said(error)}") from error
                self._pool.check()  # the server was restarted: none of the connections is of use any more
        raise AssertionError("the loop ends by itself")

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def off_the_loop() -> None:
    """Refuse to be asked on an event loop's thread: while the database hangs, nobody else there would be answered.

    Raises:
        RuntimeError: that is a fault of ours.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("the database is asked on the event loop's thread")


def hung(error: Exception) -> bool:
    """Whether the database did not answer, rather than refused."""
    return isinstance(error.__cause__, errors._WaitTimeout) or isinstance(error, (psycopg.errors.ConnectionTimeout, psycopg.errors.QueryCanceled))


def said(error: Exception) -> str:
    """The first line of what the driver says; the rest repeats the question."""
    return str(error).partition("\n")[0] or type(error).__name__
