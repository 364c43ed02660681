"""People: requesters, agents and everybody with an account; and the credentials of people and monitors.

Names and addresses are personal data, sealed under the person's own key. Secrets never come here: the log knows that a
password was set or a token made, the hashes lie in tables of the ledger (`engine/ledger.py`).
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.event import Event, Fact, Personal


class Role(StrEnum):
    """What an account or token may do; the route table in `api/access.py` is the matrix."""

    REQUESTER = "requester"
    AGENT = "agent"
    LEAD = "lead"
    AUDITOR = "auditor"
    ADMIN = "admin"
    MONITOR = "monitor"


class PersonRegistered(Event, frozen=True):
    """Somebody is known: as a requester, or with an account."""

    TOPIC: ClassVar[str] = "person.registered.v1"
    person: UUID
    name: Annotated[str, Personal("person")]
    email: Annotated[str | None, Personal("person")] = None
    team: str | None = None


class PersonChanged(Event, frozen=True):
    """Somebody is called otherwise, reached elsewhere or in another team; all of it as it is from here on."""

    TOPIC: ClassVar[str] = "person.changed.v1"
    person: UUID
    name: Annotated[str, Personal("person")]
    email: Annotated[str | None, Personal("person")] = None
    team: str | None = None


class LanguageChosen(Event, frozen=True):
    """In which language the person reads and is written to from here on; None: as the browser says.

    Attributes:
        language: an ISO 639-1 code.
    """

    TOPIC: ClassVar[str] = "person.language_chosen.v1"
    language: str | None = None


class AccountOpened(Event, frozen=True):
    """The person may sign in."""

    TOPIC: ClassVar[str] = "account.opened.v1"
    role: Role


class RoleChanged(Event, frozen=True):
    """The account may do other things from here on."""

    TOPIC: ClassVar[str] = "account.role_changed.v1"
    role: Role


class PasswordChanged(Event, frozen=True):
    """A new password is in force (its hash lies in the ledger's credential table)."""

    TOPIC: ClassVar[str] = "account.password_changed.v1"


class SignedIn(Event, frozen=True):
    """A session began."""

    TOPIC: ClassVar[str] = "account.signed_in.v1"
    address: Annotated[str | None, Personal("person")] = None
    person: UUID | None = None


class SignedOut(Event, frozen=True):
    """A session was ended by its owner."""

    TOPIC: ClassVar[str] = "account.signed_out.v1"


class Person(Aggregate):
    """One person, with or without an account."""

    KIND: ClassVar[str] = "person"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.name = ""
        self.email: str | None = None
        self.team: str | None = None
        self.role: Role | None = None
        self.language: str | None = None

    def register(self, *, name: str, email: str | None, team: str | None = None) -> Fact:
        return self.record(PersonRegistered(person=self.id, name=name, email=email, team=team))

    def change(self, *, name: str, email: str | None, team: str | None) -> Fact | None:
        """Know them otherwise; None where they are known like this already."""
        if (name, email, team) == (self.name, self.email, self.team):
            return None
        return self.record(PersonChanged(person=self.id, name=name, email=email, team=team))

    def choose_language(self, language: str | None) -> Fact | None:
        """None where it is the chosen one already."""
        return None if language == self.language else self.record(LanguageChosen(language=language))

    @applies(PersonRegistered)
    def _registered(self, event: PersonRegistered) -> None:
        self.name, self.email, self.team = event.name, event.email, event.team

    @applies(PersonChanged)
    def _changed(self, event: PersonChanged) -> None:
        self.name, self.email, self.team = event.name, event.email, event.team

    @applies(LanguageChosen)
    def _language_chosen(self, event: LanguageChosen) -> None:
        self.language = event.language

    @applies(AccountOpened)
    def _opened(self, event: AccountOpened) -> None:
        self.role = event.role

    @applies(RoleChanged)
    def _role_changed(self, event: RoleChanged) -> None:
        self.role = event.role

    @applies(PasswordChanged)
    def _password_changed(self, _: PasswordChanged) -> None:
        """Recorded for the auditor; the hash is elsewhere."""

    @applies(SignedIn)
    def _signed_in(self, _: SignedIn) -> None:
        """Recorded for the auditor."""

    @applies(SignedOut)
    def _signed_out(self, _: SignedOut) -> None:
        """Recorded for the auditor."""


class TokenCreated(Event, frozen=True):
    """A credential for programs was made; `source` limits a monitor's token to one source."""

    TOPIC: ClassVar[str] = "token.created.v1"
    role: Role
    source: str | None = None
    name: str = ""


class TokenRevoked(Event, frozen=True):
    """The credential is void."""

    TOPIC: ClassVar[str] = "token.revoked.v1"


class Token(Aggregate):
    """One credential for programs."""

    KIND: ClassVar[str] = "token"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.role: Role | None = None
        self.source: str | None = None
        self.revoked = False

    @applies(TokenCreated)
    def _created(self, event: TokenCreated) -> None:
        self.role, self.source = event.role, event.source

    @applies(TokenRevoked)
    def _revoked(self, _: TokenRevoked) -> None:
        self.revoked = True


class AccessRefused(Event, frozen=True):
    """Somebody or something was turned away. One stream a day, so that a guesser makes no stream of their own.

    Attributes:
        reason: `bad_credentials`, `too_many_attempts`, `role` or `unknown_token`.
        principal: who it was, where that is known.
    """

    TOPIC: ClassVar[str] = "access.refused.v1"
    reason: str
    route: str
    at: datetime
    principal: str | None = None


class BodyRead(Event, frozen=True):
    """An administrator read the exact bytes of a delivery."""

    TOPIC: ClassVar[str] = "access.body_read.v1"
    delivery: UUID
    at: datetime


class AccessDay(Aggregate):
    """The refusals and the guarded reads of one day."""

    KIND: ClassVar[str] = "access"

    @applies(AccessRefused)
    def _refused(self, _: AccessRefused) -> None:
        """Recorded for the auditor."""

    @applies(BodyRead)
    def _body_read(self, _: BodyRead) -> None:
        """Recorded for the auditor."""
