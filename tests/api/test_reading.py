"""Reading: as of an instant, pages, reading what one wrote, and the log."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.house import open_house
from api.settings import BadSettings, load_settings
from engine.clock import SimulatedClock, rfc3339
from projections.runner import Runner
from tests.stores import settings_at

Headers = Callable[[str], dict[str, str]]


@pytest.fixture
def clock(house: object) -> SimulatedClock:
    """A clock that stands still, put into the house before the application starts."""
    standing = SimulatedClock(load_settings({"TOCSIN_CLOCK": "2027-03-02T10:00:00Z"}).clock, running=False)  # type: ignore[arg-type]  # it is set
    house.clock = house.ledger.clock = standing  # type: ignore[attr-defined]  # the fixture of conftest.py
    return standing


def test_any_view_as_of_any_instant(clock: SimulatedClock, client: TestClient, headers: Headers) -> None:
    agent, before = headers("agent"), rfc3339(clock.now())
    clock.advance(60)
    client.post("/api/v1/incidents", json={"title": "first"}, headers=agent)
    between = rfc3339(clock.now())
    clock.advance(60)
    client.post("/api/v1/incidents", json={"title": "second"}, headers=agent)
    client.post("/api/v1/incidents/INC-1/cancel", json={"reason": "mistake"}, headers=agent)

    def numbers(as_of: str) -> list[str]:
        return [item["number"] for item in client.get("/api/v1/queue", params={"as_of": as_of}, headers=agent).json()["items"]]

    assert numbers(before) == []
    assert numbers(between) == ["INC-1"]
    assert numbers(rfc3339(clock.now())) == ["INC-2"]
    then = client.get("/api/v1/tickets/INC-1", params={"as_of": between}, headers=agent).json()
    assert (then["state"], then["version"]) == ("new", 1)
    assert client.get("/api/v1/tickets/INC-2", params={"as_of": between}, headers=agent).status_code == 404
    past = client.get("/api/v1/tickets/INC-1/history", params={"as_of": between}, headers=agent).json()
    assert len(past["items"]) == 1


@pytest.mark.parametrize("value", ["yesterday", "2027-03-02", "2027-03-02T10:00:00", "10:00", "0000-00-00T00:00:00Z"])
def test_an_instant_needs_its_zone(client: TestClient, headers: Headers, value: str) -> None:
    answer = client.get("/api/v1/queue", params={"as_of": value}, headers=headers("agent"))
    assert answer.status_code == 422
    assert answer.json()["field"] == "as_of"


def test_a_plus_sign_that_was_not_encoded_is_understood(client: TestClient, headers: Headers) -> None:
    assert client.get("/api/v1/queue?as_of=2027-03-02T10:00:00+01:00", headers=headers("agent")).status_code == 200


def test_pages_joined_are_the_whole_list(client: TestClient, headers: Headers) -> None:
    agent = headers("agent")
    for place in range(23):
        impact = ("high", "medium", "low")[place % 3]
        last = client.post("/api/v1/incidents", json={"title": f"t{place}", "impact": impact}, headers=agent)
    agent = {**agent, "Tocsin-Position": last.headers["Tocsin-Position"]}
    for sort in ("priority", "newest", "number", "service", "updated"):
        whole = client.get(f"/api/v1/queue?sort={sort}&limit=100", headers=agent).json()
        assert whole["next"] is None
        paged, cursor = [], ""
        while True:
            page = client.get(f"/api/v1/queue?sort={sort}&limit=5{cursor}", headers=agent).json()
            paged += page["items"]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert paged == whole["items"]
        assert len(paged) == 23
    assert client.get("/api/v1/queue?cursor=nonsense", headers=agent).json()["field"] == "cursor"
    assert client.get("/api/v1/queue?limit=0", headers=agent).status_code == 422
    assert client.get("/api/v1/queue?sort=colour", headers=agent).json()["field"] == "sort"


def test_what_was_written_is_read_back_by_its_position(client: TestClient, headers: Headers) -> None:
    agent = headers("agent")
    for place in range(30):
        answer = client.post("/api/v1/incidents", json={"title": f"t{place}"}, headers=agent)
        position = {"Tocsin-Position": answer.headers["Tocsin-Position"], **agent}
        assert client.get(f"/api/v1/tickets/{answer.json()['number']}", headers=position).json()["title"] == f"t{place}"


def test_a_position_of_the_future_is_answered_503(client: TestClient, headers: Headers) -> None:
    answer = client.get("/api/v1/queue", headers={"Tocsin-Position": "999999", **headers("agent")})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


def test_a_view_of_what_was_recorded_refuses_the_other_clock(client: TestClient, headers: Headers) -> None:
    answer = client.get("/api/v1/queue?basis=occurred", headers=headers("agent"))
    assert answer.status_code == 400


def test_the_log_is_read_by_page_and_in_order(client: TestClient, headers: Headers) -> None:
    auditor, positions, after = headers("auditor"), [], 0
    while True:
        page = client.get(f"/api/v1/log?after={after}&limit=3", headers=auditor).json()
        positions += [item["position"] for item in page["items"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert positions == sorted(positions)
    assert len(positions) == page["position"]


def test_a_position_beyond_all_numbers_is_refused(client: TestClient, headers: Headers) -> None:
    assert client.get(f"/api/v1/log?after={10**21}", headers=headers("auditor")).status_code == 422
    assert client.get("/api/v1/stream", headers={"Last-Event-ID": "9" * 30, **headers("agent")}).status_code == 422


def test_every_instant_of_the_log_has_microseconds_and_z(client: TestClient, headers: Headers) -> None:
    body = {"alerts": [{"status": "firing", "labels": {"alertname": "a"}, "startsAt": "2026-03-02T10:00:00Z"}]}
    client.post("/hooks/alertmanager", json=body, headers=headers("monitor:alertmanager"))
    said = client.get("/api/v1/log?limit=1000", headers=headers("auditor")).text
    assert '"started_at":"2026-03-02T10:00:00.000000Z"' in said
    assert re.findall(r'"\d{4}-\d\d-\d\dT[^"]*(?<!\.\d{6}Z)"', said) == []


def test_a_list_holds_no_empty_stand_ins_for_what_only_one_record_shows(client: TestClient, headers: Headers) -> None:
    written = client.post("/api/v1/incidents", json={"title": "a", "description": "long"}, headers=headers("agent"))
    position = {"Tocsin-Position": written.headers["Tocsin-Position"], **headers("agent")}
    (item,) = client.get("/api/v1/queue", headers=position).json()["items"]
    assert "description" not in item
    assert client.get("/api/v1/tickets/INC-1", headers=position).json()["description"] == "long"


@pytest.mark.parametrize(
    "query",
    ["as_of=0001-01-01T00:00:00Z", "to=0001-01-02T00:00:00Z", "from=0001-01-01T00:00:00Z",
     "from=2026-01-01T00:00:00Z&to=9999-12-31T23:59:59Z&group_by=day&zone=Asia/Tokyo"],
)
def test_a_window_outside_the_calendar_is_refused_by_name(client: TestClient, headers: Headers, query: str) -> None:
    answer = client.get(f"/api/v1/kpis?{query}", headers=headers("agent"))
    assert answer.status_code == 422
    assert answer.json()["field"] in ("from", "to")


def test_a_value_is_explained_down_to_what_came_from_outside(client: TestClient, headers: Headers) -> None:
    body = {"alerts": [{"status": "firing", "labels": {"alertname": "a", "severity": "critical", "service": "s"}, "startsAt": "2026-03-02T10:00:00Z"}]}
    answer = client.post("/hooks/alertmanager", json=body, headers=headers("monitor:alertmanager"))
    position = {"Tocsin-Position": answer.headers["Tocsin-Position"], **headers("agent")}
    explained = client.get("/api/v1/tickets/INC-1/why?field=priority", headers=position).json()["fields"]
    assert [reason["type"] for reason in explained[0]["chain"]] == [
        "incident.opened.v1", "correlation.incident_opened.v1", "alert.episode_opened.v1", "delivery.received.v1",
    ]
    assert explained[0]["chain"][0]["rule"] == "reference"
    assert client.get("/api/v1/tickets/INC-1/why?field=colour", headers=position).json()["field"] == "field"


def test_the_openapi_document_and_its_page_work_offline(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert "/api/v1/queue" in document["paths"]
    page = client.get("/docs").text
    assert "https://cdn" not in page


def test_metrics_use_closed_sets_of_labels(client: TestClient, headers: Headers) -> None:
    client.post("/api/v1/incidents", json={"title": "x"}, headers=headers("agent"))
    client.get("/api/v1/tickets/INC-1", headers=headers("agent"))
    text = client.get("/metrics").text
    assert "tocsin_projections_lag_events" in text
    assert "tocsin_engine_log_position_events" in text
    assert 'route="/api/v1/tickets/{number}"' in text
    assert "INC-1" not in text


class TestTheClock:
    """`TOCSIN_CLOCK` is for tests and demos, and never for a store of the real clock."""

    def test_it_is_shown_and_its_store_opens_again(self, tmp_path: Path) -> None:
        settings = settings_at(tmp_path / "data", {"TOCSIN_CLOCK": "2026-03-02T10:00:30Z"})
        house = open_house(settings)
        with TestClient(create_app(house, Runner(house.ledger, tmp_path / "data" / "views.db"))) as client:
            state = client.get("/readyz").json()
        assert state["clock"] == "simulated"
        assert state["now"].startswith("2026-03-02T10:00:3")
        again = open_house(settings_at(tmp_path / "data"))
        assert again.clock.now() - house.clock.now() < timedelta(minutes=1)
        again.close()

    def test_it_never_starts_before_the_last_event(self, tmp_path: Path) -> None:
        """So a command beside the server, with the same environment, sees what the server recorded since."""
        clock = SimulatedClock(datetime(2026, 3, 2, 10, tzinfo=UTC), running=False)
        house = open_house(settings_at(tmp_path / "data"), clock=clock)
        clock.advance(3_600)
        house.directory.create_token(role="agent")
        house.close()
        again = open_house(settings_at(tmp_path / "data", {"TOCSIN_CLOCK": "2026-03-02T10:00:00Z"}))
        assert again.clock.now() >= clock.now()
        assert again.clock_trouble() is None
        again.close()

    def test_a_store_of_the_real_clock_refuses_it(self, tmp_path: Path) -> None:
        open_house(settings_at(tmp_path / "data")).close()
        with pytest.raises(BadSettings, match="TOCSIN_CLOCK"):
            open_house(settings_at(tmp_path / "data", {"TOCSIN_CLOCK": "2026-03-02T10:00:30Z"}))


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"TOCSIN_DATTA": "x"}, "did you mean TOCSIN_DATA"),
        ({"TOCSIN_CLOCK": "2026-03-02T10:00:30"}, "TOCSIN_CLOCK: expected an instant with its zone"),
        ({"TOCSIN_CLOCK": "5"}, "TOCSIN_CLOCK: expected an instant with its zone"),
        ({"TOCSIN_MAX_BODY_BYTES": "lots"}, "TOCSIN_MAX_BODY_BYTES"),
        ({"TOCSIN_MAX_BODY_BYTES": "0"}, "TOCSIN_MAX_BODY_BYTES"),
        ({"TOCSIN_SETTINGS": "/nowhere/tocsin.toml"}, "TOCSIN_SETTINGS"),
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str], told: str) -> None:
    with pytest.raises(BadSettings, match=told):
        load_settings(environment)


@pytest.mark.parametrize(("content", "told"), [(b'dta = "x"', "dta: no such setting; did you mean data"), (b'data = "\xff"', "TOML")])
def test_a_wrong_settings_file_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "tocsin.toml"
    file.write_bytes(content)
    with pytest.raises(BadSettings, match=told):
        load_settings({"TOCSIN_SETTINGS": str(file)})
