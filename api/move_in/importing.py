"""Drafts into the ledger: one unit of work a ticket, with its comments and the people that it names.

The id of a ticket's stream is computed from the tool and the old number. So a run that was killed is simply run again: what is
there is recognised and left as it is.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec

from api.move_in.planning import Draft, Who
from engine.identity import imported_id
from engine.incident import Incident, IncidentImported
from engine.ledger import Ledger
from engine.person import Person
from engine.request import RequestImported, ServiceRequest
from engine.work import Unit, Work

MOST_WAITING: Final = 1_024
ACTOR: Final = "tocsin"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row.

    Attributes:
        number: of the ticket; None: it was here already.
    """

    line: int
    old_number: str
    number: str | None


def is_here(ledger: Ledger, draft: Draft) -> bool:
    """Whether the ticket was imported before."""
    stream = imported_id(draft.event.system, draft.event.old_number)
    return bool(ledger.store.stream(stream.bytes, limit=1))


def import_all(ledger: Ledger, drafts: Iterable[Draft], handle: Callable[[str], bytes]) -> Iterator[Outcome]:
    """Put drafts into the ledger, many in a commit; each outcome is told when it is on disk, in the order of the rows.

    Args:
        handle: a login, address or name to its keyed digest.

    Raises:
        StoreUnavailable: the store cannot be written; what was told so far is there.
    """
    waiting: deque[tuple[Draft, Future[str | None]]] = deque()
    for draft in drafts:
        waiting.append((draft, ledger.submit(Unit(_decision(draft, handle), actor=ACTOR))))
        if len(waiting) >= MOST_WAITING:
            yield _outcome(*waiting.popleft())
    while waiting:
        yield _outcome(*waiting.popleft())


def _outcome(draft: Draft, future: "Future[str | None]") -> Outcome:
    return Outcome(draft.line, draft.event.old_number, future.result())


def _decision(draft: Draft, handle: Callable[[str], bytes]) -> Callable[[Work], str | None]:
    return lambda work: _import(work, draft, handle)


def _import(work: Work, draft: Draft, handle: Callable[[str], bytes]) -> str | None:
    stream = imported_id(draft.event.system, draft.event.old_number)
    if work.exists(stream):
        return None
    people = _People(work, handle)
    requester, assignee = people.person(draft.requester), people.person(draft.assignee)
    event = msgspec.structs.replace(
        draft.event, number=work.number("INC" if draft.kind == "incident" else "REQ"), requester=requester, assignee=assignee
    )
    ticket: Incident | ServiceRequest
    if isinstance(event, IncidentImported):
        ticket = Incident.imported_from(stream, work.journal, event, now=work.now)
    else:
        assert isinstance(event, RequestImported)
        ticket = ServiceRequest.imported_from(stream, work.journal, event, now=work.now)
    work.adopt(ticket)
    for comment in draft.comments:
        author, name = people.author(comment.author, requester)
        ticket.import_comment(
            text=comment.text, visibility=comment.visibility, said_at=comment.said_at, author=author, author_name=name
        )
    return event.number


class _People:
    """Finds people by what the export calls them, and registers who is new; each once within a unit."""

    def __init__(self, work: Work, handle: Callable[[str], bytes]) -> None:
        self._work, self._handle = work, handle
        self._new: dict[bytes, UUID] = {}

    def person(self, who: Who | None) -> UUID | None:
        """The person; registered where nobody is known by that handle."""
        if who is None:
            return None
        found = self._found(who)
        if found is not None:
            return found
        digest = self._handle(who.handle)
        person = self._work.fresh(Person, self._work.new_id())
        person.register(name=who.name, email=who.email if who.email and "@" in who.email else None)
        self._work.after.append(lambda store: store.set_handle(digest, person.id.bytes))
        self._new[digest] = person.id
        return person.id

    def author(self, who: Who | None, requester: UUID | None) -> tuple[UUID | None, str | None]:
        """(who said it, the name of somebody who is not known here and need not be)."""
        if who is None:
            return None, None
        found = self._found(who)
        if found is not None:
            return found, None
        # Sealed as the requester's; where there is none, it has to be somebody's who can be erased.
        return (None, who.name) if requester is not None else (self.person(who), None)

    def _found(self, who: Who) -> UUID | None:
        digest = self._handle(who.handle)
        if digest in self._new:
            return self._new[digest]
        found = self._work.store.pending_person(digest)
        return None if found is None else UUID(bytes=found)
