"""Signing in and out. The session's secret lies in a cookie that no script can read."""

import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import PEOPLE, SESSION_SECONDS, Principal, TooManyTries
from api.console.forms import FORM_COOKIE, check_anonymous, check_form, local_path, masked, read_form
from api.console.language import gettext as _
from api.console.layout import PORTAL, SIGN_IN, ConsoleRoute, go_to, page_for, portal_is_open, render, session_of
from api.door import SESSION_COOKIE, directory_of, house_of
from engine.errors import NotAllowed
from engine.person import Role

router = APIRouter(route_class=ConsoleRoute)
HOME: Final = "/console"
# A form of nobody that lay open longer than this is simply shown again.
FORM_SECONDS: Final = 3600


@router.get(SIGN_IN)
async def sign_in_page(request: Request) -> Response:
    wanted = local_path(request.query_params.get("next"), HOME)
    if session_of(request) is not None:
        return go_to(wanted)
    return _page(request, wanted=wanted)


@router.post(SIGN_IN)
async def sign_in(request: Request) -> Response:
    form = await read_form(request)
    wanted, login = local_path(form.get("next"), HOME), form.get("login", "")
    if not check_anonymous(request, form):
        return _page(request, wanted=wanted, login=login, fault=_("The form had lain open for too long. Please try again."), status=403)
    address = request.client.host if request.client else ""
    try:
        session = await directory_of(request).sign_in(login, form.get("password", ""), address)
    except NotAllowed as refusal:
        throttled = isinstance(refusal, TooManyTries)
        fault = _("Too many tries. Wait a minute, then try again.") if throttled else _("Name or password is wrong.")
        return _page(request, wanted=wanted, login=login, fault=fault, status=429 if throttled else 403)
    if session.role is Role.REQUESTER and not wanted.startswith(PORTAL) and portal_is_open(request):
        wanted = PORTAL
    response = go_to(wanted)
    response.set_cookie(
        SESSION_COOKIE, session.secret, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="lax",
        secure=house_of(request).settings.secure_cookies,
    )
    response.delete_cookie(FORM_COOKIE, path=SIGN_IN)
    return response


@router.post("/console/sign-out")
async def sign_out(request: Request, principal: Annotated[Principal, Depends(page_for(PEOPLE))]) -> Response:
    form = await read_form(request)
    check_form(request, principal, form)
    await directory_of(request).sign_out(request.cookies[SESSION_COOKIE], principal)
    response = go_to(local_path(form.get("next"), SIGN_IN))
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


def _page(request: Request, *, wanted: str, login: str = "", fault: str = "", status: int = 200) -> Response:
    token = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(24)
    accounts = getattr(request.app.state, "demo_accounts", [])
    response = render(
        request, "sign_in.html", status=status, frame=None, wanted=wanted, login=login, fault=fault, csrf_token=masked(token),
        accounts=accounts,
    )
    response.set_cookie(
        FORM_COOKIE, token, max_age=FORM_SECONDS, path=SIGN_IN, httponly=True, samesite="strict",
        secure=house_of(request).settings.secure_cookies,
    )
    return response
