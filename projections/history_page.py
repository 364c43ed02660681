"""Questions about the past of one ticket or alert: its events in log order, each as a sentence and as data."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.clock import micros, rfc3339
from engine.errors import InvalidInput
from engine.event import Fact, shown_fields
from engine.incident import IncidentResolved
from engine.ticket import TicketCommented, TicketCommentImported, TicketFileAttached, TicketReopened
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.people import names
from projections.views import Reader
from projections.words import KEY, Names, Telling, Translate, as_is, sentence

# What a source or a person claims about the time, by field; an event without any of them happened when it was recorded.
_CLAIMS: Final = (
    "opened_at", "resolved_at", "fulfilled_at", "recovered_at", "ended_at", "started_at", "received_at", "occurred_at",
    "lease_until", "at", "said_at",
)
_ACTORS: Final = {"user": "person", "portal": "visitor", "source": "source", "token": "token", "timer": "timer", "tocsin": "policy"}
_PERSONAL: Final = ("by", "author", "assignee", "requester", "subject")


class AttachedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file beside the conversation; `length` in bytes."""

    id: UUID
    name: str
    media_type: str
    length: int


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a history.

    Attributes:
        actor: a name to show; `actor_kind` is person, visitor (of the portal, not signed in), source, token, timer or policy.
        data: the event's fields, instants as RFC 3339.
        cause: the event that led to it, as `STREAM:VERSION`; None: came from outside.
        stream, version: which event this is; another one names it as its cause.
        key: the state of affairs is another one afterwards.
        automatic: no person did it.
        visibility: of a comment or a file: public (the requester reads it too) or internal.
        text: of a comment.
        author: who said an imported comment (the actor is who imported it); None: that is not known.
        file: that was attached.
    """

    position: int
    recorded_at: datetime
    occurred_at: datetime
    type: str
    actor: str
    actor_kind: str
    actor_id: str | None
    summary: str
    data: dict[str, Any]
    cause: str | None
    stream: UUID
    version: int
    key: bool
    automatic: bool
    visibility: str | None = None
    text: str | None = None
    author: str | None = None
    file: AttachedFile | None = None


def history(
    reader: Reader,
    number: str,
    *,
    as_of: int | None = None,
    basis: str = "recorded",
    cursor: str | None = None,
    limit: int = 100,
    translate: Translate = as_is,
) -> Page[HistoryItem] | None:
    """What is known of a ticket or an alert, oldest first; None where there was none of that number.

    Args:
        basis: `recorded` is the order of the log, `occurred` that of what was claimed to have happened.

    Raises:
        InvalidInput: bad basis, cursor or limit.
    """
    limit = checked_limit(limit)
    if basis not in ("recorded", "occurred"):
        raise InvalidInput("basis", "recorded or occurred")
    at = reader.at(as_of)
    subject = _subject(reader, number, at)
    if subject is None:
        return None
    if basis == "recorded":
        key = from_cursor(cursor, basis, (int,))
        facts = _facts(reader, subject, key[0] if key else 0, at, limit + 1)
        more = to_cursor(basis, [facts[limit - 1].position]) if len(facts) > limit else None
    else:
        key = from_cursor(cursor, basis, (int, int))
        # There is no index on what was claimed: one ticket's events are few.
        ordered = sorted(_facts(reader, subject, 0, at, -1), key=_claimed)
        facts = [fact for fact in ordered if key is None or _claimed(fact) > key]
        more = to_cursor(basis, _claimed(facts[limit - 1])) if len(facts) > limit else None
    return Page(items=_items(reader, facts[:limit], subject, translate), next=more, position=at)


def _claimed(fact: Fact) -> tuple[int, int]:
    return micros(occurred_at(fact)), fact.position


def items(reader: Reader, facts: list[Fact], translate: Translate = as_is) -> list[HistoryItem]:
    """Any facts of the log, told as their own streams' (for the page of the log, and for *why*)."""
    return [item for fact in facts for item in _items(reader, [fact], fact.stream_id, translate)]


def occurred_at(fact: Fact) -> datetime:
    """When it is claimed to have happened; when it was recorded where nothing is claimed."""
    for field in _CLAIMS:
        claimed = getattr(fact.event, field, None)
        if isinstance(claimed, datetime):
            return claimed
    return fact.recorded_at


