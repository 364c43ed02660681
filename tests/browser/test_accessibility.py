"""axe-core on every page: no serious or critical finding, light and dark, wide and on a phone.

Whoever adds a page adds its address to `PAGES` (or `OPEN` for one that nobody need sign in for).
"""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ViewportSize, expect

from tests.browser.window import PASSWORD, PHONE, Server

pytestmark = pytest.mark.browser

WIDE: Final[ViewportSize] = {"width": 1440, "height": 900}
# What stands in braces is filled in with a ticket, an alert, a change or a person of the store.
PAGES: Final = (
    "/console", "/console?assignee=me", "/console?team=Shop&sort=due", "/console?assignee=nobody&chosen=1", "/console?as_of=2026-01-01T02:14",
    "/console/views", "/console/incidents", "/console/requests", "/console/alerts", "/console/alerts/{alert}", "/console/deliveries",
    "/console/changes", "/console/workload", "/console/workload?of=nobody", "/console/measures", "/console/notices", "/console/search",
    "/console/search?q=certificate", "/console/log", "/console/services", "/console/teams", "/console/people", "/console/rules",
    "/console/connect", "/console/connect?kind=generic", "/console/tickets/{incident}", "/console/tickets/{request}", "/console/why/{incident}?field=priority",
    "/console/no-such-page", "/console?sort=luck", "/console/new", "/portal", "/portal/new",
)
OPEN: Final = ("/console/sign-in", "/portal", "/portal/new", "/portal/t/INC-1")
BAD: Final = ("serious", "critical")


@pytest.fixture(scope="module")
def state(server: Server, browser: Browser) -> Any:
    """The cookies of an administrator, who sees every page; and a store with something on each."""
    context = browser.new_context(base_url=server.address)
    page = context.new_page()
    page.goto("/console/sign-in")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("nav.nav")).to_be_visible()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture(scope="module")
def names(server: Server) -> dict[str, str]:
    incident = server.ring("Certificate ends soon", service="Shop")
    server.ring("Disk is full", service="Mail", severity="warning")
    for path, body in (
        ("requests", {"title": "A new chair", "requester": "nora", "item": "chair", "needs_approval": False}),
        ("incidents", {"title": "The door squeaks", "requester": "nora", "team": "Shop", "description": "Since Monday."}),
    ):
        server.ask("post", f"/api/v1/{path}", role="agent", json=body)
    server.ask("post", f"/api/v1/incidents/{incident}/comment", role="agent", json={"text": "Tracing it.\nStill."})
    server.ask("post", "/api/v1/views", role="lead", json={"name": "The shop", "query": "team=Shop&sort=due", "shared": True})
    server.ask("post", "/api/v1/teams", role="lead", json={"name": "Shop", "level": 2})
    server.ask("post", "/api/v1/services", role="lead", json={"name": "Shop", "owner_team": "Shop"})
    return {"incident": incident, "request": "REQ-1", "alert": "ALT-1"}


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    scheme: str = request.param
    return scheme


@pytest.fixture(params=[WIDE, PHONE], ids=["wide", "phone"])
def context(request: pytest.FixtureRequest, server: Server, browser: Browser, state: Any, scheme: Any) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=server.address, storage_state=state, viewport=request.param, color_scheme=scheme)
    yield context
    context.close()


def faults(context: BrowserContext, address: str, scheme: str) -> list[str]:
    """Serious and critical findings of a page; in the dark only colours are other ones."""
    options = {"resultTypes": ["violations"], **({"runOnly": ["color-contrast"]} if scheme == "dark" else {})}
    page = context.new_page()
    page.goto(address)
    assert page.url.endswith(address)  # what is looked at is the page, not the sign-in before it
    found = []
    for violation in Axe().run(page, options=options).response["violations"]:
        if violation["impact"] in BAD:
            nodes = "; ".join(node["html"][:160] for node in violation["nodes"][:3])
            found.append(f"{address}: {violation['id']} ({violation['impact']}): {nodes}")
    page.close()
    return found


def test_no_page_has_a_serious_fault(context: BrowserContext, names: dict[str, str], scheme: str) -> None:
    assert [fault for address in PAGES for fault in faults(context, address.format(**names), scheme)] == []


def test_nor_have_those_before_the_sign_in(server: Server, browser: Browser, scheme: Any) -> None:
    for size in (WIDE, PHONE):
        context = browser.new_context(base_url=server.address, viewport=size, color_scheme=scheme)
        assert [fault for address in OPEN for fault in faults(context, address, scheme)] == []
        context.close()


def test_nor_have_the_panels_that_open(server: Server, browser: Browser, state: Any, names: dict[str, str]) -> None:
    context = browser.new_context(base_url=server.address, storage_state=state, viewport=WIDE)
    page = context.new_page()
    for address in ("/console?team=Shop&chosen=1", "/console/tickets/{incident}", "/console/views"):
        page.goto(address.format(**names))
        page.evaluate("for (const panel of document.querySelectorAll('main details')) { panel.removeAttribute('name'); panel.open = true }")
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in BAD]
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == [], address
    page.evaluate("document.getElementById('keys').showModal()")
    assert [one["id"] for one in Axe().run(page, "#keys").response["violations"] if one["impact"] in BAD] == []
    context.close()


def test_a_page_with_a_fault_would_be_found(server: Server, browser: Browser, state: Any) -> None:
    context = browser.new_context(base_url=server.address, storage_state=state, viewport=WIDE)
    page = context.new_page()
    page.goto("/console")
    page.evaluate("document.querySelector('main').append(document.createElement('select'))")
    assert "select-name" in {one["id"] for one in Axe().run(page).response["violations"] if one["impact"] in BAD}
    context.close()
