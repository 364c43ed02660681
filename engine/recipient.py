"""Recipients: who can be told of a ticket, by mail or by webhook. Who is told of which ticket says the rulebook.

Addresses, URLs and signing secrets are sealed under the recipient's id and shown by no view: whoever holds a webhook's URL can
write where it leads. What is sent, and when, is in `engine/notice.py`.
"""

import re
from email.headerregistry import Address
from enum import StrEnum
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit
from uuid import UUID

from engine.aggregate import Aggregate, Journal, applies
from engine.errors import Conflict, InvalidInput, NotFound, Phrase
from engine.event import Event, Fact, Personal
from engine.identity import stream_id as computed_id

_NAME: Final = re.compile(r"[\w.-](?:[\w .-]{0,78}[\w.-])?")
_URL: Final = re.compile(r"[!-\[\]-~]{1,2000}")  # visible ASCII; a backslash is read differently by everybody
_ADDRESS: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[^\s@<>,;:\"()\[\]\\]{1,255}")


class Channel(StrEnum):
    """The way to a recipient."""

    MAIL = "mail"
    WEBHOOK = "webhook"


class Shape(StrEnum):
    """What a webhook is sent: `tocsin` is JSON signed as Standard Webhooks has it, the others are what those programs take."""

    TOCSIN = "tocsin"
    SLACK = "slack"
    TEAMS = "teams"
    MATTERMOST = "mattermost"
    NTFY = "ntfy"


class RecipientAdded(Event, frozen=True):
    """Somebody can be told under this name.

    Attributes:
        target: a mail address, or a webhook's URL.
        secret: what webhooks are signed with (`whsec_…`); empty: they are not.
        language: of the text.
    """

    TOPIC: ClassVar[str] = "recipient.added.v1"
    recipient: UUID
    name: str
    channel: Channel
    target: Annotated[str, Personal("recipient", secret=True)]
    secret: Annotated[str, Personal("recipient", secret=True)] = ""
    shape: Shape = Shape.TOCSIN
    language: str = "en"


class RecipientChanged(Event, frozen=True):
    """The same name leads elsewhere, or is told in another form, from here on."""

    TOPIC: ClassVar[str] = "recipient.changed.v1"
    recipient: UUID
    name: str
    channel: Channel
    target: Annotated[str, Personal("recipient", secret=True)]
    secret: Annotated[str, Personal("recipient", secret=True)] = ""
    shape: Shape = Shape.TOCSIN
    language: str = "en"


class RecipientRemoved(Event, frozen=True):
    """Nobody is told under this name any more. `reason`: `removed` by hand, or `gone`: the receiver answered 410."""

    TOPIC: ClassVar[str] = "recipient.removed.v1"
    name: str
    reason: str = "removed"


class RecipientTested(Event, frozen=True):
    """A test notice was sent, and this is what came of it."""

    TOPIC: ClassVar[str] = "recipient.tested.v1"
    name: str
    outcome: str
    answer: str = ""


def recipient_id(name: str) -> UUID:
    return computed_id("recipient", name)


class Recipient(Aggregate):
    """Who is behind one name.

    Attributes:
        active: may be told; a removed one may not, and can be added again.
    """

    KIND: ClassVar[str] = "recipient"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.active = False
        self.name = ""
        self.channel = Channel.MAIL
        self.target = ""
        self.secret = ""
        self.shape = Shape.TOCSIN
        self.language = "en"

    @property
    def place(self) -> str:
        """Where it leads, with what must stay secret left out."""
        return masked(self.target)

    def add(self, *, name: str, channel: Channel, target: str, secret: str, shape: Shape, language: str) -> Fact:
        """Make the name known.

        Raises:
            Conflict: there is one of that name.
            InvalidInput: a name, an address or a URL that cannot be.
        """
        if self.active:
            raise Conflict(Phrase("there is a recipient %s already", name))
        if not _NAME.fullmatch(name):
            raise InvalidInput("name", "1 to 80 letters, digits, blanks and . _ -, with no blank at either end")
        return self.record(
            RecipientAdded(
                recipient=self.id, name=name, channel=channel, target=checked(channel, target), secret=secret, shape=shape,
                language=language,
            )
        )

    def change(self, *, channel: Channel, target: str, secret: str, shape: Shape, language: str) -> Fact:
        """Lead the name elsewhere.

        Raises:
            NotFound: nobody of that name.
            InvalidInput: an address or a URL that cannot be.
        """
        self._known()
        return self.record(
            RecipientChanged(
                recipient=self.id, name=self.name, channel=channel, target=checked(channel, target), secret=secret, shape=shape, language=language
            )
        )

    def remove(self, *, reason: str = "removed") -> Fact:
        """Tell it nothing more.

        Raises:
            NotFound: nobody of that name.
        """
        self._known()
        return self.record(RecipientRemoved(name=self.name, reason=reason))

    def tested(self, *, outcome: str, answer: str) -> Fact:
        """Note what a test came to."""
        return self.record(RecipientTested(name=self.name, outcome=outcome, answer=answer))

    def _known(self) -> None:
        if not self.active:
            raise NotFound("recipient", self.name)

    @applies(RecipientAdded)
    def _added(self, event: RecipientAdded) -> None:
        self.active, self.name, self.channel, self.target = True, event.name, event.channel, event.target
        self.secret, self.shape, self.language = event.secret, event.shape, event.language

    @applies(RecipientChanged)
    def _changed(self, event: RecipientChanged) -> None:
        self.channel, self.target = event.channel, event.target
        self.secret, self.shape, self.language = event.secret, event.shape, event.language

    @applies(RecipientRemoved)
    def _removed(self, _: RecipientRemoved) -> None:
        self.active = False

    @applies(RecipientTested)
    def _tested(self, _: RecipientTested) -> None:
        """Recorded for whoever set it up."""


def checked(channel: Channel, target: str) -> str:
    """The address or URL without outer blanks.

    Raises:
        InvalidInput: none that can be used; whether its host may be reached is asked when something is sent.
    """
    target = target.strip()
    if channel is Channel.MAIL:
        try:
            Address(addr_spec=target)
        except (ValueError, IndexError):  # the library's parser has both
            target = ""
        if not _ADDRESS.fullmatch(target) or not target.isprintable():
            raise InvalidInput("mail", "an address such as on-call@example.org")
        return target
    expected = "an address such as https://example.org/hook"
    try:
        parts = urlsplit(target)
        _ = parts.port
    except ValueError:
        raise InvalidInput("webhook", expected) from None
    if parts.scheme not in ("https", "http") or not parts.hostname or not _URL.fullmatch(target):
        raise InvalidInput("webhook", expected)
    return target


def masked(target: str) -> str:
    """What may be shown of an address or URL: `https://hooks.example.org/…`, `o…@example.org`."""
    if "://" not in target:
        name, at, host = target.partition("@")
        return f"{name[:1]}…{at}{host}" if at else target  # a target whose key is gone reads (erased)
    parts = urlsplit(target)
    port = f":{parts.port}" if parts.port else ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}/…"
