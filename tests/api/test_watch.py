"""The live stream: it tells of each change after the views have it, and can be resumed."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from api.app import create_app
from api.command.serving import listen
from api.house import House
from projections.runner import Runner

Headers = Callable[[str], dict[str, str]]
PATIENCE = 20.0


@pytest.fixture
def address(house: House, tmp_path: Path) -> Iterator[str]:
    """A real server: a test client can't read a stream that does not end."""
    bound = listen("127.0.0.1", 0)
    runner = Runner(house.ledger, tmp_path / "data" / "views.db")
    config = uvicorn.Config(create_app(house, runner), log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    started, original = threading.Event(), server.startup

    async def startup(sockets: Any = None) -> None:
        await original(sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]  # tells when it accepts
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    assert started.wait(PATIENCE)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join(PATIENCE)


def messages(response: httpx2.Response) -> Iterator[tuple[int, dict[str, Any]]]:
    """(id, content) of each message."""
    identity = 0
    for line in response.iter_lines():
        if line.startswith("id: "):
            identity = int(line.removeprefix("id: "))
        elif line.startswith("data: "):
            yield identity, json.loads(line.removeprefix("data: "))


def test_a_change_is_told_and_the_stream_resumes_after_it(address: str, headers: Headers) -> None:
    agent = headers("agent")
    with httpx2.Client(base_url=address, timeout=PATIENCE) as client, client.stream("GET", "/api/v1/stream", headers=agent) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        with httpx2.Client(base_url=address, timeout=PATIENCE) as other:
            other.post("/api/v1/incidents", json={"title": "first"}, headers=agent)
        identity, content = 0, {}
        for line in lines:
            if line.startswith("id: "):
                identity = int(line.removeprefix("id: "))
            if line.startswith("data: "):
                content = json.loads(line.removeprefix("data: "))
                if content["tickets"]:
                    break
        assert content["tickets"] == ["INC-1"]
        assert content["position"] == identity
    with httpx2.Client(base_url=address, timeout=PATIENCE) as client:
        client.post("/api/v1/incidents", json={"title": "second"}, headers=agent)
        with client.stream("GET", "/api/v1/stream", headers={**agent, "Last-Event-ID": str(identity)}) as stream:
            _, missed = next(messages(stream))
    assert missed["tickets"] == ["INC-2"]


def test_only_readers_listen(address: str, headers: Headers) -> None:
    with httpx2.Client(base_url=address, timeout=PATIENCE) as client:
        assert client.get("/api/v1/stream").status_code == 401
        assert client.get("/api/v1/stream", headers=headers("monitor:grafana")).status_code == 403
        assert client.get("/api/v1/stream", headers={**headers("agent"), "Last-Event-ID": "x"}).status_code == 422
