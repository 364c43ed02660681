"""One command on several tickets: each from the version that was seen, each told of, and those that were refused stay chosen."""

import html
import re
from typing import Any

import pytest
from httpx2 import Response

from engine.event import Event
from engine.ticket import TicketAssigned, TicketCategorised, TicketHeld, TicketPrioritySet
from tests.api.test_console import Desk, desk, desk_of_the_module, field, words

__all__ = ["desk", "desk_of_the_module"]


def opened(desk: Desk, count: int, team: str) -> list[str]:
    return [desk.open("incidents", title=f"{team} {number}", team=team) for number in range(count)]


def seen(page: str) -> dict[str, str]:
    """Ticket -> the version that its box holds."""
    return dict(re.findall(r'form="bulk" name="ticket-([^"]+)" value="(\d+)"', page))


def checked(page: str) -> set[str]:
    return set(re.findall(r'form="bulk" name="ticket-([^"]+)" value="\d+"[^>]* checked', page))


def send(desk: Desk, page: str, numbers: list[str], do: str, **fields: str) -> Response:
    versions = seen(page)
    form = {"csrf_token": field(page, "csrf_token"), "do": do, **{f"ticket-{number}": versions[number] for number in numbers}}
    action = html.unescape(re.findall(r'<form id="bulk" method="post" action="([^"]+)"', page)[0])
    return desk.client.post(action, data=form | fields, follow_redirects=False)


def recorded(desk: Desk, after: int, kind: type[Event]) -> list[Any]:
    return [fact.event for fact in desk.house.ledger.read(after, 10_000) if isinstance(fact.event, kind)]


