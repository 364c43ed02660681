"""Services, teams and people over HTTP."""

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.house import House
from tests.api.conftest import Headers

HeadersOf = Callable[[str], Headers]


def test_a_service_is_registered_changed_and_read(client: TestClient, headers: HeadersOf) -> None:
    body = {"name": "shop/eu", "owner_team": "Web", "tier": 1, "depends_on": ["db"]}
    made = client.post("/api/v1/services", json=body, headers=headers("lead"))
    assert (made.status_code, made.headers["Location"]) == (201, "/api/v1/services/shop%2Feu")
    again = client.post("/api/v1/services", json={"name": "shop/eu", "tier": 2}, headers=headers("lead"))
    assert (again.status_code, again.json()["tier"], again.json()["owner_team"], again.json()["version"]) == (200, 2, "Web", 2)
    same = client.post("/api/v1/services", json={"name": "shop/eu", "tier": 2}, headers=headers("lead"))
    assert (same.status_code, same.json()["version"]) == (200, 2)
    client.post("/api/v1/services", json={"name": "db"}, headers=headers("lead"))
    opened = client.post("/api/v1/incidents", json={"title": "x", "service": "shop/eu"}, headers=headers("agent"))
    seen = {**headers("agent"), "Tocsin-Position": opened.headers["Tocsin-Position"]}
    row = client.get(made.headers["Location"], headers=seen).json()
    assert (row["depends_on"], row["open_tickets"], row["tickets"]) == (["db"], 1, 1)
    assert client.get("/api/v1/services/db", headers=seen).json()["needed_by"] == ["shop/eu"]
    first = client.get("/api/v1/services?limit=1", headers=seen).json()
    second = client.get(f"/api/v1/services?limit=1&cursor={first['next']}", headers=seen).json()
    assert [item["name"] for item in first["items"] + second["items"]] == ["db", "shop/eu"]
    assert client.get("/api/v1/services?owner=Web", headers=seen).json()["items"][0]["name"] == "shop/eu"
    assert client.get("/api/v1/services/nothing", headers=seen).status_code == 404


def test_a_name_that_nobody_registered_is_heard_until_it_is_adopted(client: TestClient, headers: HeadersOf) -> None:
    answer = client.post("/api/v1/incidents", json={"title": "x", "service": "cart"}, headers=headers("agent"))
    seen = {**headers("lead"), "Tocsin-Position": answer.headers["Tocsin-Position"]}
    (heard,) = client.get("/api/v1/services", headers=seen).json()["heard"]
    assert (heard["name"], heard["alerts"], heard["tickets"]) == ("cart", 0, 1)
    answer = client.post("/api/v1/services", json={"name": "cart"}, headers=headers("lead"))
    seen["Tocsin-Position"] = answer.headers["Tocsin-Position"]
    found = client.get("/api/v1/services", headers=seen).json()
    assert (found["heard"], found["items"][0]["tickets"]) == ([], 1)


def test_teams_say_their_level_and_members(client: TestClient, headers: HeadersOf, house: House) -> None:
    house.directory.open_account(login="nora", name="Nora", role="agent", password="a long password", team="Web")
    key = {**headers("admin"), "Idempotency-Key": "1"}
    made = client.post("/api/v1/teams", json={"name": "Web", "level": 2}, headers=key)
    assert made.json() == {"name": "Web", "level": 2, "email": None, "version": 1}
    assert client.post("/api/v1/teams", json={"name": "Web", "level": 2}, headers=key).status_code == 201
    seen = {**headers("agent"), "Tocsin-Position": made.headers["Tocsin-Position"]}
    (row,) = client.get("/api/v1/teams", headers=seen).json()["items"]
    assert (row["name"], row["level"], row["members"]) == ("Web", 2, 1)
    assert ("nora", "Web") in {(item["login"], item["team"]) for item in client.get("/api/v1/users", headers=seen).json()["items"]}


@pytest.mark.parametrize(("path", "body", "named"), [
    ("teams", {"name": "Web", "level": 4}, "level"),
    ("teams", {"name": "Web", "leader": "x"}, "leader"),
    ("teams", {"name": "We\nb"}, "name"),
    ("services", {"name": "shop", "tier": "high"}, "tier"),
    ("services", {"name": "shop", "depends_on": ["shop"]}, "depends_on"),
    ("services", {"name": " "}, "name"),
])
def test_a_wrong_member_is_named(client: TestClient, headers: HeadersOf, path: str, body: dict[str, object], named: str) -> None:
    answer = client.post(f"/api/v1/{path}", json=body, headers=headers("lead"))
    assert answer.status_code == 422
    assert named in answer.text
