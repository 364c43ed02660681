"""Search, similar tickets and workload over HTTP and in the terminal."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.house import House
from tests.api.test_terminal import Run, run  # noqa: F401 - a fixture

Headers = Callable[[str], dict[str, str]]


@pytest.fixture
def agent(headers: Headers) -> dict[str, str]:
    return headers("agent")


def opened(client: TestClient, agent: dict[str, str], kind: str = "incidents", **body: Any) -> str:
    answer = client.post(f"/api/v1/{kind}", json=body, headers=agent)
    assert answer.status_code == 201, answer.text
    agent["Tocsin-Position"] = answer.headers["Tocsin-Position"]
    number: str = answer.json()["number"]
    return number


def act(client: TestClient, agent: dict[str, str], number: str, command: str, **body: Any) -> None:
    kind = "requests" if number.startswith("REQ") else "incidents"
    answer = client.post(f"/api/v1/{kind}/{number}/{command}", json=body, headers=agent)
    assert answer.status_code == 200, answer.text
    agent["Tocsin-Position"] = answer.headers["Tocsin-Position"]


def search(client: TestClient, agent: dict[str, str], **asked: Any) -> dict[str, Any]:
    answer = client.get("/api/v1/search", params=asked, headers=agent)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def numbers(found: dict[str, Any]) -> list[str]:
    return [item["number"] for item in found["items"]]


def test_what_was_written_is_found_at_once_with_its_snippet(client: TestClient, agent: dict[str, str]) -> None:
    number = opened(client, agent, title="Odd", description="A <b>spooler</b> & a fuser")
    found = search(client, agent, q="spooler fus")
    assert found.keys() == {"items", "next", "position"}
    (item,) = found["items"]
    assert item["number"] == number
    assert item["snippet"] == "A &lt;b&gt;<mark>spooler</mark>&lt;/b&gt; &amp; a <mark>fuser</mark>"
    listed = client.get("/api/v1/queue", headers=agent).json()["items"][0]
    assert item.keys() == listed.keys() | {"snippet"}, "a ticket as elsewhere"


def test_parameters_narrow_as_the_fields_of_the_text_do(client: TestClient, agent: dict[str, str]) -> None:
    shop = opened(client, agent, title="Printer", service="Web shop", team="Shop", requester="Nora Berg", impact="high", urgency="high")
    opened(client, agent, title="Printer")
    chair = opened(client, agent, "requests", title="Printer wanted", requester="Omar")
    for asked, expected in (
        ({"service": "shop"}, shop), ({"team": "shop"}, shop), ({"requester": "nora"}, shop), ({"priority": "P1"}, shop),
        ({"kind": "request"}, chair), ({"state": "submitted"}, chair),
    ):
        assert numbers(search(client, agent, q="printer", **asked)) == [expected]
        assert numbers(search(client, agent, **asked)) == [expected]
    assert numbers(search(client, agent, q="printer", host="srv")) == []
    assert search(client, agent)["items"] == []


@pytest.mark.parametrize(("name", "value"), [("state", "odd"), ("priority", "P9"), ("kind", "change"), ("host", "!"), ("cursor", "x"), ("limit", "0")])
def test_an_impossible_value_is_named(client: TestClient, agent: dict[str, str], name: str, value: str) -> None:
    answer = client.get("/api/v1/search", params={"q": "x", name: value}, headers=agent)
    assert answer.status_code == 422
    assert name in answer.text


def test_a_search_goes_on_by_its_cursor(client: TestClient, agent: dict[str, str]) -> None:
    expected = {opened(client, agent, title=f"Printer {place}") for place in range(5)}
    first = search(client, agent, q="printer", limit=3)
    rest = search(client, agent, q="printer", limit=3, cursor=first["next"])
    assert rest["next"] is None
    assert {*numbers(first), *numbers(rest)} == expected
    assert len(numbers(first) + numbers(rest)) == 5


def test_solved_tickets_about_the_same_are_offered(client: TestClient, agent: dict[str, str]) -> None:
    before = opened(client, agent, title="Spooler of till 7 stuck")
    act(client, agent, before, "resolve", code="workaround", solution="Emptied its folder.")
    now = opened(client, agent, title="Spooler of till 7 stuck again")
    answer = client.get(f"/api/v1/tickets/{now}/similar", headers=agent)
    (item,) = answer.json()["items"]
    assert {name: item[name] for name in ("number", "state", "code", "solution")} == {
        "number": before, "state": "resolved", "code": "workaround", "solution": "Emptied its folder.",
    }
    assert datetime.fromisoformat(item["resolved_at"]).tzinfo is not None
    assert client.get("/api/v1/tickets/INC-99/similar", headers=agent).status_code == 404
    past = client.get(f"/api/v1/tickets/{now}/similar", params={"as_of": "2020-01-01T00:00:00Z"}, headers=agent)
    assert past.status_code == 404


def test_the_workload_now_and_then(client: TestClient, agent: dict[str, str], house: House) -> None:
    house.directory.open_account(login="nora", name="Nora", role="agent", password="a long enough one", team="Shop")
    number = opened(client, agent, title="One", team="Shop")
    then = client.get("/api/v1/workload", headers=agent).json()["position"]
    act(client, agent, number, "assign", assignee="nora")
    found = client.get("/api/v1/workload", headers=agent).json()
    hers = next(load for load in found["people"] if load["name"] == "Nora")
    assert (hers["open"], hers["by_priority"]["P3"], found["nobody"]["open"], found["total"]["open"]) == (1, 1, 0, 1)
    assert [load["name"] for load in found["teams"]] == ["Shop"]
    past = client.get("/api/v1/workload", params={"as_of": then}, headers=agent).json()
    assert (past["nobody"]["open"], past["total"]["open"], past["position"]) == (1, 1, then)
    before = client.get("/api/v1/workload", params={"as_of": "2020-01-01T00:00:00Z"}, headers=agent).json()
    assert (before["total"]["open"], before["people"]) == (0, [])
    assert client.get("/api/v1/workload", params={"as_of": "noon"}, headers=agent).status_code == 422


def test_both_are_in_the_terminal(client: TestClient, agent: dict[str, str], house: House, run: Run) -> None:  # noqa: F811 - the fixture
    number = opened(client, agent, title="Printer jammed", description="The fuser, as ever")
    data = ["--data", str(house.settings.data)]
    code, out, _ = run(["search", "fuser", "--json", *data])
    assert code == 0
    assert json.loads(out)["items"][0]["snippet"] == "The <mark>fuser</mark>, as ever"
    _, out, _ = run(["search", "printer state:open", "--limit", "1", *data])
    assert re.search(rf"{number} +P3 +Printer jammed", out)
    assert "The fuser" in out
    _, out, _ = run(["search", "zebra", *data])
    assert "No ticket fits" in out
    _, out, _ = run(["search", "--help"])
    assert "state:open" in out
    _, out, _ = run(["workload", *data])
    assert re.search(r"nobody +1 ", out)
    _, out, _ = run(["workload", "--json", "--as-of", datetime(2020, 1, 1, tzinfo=UTC).isoformat(), *data])
    assert json.loads(out)["total"]["open"] == 0
