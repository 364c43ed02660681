"""`tocsin deadletters` and `tocsin views`, and what the server tells of parked events."""

import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.command import opening
from api.house import House, open_house
from engine.event import Fact
from engine.incident import IncidentOpened
from projections import dead_letters, work_queue
from projections.registry import PROJECTIONS
from projections.runner import Runner
from tests.api.conftest import Headers
from tests.api.test_terminal import Run, refused, run  # noqa: F401  # a fixture
from tests.process.server import body
from tests.stores import settings_at

HeadersOf = Callable[[str], Headers]


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    if any(isinstance(fact.event, IncidentOpened) and fact.event.title == "bad" for fact in facts):
        raise KeyError("bad")
    work_queue.PROJECTION.apply(connection, facts)


REFUSING = tuple(replace(one, apply=_apply) if one.name == "work_queue" else one for one in PROJECTIONS)


@pytest.fixture
def data(tmp_path: Path, house: House, headers: HeadersOf, capsys: pytest.CaptureFixture[str]) -> Path:
    """A store with one ticket that the queue cannot take; its server has ended."""
    app = create_app(house, Runner(house.ledger, tmp_path / "data" / "views.db", projections=REFUSING))
    with TestClient(app, raise_server_exceptions=False) as client:
        for title in ("good", "bad"):
            answer = client.post("/api/v1/incidents", json={"title": title}, headers=headers("agent"))
        position = {"Tocsin-Position": answer.headers["Tocsin-Position"], **headers("agent")}
        listed = client.get("/api/v1/queue", headers=position).json()
        assert [item["number"] for item in listed["items"]] == ["INC-1"]
        for path in ("/api/v1/search?q=bad", "/api/v1/tickets/INC-2", "/api/v1/tickets/INC-2/history", "/api/v1/changes"):
            assert client.get(path, headers=position).status_code < 500, path
        state = client.get("/readyz")
        assert (state.status_code, state.json()["dead_letters"], state.json()["checks"]["views"]) == (200, 1, "ok")
        text = client.get("/metrics").text
        assert 'tocsin_projections_dead_letters{projection="work_queue"} 1.0' in text
        assert 'tocsin_projections_dead_letters{projection="people"} 0.0' in text
        assert 'tocsin_projections_lag_seconds{projection="people"} 0.0' in text
        folded = house.ledger.last_position
        assert f'tocsin_projections_folded_events_total{{projection="work_queue"}} {folded}.0' in text
        assert "tocsin_projections_rebuilding 0.0" in text
        assert "tocsin_projections_folding 1.0" in text
    assert "an event is parked" in capsys.readouterr().out
    return tmp_path / "data"


def test_parked_events_are_listed_and_gone_after_a_retry(run: Run, data: Path) -> None:  # noqa: F811
    _, out, _ = run(["deadletters", "list", "--data", data, "--json"])
    found = json.loads(out)
    assert (found["total"], found["stopped"]) == (1, {})
    [letter] = found["items"]
    assert (letter["projection"], letter["ticket"], letter["type"]) == ("work_queue", "INC-2", "incident.opened.v1")
    assert letter["reason"].startswith("KeyError at api/test_views_command.py:")
    _, out, _ = run(["deadletters", "list", "--data", data])
    assert "INC-2" in out
    refused(run(["deadletters", "retry", "colours", "--data", data]), "no projection colours")
    assert run(["deadletters", "retry", "people", "--data", data])[:2] == (0, "nothing is parked\n")
    code, out, _ = run(["deadletters", "retry", "--data", data])
    assert (code, out.splitlines()[1]) == (0, "nothing is parked any more")
    assert out.startswith("rebuilt work_queue up to position ")
    assert run(["deadletters", "list", "--data", data])[:2] == (0, "nothing is parked\n")
    assert [item["number"] for item in json.loads(run(["queue", "--json", "--data", data])[1])["items"]] == ["INC-1", "INC-2"]
    assert run(["rebuild", "--verify", "--data", data])[0] == 0


