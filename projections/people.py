"""The people view: who is meant by an id. Names are joined when a page is read, so an erased person disappears from all.

Logins and addresses stay in the ledger.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from engine.codec import ERASED
from engine.event import Fact
from engine.person import AccountOpened, LanguageChosen, PersonChanged, PersonRegistered, RoleChanged
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.projection import Projection, Table, batched
from projections.views import Reader

# More words than this no name has that somebody looks for.
MOST_WORDS: Final = 5

_DDL: Final = """
CREATE TABLE people (
    person   BLOB PRIMARY KEY,
    name     TEXT NOT NULL,
    team     TEXT,
    role     TEXT,                  -- of the account; NULL: none
    language TEXT,                  -- that was chosen; NULL: as the browser says
    position INTEGER NOT NULL       -- of the registration
) WITHOUT ROWID;
CREATE INDEX people_by_team ON people (team) WHERE team IS NOT NULL;    -- teams and how many belong to them
CREATE INDEX people_by_name ON people (name, person);    -- the list of people, and whom to assign to
"""


class PersonRow(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is known; `role` is None for who has no account."""

    id: UUID
    name: str
    team: str | None
    role: str | None
    language: str | None = None


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    for fact in facts:
        event = fact.event
        if isinstance(event, PersonRegistered):
            connection.execute(
                "INSERT INTO people (person, name, team, role, language, position) VALUES (:person, :name, :team, NULL, NULL, :position) "
                "ON CONFLICT (person) DO UPDATE SET name = excluded.name, team = excluded.team",
                {"person": fact.stream_id.bytes, "name": event.name, "team": event.team, "position": fact.position},
            )
        elif isinstance(event, PersonChanged):
            connection.execute(
                "UPDATE people SET name = :name, team = :team WHERE person = :person",
                {"person": fact.stream_id.bytes, "name": event.name, "team": event.team},
            )
        elif isinstance(event, AccountOpened | RoleChanged):
            connection.execute(
                "UPDATE people SET role = :role WHERE person = :person",
                {"role": event.role.value, "person": fact.stream_id.bytes},
            )
        elif isinstance(event, LanguageChosen):
            connection.execute(
                "UPDATE people SET language = :language WHERE person = :person",
                {"language": event.language, "person": fact.stream_id.bytes},
            )


PROJECTION: Final = Projection(
    name="people",
    version=3,
    tables=(Table("people", "person"),),
    ddl=_DDL,
    events=frozenset({PersonRegistered, PersonChanged, AccountOpened, RoleChanged, LanguageChosen}),
    apply=_apply,
)


def names(reader: Reader, ids: Iterable[UUID | None]) -> dict[UUID, str]:
    """The names of those who are known among `ids`."""
    wanted = {person.bytes for person in ids if person is not None}
    found: dict[UUID, str] = {}
    for batch in batched(sorted(wanted)):
        marks = ", ".join("?" * len(batch))
        for person, name in reader.rows(f"SELECT person, name FROM people WHERE person IN ({marks})", batch):
            found[UUID(bytes=person)] = name
    return found


def known(reader: Reader, ids: Iterable[UUID]) -> dict[UUID, PersonRow]:
    """Those who are known among `ids`."""
    found: dict[UUID, PersonRow] = {}
    for batch in batched(sorted({person.bytes for person in ids})):
        marks = ", ".join("?" * len(batch))
        for row in reader.rows(f"SELECT person, name, team, role, language FROM people WHERE person IN ({marks})", batch):
            found[UUID(bytes=row[0])] = _row(row)
    return found


def person(reader: Reader, person_id: UUID) -> PersonRow | None:
    row = reader.row("SELECT person, name, team, role, language FROM people WHERE person = :person", {"person": person_id.bytes})
    return None if row is None else _row(row)


def people(
    reader: Reader, *, team: str | None = None, role: str | None = None, cursor: str | None = None, limit: int = 50
) -> Page[PersonRow]:
    """People by name.

    Raises:
        InvalidInput: bad cursor or limit.
    """
    limit = checked_limit(limit)
    key = from_cursor(cursor, "name", (str, bytes))
    rows = reader.rows(
        "SELECT person, name, team, role, language FROM people WHERE (name, person) > (:name, :person) "
        "AND (:team IS NULL OR team = :team) AND (:role IS NULL OR role = :role) ORDER BY name, person LIMIT :limit",
        {"name": key[0] if key else "", "person": key[1] if key else b"", "team": team, "role": role, "limit": limit + 1},
    )
    items = [_row(row) for row in rows[:limit]]
    more = to_cursor("name", [items[-1].name, items[-1].id.bytes]) if len(rows) > limit else None
    return Page(items=items, next=more, position=reader.position)


def called(reader: Reader, text: str, *, limit: int = 8) -> list[PersonRow]:
    """People with a name in which each word of `text` begins a word, by name; nobody where it has no word.

    Reads the names in order until there are enough: a name that nobody has costs one look at each (docs/performance.md).
    """
    conditions: list[str] = []
    values: dict[str, str] = {}
    for place, word in enumerate(text.replace("-", " ").split()[:MOST_WORDS]):
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        # LIKE knows small and capital letters of English only.
        spelt = {escaped} if word.isascii() else {escaped, escaped.lower(), escaped.title(), escaped.upper()}
        marks = [f"w{place}_{variant}" for variant in range(len(spelt))]
        values |= {mark: f"% {each}%" for mark, each in zip(marks, sorted(spelt), strict=True)}
        conditions.append("(" + " OR ".join(f"' ' || replace(name, '-', ' ') LIKE :{mark} ESCAPE '\\'" for mark in marks) + ")")
    if not conditions:
        return []
    rows = reader.rows(
        f"SELECT person, name, team, role, language FROM people WHERE name <> :erased AND {' AND '.join(conditions)} "
        "ORDER BY name, person LIMIT :limit",
        {**values, "erased": ERASED, "limit": limit},
    )
    return [_row(row) for row in rows]


def _row(row: tuple[bytes, str, str | None, str | None, str | None]) -> PersonRow:
    return PersonRow(id=UUID(bytes=row[0]), name=row[1], team=row[2], role=row[3], language=row[4])
