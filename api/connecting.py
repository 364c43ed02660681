"""Connecting a monitor: a source, a token of its own, and the block to paste. For the terminal and the console's page alike.

What the block of each sender looks like is its adapter's business (`monitors/integrations/`); who may connect one, the caller's.
"""

import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import msgspec

from api.house import House
from engine.errors import Conflict, InvalidInput, NotFound, Phrase
from engine.identity import source_id
from engine.person import Role
from engine.source import Source, SourceAdded
from engine.work import Unit, Work
from monitors.integrations import generic, pagerduty
from monitors.integrations.registry import adapter_named


@dataclass(frozen=True, slots=True)
class Sheet:
    """What to enter at the sender.

    Attributes:
        address: where it posts.
        token: its credential, in the clear: to be shown once and kept nowhere.
        block: the exact block for its settings.
        trial: a command that delivers one trial alert in its format.
    """

    address: str
    token: str
    block: str
    trial: str


def check_source(event: SourceAdded) -> None:
    """Raises: InvalidInput, NotFound: a field that cannot be, whatever the store holds."""
    name = event.name
    if not name or len(name) > 100 or not name.isprintable() or any(character in name for character in "/?#% "):
        raise InvalidInput("name", "1 to 100 printable characters without blanks and / ? # %")
    adapter_named(event.adapter)
    try:
        ZoneInfo(event.zone)
    except (KeyError, ValueError, OSError):
        raise InvalidInput("zone", "an IANA zone such as Europe/Stockholm") from None
    if event.mapping is not None:
        if event.adapter != generic.ADAPTER.name:
            raise InvalidInput("mapping", Phrase("no mapping: only the adapter %s takes one", generic.ADAPTER.name))
        generic.read_mapping(event.mapping)


def add_source(house: House, event: SourceAdded, *, actor: str) -> None:
    """Configure a sender. `event.identity` names any source of that identity.

    Raises:
        InvalidInput: a field that cannot be; names it.
        NotFound: no such adapter.
        Conflict: the name is taken.
    """
    check_source(event)

    def decide(work: Work) -> None:
        source = work.load(Source, source_id(event.name))
        if source.exists:
            raise Conflict(Phrase("there is a source %s already", event.name))
        source.add(event if event.identity is None else _identified(work, event))

    house.ledger.run(Unit(decide, actor=actor))


def connect(house: House, source: str, base: str, *, actor: str) -> Sheet:
    """Make a token for a source.

    Args:
        base: how the sender reaches this server.

    Raises:
        NotFound: no such source.
    """
    adapter = house.intake.profile(source).adapter
    # Clients of PagerDuty's API expect a key of 32 characters.
    key = secrets.token_hex(16) if adapter_named(adapter).endpoint == pagerduty.ADAPTER.endpoint else None
    token = house.directory.create_token(role=Role.MONITOR, source=source, value=key, actor=actor)
    return sheet(adapter, source, base, token)


def sheet(adapter: str, source: str, base: str, token: str) -> Sheet:
    """What to enter at a sender that has this token (or a word in its place)."""
    chosen = adapter_named(adapter)
    address = base.rstrip("/") + chosen.endpoint.replace("{source}", quote(source, safe=""))
    return Sheet(address, token, chosen.snippet(address, token), chosen.trial(address, token))


def only_from_here(address: str) -> bool:
    """Whether an address leads to the machine itself, wherever it is asked from."""
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _identified(work: Work, event: SourceAdded) -> SourceAdded:
    """The same with the source that gave the identity its name: of three, the third may name any of the others."""
    assert event.identity is not None
    other = work.load(Source, source_id(event.identity)).profile
    if other is None:
        raise NotFound("source", event.identity)
    return msgspec.structs.replace(event, identity=other.space)