def test_a_retry_with_nothing_mended_says_what_is_left(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(opening, "Runner", lambda ledger, path: Runner(ledger, path, projections=REFUSING))
    code, out, _ = run(["deadletters", "retry", "work_queue", "--data", data])
    assert (code, out.splitlines()[1:]) == (1, ["still parked for work_queue: 1"])


def test_a_stopped_view_is_red(
    house: House, headers: HeadersOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST_STREAMS", 1)
    views = Runner(house.ledger, tmp_path / "data" / "views.db", projections=REFUSING)
    with TestClient(create_app(house, views), raise_server_exceptions=False) as client:
        for _ in range(2):
            answer = client.post("/api/v1/incidents", json={"title": "bad"}, headers=headers("agent"))
        assert views.wait_for(int(answer.headers["Tocsin-Position"]))
        while views.failure is None:
            assert not views.wait_for(1 << 60, timeout=0.01)
        state = client.get("/readyz")
        assert state.status_code == 503
        assert state.json()["checks"]["views"].startswith("work_queue stopped at event ")
        assert 'tocsin_projections_stopped{projection="work_queue"} 1.0' in client.get("/metrics").text


def test_a_node_begins_with_a_copy_of_anothers_views(run: Run, data: Path, tmp_path: Path) -> None:  # noqa: F811
    copy = tmp_path / "copy"
    assert run(["deadletters", "retry", "--data", data])[0] == 0
    code, out, _ = run(["views", "copy", copy, "--data", data])
    assert (code, out.startswith(f"{copy}  ")) == (0, True)
    assert copy.stat().st_mode & 0o777 == 0o600
    refused(run(["views", "copy", copy, "--data", data]), "there is a file already")
    refused(run(["views", "take", copy, "--data", data]), "there are views already")
    run(["token", "create", "--role", "agent", "--data", data])
    for file in data.glob("views.db*"):
        file.unlink()
    code, out, _ = run(["views", "take", copy, "--data", data])
    assert (code, out.startswith("taken at position ")) == (0, True)
    assert (data / "views.db").resolve().stat().st_mode & 0o777 == 0o600
    taken, head = (int(word.strip(",\n")) for word in out.split() if word.strip(",\n").isdigit())
    assert taken < head
    assert run(["rebuild", "--verify", "--data", data])[0] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE tracking SET store = 'another'", "they are of another"),
        ("UPDATE tracking SET digest = x'00' WHERE name = 'people'", "people is at position"),
        ("UPDATE tracking SET position = 1000 WHERE name = 'people'", "where this log is not yet"),
        ("UPDATE tracking SET version = 0 WHERE name = 'people'", "people is 0 there and"),
        ("DELETE FROM tracking WHERE name = 'people'", "people is missing there and"),
        ("DROP TABLE tracking", "no such table"),
        (None, "a file made by tocsin views copy"),
    ],
)
def test_what_does_not_belong_here_is_not_taken(run: Run, data: Path, tmp_path: Path, change: str | None, told: str) -> None:  # noqa: F811
    copy = tmp_path / "copy"
    assert run(["views", "copy", copy, "--data", data])[0] == 0
    if change is None:
        copy.write_bytes(b"no database, whatever it was before" * 200)
    else:
        with sqlite3.connect(copy) as file:
            file.execute(change)
        file.close()
    for file_ in data.glob("views.db*"):
        file_.unlink()
    refused(run(["views", "take", copy, "--data", data]), told)
    assert sorted(found.name for found in data.glob("views.db*") if not found.name.endswith(".lock")) == []


def test_there_is_nothing_to_copy_before_there_are_views(run: Run, tmp_path: Path) -> None:  # noqa: F811
    open_house(settings_at(tmp_path / "data")).close()
    refused(run(["views", "copy", tmp_path / "copy", "--data", tmp_path / "data"]), "no views to copy yet")
    assert not (tmp_path / "copy").exists()


PAGES = (
    "/api/v1/queue", "/api/v1/tickets/INC-1", "/api/v1/tickets/INC-1/history", "/api/v1/tickets/INC-2/why?field=priority", "/api/v1/alerts",
    "/api/v1/alerts/ALT-1", "/api/v1/deliveries", "/api/v1/monitoring-events", "/api/v1/changes", "/api/v1/search?q=printer", "/api/v1/notices",
    "/api/v1/services", "/api/v1/teams", "/api/v1/views", "/api/v1/kpis", "/api/v1/workload", "/metrics", "/console", "/console/tickets/INC-1",
    "/console/tickets/INC-2", "/console/alerts", "/console/alerts/ALT-1", "/console/deliveries", "/console/measures", "/console/workload",
    "/console/search?q=printer", "/console/notices", "/console/people", "/console/teams", "/console/services", "/console/connect",
    "/console/rules", "/console/new", "/portal",
)


@pytest.mark.parametrize("name", [projection.name for projection in PROJECTIONS])
def test_no_page_fails_where_one_view_took_nothing(house: House, headers: HeadersOf, tmp_path: Path, name: str) -> None:
    def apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
        raise KeyError("no")

    views = Runner(
        house.ledger, tmp_path / "data" / "views.db",
        projections=tuple(replace(one, apply=apply) if one.name == name else one for one in PROJECTIONS),
    )
    house.directory.open_account(login="nora", name="Nora Berg", role="admin", password="a long password")
    with TestClient(create_app(house, views), raise_server_exceptions=False) as client:
        assert client.post("/hooks/alertmanager", json=body("web-1"), headers=headers("monitor:alertmanager")).status_code == 202
        told = {"title": "The printer", "description": "It burns."}
        assert client.post("/api/v1/incidents", json=told, headers=headers("admin")).status_code == 201
        assert views.wait_for(house.ledger.last_position)
        form = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/console/sign-in").text)
        assert form is not None
        client.post("/console/sign-in", data={"csrf_token": form.group(1), "login": "nora", "password": "a long password"})
        for path in PAGES:
            as_program = headers("admin") if path.startswith("/api/") else {}
            status = client.get(path, headers=as_program).status_code
            assert status < 500, path
            assert status == 200 or "INC-" in path or "ALT-" in path, path
