"""The portal on a phone, by keyboard alone: report, be helped, send, follow, add, open again; and not one refused resource."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from api.house import open_house
from engine.clock import SystemClock
from engine.incident import Incident
from engine.work import Unit
from projections.queue_page import ticket
from tests.browser.window import PHONE, Server, Watched
from tests.stores import settings_at

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("portal") / "data"
    server = Server(open_house(settings_at(data)), data)
    yield server
    server.stop()


@pytest.fixture(params=["light", "dark"])
def phone(server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    watched = Watched(browser.new_context(base_url=server.address, viewport=PHONE, color_scheme=request.param))
    yield watched
    watched.close()


def reach(page: Page, wanted: Locator) -> None:
    """Go there as somebody without a mouse does."""
    for _press in range(60):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("the tab key does not lead there")


def write(page: Page, field: str, text: str) -> None:
    reach(page, page.get_by_label(field))
    page.keyboard.type(text)


def press(page: Page, wanted: Locator) -> None:
    reach(page, wanted)
    page.keyboard.press("Enter")


def fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], page.url


def solve(server: Server, number: str) -> None:
    with server.runner.views.reader() as reader:
        row = ticket(reader, number)
    assert row is not None
    now = SystemClock().now()
    server.house.ledger.run(
        Unit(lambda work: work.load(Incident, row.id).resolve(code="solved", solution="A new fuser", now=now), actor="tocsin")
    )


def test_report_follow_add_and_open_again_by_keyboard(server: Server, phone: Watched) -> None:
    page = phone.page("/portal")
    fits(page)
    press(page, page.get_by_role("link", name="Something does not work"))
    expect(page).to_have_url(f"{server.address}/portal/new?kind=incident")
    press(page, page.get_by_role("button", name="Send it"))
    phone.expected.append("422")
    expect(page.get_by_role("alert")).to_be_focused()
    fits(page)
    write(page, "In one line", "The printer prints nothing")
    write(page, "Your name", "Greta Gast")
    write(page, "Your e-mail address", "greta@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Perhaps this helps")).to_be_visible()
    fits(page)
    press(page, page.locator("section.help").get_by_role("button", name="Send it all the same"))
    expect(page.get_by_role("heading", name="Thank you. We have it.")).to_be_visible()
    fits(page)
    number = page.locator(".number b").inner_text()
    assert "/portal/t/" in page.locator("#link").inner_text()
    press(page, page.get_by_role("link", name=f"Follow {number}"))
    expect(page).to_have_url(re.compile(rf"/portal/t/{number}/[\w-]+$"))
    private = page.url
    reach(page, page.locator("#text"))
    page.keyboard.type("The lamp is red.")
    press(page, page.get_by_role("button", name="Add it"))
    expect(page.get_by_text("The lamp is red.")).to_be_visible()
    solve(server, number)
    page.goto(private)
    expect(page.get_by_text("It is solved.")).to_be_visible()
    press(page, page.locator("summary"))
    write(page, "What is still wrong?", "It stopped again.")
    fits(page)
    press(page, page.get_by_role("button", name="Open it again"))
    expect(page.get_by_text("You opened it again")).to_be_visible()
    expect(page.get_by_text("It stopped again.")).to_be_visible()
    assert page.url.startswith(private)
