"""Who did something, and whether the requester heard of it from a person: asked alike by the queue's clock and the measures."""

from functools import lru_cache
from typing import Final
from uuid import UUID

from engine.event import Event, Fact
from engine.incident import IncidentResolved
from engine.request import RequestDeclined, RequestFulfilled
from engine.ticket import TicketAcknowledged, TicketCommented, Visibility

_DONE: Final[frozenset[type[Event]]] = frozenset({IncidentResolved, RequestFulfilled, RequestDeclined})


def responds(event: Event, *, by_agent: bool) -> bool:
    """Whether the requester hears of it from a person.

    Args:
        by_agent: whether a person other than the requester did it.
    """
    if not by_agent:
        return False
    if isinstance(event, TicketCommented):
        return event.visibility is Visibility.PUBLIC
    return type(event) is TicketAcknowledged or type(event) in _DONE


def agent_of(fact: Fact) -> UUID | None:
    """The person who did it; None for sources, tokens and policies, unless they say in whose name."""
    person = person_of(fact.actor)
    if person is None and isinstance(fact.event, TicketAcknowledged) and not fact.actor.startswith("user:"):
        return fact.event.by
    return person


@lru_cache(maxsize=4_096)  # asked of every event, by several views
def person_of(actor: str) -> UUID | None:
    """The person among the actors of events."""
    prefix, _, rest = actor.partition(":")
    if prefix != "user":
        return None
    try:
        return UUID(rest)
    except ValueError:
        return None
