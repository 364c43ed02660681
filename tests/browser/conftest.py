"""A server, a browser and a signed-in session for each module; a desk and a phone for each test."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from api.house import open_house
from tests.browser.window import CHROMIUM, FLAGS, PASSWORD, PHONE, Server, Watched
from tests.stores import settings_at


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("browser") / "data"
    house = open_house(settings_at(data))
    for login, name, role in (("nora", "Nora Berg", "agent"), ("luis", "Luis Marín", "lead"), ("ada", "Ada Admin", "admin")):
        house.directory.open_account(login=login, name=name, role=role, password=PASSWORD, team="Shop")
    server = Server(house, data)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (or CHROMIUM names none)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(server: Server, browser: Browser) -> Any:
    """The cookies of Nora's session, from the sign-in page."""
    context = browser.new_context(base_url=server.address)
    page = context.new_page()
    page.goto("/console/alerts")
    expect(page).to_have_title("Sign in · Tocsin")
    page.get_by_label("Name").fill("nora")
    page.get_by_label("Password").fill("wrong to begin with")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Name or password is wrong.")
    expect(page.get_by_label("Name")).to_have_value("nora")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.address}/console/alerts")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def desk(server: Server, browser: Browser, signed_in: Any) -> Iterator[Watched]:
    watched = Watched(browser.new_context(base_url=server.address, storage_state=signed_in, viewport={"width": 1280, "height": 800}))
    yield watched
    watched.close()


@pytest.fixture
def phone(server: Server, browser: Browser, signed_in: Any) -> Iterator[Watched]:
    watched = Watched(browser.new_context(base_url=server.address, storage_state=signed_in, viewport=PHONE, has_touch=True, color_scheme="dark"))
    yield watched
    watched.close()
