"""The console's search box and page, what a ticket page offers from before, and the workload page with its hand-over."""

import re

from httpx2 import Response

from tests.api.test_console import Desk, desk, desk_of_the_module, field, words  # noqa: F401 - fixtures


def hand_over(desk: Desk, of: str, to: str, versions: dict[str, str]) -> Response:  # noqa: F811 - the fixture
    page = desk.page(f"/console/workload?of={of}")
    form = {"csrf_token": field(page, "csrf_token"), "of": of, "to": to}
    form |= {f"ticket-{number}": version for number, version in versions.items()}
    return desk.client.post("/console/workload/hand-over", data=form, follow_redirects=False)


def person_of(desk: Desk, login: str) -> str:  # noqa: F811 - the fixture
    return str(next(person for person, name in desk.house.directory.logins().items() if name == login))


def test_every_page_of_those_who_may_read_has_the_box(desk: Desk) -> None:  # noqa: F811 - the fixture
    for path in ("/console", "/console/measures", "/console/nowhere"):
        assert '<form class="find" role="search" method="get" action="/console/search">' in desk.client.get(path).text, path
    desk.become("rita")
    assert 'class="find"' not in desk.client.get("/console").text


def test_what_was_found_is_marked_and_nothing_of_it_is_code(desk: Desk) -> None:  # noqa: F811 - the fixture
    number = desk.open("incidents", title="Qwertz", description="A <script>kaputt</script>\nspooler\u202e there")
    page = desk.page("/console/search?q=kaputt+spool")
    assert f'href="/console/tickets/{number}"' in page
    assert "&lt;script&gt;</bdi><mark><bdi>kaputt</bdi></mark>" in page
    assert "<mark><bdi>spooler</bdi></mark>" in page
    assert '<span class="ctl">U+202E</span>' in page
    assert 'value="kaputt spool"' in page


def test_filters_live_in_the_address_and_a_pill_takes_its_filter_away(desk: Desk) -> None:  # noqa: F811 - the fixture
    done = desk.open("incidents", title="Vielfrass one", service="Shop")
    still = desk.open("incidents", title="Vielfrass two")
    desk.send(done, "resolve", code="solved", solution="x")
    desk.settle()
    page = desk.page("/console/search?q=vielfrass&state=open")
    assert (f'id="{still}"' in page, f'id="{done}"' in page) == (True, False)
    assert re.search(r'<a href="/console/search\?q=vielfrass" aria-current="true">Open', page)
    assert f'id="{done}"' in desk.page("/console/search?q=vielfrass&service=shop")
    page = desk.page("/console/search?q=vielfrass&service=mail")
    assert "No ticket fits these words and filters." in page
    assert 'href="/console/search?q=vielfrass">Look without the filters' in page
    assert desk.client.get("/console/search?q=x&priority=P9").status_code == 422


