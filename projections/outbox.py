"""The outbox: which notices wait to be sent and since when, which were sent, and which are dead letters; and who can be told.

`engine/notice.py` decides that a notice is due, `api/notices/sender.py` takes from here what is to be sent.
"""

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.clock import from_micros, micros
from engine.errors import InvalidInput, Phrase
from engine.event import Fact
from engine.notice import NoticeAbandoned, NoticeFailed, NoticeRequested, NoticeRetried, NoticeSent, Purpose
from engine.recipient import RecipientAdded, RecipientChanged, RecipientRemoved, masked
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.projection import Projection, Table
from projections.views import Reader

STATUSES: Final = ("waiting", "sent", "dead")

_DDL: Final = """
CREATE TABLE outbox (
    id               BLOB    PRIMARY KEY,      -- of the notice
    requested        INTEGER NOT NULL,         -- position
    ticket           BLOB    NOT NULL,
    recipient        TEXT    NOT NULL,
    purpose          TEXT    NOT NULL,
    rule             TEXT    NOT NULL,
    rulebook_version INTEGER NOT NULL,
    step             INTEGER NOT NULL,
    status           TEXT    NOT NULL CHECK (status IN ('waiting', 'sent', 'dead')),
    attempts         INTEGER NOT NULL,         -- of the present round; an administrator may begin another
    requested_at     INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,         -- of the next attempt, while it waits
    settled_at       INTEGER,                  -- when it was sent or given up
    said             TEXT    NOT NULL          -- what the receiver answered, or what stood in the way
) WITHOUT ROWID;
CREATE INDEX outbox_by_request ON outbox (requested);                                       -- the list
CREATE INDEX outbox_by_status ON outbox (status, requested);                                -- the list of one status, and counts
CREATE INDEX outbox_due ON outbox (recipient, due_at) WHERE status = 'waiting';             -- what a recipient is sent next
CREATE INDEX outbox_order ON outbox (ticket, recipient, requested) WHERE status = 'waiting'; -- one after the other
CREATE TABLE recipients (
    name     TEXT    PRIMARY KEY,
    channel  TEXT    NOT NULL,
    shape    TEXT    NOT NULL,
    place    TEXT    NOT NULL,                 -- where it leads, masked
    language TEXT    NOT NULL,
    active   INTEGER NOT NULL,
    added    INTEGER NOT NULL                  -- position
) WITHOUT ROWID;
"""
_COLUMNS: Final = (
    "o.id, o.requested, o.ticket, t.number, o.recipient, o.purpose, o.rule, o.rulebook_version, o.step, o.status, o.attempts, "
    "o.requested_at, o.due_at, o.settled_at, o.said"
)


class NoticeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One notice.

    Attributes:
        number: of its ticket.
        due_at: of the next attempt; None where there is none.
        settled_at: when it was sent or given up.
        said: what the receiver answered last, or what stood in the way.
    """

    id: UUID
    number: str
    recipient: str
    purpose: str
    rule: str
    rulebook_version: int
    step: int
    status: str
    attempts: int
    requested_at: datetime
    due_at: datetime | None
    settled_at: datetime | None
    said: str
    position: int
    ticket_id: UUID


class RecipientRow(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who can be told; `place` is the address with what must stay secret left out."""

    name: str
    channel: str
    shape: str
    place: str
    language: str


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that may be sent now."""

    id: UUID
    ticket: UUID
    recipient: str
    purpose: Purpose
    rule: str
    rulebook_version: int


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    for fact in facts:
        event, at = fact.event, micros(fact.recorded_at)
        match event:
            case NoticeRequested():
                connection.execute(
                    "INSERT INTO outbox (id, requested, ticket, recipient, purpose, rule, rulebook_version, step, status, attempts, "
                    "requested_at, due_at, settled_at, said) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting', 0, ?, ?, NULL, '')",
                    (
                        event.notice.bytes, fact.position, event.ticket.bytes, event.recipient, event.purpose.value, event.rule,
                        event.rulebook_version, event.step, at, at,
                    ),
                )
            case NoticeSent():
                _settle(connection, event.notice, "sent", event.attempt, at, event.answer)
            case NoticeAbandoned():
                _settle(connection, event.notice, "dead", event.attempt, at, event.reason)
            case NoticeFailed():
                connection.execute(
                    "UPDATE outbox SET attempts = ?, due_at = ?, said = ? WHERE id = ?",
                    (event.attempt, micros(event.retry_at), event.reason, event.notice.bytes),
                )
            case NoticeRetried():
                connection.execute(
                    "UPDATE outbox SET status = 'waiting', attempts = 0, due_at = ?, settled_at = NULL WHERE id = ?",
                    (at, event.notice.bytes),
                )
            case RecipientAdded() | RecipientChanged():
                _recipient(connection, event, fact.position)
            case RecipientRemoved():
                connection.execute("UPDATE recipients SET active = 0 WHERE name = ?", (event.name,))


def _settle(connection: sqlite3.Connection, notice: UUID, status: str, attempt: int, at: int, said: str) -> None:
    connection.execute(
        "UPDATE outbox SET status = ?, attempts = ?, settled_at = ?, said = ? WHERE id = ?", (status, attempt, at, said, notice.bytes)
    )


def _recipient(connection: sqlite3.Connection, event: RecipientAdded | RecipientChanged, position: int) -> None:
    connection.execute(
        "INSERT INTO recipients (name, channel, shape, place, language, active, added) VALUES (?, ?, ?, ?, ?, 1, ?) "
        "ON CONFLICT (name) DO UPDATE SET channel = excluded.channel, shape = excluded.shape, place = excluded.place, "
        "language = excluded.language, active = 1",
        (event.name, event.channel.value, event.shape.value, masked(event.target), event.language, position),
    )


PROJECTION: Final = Projection(
    name="outbox",
    version=1,
    tables=(Table("outbox", "id"), Table("recipients", "name")),
    ddl=_DDL,
    events=frozenset({
        NoticeRequested, NoticeSent, NoticeFailed, NoticeAbandoned, NoticeRetried, RecipientAdded, RecipientChanged, RecipientRemoved,
    }),
    apply=_apply,
)


# -- for the sender ----------------------------------------------------------------------------------------------------


def due(reader: Reader, now: datetime, each: int, *, without: Collection[UUID] = ()) -> list[Due]:
    """What may be sent now, at most `each` a recipient: so nobody's long queue is in front of somebody else's.

    Of one ticket a recipient is sent one notice after the other: an end never comes before its beginning.

    Args:
        without: notices that are being sent, or were since.
    """
    found: list[Due] = []
    for (name,) in reader.rows("SELECT name FROM recipients"):
        rows = reader.rows(
            "SELECT id, ticket, recipient, purpose, rule, rulebook_version FROM outbox AS o "
            "WHERE status = 'waiting' AND recipient = :name AND due_at <= :now AND NOT EXISTS ("
            "SELECT 1 FROM outbox AS earlier WHERE earlier.status = 'waiting' AND earlier.ticket = o.ticket "
            "AND earlier.recipient = o.recipient AND earlier.requested < o.requested) ORDER BY due_at, requested LIMIT :most",
            {"name": name, "now": micros(now), "most": each + len(without)},
        )
        fresh = [row for row in rows if UUID(bytes=row[0]) not in without]
        found += [
            Due(id=UUID(bytes=row[0]), ticket=UUID(bytes=row[1]), recipient=row[2], purpose=Purpose(row[3]), rule=row[4], rulebook_version=row[5])
            for row in fresh[:each]
        ]
    return found


def waiting_since(reader: Reader) -> datetime | None:
    """When the oldest notice that waits was asked for; None: none waits."""
    rows = reader.rows("SELECT requested_at FROM outbox WHERE status = 'waiting' ORDER BY requested LIMIT 1")
    return from_micros(rows[0][0]) if rows else None


def counts(reader: Reader) -> dict[str, int]:
    """How many wait, and how many are dead letters."""
    return {
        status: reader.rows("SELECT count(*) FROM outbox WHERE status = ?", (status,))[0][0] for status in ("waiting", "dead")
    }


# -- for pages and the interface ---------------------------------------------------------------------------------------


def notices(
    reader: Reader, *, status: str | None = None, recipient: str | None = None, cursor: str | None = None, limit: int = 50
) -> Page[NoticeRow]:
    """Notices, the latest first.

    Raises:
        InvalidInput: unknown status, bad cursor or limit.
    """
    limit = checked_limit(limit)
    if status is not None and status not in STATUSES:
        raise InvalidInput("status", Phrase("one of %s", ', '.join(STATUSES)))
    key = from_cursor(cursor, "newest", (int,))
    where = (" AND o.status = :status" if status else "") + (" AND o.recipient = :recipient" if recipient else "")
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM outbox AS o LEFT JOIN tickets AS t ON t.id = o.ticket "
        f"WHERE o.requested < :before{where} ORDER BY o.requested DESC LIMIT :count",
        {"before": key[0] if key else 2**63 - 1, "status": status, "recipient": recipient, "count": limit + 1},
    )
    more = to_cursor("newest", [rows[limit - 1][1]]) if len(rows) > limit else None
    return Page(items=[_row(row) for row in rows[:limit]], next=more, position=reader.position)


def notice(reader: Reader, notice_id: UUID) -> NoticeRow | None:
    row = reader.row(
        f"SELECT {_COLUMNS} FROM outbox AS o LEFT JOIN tickets AS t ON t.id = o.ticket WHERE o.id = :id", {"id": notice_id.bytes}
    )
    return None if row is None else _row(row)


def recipients(reader: Reader) -> list[RecipientRow]:
    """Those who can be told, by name: an organisation has dozens."""
    rows = reader.rows("SELECT name, channel, shape, place, language FROM recipients WHERE active ORDER BY name")
    return [RecipientRow(name=row[0], channel=row[1], shape=row[2], place=row[3], language=row[4]) for row in rows]


def _row(row: tuple[Any, ...]) -> NoticeRow:
    status = row[9]
    return NoticeRow(
        id=UUID(bytes=row[0]), position=row[1], ticket_id=UUID(bytes=row[2]), number=row[3] or "", recipient=row[4], purpose=row[5],
        rule=row[6], rulebook_version=row[7], step=row[8], status=status, attempts=row[10], requested_at=from_micros(row[11]),
        due_at=from_micros(row[12]) if status == "waiting" else None, settled_at=None if row[13] is None else from_micros(row[13]),
        said=row[14],
    )
