"""The queue by hand and by keys alone: moving, choosing, acting on several; what was chosen outlives what others do."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.window import PASSWORD, PHONE, Server, Watched, live

pytestmark = pytest.mark.browser


def current(page: Page) -> str:
    """The row that the keys stand on."""
    return str(page.evaluate("document.querySelector('tr[aria-current]')?.id ?? ''"))


def chosen(page: Page) -> list[str]:
    return list(page.evaluate("[...document.querySelectorAll('tr:has(input:checked)')].map((row) => row.id).filter(Boolean)"))


def go_to_row(page: Page, number: str) -> None:
    for _ in range(80):
        if current(page) == number:
            return
        page.keyboard.press("j")
    raise AssertionError(f"no key leads to {number}")


def team_of(server: Server, team: str, count: int) -> list[str]:
    return [
        server.ask("post", "/api/v1/incidents", role="agent", json={"title": f"{team} {number}", "team": team})["number"]
        for number in range(count)
    ]


def act(server: Server, number: str, command: str, **body: Any) -> None:
    server.ask("post", f"/api/v1/incidents/{number}/{command}", role="agent", json=body)


def test_a_shift_without_a_mouse(server: Server, browser: Browser) -> None:
    first, second, third = team_of(server, "By hand", 3)
    watched = Watched(browser.new_context(base_url=server.address, viewport={"width": 1280, "height": 800}))
    page = watched.page("/console?team=By+hand")
    page.keyboard.type("nora")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    live(page)
    page.keyboard.press("j")
    assert current(page) == first
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert current(page) == second
    page.keyboard.press("x")
    expect(page.locator("[data-bulk-count]")).to_have_text("2 tickets are chosen")
    page.keyboard.press("a")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Person")).to_be_focused()
    page.keyboard.type("luis")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="2 tickets are assigned.")).to_be_visible()
    for number, name in ((first, "Luis Marín"), (second, "Luis Marín"), (third, "By hand")):
        expect(page.locator(f"#{number}")).to_contain_text(name)
    live(page)
    assert current(page) == second  # one goes on where one was
    page.keyboard.press("j")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("By hand 2")
    expect(page.get_by_label("Comment", exact=True)).to_be_focused()
    page.keyboard.type("Looking at j and k")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".said.inner")).to_have_text("Looking at j and k")
    live(page)
    page.keyboard.press("r")
    page.keyboard.press("Tab")
    page.keyboard.type("It was enough to look")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".standing .state")).to_have_text("resolved")
    page.keyboard.press("k")
    expect(page.get_by_role("heading", level=1)).to_have_text("By hand 1")
    page.keyboard.press("u")
    expect(page).to_have_url(re.compile(r"/console\?team=By\+hand$"))
    watched.close()


def test_what_is_chosen_and_where_one_is_outlive_what_others_do(desk: Watched, server: Server) -> None:
    first, second, third = team_of(server, "Outlive", 3)
    page = desk.page("/console?team=Outlive")
    live(page)
    go_to_row(page, second)
    page.keyboard.press("x")
    page.locator(f"#{first} input").check()
    page.locator(f"#{second} a.title").focus()
    (fourth,) = team_of(server, "Outlive", 1)
    expect(page.locator(f"#{fourth}")).to_be_visible()
    assert (current(page), chosen(page)) == (second, [first, second])
    expect(page.locator(f"#{second} a.title")).to_be_focused()
    # What somebody did to a chosen one meanwhile is said, and it is not acted on as if it had not been.
    act(server, first, "hold", reason="the carrier")
    expect(page.locator("[data-bulk-count]")).to_have_text("2 tickets are chosen, changed meanwhile: 1")
    page.keyboard.press("t")
    expect(page.get_by_role("alert")).to_contain_text("1 ticket is yours.")
    expect(page.get_by_role("alert")).to_contain_text(f"{first} It has changed meanwhile: nothing was done there.")
    expect(page).to_have_url(re.compile(r"/console\?team=Outlive$"))
    assert chosen(page) == [first]
    # A row that is gone leaves none in its place: the next key does not meet another ticket.
    live(page)
    page.keyboard.press("Escape")
    assert chosen(page) == []
    go_to_row(page, third)
    act(server, third, "cancel", reason="gone")
    expect(page.locator(f"#{third}")).to_have_count(0)
    assert current(page) == ""
    page.keyboard.press("j")
    assert current(page) == fourth


def test_all_of_a_page_are_chosen_and_none(desk: Watched, server: Server) -> None:
    numbers = team_of(server, "All of it", 3)
    page = desk.page("/console?team=All+of+it")
    live(page)
    bar = page.locator("#bulk")
    expect(bar).to_be_hidden()
    page.get_by_label("Choose all on this page").check()
    assert chosen(page) == numbers
    page.locator(f"#{numbers[0]} input").uncheck()
    assert page.get_by_label("Choose all on this page").evaluate("(box) => box.indeterminate")
    page.get_by_role("link", name="All on this page").click()
    assert chosen(page) == numbers
    page.keyboard.press("Escape")
    expect(bar).to_be_hidden()


def test_a_key_acts_on_the_row_it_stands_on_where_none_is_chosen(desk: Watched, server: Server) -> None:
    first, second = team_of(server, "This one", 2)
    page = desk.page("/console?team=This+one")
    live(page)
    page.keyboard.press("p")
    expect(page.locator("#bulk")).to_be_hidden()  # on no row yet: on what should it act?
    go_to_row(page, second)
    page.keyboard.press("p")
    page.get_by_label("Priority").last.select_option("P1")
    page.get_by_label("Why, against the matrix").fill("the board meets")
    page.get_by_role("button", name="Set priority", exact=True).press("Enter")
    expect(page.get_by_role("status").filter(has_text="The priority of 1 ticket is set.")).to_be_visible()
    expect(page.locator(f"#{second} .prio")).to_contain_text("P1")
    expect(page.locator(f"#{first} .prio")).not_to_contain_text("P1")


def test_keys_can_be_turned_off_and_stay_so(desk: Watched, server: Server) -> None:
    team_of(server, "Keys off", 2)
    page = desk.page("/console?team=Keys+off")
    live(page)
    page.keyboard.press("?")
    page.get_by_label("Keys are on, in this browser").uncheck()
    page.keyboard.press("Escape")
    for again in (False, True):
        if again:
            page.reload()
            live(page)
        page.keyboard.press("j")
        page.keyboard.press("?")
        assert current(page) == ""
        expect(page.get_by_role("dialog")).to_be_hidden()
        assert page.locator("main kbd:visible").count() == 0
    # What belongs to a row that has the focus is no shortcut.
    page.locator("a.title").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("a.title").nth(1)).to_be_focused()
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Keys are on, in this browser").check()
    page.keyboard.press("Escape")
    page.keyboard.press("k")
    expect(page.locator("a.title").first).to_be_focused()


def test_a_saved_view_is_made_and_reached(desk: Watched, server: Server) -> None:
    page = desk.page("/console?team=Saved&sort=due")
    live(page)
    page.get_by_text("Save this view").click()
    page.get_by_label("Name").fill("What Saved has")
    page.keyboard.press("Enter")
    here = page.get_by_role("link", name="What Saved has")
    expect(here).to_have_attribute("aria-current", "page")
    page.goto("/console/measures")
    page.get_by_role("link", name="What Saved has").click()
    expect(page).to_have_url(f"{server.address}/console?team=Saved&sort=due")


def test_what_is_left_ticks_on_an_open_page_and_not_on_one_of_the_past(desk: Watched, server: Server) -> None:
    (number,) = team_of(server, "Ticking", 1)
    page = desk.context.new_page()
    page.clock.install()
    page.goto("/console?team=Ticking")
    live(page)
    left = page.locator(f"#{number} .left")
    expect(left).to_have_class("left ok")
    assert re.fullmatch(r"(\d h 59|4 h|3 h \d+) min to answer", before := left.locator("time").inner_text()), before
    page.route("**/console?*fragment=rows", lambda route: route.abort())  # only the clock moves
    page.clock.fast_forward(30 * 60 * 1000)
    expect(left.locator("time")).to_have_text(re.compile(r"^3 h (29|30) min to answer$"))
    assert 84 <= int(left.locator("progress").get_attribute("value") or 0) <= 89
    page.clock.fast_forward(3 * 60 * 60 * 1000)
    expect(left).to_have_class("left risk")
    expect(left).to_contain_text("at risk")
    page.clock.fast_forward(2 * 60 * 60 * 1000)
    expect(left).to_have_class("left late")
    expect(left.locator("time")).to_have_text(re.compile(r"^late by 1 h (29|30|31) min$"))
    position = server.house.ledger.last_position
    page.goto(f"/console?team=Ticking&as_of_position={position}")
    expect(page.get_by_text("You are looking at")).to_be_visible()
    assert page.locator("[data-due]").count() == 0


def test_a_phone_chooses_with_large_targets(phone: Watched, server: Server) -> None:
    numbers = team_of(server, "Thumb", 2)
    page = phone.page("/console?team=Thumb")
    live(page)
    box = page.locator(f"#{numbers[0]} .choose-row label")
    size = box.bounding_box()
    assert size is not None
    assert min(size["width"], size["height"]) >= 44
    box.tap()
    expect(page.locator("[data-bulk-count]")).to_have_text("1 ticket is chosen")
    small = page.evaluate(
        "[...document.querySelectorAll('#bulk button, #bulk summary, #bulk a')].filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 44).map((one) => one.textContent)"
    )
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_text("Resolve…").tap()
    page.get_by_label("What restored the service").fill("a thumb")
    page.get_by_role("button", name="Resolve", exact=True).tap()
    expect(page.get_by_role("status").filter(has_text="1 ticket is resolved.")).to_be_visible()
    expect(page.locator(f"#{numbers[0]}")).to_have_count(0)


def test_several_are_acted_on_without_a_script(server: Server, browser: Browser, signed_in: Any) -> None:
    numbers = team_of(server, "Plain bulk", 2)
    context = browser.new_context(base_url=server.address, storage_state=signed_in, java_script_enabled=False)
    page = context.new_page()
    page.goto("/console?team=Plain+bulk")
    for number in numbers:
        page.get_by_label(f"Choose {number}").check()
    page.get_by_text("Act on the chosen tickets").click()
    page.get_by_text("Hold…").click()
    page.get_by_label("What they wait for").fill("the carrier")
    page.get_by_role("button", name="Hold", exact=True).click()
    expect(page.locator("p.told")).to_have_text("2 tickets wait.")
    for number in numbers:
        expect(page.locator(f"#{number}")).to_contain_text("waits for: the carrier")
    context.close()


@pytest.mark.parametrize("path", ["/console?assignee=nobody", "/console/tickets/{number}", "/console/measures", "/console/workload"])
def test_paper_is_black_on_white_and_holds_nothing_to_press(server: Server, browser: Browser, signed_in: Any, path: str) -> None:
    number = server.ring("On paper", service="Paper")
    context = browser.new_context(base_url=server.address, storage_state=signed_in, color_scheme="dark", viewport={"width": 700, "height": 1000})
    page = context.new_page()
    page.emulate_media(media="print", color_scheme="dark")
    page.goto(path.format(number=number))
    assert page.locator("h1").is_visible()
    found = page.evaluate(
        "[...document.querySelectorAll('nav, form, button, summary, input, textarea, dialog')].filter((one) => one.checkVisibility()).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert found == []
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(0, 0, 0)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    for head in page.locator("main thead:visible").all():
        assert head.evaluate("(head) => getComputedStyle(head).display") == "table-header-group"
    context.close()
