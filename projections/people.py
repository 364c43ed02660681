"""The people view: who is meant by an id. Names are joined when a page is read, so an erased person disappears from all.

Logins and addresses stay in the ledger.
"""

import re
import sqlite3
import unicodedata
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

# More words than this of a name nobody looks for.
MOST_WORDS: Final = 8
_WORD: Final = re.compile(r"\w+")
_LAST: Final = "\U0010ffff"

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
-- What a name is found by: whoever forgets a person here forgets these too.
CREATE TABLE people_words (
    person BLOB NOT NULL,
    word   TEXT NOT NULL,           -- folded; also the whole name
    PRIMARY KEY (person, word)
) WITHOUT ROWID;
CREATE INDEX people_by_word ON people_words (word, person);    -- who is meant by what is typed
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
            _name(connection, fact.stream_id, event.name)
        elif isinstance(event, PersonChanged):
            connection.execute(
                "UPDATE people SET name = :name, team = :team WHERE person = :person",
                {"person": fact.stream_id.bytes, "name": event.name, "team": event.team},
            )
            _name(connection, fact.stream_id, event.name)
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


def _name(connection: sqlite3.Connection, person_id: UUID, name: str) -> None:
    connection.execute("DELETE FROM people_words WHERE person = :person", {"person": person_id.bytes})
    words = [] if name == ERASED else folded(name)
    connection.executemany(
        "INSERT INTO people_words (person, word) VALUES (:person, :word)",
        [{"person": person_id.bytes, "word": word} for word in sorted({*words, " ".join(words)} - {""})],
    )


def folded(text: str) -> list[str]:
    """The words of a name without capitals and accents, as they are compared."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return _WORD.findall(plain)[:MOST_WORDS]


PROJECTION: Final = Projection(
    name="people",
    version=4,
    tables=(Table("people", "person"), Table("people_words", "person, word")),
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
    """People with a name in which each word of `text` begins a word, accents and capitals aside; nobody where it has no word.

    First those whose name or word it is, whole or by its beginning; some of them where there are more than `limit`.
    """
    words = folded(text)
    if not words:
        return []
    found = dict.fromkeys(_beginning(reader, " ".join(words), [], limit))
    if len(words) > 1 and len(found) < limit:
        words.sort(key=len, reverse=True)  # the longest fits the fewest
        found |= dict.fromkeys(_beginning(reader, words[0], words[1:], limit))
    people_found = known(reader, found)
    return [people_found[person_id] for person_id in found if person_id in people_found][:limit]


def _beginning(reader: Reader, word: str, others: Sequence[str], limit: int) -> list[UUID]:
    """Who has a word that begins with `word`, and one for each of the others; the same person may come several times."""
    values: dict[str, object] = {"word": word, "end": word + _LAST, "limit": limit * (MOST_WORDS + 1)}
    conditions = ""
    for place, other in enumerate(others):
        conditions += (
            f" AND EXISTS (SELECT 1 FROM people_words AS o WHERE o.person = w.person AND o.word >= :o{place} AND o.word < :e{place})"
        )
        values |= {f"o{place}": other, f"e{place}": other + _LAST}
    rows = reader.rows(
        f"SELECT w.person FROM people_words AS w WHERE w.word >= :word AND w.word < :end{conditions} "
        "ORDER BY w.word, w.person LIMIT :limit",
        values,
    )
    return [UUID(bytes=row[0]) for row in rows]


def _row(row: tuple[bytes, str, str | None, str | None, str | None]) -> PersonRow:
    return PersonRow(id=UUID(bytes=row[0]), name=row[1], team=row[2], role=row[3], language=row[4])
