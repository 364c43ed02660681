"""The console in a real browser: live rows, keys, the replay slider, a phone, and not one error or refused resource."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, FilePayload, expect

from tests.browser.window import PASSWORD, PHONE, Server, Watched, live

pytestmark = pytest.mark.browser


def test_an_incident_appears_in_the_open_queue_and_is_told(desk: Watched, server: Server) -> None:
    page = desk.page()
    live(page)
    page.evaluate("window.mark = 'not reloaded'")
    number = server.ring("Checkout answers 502", service="Live")
    row = page.locator(f"#{number}")
    expect(row).to_contain_text("Checkout answers 502")
    expect(row).to_contain_text("1 alert firing")
    expect(page.locator("[data-live-news]")).to_contain_text(f"New: {number} Checkout answers 502")
    assert page.evaluate("window.mark") == "not reloaded"
    # What others do to it is seen as well, and what is over goes away.
    token = server.house.directory.create_token(role="agent")
    headers = {"Authorization": f"Bearer {token}"}
    httpx2.post(f"{server.address}/api/v1/incidents/{number}/acknowledge", json={}, headers=headers)
    expect(row).to_contain_text("in progress")
    httpx2.post(f"{server.address}/api/v1/incidents/{number}/resolve", json={"code": "solved", "solution": "gone"}, headers=headers)
    expect(row).to_have_count(0)


def test_a_monitor_is_connected_and_its_first_words_appear(server: Server, browser: Browser) -> None:
    context = browser.new_context(base_url=server.address, permissions=["clipboard-read", "clipboard-write"])
    watched = Watched(context)
    page = watched.page("/console/connect")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Any JSON (mapped)").click()
    page.get_by_label("Name of the source").fill("first-words")
    page.get_by_role("button", name="Make its token").click()
    expect(page.locator("#block")).to_contain_text("Bearer tcs_")
    page.get_by_role("button", name="Copy").first.click()
    expect(page.locator("#block-said")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#block").text_content()
    live(page)
    page.evaluate("window.mark = 'not reloaded'")
    expect(page.get_by_text("Nothing yet from first-words.")).to_be_visible()
    (token,) = re.findall(r"tcs_[\w-]+", copied)
    headers = {"Authorization": f"Bearer {token}"}
    httpx2.post(f"{server.address}/hooks/first-words", content=b'{"severity": 1', headers=headers)
    expect(page.get_by_text("could not be read")).to_be_visible()
    httpx2.post(f"{server.address}/hooks/first-words", json={"key": "w", "title": "Words", "severity": "critical"}, headers=headers)
    expect(page.locator(".heard .word")).to_contain_text("1 observation, 1 opened.")
    expect(page.locator(".heard a[href^='/console/tickets/INC-']")).to_be_visible()
    assert page.evaluate("window.mark") == "not reloaded"
    # What is loaded again holds no token, and still knows what was heard.
    page.reload()
    expect(page.get_by_text("The token is not shown again")).to_be_visible()
    expect(page.locator(".heard .word")).to_contain_text("1 observation, 1 opened.")
    assert "tcs_" not in page.content()
    watched.close()


def test_the_queue_is_worked_by_keys(desk: Watched, server: Server) -> None:
    first, second = server.ring("First of two", service="Keys one"), server.ring("Second of two", service="Keys two")
    page = desk.page("/console?assignee=nobody")
    live(page)
    for _ in range(60):
        page.keyboard.press("j")
        if page.evaluate("document.activeElement.closest('tr')?.id") == first:
            break
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('tr')?.id") == second
    page.keyboard.press("k")
    page.keyboard.press("y")
    expect(page.get_by_role("status").filter(has_text=f"{first} is acknowledged")).to_be_visible()
    expect(page.locator(f"#{first} a.title")).to_be_focused()
    page.keyboard.press("t")
    expect(page.get_by_role("status").filter(has_text=f"{first} is yours")).to_be_visible()
    expect(page.locator(f"#{first}")).to_have_count(0)
    page.locator(f"#{second} a.title").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Second of two")
    live(page)
    page.keyboard.press("u")
    expect(page).to_have_url(f"{server.address}/console?assignee=nobody")


def test_all_keys_are_shown_and_letters_in_a_field_are_letters(desk: Watched, server: Server) -> None:
    number = server.ring("Keys in fields", service="Fields")
    page = desk.page(f"/console/tickets/{number}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("m")
    field = page.get_by_label("Comment", exact=True)
    expect(field).to_be_focused()
    page.keyboard.type("at ?")
    expect(field).to_have_value("at ?")
    page.keyboard.press("Escape")
    page.get_by_role("heading", level=1).click()
    page.keyboard.press("g")
    page.keyboard.press("k")
    expect(page).to_have_url(f"{server.address}/console/measures")


def test_an_incident_is_worked_with_forms(desk: Watched, server: Server) -> None:
    number = server.ring("Worked with forms", service="Forms")
    page = desk.page(f"/console/tickets/{number}")
    page.keyboard.press("y")
    expect(page.locator(".standing .state")).to_have_text("in progress")
    page.get_by_label("Comment", exact=True).fill("The upstream has no route.\nSince 02:00.")
    page.get_by_label("Public: the requester too").check()
    page.get_by_role("button", name="Comment").click()
    expect(page.locator(".said.outer")).to_have_text("The upstream has no route.\nSince 02:00.")
    live(page)
    page.keyboard.press("r")
    page.get_by_label("What restored the service").fill("Route announced again")
    page.get_by_role("button", name=f"Resolve {number}").click()
    expect(page.locator(".standing .state")).to_have_text("resolved")
    assert "told=" not in page.url
    page.get_by_text("Close…").click()
    expect(page.get_by_text(f"Close {number} for good?")).to_be_visible()
    page.get_by_role("button", name=f"Yes, close {number}").click()
    expect(page.locator(".standing .state")).to_have_text("closed")


def test_a_ticket_that_others_change_shows_it_and_keeps_what_is_being_written(desk: Watched, server: Server) -> None:
    number = server.ring("Two at once", service="Two")
    page = desk.page(f"/console/tickets/{number}")
    live(page)
    page.get_by_label("Comment", exact=True).fill("I am writing")
    headers = {"Authorization": f"Bearer {server.house.directory.create_token(role='agent')}"}
    httpx2.post(f"{server.address}/api/v1/incidents/{number}/hold", json={"reason": "the carrier"}, headers=headers)
    expect(page.locator(".line")).to_contain_text("On hold: the carrier")
    expect(page.get_by_label("Comment", exact=True)).to_have_value("I am writing")
    page.get_by_role("button", name="Comment").click()
    expect(page.locator(".said.inner")).to_have_text("I am writing")


def test_two_on_one_ticket_see_each_other(desk: Watched, server: Server, browser: Browser) -> None:
    number = server.ring("Two on one ticket", service="Company")
    page = desk.page(f"/console/tickets/{number}")
    expect(page.locator("[data-stream=open]")).to_be_attached()
    present = page.locator("[data-presence]")
    expect(present).to_be_hidden()
    with browser.new_context(base_url=server.address) as context:
        other = context.new_page()
        other.goto(f"/console/tickets/{number}")
        other.get_by_label("Name").fill("luis")
        other.get_by_label("Password").fill(PASSWORD)
        other.keyboard.press("Enter")
        expect(other.locator("[data-presence]")).to_have_text("Nora Berg has this ticket open too.")
        expect(present).to_have_text("Luis Marín has this ticket open too.")
        other.keyboard.press("m")
        other.keyboard.type("I am at it")
        expect(present).to_have_text("Luis Marín is writing on this ticket.")
    expect(present).to_be_hidden()


def test_a_reply_of_the_rulebook_is_put_in_where_one_writes(desk: Watched, server: Server) -> None:
    number = server.ring("Say more", service="Replies")
    page = desk.page(f"/console/tickets/{number}")
    page.keyboard.press("m")
    page.keyboard.type("Before. ")
    page.get_by_text("Reply with…").click()
    page.get_by_role("link", name="more", exact=True).click()
    expect(page.get_by_label("Comment")).to_have_value(re.compile(rf"^Before\. Hello .*to go on with {number} we need", re.DOTALL))
    expect(page.get_by_label("Public: the requester too")).to_be_checked()
    page.get_by_role("button", name="Comment").click()
    expect(page.locator("#happened ~ [data-part=line]")).to_contain_text(f"to go on with {number} we need a little more")


def test_the_slider_goes_back_in_time_and_forward_again(desk: Watched, server: Server) -> None:
    number = server.ring("Replayed", service="Slider")
    page = desk.page(f"/console/tickets/{number}")
    page.keyboard.press("y")
    expect(page.locator(".line")).to_contain_text("Acknowledged by Nora Berg")
    live(page)
    slider = page.get_by_label("Replay: go to an event")
    count = int(slider.get_attribute("max") or 0)
    assert count == 2
    slider.focus()
    page.keyboard.press("Home")
    expect(page.get_by_text("You are looking at")).to_be_visible()
    expect(page.locator(".replay")).to_contain_text(f"event 1 of {count}")
    expect(page).to_have_url(re.compile(r"as_of_position=\d+"))
    expect(page.locator(".line")).not_to_contain_text("Acknowledged")
    expect(page.locator(".acts")).to_have_count(0)
    expect(page.locator("[data-compose]")).to_be_hidden()
    # With the mouse to the end.
    box = slider.bounding_box()
    assert box
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    expect(page.get_by_text("You are looking at")).to_have_count(0)
    expect(page.locator(".line")).to_contain_text("Acknowledged by Nora Berg")
    expect(page.locator(".acts")).to_be_visible()
    page.keyboard.press("[")
    expect(page.get_by_text("You are looking at")).to_be_visible()
    page.reload()
    expect(page.get_by_text("You are looking at")).to_be_visible()
    page.get_by_role("link", name="Back to now").click()
    expect(page).to_have_url(f"{server.address}/console/tickets/{number}")


def test_the_queue_as_of_an_instant_is_reached_from_its_bar(desk: Watched, server: Server) -> None:
    number = server.ring("Not there before", service="As of")
    page = desk.page()
    page.keyboard.press("w")
    then = datetime.now(UTC) - timedelta(days=1)
    page.get_by_label("See what was known at").fill(then.strftime("%Y-%m-%dT%H:%M:%S"))
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("You are looking at")).to_be_visible()
    expect(page.locator(f"#{number}")).to_have_count(0)
    page.get_by_role("link", name="Alerts").click()
    expect(page.get_by_text("You are looking at")).to_be_visible()
    page.get_by_role("link", name="Back to now").click()
    expect(page.get_by_text("You are looking at")).to_have_count(0)


def test_the_search_box_is_a_key_away_and_its_page_is_worked_by_keys(desk: Watched, server: Server) -> None:
    number = server.ring("Quasar feed is late", service="Astronomy")
    page = desk.page("/console/measures")
    box = page.get_by_role("searchbox", name="Search all tickets")
    expect(page.locator(".find kbd")).to_be_visible()
    page.keyboard.press("/")
    expect(box).to_be_focused()
    expect(box).to_have_value("")
    page.keyboard.type("quasar fe")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.address}/console/search?q=quasar+fe")
    expect(page.get_by_role("heading", level=1)).to_have_text("Found for quasar fe")
    expect(page.locator(f"#{number} mark").first).to_have_text("Quasar")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Quasar feed is late")
    page.keyboard.press("/")
    page.keyboard.type(number.lower())
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.address}/console/tickets/{number}")


def test_tickets_are_handed_over_from_the_workload(desk: Watched, server: Server) -> None:
    number = server.ring("To be handed over", service="Hand over")
    page = desk.page("/console/workload")
    page.get_by_role("link", name="Give out tickets of nobody").click()
    row = page.get_by_role("listitem").filter(has_text=number)
    row.get_by_role("checkbox").check()
    page.get_by_label("To", exact=True).fill("luis")
    page.get_by_role("button", name="Assign the chosen").click()
    expect(page.get_by_role("status").filter(has_text="1 ticket is handed over to luis.")).to_be_visible()
    page.get_by_role("link", name=re.compile("Luis Marín, open")).click()
    expect(page.locator(f"#{number}")).to_contain_text("To be handed over")


def test_a_ticket_is_opened_by_keyboard_for_somebody_who_was_found_while_typing(desk: Watched, server: Server) -> None:
    page = desk.page("/console")
    page.keyboard.press("n")
    expect(page).to_have_title("New ticket · Tocsin")
    page.get_by_label("For whom").focus()
    page.keyboard.type("mar")
    offered = page.locator("#contacts option")
    expect(offered).to_have_attribute("value", "Luis Marín")
    expect(page.get_by_label("For whom")).to_be_focused()
    # The list is the browser's own, and a browser without a window draws none; what is typed is enough as it fits one person only.
    page.keyboard.press("Tab")
    page.keyboard.type("The printer on the second floor is out of ink")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("is open.")
    expect(page.locator("[data-part=facts]")).to_contain_text("Luis Marín")


def test_files_are_attached_and_saved(desk: Watched, server: Server) -> None:
    number = server.ring("Files", service="Files")
    page = desk.page(f"/console/tickets/{number}")
    picture = b"\x89PNG\r\n\x1a\n" + bytes(2_000)
    page.get_by_label("Files").set_input_files([FilePayload(name="Größe.png", mimeType="image/png", buffer=picture)])
    page.get_by_role("button", name="Comment").click()
    link = page.get_by_role("link", name="Größe.png")
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == "Größe.png"
    assert Path(download.value.path()).read_bytes() == picture
    # Loaded as a page it is not shown either.
    with page.expect_download():
        page.evaluate("(address) => location.assign(address)", link.get_attribute("href"))


def test_without_scripts_everything_but_live_and_the_slider_works(server: Server, browser: Browser, signed_in: Any) -> None:
    number = server.ring("No scripts", service="Plain")
    context = browser.new_context(base_url=server.address, storage_state=signed_in, java_script_enabled=False)
    page = context.new_page()
    page.goto("/console")
    page.locator(f"#{number} a.title").click()
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".standing .state")).to_have_text("in progress")
    page.get_by_text("Hold…").click()
    page.get_by_label("What it waits for").fill("the carrier")
    page.get_by_role("button", name=f"Hold {number}").click()
    expect(page.locator(".standing")).to_contain_text("waits for: the carrier")
    page.get_by_role("link", name="‹ earlier").click()
    expect(page.get_by_text("You are looking at")).to_be_visible()
    page.get_by_role("link", name="later ›").click()
    expect(page.get_by_text("You are looking at")).to_have_count(0)
    assert page.locator("kbd:visible").count() == 0  # no keys are promised that would do nothing
    context.close()


def test_the_measures_are_drawn_and_their_marks_open_tickets(desk: Watched, server: Server) -> None:
    number = server.ring("Measured", service="Measures")
    headers = {"Authorization": f"Bearer {server.house.directory.create_token(role='agent')}"}
    httpx2.post(f"{server.address}/api/v1/incidents/{number}/acknowledge", json={}, headers=headers)
    server.runner.wait_for(server.house.ledger.last_position, 10)
    page = desk.page("/console/measures?service=Measures")
    expect(page.get_by_role("group", name="Time to acknowledge, by day")).to_be_visible()
    page.locator(".chart circle.dot").first.click()
    expect(page.locator("[data-rows]")).to_contain_text(number)
    page.go_back()
    page.locator(".kpis a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Opened")
    expect(page.locator("[data-rows]")).to_contain_text(number)


PATHS = [
    "/console", "/console?as_of=2026-01-01T02:14", "/console/alerts", "/console/deliveries", "/console/requests",
    "/console/changes", "/console/measures", "/console/measures?days=90", "/console/sign-in", "/console/nowhere",
    "/console/search?q=is", "/console/workload?of=nobody",
    "/console/services", "/console/teams", "/console/people", "/console/new",
]


def test_every_page_fits_a_phone_and_its_targets_a_thumb(phone: Watched, server: Server) -> None:
    phone.expected = ["404"]
    number = server.ring("A rather long title about " + "a-very-long-host-name." * 8, service="Phone")
    for path in [*PATHS, f"/console/tickets/{number}", f"/console/why/{number}"]:
        page = phone.page(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        small = page.evaluate(
            """() => [...document.querySelectorAll('button, .button, summary, .nav a, .filters a, select')]
                .filter((element) => element.checkVisibility() && !element.closest('.raw'))
                .filter((element) => element.getBoundingClientRect().height < 43.5).map((element) => element.outerHTML.slice(0, 120))"""
        )
        assert small == [], path
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_enough(server: Server, browser: Browser, signed_in: Any, scheme: str) -> None:
    """4.5 : 1 at least, computed from what the browser really paints behind each text."""
    number = server.ring("Contrast", service="Contrast")
    context = browser.new_context(base_url=server.address, storage_state=signed_in, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    for path in ["/console", f"/console/tickets/{number}", "/console/measures", "/console/alerts", "/console?as_of=2026-01-01T02:14", "/console/search?q=is", "/console/workload?of=nobody", "/console/new"]:
        page.goto(path)
        poor = page.evaluate(CONTRAST)
        assert poor == [], f"{path} {poor[:5]}"
    context.close()


CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = rgba(getComputedStyle(element).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return rgba(getComputedStyle(document.documentElement).backgroundColor);
  };
  const poor = [];
  const walker = document.createTreeWalker(document.querySelector('body'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('.hide, .skip, script, title, desc')) continue;
    const style = getComputedStyle(element);
    const colour = rgba(element.closest('svg') ? style.fill : style.color);
    const [one, other] = [light(colour), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) poor.push(`${walker.currentNode.data.trim().slice(0, 30)} ${ratio.toFixed(2)} ${element.className.baseVal ?? element.className}`);
  }
  return poor;
}"""


def test_a_lost_stream_says_since_when_and_the_page_goes_on(desk: Watched, server: Server) -> None:
    desk.expected = ["ERR_", "Failed to load resource"]
    page = desk.context.new_page()
    page.clock.install()
    page.route("**/api/v1/stream*", lambda route: route.abort())
    page.goto("/console")
    expect(page.locator("[data-live-status]")).to_contain_text("The live stream is lost since")
    number = server.ring("Found by looking", service="Polled")
    page.clock.fast_forward(11_000)
    expect(page.locator(f"#{number}")).to_contain_text("Found by looking")


def test_a_stream_that_falls_silent_is_lost_although_it_is_open(desk: Watched) -> None:
    """As where the server is frozen or a cable is cut: the browser itself would wait for many minutes."""
    page = desk.context.new_page()
    page.clock.install()
    page.goto("/console")
    expect(page.locator("[data-live-status]")).to_have_text("live")
    page.clock.fast_forward(36_000)
    expect(page.locator("[data-live-status]")).to_contain_text("The live stream is lost since")
    page.clock.fast_forward(11_000)
    expect(page.locator("[data-live-status]")).to_have_text("live")
