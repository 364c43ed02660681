"""Saved views over HTTP and in the console: whose they are, who may share them, and where they stand."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from api.queue_address import checked, written
from engine.errors import InvalidInput
from engine.saved_view import ViewSaved
from tests.api.test_console import Desk, desk, desk_of_the_module, field, words

__all__ = ["desk", "desk_of_the_module"]

Headers = Callable[[str], dict[str, str]]
SHOP = {"name": "Our shop", "query": "team=Shop&sort=due"}


def saved(client: TestClient, headers: dict[str, str], position: str = "0") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get("/api/v1/views", headers={**headers, "Tocsin-Position": position}).json()["items"]
    return items


def test_a_shared_view_is_saved_read_and_removed_by_a_lead(client: TestClient, headers: Headers) -> None:
    answer = client.post("/api/v1/views", json={**SHOP, "shared": True}, headers=headers("lead"))
    assert answer.status_code == 201, answer.text
    view = answer.json()
    assert view["address"] == "/console?team=Shop&sort=due"
    assert answer.headers["location"] == f"/api/v1/views/{view['id']}"
    assert saved(client, headers("agent"), answer.headers["tocsin-position"]) == [view]
    assert client.get(answer.headers["location"], headers=headers("auditor")).json() == view
    again = client.post("/api/v1/views", json={**SHOP, "shared": True}, headers=headers("lead"))
    assert (again.status_code, again.json()) == (200, view)
    assert client.delete(answer.headers["location"], headers=headers("agent")).status_code == 403
    gone = client.delete(answer.headers["location"], headers=headers("lead"))
    assert (gone.status_code, gone.json()) == (200, view)
    assert saved(client, headers("agent"), gone.headers["tocsin-position"]) == []
    assert client.delete(answer.headers["location"], headers=headers("lead")).status_code == 404


def test_an_agent_shares_none_and_a_token_has_none_of_its_own(client: TestClient, headers: Headers) -> None:
    assert client.post("/api/v1/views", json={**SHOP, "shared": True}, headers=headers("agent")).status_code == 403
    own = client.post("/api/v1/views", json=SHOP, headers=headers("lead"))
    assert own.status_code == 422
    assert "a token has no views of its own" in own.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "query"), ("sort=priority", "query"), ("as_of=2026-01-01", "query"), ("team=Shop&colour=red", "query"), ("team", "query"),
        ("priority=P9", "priority"), ("assignee=nora", "assignee"), ("sort=luck", "sort"), ("kind=incident&state=lost", "state"),
        ("team=" + "x" * 201, "query"), ("team=%00", "query"), ("x" * 3_000, "query"),
    ],
)
def test_only_what_the_queue_knows_is_saved(client: TestClient, headers: Headers, query: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked(query)
    assert caught.value.field == field
    assert client.post("/api/v1/views", json={"name": "x", "query": query, "shared": True}, headers=headers("lead")).status_code == 422


def test_an_address_is_written_in_one_way() -> None:
    assert checked("?sort=due&team=A+%26+B&assignee=me") == "team=A+%26+B&assignee=me&sort=due"
    assert checked("priority=P1-P2&sort=priority") == "priority=P1-P2"
    assert written({"cursor": "x", "as_of": "y", "team": "Shop", "sort": "priority"}) == "team=Shop"


# -- in the console --------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(desk: Desk) -> Iterator[Desk]:
    """A desk whose views are all removed afterwards."""
    yield desk
    for login in ("nora", "luis", "ada"):
        desk.become(login)
        page = desk.page("/console/views")
        for view in set(re.findall(r'action="/console/views/([^"]+)"', page)):
            desk.client.post(f"/console/views/{view}", data={"csrf_token": field(page, "csrf_token"), "do": "remove"})
        desk.settle()


def save(desk: Desk, query: str, name: str, **more: str) -> Any:
    page = desk.page(f"/console?{query}")
    form = {"csrf_token": field(page, "csrf_token"), "query": field(page, "query"), "name": name, **more}
    return desk.client.post("/console/views", data=form, follow_redirects=False)


def current(page: str) -> list[str]:
    nav = re.search(r'<nav class="nav".*?</nav>', page, re.DOTALL)
    assert nav
    return [words(one).strip() for one in re.findall(r'<a [^>]*aria-current="page"[^>]*>([^<]*)', nav[0])]


def test_what_the_queue_shows_is_saved_under_a_name_and_stands_in_the_navigation(shelf: Desk) -> None:
    shelf.ring(service="Views")
    answer = save(shelf, "sort=due&assignee=nobody&cursor=", "Nobody’s <b>first</b>")
    assert answer.status_code == 303
    page = shelf.page(answer.headers["location"])
    assert "The view is saved" in page
    assert current(page) == ["Nobody’s <b>first</b>"]
    assert current(shelf.page("/console?assignee=nobody")) == ["Queue"]
    assert current(shelf.page("/console?sort=due&assignee=nobody&as_of=2026-03-03T02:00:00")) == current(page)
    shelf.become("luis")
    assert "first" not in shelf.page("/console?sort=due&assignee=nobody").split("</nav>")[0]


def test_nothing_is_offered_to_be_saved_where_the_whole_queue_or_the_past_is_shown(shelf: Desk) -> None:
    assert "Save this view" not in shelf.page("/console")
    assert "Save this view" not in shelf.page("/console?team=Shop&as_of=2026-03-03T02:00:00")
    assert "Save this view" in shelf.page("/console?team=Shop")
    shelf.become("ines")
    assert "Save this view" not in shelf.page("/console?team=Shop")


def test_only_who_leads_shares(shelf: Desk) -> None:
    assert "for everybody" not in shelf.page("/console?team=Shop")
    refused = save(shelf, "team=Shop", "For all", shared="1")
    assert refused.status_code == 403
    assert 'value="For all"' in refused.text
    shelf.become("luis")
    assert save(shelf, "team=Shop", "For all", shared="1").status_code == 303
    shelf.become("nora")
    page = shelf.page("/console/views")
    assert "For all" in page
    assert 'action="/console/views/' not in page
    shelf.become("ines")
    assert "For all" in shelf.page("/console").split("</nav>")[0]


def test_a_view_is_renamed_moved_and_removed_on_its_page(shelf: Desk) -> None:
    for name in ("one", "two"):
        assert save(shelf, f"team={name}", name).status_code == 303

    def act(what: str, view_name: str, **more: str) -> Any:
        page = shelf.page("/console/views")
        view = re.search(rf'{view_name}</bdi></a>\s*<form class="inline" method="post" action="([^"]+)"', page)
        assert view, page
        return shelf.client.post(view[1], data={"csrf_token": field(page, "csrf_token"), "do": what, **more}, follow_redirects=False)

    def names() -> list[str]:
        return re.findall(r'<li><a href="/console\?team=[^"]*"><bdi[^>]*>([^<]+)', shelf.page("/console/views"))

    assert names() == ["one", "two"]
    assert act("down", "one").status_code == 303
    assert names() == ["two", "one"]
    told = act("rename", "two", name="zwei")
    assert "The view has its new name." in shelf.page(told.headers["location"])
    taken = act("rename", "zwei", name="one")
    assert taken.status_code == 422
    assert "there is a one already" in taken.text
    assert 'value="one"' in taken.text
    assert act("remove", "one").status_code == 303
    assert names() == ["zwei"]
    assert act("burn", "zwei").status_code == 422


def test_somebody_elses_view_is_not_there_and_a_foreign_form_does_nothing(shelf: Desk) -> None:
    assert save(shelf, "team=Shop", "Mine").status_code == 303
    view = re.search(r'action="(/console/views/[^"]+)"', shelf.page("/console/views"))
    assert view
    assert shelf.client.post(view[1], data={"do": "remove"}).status_code == 403
    shelf.become("ada")
    token = field(shelf.page("/console/services"), "csrf_token")
    assert shelf.client.post(view[1], data={"csrf_token": token, "do": "remove"}).status_code == 404
    shelf.become("nora")
    assert "Mine" in shelf.page("/console/views")


def test_the_navigation_holds_twelve_and_the_log_has_words(shelf: Desk) -> None:
    for number in range(14):
        assert save(shelf, f"team=t{number}", f"View {number}").status_code == 303
    nav = shelf.page("/console").split("</nav>")[0]
    assert nav.count('class="saved"') == 13  # the twelve, and the page of all
    assert "View 11" in nav
    assert "View 12" not in nav
    assert any(isinstance(fact.event, ViewSaved) and fact.event.name == "View 13" for fact in shelf.house.ledger.read(0, 100_000))
    shelf.become("ada")
    assert "A view of the queue was saved: View 13" in words(shelf.page("/console/log"))


def test_a_saved_address_answers(shelf: Desk) -> None:
    where = save(shelf, "team=A%26B&sort=newest&kind=incident", "Both").headers["location"]
    assert parse_qs(urlsplit(where).query) == {"kind": ["incident"], "team": ["A&B"], "sort": ["newest"], "told": ["view-saved"]}
