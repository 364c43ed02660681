"""Hears of other processes' commits: each one says its position on a channel (`PostgresStore.commit`).

Being told is a convenience. Whoever acts on it looks once a second besides, so a word that was lost, or a session that was killed,
delays and stops nothing. Where a pooler in transaction mode stands between, nobody is told and the looking is all there is.
"""

import threading
from collections.abc import Callable
from typing import Final

import psycopg
import structlog

from engine.postgres import Connection, options, said

CHANNEL: Final = "tocsin_appended"
# How long a stop may have to wait for it.
ROUND_SECONDS: Final = 0.5
PAUSE_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class Listener:
    """One thread with a session of its own."""

    def __init__(self, address: str, told: Callable[[int], None]) -> None:
        """
        Args:
            told: the position of a commit, this process's own included; on the listener's thread, and must not block.
        """
        self._address, self._told = address, told
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        lost = False
        while not self._stop.is_set():
            try:
                with Connection.connect(self._address, **options(name="tocsin listener", pooled=False)) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    if lost:
                        log.info("hears of others' commits again")
                        lost = False
                    while not self._stop.is_set():
                        for notice in connection.notifies(timeout=ROUND_SECONDS):
                            self._told(int(notice.payload))
            except psycopg.Error as error:
                if not lost:
                    log.warning("does not hear of others' commits; looks once a second", error=said(error))
                    lost = True
                self._stop.wait(PAUSE_SECONDS)
