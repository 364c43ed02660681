"""Imported tickets over HTTP: they say where they come from, and measures can be asked with and without them."""

from collections.abc import Callable
from datetime import UTC, datetime

from starlette.testclient import TestClient

from api.house import House
from api.move_in.importing import import_all
from api.move_in.planning import Draft, Who
from engine.incident import IncidentImported
from engine.priority import Level, Priority
from tests.api.conftest import Headers

THEN = datetime(2024, 5, 3, 14, tzinfo=UTC)


def bring(house: House) -> None:
    event = IncidentImported(
        number="", system="otrs", old_number="40012", title="It hums", impact=Level.LOW, urgency=Level.LOW, priority=Priority.P5,
        state="in_progress", opened_at=THEN, channel="mail",
    )
    draft = Draft(2, "incident", event, Who("Ann", "ann@example.com"), None)
    assert [outcome.number for outcome in import_all(house.ledger, [draft, draft], house.directory.handle)] == ["INC-1", None]


def test_a_ticket_says_where_it_comes_from_and_takes_commands(house: House, client: TestClient, headers: Callable[[str], Headers]) -> None:
    bring(house)
    after = {**headers("agent"), "Tocsin-Position": str(house.ledger.last_position)}
    shown = client.get("/api/v1/tickets/INC-1", headers=after).json()
    assert (shown["imported"], shown["requester"]) == ({"system": "otrs", "old_number": "40012"}, "Ann")
    answered = client.post("/api/v1/incidents/INC-1/resolve", json={"code": "solved", "solution": "Oil."}, headers=headers("agent"))
    assert (answered.status_code, answered.json()["imported"]) == (200, shown["imported"])


def test_measures_are_asked_with_or_without(house: House, client: TestClient, headers: Callable[[str], Headers]) -> None:
    bring(house)
    after = {**headers("agent"), "Tocsin-Position": str(house.ledger.last_position)}
    window = {"from": "2024-05-01T00:00:00Z", "to": "2024-06-01T00:00:00Z"}
    counts = {}
    for asked in ("include", "exclude", "only"):
        opened = client.get("/api/v1/kpis", params={**window, "imported": asked}, headers=after).json()["total"]["opened"]
        counts[asked] = (opened["count"], opened["imported"])
        listed = client.get("/api/v1/kpis/tickets", params=opened["query"], headers=after).json()["items"]
        assert len(listed) == opened["count"]
    assert counts == {"include": (1, 1), "exclude": (0, 0), "only": (1, 1)}
    refused = client.get("/api/v1/kpis", params={"imported": "maybe"}, headers=after)
    assert (refused.status_code, "imported: expected include, exclude or only" in refused.text) == (422, True)
