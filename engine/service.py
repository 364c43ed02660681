"""Services: what is monitored and supported, who owns it, how much depends on it, and what it depends on.

A service's name is its identity, spelt exactly as monitoring spells it. A name that alerts use and nobody has registered is
no error: it is listed for adoption (`projections/services.py`).
"""

from collections.abc import Sequence
from typing import ClassVar, Final
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.errors import InvalidInput
from engine.event import Event, Fact
from engine.identity import stream_id
from engine.ticket import plain_name

TIERS: Final = (1, 2, 3, 4)


def service_id(name: str) -> UUID:
    return stream_id("service", name)


class ServiceRegistered(Event, frozen=True):
    """A service is known, or known otherwise than before.

    Attributes:
        owner_team: the team that answers for it.
        tier: how much hangs on it, from 1 (everything) to 4 (little).
        depends_on: names of the services that it needs to work.
    """

    TOPIC: ClassVar[str] = "service.registered.v1"
    name: str
    owner_team: str | None = None
    tier: int = 3
    depends_on: tuple[str, ...] = ()
    description: str = ""


class Service(Aggregate):
    """One service."""

    KIND: ClassVar[str] = "service"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.known: ServiceRegistered | None = None

    def register(
        self, *, name: str, owner_team: str | None = None, tier: int = 3, depends_on: Sequence[str] = (), description: str = ""
    ) -> Fact | None:
        """Make it known; None where it is known like this already.

        Raises:
            InvalidInput: no name, a tier that there is not, or it depends on itself.
        """
        name = plain_name("name", name, "the service's name, as monitoring spells it")
        if tier not in TIERS:
            raise InvalidInput("tier", "a tier from 1 (everything hangs on it) to 4")
        needs = tuple(dict.fromkeys(plain_name("depends_on", each, "names of services") for each in depends_on if each.strip()))
        if name in needs:
            raise InvalidInput("depends_on", "other services than itself")
        registered = ServiceRegistered(
            name=name, owner_team=owner_team or None, tier=tier, depends_on=needs, description=description.strip()
        )
        return None if registered == self.known else self.record(registered)

    @applies(ServiceRegistered)
    def _registered(self, event: ServiceRegistered) -> None:
        self.known = event
