"""What registering people, teams and services means, whoever asks: a command, a file (`api/organisation_file.py`), a request
(`api/organisation_routes.py`) or a form. What exists is changed; what is left out stays as it is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from api.access import Directory, mail_address
from engine.aggregate import Aggregate
from engine.person import Person
from engine.service import Service, ServiceRegistered, service_id
from engine.team import Team, TeamRegistered, team_id
from engine.ticket import plain_name
from engine.work import Work


@dataclass(frozen=True, slots=True)
class Written:
    """What came of it: `new`, `changed` or `as it is`; and the record as it is now."""

    what: str
    record: Aggregate


class Organisation:
    """Who is there and what is run, within one unit of work."""

    def __init__(self, work: Work, directory: Directory) -> None:
        self._work, self._directory = work, directory
        self._taken: dict[bytes, UUID | None] = {}

    def put_person(self, values: Mapping[str, Any], *, password: str | None = None) -> Written:
        """Members: login, name, role, email, team. Raises: InvalidInput."""
        person, what = self._directory.put_person(self._work, values, self._taken, password=password)
        return Written(what, self._work.load(Person, person))

    def put_team(self, values: Mapping[str, Any]) -> Written:
        """Members: name, level, email. Raises: InvalidInput."""
        name = (values.get("name") or "").strip()
        team = self._work.load(Team, team_id(name))
        exists, before = team.exists, team.known or TeamRegistered(name=name)
        level, email = values.get("level"), mail_address(values.get("email", before.email))
        fact = team.register(name=name, level=before.level if level is None else level, email=email)
        return Written(_what(fact, exists), team)

    def put_service(self, values: Mapping[str, Any]) -> Written:
        """Members: name, owner_team, tier, depends_on, description. Raises: InvalidInput."""
        name = (values.get("name") or "").strip()
        service = self._work.load(Service, service_id(name))
        exists, before = service.exists, service.known or ServiceRegistered(name=name)
        tier, owner = values.get("tier"), (values.get("owner_team", before.owner_team) or "").strip()
        fact = service.register(
            name=name, tier=before.tier if tier is None else tier,
            owner_team=plain_name("owner_team", owner, "the name of a team") if owner else None,
            depends_on=values.get("depends_on", before.depends_on), description=values.get("description", before.description),
        )
        return Written(_what(fact, exists), service)

    def unknown_in(self, kind: str, values: Mapping[str, Any]) -> Iterator[str]:
        """What the members name and nobody has registered: taken as it is, and worth a look."""
        team = (values.get("team" if kind == "user" else "owner_team") or "").strip() if kind != "team" else ""
        if team and not self._work.load(Team, team_id(team)).exists:
            yield f"no team {team} is registered"
        for name in values.get("depends_on") or ():
            if not self._work.load(Service, service_id(name)).exists:
                yield f"no service {name} is registered"


def _what(fact: object, existed: bool) -> str:
    if fact is None:
        return "as it is"
    return "changed" if existed else "new"