def _subject(reader: Reader, number: str, at: int) -> UUID | None:
    found = reader.row(
        "SELECT id FROM tickets WHERE number = :number AND ticket <= :at "
        "UNION ALL SELECT id FROM alerts WHERE number = :number AND listed <= :at",
        {"number": number, "at": at},
    )
    return None if found is None else UUID(bytes=found[0])


def _facts(reader: Reader, subject: UUID, after: int, at: int, count: int) -> list[Fact]:
    rows = reader.rows(
        "SELECT position FROM history WHERE subject = :subject AND position > :after AND position <= :at "
        "ORDER BY position LIMIT :count",
        {"subject": subject.bytes, "after": after, "at": at, "count": count},
    )
    stored = (reader.ledger.store.at(position) for (position,) in rows)
    return [reader.ledger.fact(row) for row in stored if row is not None]


def _items(reader: Reader, facts: list[Fact], subject: UUID, translate: Translate) -> list[HistoryItem]:
    people = names(reader, {person for fact in facts for person in _people(fact)})
    known = Names(
        person=lambda person: people.get(person) or translate("somebody"),
        ticket=_numbers(reader, "tickets", translate("a ticket")),
        alert=_numbers(reader, "alerts", translate("an alert")),
    )
    telling = Telling(translate, known, subject)
    return [_item(fact, telling) for fact in facts]


def _item(fact: Fact, telling: Telling) -> HistoryItem:
    event = fact.event
    kind, actor_id, actor = _actor(fact, telling)
    comment = event if isinstance(event, TicketCommented | TicketCommentImported) else None
    attached = event if isinstance(event, TicketFileAttached) else None
    read_by = comment or attached
    by_rule = isinstance(event, IncidentResolved | TicketReopened) and event.automatic
    return HistoryItem(
        position=fact.position, recorded_at=fact.recorded_at, occurred_at=occurred_at(fact), type=fact.type, actor=actor,
        actor_kind=kind, actor_id=actor_id, summary=sentence(fact, telling), data=data_of(fact), cause=fact.cause,
        stream=fact.stream_id, version=fact.version, key=type(event) in KEY, automatic=by_rule or kind in ("source", "timer", "policy"),
        visibility=read_by.visibility.value if read_by else None, text=comment.text if comment else None,
        author=_author(event, telling) if isinstance(event, TicketCommentImported) else None,
        file=_file(attached) if attached else None,
    )


def _author(event: TicketCommentImported, telling: Telling) -> str | None:
    return telling.names.person(event.author) if event.author else event.author_name


def _file(event: TicketFileAttached) -> AttachedFile:
    return AttachedFile(id=event.file, name=event.name, media_type=event.media_type, length=event.length)


def data_of(fact: Fact) -> dict[str, Any]:
    """The event's fields as JSON has them; instants with microseconds and Z, secrets masked."""
    return {name: _plain(value) for name, value in shown_fields(fact.event).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _actor(fact: Fact, telling: Telling) -> tuple[str, str | None, str]:
    """(kind, id, name)."""
    prefix, _, rest = fact.actor.partition(":")
    kind = _ACTORS.get(prefix, prefix)
    person = _person_in(fact.actor)
    if person is not None:
        return kind, rest, telling.names.person(person)
    if kind in ("policy", "timer"):
        return kind, None, "Tocsin"
    if kind == "visitor":
        return kind, None, telling.translate("a visitor of the portal")
    return kind, rest or None, rest or fact.actor


def _person_in(actor: str) -> UUID | None:
    prefix, _, rest = actor.partition(":")
    try:
        return UUID(rest) if prefix == "user" else None
    except ValueError:
        return None


def _people(fact: Fact) -> list[UUID | None]:
    named = [getattr(fact.event, field, None) for field in _PERSONAL]
    return [_person_in(fact.actor), *(person for person in named if isinstance(person, UUID))]


def _numbers(reader: Reader, table: str, unknown: str) -> Callable[[UUID], str]:
    found: dict[UUID, str] = {}

    def number(stream: UUID) -> str:
        if stream not in found:
            row = reader.row(f"SELECT number FROM {table} WHERE id = :id", {"id": stream.bytes})
            found[stream] = row[0] if row and row[0] else unknown
        return found[stream]

    return number

