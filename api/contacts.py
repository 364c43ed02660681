"""Who is meant by what somebody typed: a login, a mail address, or a name; and making a new contact known.

Logins and addresses are looked up by their digests in the ledger, names in the people view.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from api.access import Directory, mail_address
from engine.errors import InvalidInput
from engine.person import Person
from engine.store import Reader as Ledgers
from engine.ticket import plain_name
from engine.work import Work
from projections.people import PersonRow, called, person
from projections.views import Reader

MOST_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody who is known here.

    Attributes:
        login: of who has an account.
        typed: what finds this one of those that are shown beside it.
    """

    id: UUID
    name: str
    team: str | None
    login: str | None
    typed: str


class Unclear(InvalidInput):
    """Nobody, or not one alone, is meant by it.

    Attributes:
        candidates: who may be meant, by name; empty: nobody is known by it.
    """

    def __init__(self, field: str, expected: str, candidates: Sequence[Contact] = ()) -> None:
        super().__init__(field, expected)
        self.candidates = tuple(candidates)


def contacts(reader: Reader, directory: Directory, text: str, *, limit: int = MOST_SHOWN) -> list[Contact]:
    """Who may be meant by what is typed so far: whose login or address it is, then by name."""
    text = text.strip()
    exact = directory.person_of(text) if text else None
    first = person(reader, exact) if exact else None
    rows = [*([first] if first else []), *(row for row in called(reader, text, limit=limit) if row.id != exact)][:limit]
    return _told_apart(reader.ledger.store, rows)


def meant(reader: Reader, directory: Directory, field: str, text: str) -> UUID:
    """The one person that is meant.

    A login or an address is one person's. A name is somebody's where nobody else has it; a part of one, where it fits nobody else.

    Raises:
        Unclear: nobody, or more than one.
    """
    text = text.strip()
    exact = directory.person_of(text)
    found = contacts(reader, directory, text, limit=MOST_SHOWN + 1)
    if exact is not None:
        namesakes = [contact for contact in found if contact.id != exact and contact.name.casefold() == text.casefold()]
        login = reader.ledger.store.account_of(exact.bytes)
        if "@" in text or not namesakes or (login is not None and login.login == text.lower()):
            return exact
    named = [contact for contact in found if contact.name.casefold() == text.casefold()]
    for fitting in (named, found):
        if len(fitting) == 1:
            return fitting[0].id
    if found:
        raise Unclear(field, f"one person; “{text}” fits more than one", found[:MOST_SHOWN])
    raise Unclear(field, f"the login, mail address or name of somebody; nobody is known as “{text}”")


def register_contact(work: Work, directory: Directory, *, name: str, email: str) -> UUID:
    """Make somebody known who has no account.

    Raises:
        InvalidInput: `new_name` or `new_email` cannot be, or somebody else has the address.
    """
    name = plain_name("new_name", name, "the person's name")
    try:
        address = mail_address(email)
    except InvalidInput as error:
        raise InvalidInput("new_email", error.expected) from None
    handle = directory.handle(address or name)
    taken = work.store.pending_person(handle) is not None
    if taken and address:
        raise InvalidInput("new_email", "an address that nobody else has")
    record = work.fresh(Person, work.new_id())
    record.register(name=name, email=address)
    if not taken:
        work.after.append(lambda store: store.set_handle(handle, record.id.bytes))
    return record.id


def _told_apart(store: Ledgers, rows: Sequence[PersonRow]) -> list[Contact]:
    names = [row.name.casefold() for row in rows]
    found = []
    for row in rows:
        account = store.account_of(row.id.bytes) if row.role else None
        login = account.login if account else None
        alone = names.count(row.name.casefold()) == 1
        found.append(Contact(row.id, row.name, row.team, login, row.name if alone or login is None else login))
    return found