def test_several_tickets_are_assigned_at_once_and_the_queue_is_where_it_was(desk: Desk) -> None:
    numbers = opened(desk, 3, "Bulk one")
    page = desk.page("/console?team=Bulk+one&sort=newest")
    answer = send(desk, page, numbers[:2], "assign", **{"assign.assignee": "luis"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console?team=Bulk+one&sort=newest&told=assign%3A2"
    after = desk.page(answer.headers["location"])
    assert "2 tickets are assigned." in after
    assert [("Luis Marín" in row) for row in (after.split(f'id="{number}"')[1].split("</tr>")[0] for number in numbers)] == [True, True, False]
    assert "Bulk one" in desk.page(f"/console/tickets/{numbers[0]}")  # the team was left empty, so it stayed


def test_one_that_has_changed_meanwhile_is_named_and_stays_chosen_and_the_others_are_done(desk: Desk) -> None:
    numbers = opened(desk, 3, "Bulk two")
    page = desk.page("/console?team=Bulk+two")
    desk.send(numbers[1], "hold", reason="the carrier")
    before = desk.house.ledger.last_position
    answer = send(desk, page, numbers, "set-priority", **{"set-priority.priority": "P1", "set-priority.reason": "the board meets"})
    assert answer.status_code == 200
    said = words(answer.text)
    assert "The priority of 2 tickets is set." in said
    assert f"{numbers[1]} It has changed meanwhile: nothing was done there." in said
    assert checked(answer.text) == {numbers[1]}
    assert len(recorded(desk, before, TicketPrioritySet)) == 2
    # What stays chosen is what can be seen now: the next try is made from it.
    again = send(desk, answer.text, [numbers[1]], "set-priority", **{"set-priority.priority": "P1", "set-priority.reason": "so it is"})
    assert again.status_code == 303


def test_a_form_that_arrives_twice_does_nothing_twice(desk: Desk) -> None:
    numbers = opened(desk, 2, "Bulk twice")
    page = desk.page("/console?team=Bulk+twice")
    before = desk.house.ledger.last_position
    assert send(desk, page, numbers, "hold", **{"hold.reason": "the carrier"}).status_code == 303
    again = send(desk, page, numbers, "hold", **{"hold.reason": "the carrier"})
    assert again.status_code == 412
    assert "Nothing was done." in again.text
    assert len(recorded(desk, before, TicketHeld)) == 2


@pytest.mark.parametrize(
    ("do", "fields", "kind"),
    [
        ("take", {}, TicketAssigned),
        ("escalate", {"escalate.reason": "too hard", "escalate.team": "Network"}, None),
        ("resolve", {"resolve.code": "solved", "resolve.solution": "restarted"}, None),
        ("categorise", {"categorise.category": "hardware"}, TicketCategorised),
    ],
)
def test_each_command_that_makes_sense_for_several(desk: Desk, do: str, fields: dict[str, str], kind: type[Event] | None) -> None:
    numbers = opened(desk, 2, f"Bulk {do}")
    page = desk.page(f"/console?team=Bulk+{do}")
    before = desk.house.ledger.last_position
    answer = send(desk, page, numbers, do, **fields)
    assert answer.status_code == 303, words(answer.text)
    assert "2 tickets" in desk.page(answer.headers["location"])
    if kind is not None:
        assert len(recorded(desk, before, kind)) == 2


def test_what_was_held_goes_on_and_what_was_resolved_is_closed(desk: Desk) -> None:
    numbers = opened(desk, 2, "Bulk on")
    page = desk.page("/console?team=Bulk+on")
    for do, fields in (("hold", {"hold.reason": "x"}), ("resume", {})):
        assert send(desk, page, numbers, do, **fields).status_code == 303
        page = desk.page("/console?team=Bulk+on")
    refused = send(desk, page, numbers, "close")
    assert refused.status_code == 412
    assert words(refused.text).count("Not possible: it is") == 2


@pytest.mark.parametrize(
    ("do", "fields", "expected"),
    [
        ("assign", {}, "a team, a person, or both"),
        ("assign", {"assign.assignee": "nobody at all"}, "the login or address of somebody"),
        ("set-priority", {"set-priority.priority": "P1"}, "reason"),
        ("set-priority", {"set-priority.priority": "P9", "set-priority.reason": "x"}, "priority"),
        ("resolve", {"resolve.code": "solved", "resolve.solution": "  "}, "solution"),
        ("categorise", {}, "a category"),
    ],
)
def test_what_is_missing_is_named_before_any_ticket_is_touched(desk: Desk, do: str, fields: dict[str, str], expected: str) -> None:
    numbers = opened(desk, 2, f"Bulk bad {do}")
    page = desk.page(f"/console?team=Bulk+bad+{do}")
    before = desk.house.ledger.last_position
    answer = send(desk, page, numbers, do, **fields)
    assert answer.status_code == 422
    assert expected in words(answer.text)
    assert checked(answer.text) == set(numbers)
    assert desk.house.ledger.last_position == before
    for name, value in fields.items():
        if value.strip() and name.endswith(("reason", "assignee")):
            assert value in answer.text.split('id="bulk"')[1]


def test_a_service_request_among_incidents_is_told_of(desk: Desk) -> None:
    incident = desk.open("incidents", title="mixed", team="Bulk mixed")
    request = desk.open("requests", title="mixed", requester="rita", team="Bulk mixed")
    page = desk.page("/console?team=Bulk+mixed")
    answer = send(desk, page, [incident, request], "resolve", **{"resolve.code": "solved", "resolve.solution": "done"})
    assert answer.status_code == 200
    assert "1 ticket is resolved." in answer.text
    assert f"{request} “Resolve” is not for service requests" in words(answer.text)


def test_nothing_chosen_too_much_chosen_and_nonsense_are_said(desk: Desk) -> None:
    opened(desk, 1, "Bulk none")
    page = desk.page("/console?team=Bulk+none")
    token = field(page, "csrf_token")
    none = desk.client.post("/console/bulk", data={"csrf_token": token, "do": "take"})
    assert none.status_code == 422
    assert "at least one ticket" in none.text
    many = {f"ticket-INC-{number}": "1" for number in range(240)}
    assert desk.client.post("/console/bulk", data={"csrf_token": token, "do": "take", **many}).status_code == 422
    assert desk.client.post("/console/bulk", data={"csrf_token": token, "do": "burn", "ticket-INC-1": "1"}).status_code == 422
    assert desk.client.post("/console/bulk", data={"do": "take", "ticket-INC-1": "1"}).status_code == 403
    odd = {"csrf_token": token, "do": "take", "ticket-INC-999999": "1", "ticket-<b>": "x", "ticket-INC-1": "one"}
    answer = desk.client.post("/console/bulk", data=odd)
    assert answer.status_code == 412
    assert "ticket-<b>" not in answer.text
    assert "<bdi>&lt;b&gt;</bdi>" in answer.text
    assert words(answer.text).count("There is no such ticket.") == 2


def test_all_of_a_page_are_chosen_without_a_script_and_the_answer_can_be_loaded_again(desk: Desk) -> None:
    numbers = opened(desk, 2, "Bulk all")
    page = desk.page("/console?team=Bulk+all")
    assert checked(page) == set()
    link = html.unescape(re.findall(r'href="([^"]+)" data-choose-all', page)[0])
    everything = desk.page(link)
    assert checked(everything) == set(numbers)
    assert "chosen=" not in everything.split("<main")[1].replace(html.escape(link), "")
    assert desk.client.get("/console/bulk?team=Bulk+all", follow_redirects=False).headers["location"] == "/console?team=Bulk+all"


def test_who_only_reads_and_the_past_choose_nothing(desk: Desk) -> None:
    opened(desk, 1, "Bulk past")
    assert seen(desk.page("/console?as_of=2026-03-03T02:00:00")) == {}
    desk.become("ines")
    page = desk.page("/console?team=Bulk+past")
    assert seen(page) == {}
    assert 'id="bulk"' not in page
    token = field(page, "csrf_token")
    assert desk.client.post("/console/bulk", data={"csrf_token": token, "do": "take"}).status_code == 403
