"""The private link: with it somebody without an account follows their ticket, and nobody else does.

The secret is computed from the ticket and from how often its link was renewed, under the store's key; it is kept nowhere and
recorded nowhere. It stands in the answer to whoever sent the form and in no comment, notice or log.
"""

import base64
import hmac
from typing import Final

from engine.ticket import Ticket
from engine.vault import Vault

_CONTEXT: Final = b"portal-link:"


def secret_of(ticket: Ticket, vault: Vault) -> str:
    """The secret of a ticket's present link; 43 characters that an address can hold."""
    digest = vault.digest(_CONTEXT + ticket.id.bytes + ticket.link_generation.to_bytes(4, "big"))
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def opens(secret: str, ticket: Ticket, vault: Vault) -> bool:
    """Whether this secret opens this ticket; takes as long for a wrong one."""
    return hmac.compare_digest(secret.encode("utf-8", "replace"), secret_of(ticket, vault).encode())
