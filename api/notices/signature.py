"""Signatures of webhooks, as Standard Webhooks 1.0.0 has them (https://www.standardwebhooks.com): symmetric, `v1`.

A receiver checks `webhook-signature` with its own copy of the secret, refuses old timestamps, and drops a `webhook-id` that it has
seen before.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Final

from engine.errors import InvalidInput

PREFIX: Final = "whsec_"
KEY_BYTES: Final = 32
FEWEST_BYTES, MOST_BYTES = 24, 64


def new_secret() -> str:
    """A secret that nobody knows yet."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def checked_secret(text: str) -> str:
    """A given secret.

    Raises:
        InvalidInput: not `whsec_` and 24 to 64 bytes in base64.
    """
    try:
        if text.startswith(PREFIX) and FEWEST_BYTES <= len(_key(text)) <= MOST_BYTES:
            return text
    except binascii.Error:
        pass
    raise InvalidInput("secret", f"{PREFIX} and {FEWEST_BYTES} to {MOST_BYTES} bytes in base64")


def signed(secret: str, message_id: str, at: datetime, content: bytes) -> dict[str, str]:
    """The headers that identify a message and prove where it comes from."""
    timestamp = str(int(at.timestamp()))
    digest = hmac.digest(_key(secret), f"{message_id}.{timestamp}.".encode() + content, hashlib.sha256)
    return {
        "webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
