"""What a form of the portal carries: who it is, when it was opened, and what had been shown with it; signed by the store's key.

A form of nobody needs no cookie so: its token can neither be made nor changed outside. The form's id is the key under which
its answer is remembered, so a form that is sent twice is one ticket.
"""

import base64
import binascii
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Final

import msgspec

from engine.vault import Vault

# Shorter than answers are remembered (`api/writing.py`), so a form that is good can always be recognised.
GOOD_FOR: Final = timedelta(hours=24)
# A clock of another process of this store may be a little ahead.
EARLY: Final = timedelta(minutes=5)
LONGEST_TOKEN: Final = 8_000
_CONTEXT: Final = b"portal-form:"


class FormToken(msgspec.Struct, frozen=True, kw_only=True):
    """One form.

    Attributes:
        form: its id, random.
        purpose: what it is for, so that no form passes for another: `new`, or `say` with the ticket's id.
        opened_at: when it was first shown.
        page: where it was opened from.
        documents: name and title of each document that was offered.
        told: what else was shown: sentences.
        offered: whether help was shown, or there was none to show.
    """

    form: str
    purpose: str
    opened_at: datetime
    page: str = ""
    documents: tuple[tuple[str, str], ...] = ()
    told: tuple[str, ...] = ()
    offered: bool = False

    @property
    def suggestions(self) -> tuple[str, ...]:
        """Everything that was shown, as titles."""
        return (*(title for _name, title in self.documents), *self.told)


def new_token(purpose: str, now: datetime, page: str = "") -> FormToken:
    """The token of a form that is shown for the first time."""
    return FormToken(form=secrets.token_urlsafe(16), purpose=purpose, opened_at=now, page=page)


def signed(token: FormToken, vault: Vault) -> str:
    """As it stands in the form."""
    content = msgspec.json.encode(token)
    return f"{_text(content)}.{_text(vault.digest(_CONTEXT + content))}"


def read_token(text: str, purpose: str, vault: Vault, now: datetime) -> FormToken | None:
    """The token of a posted form; None where it is not ours, of another purpose, or too old."""
    content_text, _dot, seal = text.partition(".")
    if len(text) > LONGEST_TOKEN:
        return None
    try:
        content = base64.urlsafe_b64decode(content_text + "=" * (-len(content_text) % 4))
        right = hmac.compare_digest(_text(vault.digest(_CONTEXT + content)), seal)
        token = msgspec.json.decode(content, type=FormToken) if right else None
    except (binascii.Error, ValueError, TypeError, msgspec.DecodeError):
        return None
    if token is None or token.purpose != purpose or not -EARLY <= now - token.opened_at <= GOOD_FOR:
        return None
    return token


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
