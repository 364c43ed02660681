"""The organisation view: services and what they depend on, teams, and names of services that were heard but nobody registered.

People are in `projections/people.py`; how many tickets are open is asked of the work queue.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from engine.alert import AlertEpisodeOpened
from engine.clock import from_micros, micros
from engine.event import Fact
from engine.incident import IncidentOpened
from engine.request import RequestSubmitted
from engine.service import ServiceRegistered
from engine.team import TeamRegistered
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.projection import Projection, Table, batched
from projections.views import Reader

# Of a service that everything needs, a page shows the first ones.
MOST_NEEDED_BY: Final = 20

_DDL: Final = """
CREATE TABLE services (
    name        TEXT    PRIMARY KEY,
    owner_team  TEXT,
    tier        INTEGER NOT NULL,
    description TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    position    INTEGER NOT NULL            -- of its last change
) WITHOUT ROWID;
CREATE TABLE service_needs (
    service TEXT    NOT NULL,
    needs   TEXT    NOT NULL,
    place   INTEGER NOT NULL,               -- in the order in which they were named
    PRIMARY KEY (service, needs)
) WITHOUT ROWID;
CREATE INDEX needed_by ON service_needs (needs, service);    -- a service says what hangs on it
CREATE TABLE teams (
    name     TEXT    PRIMARY KEY,
    level    INTEGER NOT NULL,
    email    TEXT,
    version  INTEGER NOT NULL,
    position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE service_names (
    name    TEXT    PRIMARY KEY,            -- as alerts and tickets spell it
    alerts  INTEGER NOT NULL,
    tickets INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    known   INTEGER NOT NULL                -- whether it is registered
) WITHOUT ROWID;
CREATE INDEX names_for_adoption ON service_names (last_at) WHERE known = 0;    -- the list of names to adopt
"""


class ServiceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One registered service.

    Attributes:
        tier: how much hangs on it, from 1 (everything) to 4.
        depends_on: what it needs, names of services.
        needed_by: what needs it, the first of them by name; `needed_by_total` of them.
        last_at: when an alert or a ticket last named it; None: never.
    """

    name: str
    owner_team: str | None
    tier: int
    description: str
    depends_on: list[str]
    needed_by: list[str]
    needed_by_total: int
    open_tickets: int
    alerts: int
    tickets: int
    last_at: datetime | None
    version: int


class TeamRow(msgspec.Struct, frozen=True, kw_only=True):
    """One registered team, and how many people are of it."""

    name: str
    level: int
    email: str | None
    members: int
    services: int
    version: int


class HeardName(msgspec.Struct, frozen=True, kw_only=True):
    """A service's name that alerts or tickets use and nobody has registered."""

    name: str
    alerts: int
    tickets: int
    last_at: datetime


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    heard: dict[str, list[int]] = {}
    for fact in facts:
        event = fact.event
        if isinstance(event, ServiceRegistered):
            _service(connection, event, fact)
        elif isinstance(event, TeamRegistered):
            connection.execute(
                "INSERT INTO teams (name, level, email, version, position) VALUES (:name, :level, :email, :version, :position) "
                "ON CONFLICT (name) DO UPDATE SET level = excluded.level, email = excluded.email, version = excluded.version, "
                "position = excluded.position",
                {"name": event.name, "level": event.level, "email": event.email, "version": fact.version, "position": fact.position},
            )
        elif isinstance(event, AlertEpisodeOpened | IncidentOpened | RequestSubmitted) and event.service:
            one = heard.setdefault(event.service, [0, 0, 0])
            one[0 if isinstance(event, AlertEpisodeOpened) else 1] += 1
            one[2] = micros(fact.recorded_at)
    connection.executemany(
        "INSERT INTO service_names (name, alerts, tickets, last_at, known) VALUES (:name, :alerts, :tickets, :last_at, "
        "EXISTS (SELECT 1 FROM services WHERE name = :name)) ON CONFLICT (name) DO UPDATE SET alerts = alerts + excluded.alerts, "
        "tickets = tickets + excluded.tickets, last_at = excluded.last_at",
        [{"name": name, "alerts": alerts, "tickets": tickets, "last_at": last_at} for name, (alerts, tickets, last_at) in heard.items()],
    )


def _service(connection: sqlite3.Connection, event: ServiceRegistered, fact: Fact) -> None:
    connection.execute(
        "INSERT INTO services (name, owner_team, tier, description, version, position) "
        "VALUES (:name, :owner_team, :tier, :description, :version, :position) ON CONFLICT (name) DO UPDATE SET "
        "owner_team = excluded.owner_team, tier = excluded.tier, description = excluded.description, version = excluded.version, "
        "position = excluded.position",
        {
            "name": event.name, "owner_team": event.owner_team, "tier": event.tier, "description": event.description,
            "version": fact.version, "position": fact.position,
        },
    )
    connection.execute("DELETE FROM service_needs WHERE service = :name", {"name": event.name})
    connection.executemany(
        "INSERT INTO service_needs (service, needs, place) VALUES (?, ?, ?)",
        [(event.name, needs, place) for place, needs in enumerate(event.depends_on)],
    )
    connection.execute("UPDATE service_names SET known = 1 WHERE name = :name", {"name": event.name})


PROJECTION: Final = Projection(
    name="organisation",
    version=1,
    tables=(
        Table("services", "name"), Table("service_needs", "service, needs"), Table("teams", "name"), Table("service_names", "name"),
    ),
    ddl=_DDL,
    events=frozenset({ServiceRegistered, TeamRegistered, AlertEpisodeOpened, IncidentOpened, RequestSubmitted}),
    apply=_apply,
)

# The plus keeps the name from being compared as a column of text, which the index of an expression is not.
_SELECT: Final = (
    "SELECT s.name, s.owner_team, s.tier, s.description, s.version, "
    "(SELECT count(*) FROM tickets WHERE open = 1 AND (service IS NULL) = 0 AND coalesce(service, '') = +s.name), "
    "coalesce(n.alerts, 0), coalesce(n.tickets, 0), n.last_at FROM services AS s LEFT JOIN service_names AS n ON n.name = s.name"
)


_NEEDED_BY: Final = "SELECT service FROM service_needs WHERE needs = :name ORDER BY service LIMIT :limit"


def services(reader: Reader, *, owner: str | None = None, cursor: str | None = None, limit: int = 50) -> Page[ServiceRow]:
    """Registered services, by name.

    Raises:
        InvalidInput: bad cursor or limit.
    """
    limit = checked_limit(limit)
    key = from_cursor(cursor, "service", (str,))
    rows = reader.rows(
        f"{_SELECT} WHERE s.name > :name AND (:owner IS NULL OR s.owner_team = :owner) ORDER BY s.name LIMIT :limit",
        {"name": key[0] if key else "", "owner": owner, "limit": limit + 1},
    )
    items = _rows(reader, rows[:limit])
    return Page(items=items, next=to_cursor("service", [items[-1].name]) if len(rows) > limit else None, position=reader.position)


def service(reader: Reader, name: str) -> ServiceRow | None:
    rows = _rows(reader, reader.rows(f"{_SELECT} WHERE s.name = :name", {"name": name}))
    return rows[0] if rows else None


def _rows(reader: Reader, rows: list[tuple[Any, ...]]) -> list[ServiceRow]:
    names = [row[0] for row in rows]
    needs: dict[str, list[tuple[int, str]]] = {}
    for name, needed, place in _in(reader, "SELECT service, needs, place FROM service_needs WHERE service IN ({keys})", names):
        needs.setdefault(name, []).append((place, needed))
    hangs = {
        name: [row[0] for row in reader.rows(_NEEDED_BY, {"name": name, "limit": MOST_NEEDED_BY})] for name in names
    }
    totals = dict(_in(reader, "SELECT needs, count(*) FROM service_needs WHERE needs IN ({keys}) GROUP BY needs", names))
    return [
        ServiceRow(
            name=row[0], owner_team=row[1], tier=row[2], description=row[3], version=row[4], open_tickets=row[5], alerts=row[6],
            tickets=row[7], last_at=None if row[8] is None else from_micros(row[8]),
            depends_on=[needed for _, needed in sorted(needs.get(row[0], ()))], needed_by=hangs[row[0]],
            needed_by_total=totals.get(row[0], 0),
        )
        for row in rows
    ]


def _in(reader: Reader, sql: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for batch in batched(keys):
        yield from reader.rows(sql.format(keys=", ".join("?" * len(batch))), batch)


def for_adoption(reader: Reader, *, limit: int = 500) -> list[HeardName]:
    """Names that are used and not registered, the last heard first."""
    rows = reader.rows(
        "SELECT name, alerts, tickets, last_at FROM service_names WHERE known = 0 ORDER BY last_at DESC, name LIMIT :limit",
        {"limit": checked_limit(limit)},
    )
    return [HeardName(name=row[0], alerts=row[1], tickets=row[2], last_at=from_micros(row[3])) for row in rows]


_TEAMS: Final = (
    "SELECT t.name, t.level, t.email, t.version, (SELECT count(*) FROM people WHERE team = t.name), "
    "(SELECT count(*) FROM services WHERE owner_team = t.name) FROM teams AS t"
)


def teams(reader: Reader) -> list[TeamRow]:
    """All registered teams, by level and name: an organisation has dozens, not thousands."""
    return [_team(row) for row in reader.rows(f"{_TEAMS} ORDER BY t.level, t.name")]


def team(reader: Reader, name: str) -> TeamRow | None:
    row = reader.row(f"{_TEAMS} WHERE t.name = :name", {"name": name})
    return None if row is None else _team(row)


def _team(row: tuple[Any, ...]) -> TeamRow:
    return TeamRow(name=row[0], level=row[1], email=row[2], version=row[3], members=row[4], services=row[5])


def team_names(reader: Reader) -> list[str]:
    """Names to choose from: registered teams, and those that people belong to."""
    return [row[0] for row in reader.rows("SELECT name FROM teams UNION SELECT team FROM people WHERE team IS NOT NULL ORDER BY 1")]


def service_names(reader: Reader, *, limit: int = 500) -> list[str]:
    """Names to choose from: registered services."""
    return [row[0] for row in reader.rows("SELECT name FROM services ORDER BY name LIMIT :limit", {"limit": limit})]
