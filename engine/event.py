"""What an event is: a frozen, typed fact with a stored name, and the closed registry of all of them.

An event class states its stored name once (`TOPIC = "incident.resolved.v1"`); module paths never enter the log.
Personal data is declared on the field: `Annotated[str, Personal("requester_id")]` means that the value is stored sealed
under the key of the person whose id stands in `requester_id` (and in plain where that is None: no person, nothing personal).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Final, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from engine.clock import UNSTAMPED


@dataclass(frozen=True, slots=True)
class Personal:
    """Marks a field as personal data.

    Attributes:
        subject: the field of the same event that holds the person's id.
        secret: no view shows it (`shown_fields`): an address that lets whoever knows it write, or a key.
    """

    subject: str
    secret: bool = False


HIDDEN: Final = "(secret)"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One fact, in the past tense. Its meaning never changes once released; a new shape is a new version with an upcaster."""

    TOPIC: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        topic = cls.__dict__.get("TOPIC")
        if not topic:
            raise TypeError(f"{cls.__qualname__} needs a TOPIC: its stored name and version")
        if topic in REGISTRY:
            raise TypeError(f"{topic} is stored by {REGISTRY[topic].__qualname__} already")
        REGISTRY[topic] = cls


REGISTRY: Final[dict[str, type[Event]]] = {}

# Older stored name -> function that turns its stored fields into (newer name, newer fields).
Upcaster = Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]
UPCASTERS: Final[dict[str, Upcaster]] = {}


def upcasts(old: str) -> Callable[[Upcaster], Upcaster]:
    """Register the way from an older stored version to a newer one; versions chain."""

    def register(upcaster: Upcaster) -> Upcaster:
        if old in REGISTRY or old in UPCASTERS:
            raise TypeError(f"{old} is known already")
        UPCASTERS[old] = upcaster
        return upcaster

    return register


@cache
def personal_fields(cls: type[Event]) -> dict[str, str]:
    """Field -> subject field, for the fields of `cls` that hold personal data."""
    return {name: mark.subject for name, mark in _marks(cls)}


@cache
def secret_fields(cls: type[Event]) -> frozenset[str]:
    """The fields of `cls` that no view shows."""
    return frozenset(name for name, mark in _marks(cls) if mark.secret)


def _marks(cls: type[Event]) -> Iterator[tuple[str, Personal]]:
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is Annotated:
            for mark in get_args(hint)[1:]:
                if isinstance(mark, Personal):
                    yield name, mark


def shown_fields(event: Event) -> dict[str, Any]:
    """The event's fields for whoever may read the log: builtins and instants, secrets masked."""
    fields: dict[str, Any] = msgspec.to_builtins(event, builtin_types=(datetime,))
    for name in secret_fields(type(event)):
        if fields.get(name):
            fields[name] = HIDDEN
    return fields


class Fact(msgspec.Struct, kw_only=True, gc=False):
    """An event with its envelope: where it stands, who did it, and what led to it.

    Attributes:
        stream_id, version: its place in its stream (versions count from 1); also its identity.
        actor: `user:ID`, `portal` (a visitor who is not signed in), `source:NAME`, `token:ID`, `timer` or `tocsin` (a policy).
        correlation_id: the same for everything that one delivery or command led to.
        cause: the fact that led to this one, as `STREAM:VERSION`; None for what came from outside.
        position, recorded_at: its place in the log and the ledger's time; stamped under the append lock.
    """

    stream_id: UUID
    version: int
    event: Event
    actor: str
    correlation_id: UUID
    cause: str | None = None
    position: int = 0
    recorded_at: datetime = UNSTAMPED

    @property
    def originator_id(self) -> UUID:
        """The library's name for `stream_id`."""
        return self.stream_id

    @property
    def originator_version(self) -> int:
        """The library's name for `version`."""
        return self.version

    @property
    def reference(self) -> str:
        """How another fact names this one as its cause."""
        return f"{self.stream_id}:{self.version}"

    @property
    def type(self) -> str:
        return self.event.TOPIC
