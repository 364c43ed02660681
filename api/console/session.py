"""Signing in and out. The session's secret lies in a cookie that no script can read."""

import asyncio
import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.access import PEOPLE, SESSION_SECONDS, Principal, TooManyTries
from api.console.forms import FORM_COOKIE, check_anonymous, check_form, check_origin, local_path, masked, read_form
from api.console.language import COOKIE, COOKIE_SECONDS, LANGUAGES
from api.console.language import gettext as _
from api.console.layout import PORTAL, SIGN_IN, ConsoleRoute, go_to, page_for, portal_is_open, render, session_of
from api.door import SESSION_COOKIE, directory_of, house_of
from api.reading import WAIT_SECONDS
from engine.errors import InvalidInput, NotAllowed
from engine.person import Person, Role
from engine.work import Unit
from projections.runner import Runner

router = APIRouter(route_class=ConsoleRoute)
HOME: Final = "/console"
# A form of nobody that lay open longer than this is simply shown again.
FORM_SECONDS: Final = 3600


@router.get(SIGN_IN)
async def sign_in_page(request: Request) -> Response:
    wanted = local_path(request.query_params.get("next"), HOME)
    if await session_of(request) is not None:
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
    chosen = (await asyncio.to_thread(house_of(request).ledger.get, Person, session.person)).language
    response = go_to(wanted)
    if chosen:
        _remember(request, response, chosen)
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


@router.post("/language")
async def choose_language(request: Request) -> Response:
    """Answer in another language from here on: for whoever is signed in everywhere, for anybody else in this browser.

    Raises:
        InvalidInput: there is no catalogue for it.
        NotAllowed: the form was sent by another site.
    """
    form = await read_form(request)
    chosen, principal = form.get("language", ""), await session_of(request)
    if chosen not in LANGUAGES:
        raise InvalidInput("language", _("one of %s") % ", ".join(LANGUAGES))
    if principal is None:
        check_origin(request)
    else:
        check_form(request, principal, form)
        person = principal.person
        assert person is not None, "a session is somebody's"
        ledger = house_of(request).ledger
        await ledger.commit(Unit(lambda work: work.load(Person, person).choose_language(chosen), actor=principal.actor))
        runner: Runner = request.app.state.runner
        await runner.reached(ledger.last_position, WAIT_SECONDS)
    response = go_to(local_path(form.get("next"), SIGN_IN if principal is None else HOME))
    _remember(request, response, chosen)
    return response


def _remember(request: Request, response: Response, language: str) -> None:
    response.set_cookie(
        COOKIE, language, max_age=COOKIE_SECONDS, path="/", httponly=True, samesite="lax", secure=house_of(request).settings.secure_cookies
    )


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
