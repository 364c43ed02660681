"""What a monitoring system's adapter is: a name, a pure parser, and the lines to paste into the sender's settings or a shell.

An adapter turns one body into observations and knows no clock, no store and no HTTP. What a statement is worth at the
moment of receipt (a lease, an end that has passed) is `Adapter.received`, applied by intake before it decides.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from engine.observation import Observation, ObservationKind, Parsed, SourceProfile

ENDS_BEFORE_START = "ends_before_start"

Parser = Callable[[bytes, str, SourceProfile], Parsed]
Snippet = Callable[[str, str], str]


def post_command(address: str, document: object, *, token: str | None = None) -> str:
    """A shell command that posts a JSON document.

    Args:
        token: goes into the `Authorization` header; None: the document carries it.
    """
    header = f"  -H {shlex.quote(f'Authorization: Bearer {token}')} \\\n" if token is not None else ""
    return (
        f"curl -sS {shlex.quote(address)} \\\n{header}  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(document))}\n"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One native format.

    Attributes:
        name: of the adapter and of its default source.
        title: its name for people.
        parse: body, content type and source to observations; raises `MalformedDelivery` and nothing else.
        snippet: full address of the endpoint and token to the exact block for the sender's settings.
        trial: the same to a command that delivers one trial alert as the sender would.
        endpoint: path of the endpoint, `{source}` standing for the source's name.
        lease_seconds: how long a firing statement holds that does not say it itself; None: the repeat interval decides.
        repeat_interval_seconds: how often the sender repeats where the source's own setting is silent; None: it does not repeat.
        lease_end_resolves: a firing whose `lease_until` has passed at receipt says that the condition has ended then.
    """

    name: str
    title: str
    parse: Parser
    snippet: Snippet
    trial: Snippet
    endpoint: str = "/hooks/{source}"
    lease_seconds: float | None = None
    repeat_interval_seconds: float | None = None
    lease_end_resolves: bool = False

    def lease_of(self, profile: SourceProfile) -> float | None:
        """Seconds that a firing statement holds which gives no `lease_until` itself; None: until it is resolved."""
        if self.lease_seconds is not None:
            return self.lease_seconds
        interval = profile.repeat_interval_seconds
        if interval is None:
            interval = self.repeat_interval_seconds
        # Twice: one lost or late repeat is noise.
        return 2 * interval if interval else None

    def repeats(self, profile: SourceProfile) -> bool:
        """Whether silence of the sender means that the condition has gone."""
        return self.lease_of(profile) is not None

    def received(self, parsed: Parsed, profile: SourceProfile, received_at: datetime) -> Parsed:
        """The same statements as of their receipt: leases filled in, and where leases end alerts, ended ones as resolves.

        Args:
            parsed: what `parse` made of the body.
            profile: the source it was parsed for.
            received_at: aware, UTC.
        """
        lease = self.lease_of(profile)
        if lease is None and not self.lease_end_resolves:
            return parsed
        until = received_at + timedelta(seconds=lease) if lease is not None else None
        observations = tuple(
            self._as_received(observation, until, received_at) if observation.kind is ObservationKind.TRIGGER else observation
            for observation in parsed.observations
        )
        return msgspec.structs.replace(parsed, observations=observations)

    def _as_received(self, observation: Observation, until: datetime | None, received_at: datetime) -> Observation:
        end = observation.lease_until
        if end is None:
            return observation if until is None else msgspec.structs.replace(observation, lease_until=until)
        if end > received_at or not self.lease_end_resolves:
            return observation
        ended_at, flags = clamped_end(end, observation.episode_start)
        return msgspec.structs.replace(
            observation, kind=ObservationKind.RESOLVE, lease_until=None, ended_at=ended_at, flags=observation.flags + flags
        )


def clamped_end(ended_at: datetime | None, started_at: datetime | None) -> tuple[datetime | None, tuple[str, ...]]:
    """The end of an episode, never before its start; the flag tells where the sender's clock said otherwise."""
    if ended_at is not None and started_at is not None and ended_at < started_at:
        return started_at, (ENDS_BEFORE_START,)
    return ended_at, ()
