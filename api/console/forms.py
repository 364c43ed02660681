"""Forms: what they carry so that nobody else can send them in our name, and how their fields are read.

A session's token is sent masked anew each time, so that a compressed page tells nothing of it; a form of nobody (sign-in)
carries the value of a cookie of its own, which another site can neither read nor set.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import FormData

from api.access import Principal
from api.console.language import gettext as _
from api.problem import TooLarge
from engine.errors import NotAllowed

FORM_COOKIE: Final = "tocsin_form"
TOKEN_FIELD: Final = "csrf_token"  # noqa: S105 - a field's name
MOST_FORM_BYTES: Final = 512 * 1024
MOST_FIELDS: Final = 50


def masked(token: str) -> str:
    """The token in a form that differs each time."""
    plain = token.encode()
    mask = secrets.token_bytes(len(plain))
    return base64.urlsafe_b64encode(mask + _xor(plain, mask)).decode()


def unmasked(text: str) -> str:
    """The token in what `masked` gave; empty where it is none."""
    try:
        data = base64.b64decode(text, altchars=b"-_", validate=True)
        half = len(data) // 2
        return _xor(data[half:], data[:half]).decode()
    except (binascii.Error, ValueError):
        return ""


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


async def read_form(request: Request) -> dict[str, str]:
    """The text fields of a posted form; of several with one name the last.

    Raises:
        TooLarge: over half a mebibyte.
    """
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > MOST_FORM_BYTES:
        raise TooLarge(MOST_FORM_BYTES)
    form: FormData = await request.form(max_files=0, max_fields=MOST_FIELDS)
    return {name: value for name, value in form.multi_items() if isinstance(value, str)}


def check_form(request: Request, principal: Principal, form: Mapping[str, str]) -> None:
    """Raises: NotAllowed: the form was not made by a page of this session."""
    check_origin(request)
    if not principal.csrf or not _same(unmasked(form.get(TOKEN_FIELD, "")), principal.csrf):
        raise NotAllowed(_("this form is not of your present session; go back, load the page again and send it once more"))


def check_anonymous(request: Request, form: Mapping[str, str]) -> bool:
    """Whether a form of nobody comes from a page of ours."""
    check_origin(request)
    cookie = request.cookies.get(FORM_COOKIE, "")
    return bool(cookie) and _same(unmasked(form.get(TOKEN_FIELD, "")), cookie)


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())


def check_origin(request: Request) -> None:
    """A browser says where a form comes from; ours come from here.

    Raises:
        NotAllowed: from another site.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site not in ("same-origin", "none"):
            raise NotAllowed(_("this form was sent by another site"))
        return
    origin = request.headers.get("origin")
    if origin and origin != "null" and urlsplit(origin).netloc != request.headers.get("host", ""):
        raise NotAllowed(_("this form was sent by another site"))


def local_path(text: str | None, otherwise: str) -> str:
    """A place within the console or the portal to go on to; never another site's."""
    if text and text.startswith(("/console", "/portal")) and "\\" not in text and text.isprintable() and "//" not in text.partition("?")[0]:
        return text
    return otherwise
