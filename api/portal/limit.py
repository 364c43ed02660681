"""How often the portal may be used: a bucket of tokens for each address or person, in memory, of bounded number.

A stranger's address gets few reports; people who are signed in and addresses of one's own networks get many, so that
colleagues behind one address do not suffer from somebody who floods the form. What is counted is what was taken, not what was
looked at. `api/access.py` limits sign-ins.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

MOST_BUCKETS: Final = 20_000
# Of an IPv6 address: what one subscriber has at least.
PREFIX_OF_ONE: Final = 64


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many at once, and then one more after each of these seconds."""

    burst: int
    seconds: float


STRANGERS: Final = Allowance(5, 120.0)
GENEROUS: Final = Allowance(30, 20.0)
GUESSES: Final = Allowance(10, 60.0)


class Limiter:
    """Token buckets by key. A bucket that is full again is as good as none, so the one used longest ago may be dropped."""

    def __init__(self, now: Callable[[], datetime], most: int = MOST_BUCKETS) -> None:
        self._now, self._most = now, most
        self._buckets: OrderedDict[str, tuple[float, datetime]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str, allowance: Allowance) -> float:
        """Take one; 0 where there was one, else the seconds until there is."""
        with self._lock:
            tokens, now = self._tokens(key, allowance)
            if tokens < 1:
                return (1 - tokens) * allowance.seconds
            self._keep(key, tokens - 1, now)
            return 0.0

    def wait(self, key: str, allowance: Allowance) -> float:
        """As `take`, without taking one."""
        with self._lock:
            tokens, _now = self._tokens(key, allowance)
            return max(0.0, (1 - tokens) * allowance.seconds)

    def give_back(self, key: str, allowance: Allowance) -> None:
        """What was taken for something that had been done before."""
        with self._lock:
            tokens, now = self._tokens(key, allowance)
            self._keep(key, min(allowance.burst, tokens + 1), now)

    def _tokens(self, key: str, allowance: Allowance) -> tuple[float, datetime]:
        now = self._now()
        tokens, then = self._buckets.get(key, (float(allowance.burst), now))
        # A clock that was set back gives nothing, and takes nothing away.
        gained = max(0.0, (now - then).total_seconds()) / allowance.seconds
        return min(float(allowance.burst), tokens + gained), now

    def _keep(self, key: str, tokens: float, now: datetime) -> None:
        self._buckets[key] = (tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)

    def __len__(self) -> int:
        return len(self._buckets)


class Neighbourhood:
    """Which addresses are one's own, and what an address counts as."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(text, strict=False) for text in networks]

    def key(self, address: str) -> tuple[str, Allowance]:
        """What to count for it, and how much it is allowed: IPv6 by its first 64 bits; what is no address as it stands."""
        known = _address(address)
        if known is None:
            return f"address:{address}", STRANGERS
        allowance = GENEROUS if any(known in network for network in self._networks) else STRANGERS
        if isinstance(known, IPv6Address):
            return f"address:{ip_network((known, PREFIX_OF_ONE), strict=False)}", allowance
        return f"address:{known}", allowance


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
