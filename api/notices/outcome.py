"""What came of one attempt, and when the next one is due."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from engine.recipient import Recipient

# 5 s, 15 s, 45 s, … at most an hour apart: twelve attempts in some seven hours.
MOST_ATTEMPTS: Final = 12
FIRST_PAUSE_SECONDS: Final = 5.0
GROWTH: Final = 3.0
LONGEST_PAUSE_SECONDS: Final = 3_600.0
JITTER: Final = 0.2
# A receiver may ask for more patience than ours, within reason.
LONGEST_ASKED_SECONDS: Final = 86_400.0
MOST_SAID: Final = 200
# A shorter piece of a path is a word.
LEAST_SECRET: Final = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt.

    Attributes:
        sent: the receiver took it.
        said: what it said, or what stood in the way; never an address or a secret.
        final: trying again is of no use.
        gone: it wants nothing more, ever (410).
        wait_seconds: what it asked for before the next attempt.
    """

    sent: bool
    said: str
    final: bool = False
    gone: bool = False
    wait_seconds: float = 0.0

    @property
    def word(self) -> str:
        """`sent`, `failed` (for now) or `refused` (for good)."""
        return "sent" if self.sent else "refused" if self.final else "failed"


def pause(attempt: int, wait_seconds: float, chance: random.Random) -> timedelta:
    """From the `attempt`-th failure (from 1) to the next attempt: growing, and never the same for all."""
    own = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * GROWTH ** (attempt - 1)) * chance.uniform(1 - JITTER, 1 + JITTER)
    return timedelta(seconds=max(own, min(wait_seconds, LONGEST_ASKED_SECONDS)))


def asked_wait(header: str | None, now: datetime) -> float:
    """Seconds that a `Retry-After` asks for, as a number or as a date; 0 where it says nothing."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        then = parsedate_to_datetime(text)
        return max(0.0, (then - now).total_seconds()) if then.tzinfo else 0.0
    except (ValueError, TypeError):
        return 0.0


def without_secrets(text: str, recipient: Recipient) -> str:
    """What a receiver said, in one line and at most 200 characters, with its own address and secret left out if it repeats them."""
    parts = urlsplit(recipient.target)
    pieces = [piece for piece in parts.path.split("/") if len(piece) >= LEAST_SECRET]
    for secret in (recipient.target, recipient.secret, parts.path.lstrip("/"), parts.query, parts.username, parts.password, *pieces):
        if secret and len(secret) > 1:
            text = text.replace(secret, "…")
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())[:MOST_SAID]