def test_a_number_leads_straight_to_its_ticket(desk: Desk) -> None:  # noqa: F811 - the fixture
    number = desk.open("incidents", title="By number")
    for text in (number, number.lower(), number.replace("-", "")):
        answer = desk.client.get("/console/search", params={"q": text}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/console/tickets/{number}")
    assert "No ticket says that." in desk.page("/console/search?q=INC-999999")
    past = desk.client.get("/console/search", params={"q": number, "as_of": "2026-03-03T02:00:30Z"}, follow_redirects=False)
    assert past.status_code == 200, "it was not there then"


def test_an_empty_box_says_how_to_ask(desk: Desk) -> None:  # noqa: F811 - the fixture
    page = words(desk.page("/console/search?q=++"))
    assert "Say what you are looking for" in page
    assert "straight to that ticket" in page


def test_a_long_list_of_results_goes_on(desk: Desk) -> None:  # noqa: F811 - the fixture
    for place in range(27):
        desk.open("incidents", title=f"Zwieback {place}")
    page = desk.page("/console/search?q=zwieback")
    following = re.search(r'rel="next" href="([^"]+)"', page)
    assert following
    rest = desk.page(following[1].replace("&amp;", "&"))
    assert (len(re.findall(r"data-version", page)), len(re.findall(r"data-version", rest))) == (25, 2)


def test_a_ticket_page_offers_what_solved_the_same_before(desk: Desk) -> None:  # noqa: F811 - the fixture
    before = desk.open("incidents", title="Gabelstapler 17 does not start")
    desk.send(before, "resolve", code="workaround", solution="Charged its battery <twice>.")
    now = desk.open("incidents", title="Gabelstapler 17 does not start")
    page = desk.page(f"/console/tickets/{now}")
    card = page[page.index("Have we had this before?") :]
    assert f'href="/console/tickets/{before}"' in card
    assert "workaround in place" in card
    assert "Charged its battery &lt;twice&gt;." in card
    assert "Have we had this before?" in desk.page(f"/console/tickets/{now}?fragment=1")


# -- workload ----------------------------------------------------------------------------------------------------------


def test_each_number_of_the_workload_opens_its_tickets(desk: Desk) -> None:  # noqa: F811 - the fixture
    number = desk.open("incidents", title="Loaded", impact="high", urgency="high")
    desk.send(number, "assign", assignee="luis", team="")
    luis = person_of(desk, "luis")
    page = desk.page("/console/workload")
    assert "Luis Marín" in page
    link = re.search(rf'href="(/console\?assignee={luis}&amp;priority=P1)" aria-label="Luis Marín, P1: (\d+)"', page)
    assert link
    listed = desk.page(link[1].replace("&amp;", "&"))
    assert f'id="{number}"' in listed
    assert len(re.findall(r'<tr id="', listed)) == int(link[2])
    assert 'href="/console?assignee=nobody"' in page


def test_tickets_are_handed_over_as_they_were_seen(desk: Desk) -> None:  # noqa: F811 - the fixture
    first, second = desk.open("incidents", title="Handed one"), desk.open("requests", title="Handed two", requester="nora")
    for number in (first, second):
        desk.send(number, "assign", assignee="ada", team="Shop")
    ada = person_of(desk, "ada")
    page = desk.page(f"/console/workload?of={ada}")
    assert "Handed one" in page
    versions = dict(re.findall(r'name="ticket-([A-Z]+-\d+)" value="(\d+)"', page))
    answer = hand_over(desk, ada, "luis", versions)
    assert answer.status_code == 303, answer.text
    told = desk.page(answer.headers["location"])
    assert f"{len(versions)} tickets are handed over to luis." in words(told)
    for number in (first, second):
        page = desk.page(f"/console/tickets/{number}")
        assert "Assigned to Luis Marín, team Shop" in words(page), "the team stays"


def test_a_ticket_that_changed_meanwhile_is_not_handed_over_and_the_others_are(desk: Desk) -> None:  # noqa: F811 - the fixture
    changed, still = desk.open("incidents", title="Changed"), desk.open("incidents", title="Unchanged")
    answer = hand_over(desk, "nobody", "nora", {changed: "7", still: "1"})
    assert answer.status_code == 412
    page = words(answer.text)
    assert "Not all of them were handed over" in page
    assert f"{changed}" in page
    assert "1 ticket was." in page
    assert "Assigned to Nora Berg" not in words(desk.page(f"/console/tickets/{changed}"))
    assert "Assigned to Nora Berg" in words(desk.page(f"/console/tickets/{still}"))


def test_a_hand_over_without_a_ticket_or_to_nobody_known_is_refused(desk: Desk) -> None:  # noqa: F811 - the fixture
    number = desk.open("incidents", title="Stays")
    assert "ticket: " in hand_over(desk, "nobody", "nora", {}).text
    for to in ("", "nobody-known"):
        answer = hand_over(desk, "nobody", to, {number: "1"})
        assert (answer.status_code, "to: " in answer.text) == (422, True)
    assert hand_over(desk, "nobody", "nora", {"INC-999999": "1"}).status_code == 412
    assert desk.client.get("/console/workload?of=x").status_code == 422


def test_a_hand_over_needs_the_sessions_token_and_a_role_that_works(desk: Desk) -> None:  # noqa: F811 - the fixture
    form = {"of": "nobody", "to": "nora", "ticket-INC-1": "1"}
    assert desk.client.post("/console/workload/hand-over", data=form).status_code == 403
    desk.become("ines")
    assert desk.client.post("/console/workload/hand-over", data=form).status_code == 403
    page = desk.page("/console/workload?of=nobody")
    assert "hand-over" not in page
    desk.become("nora")
