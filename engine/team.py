"""Teams: who works on tickets together, and at which support level. A team is named, as people name it; its name is its identity."""

from typing import ClassVar, Final
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.errors import InvalidInput
from engine.event import Event, Fact
from engine.identity import stream_id
from engine.ticket import plain_name

LEVELS: Final = (1, 2, 3)


def team_id(name: str) -> UUID:
    return stream_id("team", name)


class TeamRegistered(Event, frozen=True):
    """A team is known, or known otherwise than before.

    Attributes:
        level: the support level that it works at: 1, 2 or 3.
        email: where the team as a whole is reached.
    """

    TOPIC: ClassVar[str] = "team.registered.v1"
    name: str
    level: int = 1
    email: str | None = None


class Team(Aggregate):
    """One team."""

    KIND: ClassVar[str] = "team"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.known: TeamRegistered | None = None

    def register(self, *, name: str, level: int = 1, email: str | None = None) -> Fact | None:
        """Make it known; None where it is known like this already.

        Raises:
            InvalidInput: no name, or a level that there is not.
        """
        name = plain_name("name", name, "the team's name")
        if level not in LEVELS:
            raise InvalidInput("level", "a support level: 1, 2 or 3")
        registered = TeamRegistered(name=name, level=level, email=email or None)
        return None if registered == self.known else self.record(registered)

    @applies(TeamRegistered)
    def _registered(self, event: TeamRegistered) -> None:
        self.known = event
