"""Clients of real servers: many threads that post, and what they were answered."""

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from api.house import open_house
from api.settings import load_settings
from engine.person import Role
from tests.process.server import COMMAND, Server

CLIENTS: Final = 12


@contextlib.contextmanager
def started(place: Path, roles: Sequence[str], settings: Mapping[str, str], *, command: Sequence[str] = COMMAND) -> Iterator[list[Server]]:
    """Processes of these roles, each with a folder of its own."""
    with contextlib.ExitStack() as stack:
        servers = []
        for number, role in enumerate(roles):
            (place / str(number)).mkdir()
            servers.append(Server(place / str(number), settings=settings, role=role, command=command))
            stack.callback(servers[-1].close)
            servers[-1].start()
        yield servers


def token_of(server: Server, role: Role, source: str | None = None) -> str:
    """A token, made in this process beside the running server."""
    house = open_house(load_settings({**server.settings}, data=server.data), first_admin=False)
    try:
        return house.directory.create_token(role=role, source=source)
    finally:
        house.close()


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Client:
    """Connections that are kept open, one to each server for each thread."""

    def __init__(self, token: str) -> None:
        self._token, self._local = token, threading.local()

    def post(self, server: Server, path: str, content: object, **headers: str) -> Reply:
        return self.ask("POST", server, path, json.dumps(content).encode(), {name.replace("_", "-"): value for name, value in headers.items()})

    def get(self, server: Server, path: str) -> Reply:
        try:
            return self.ask("GET", server, path, None, {})
        except ConnectionError:  # one that lay idle for long is closed by the server
            return self.ask("GET", server, path, None, {})

    def ask(self, method: str, server: Server, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        kept: dict[int, http.client.HTTPConnection] = self._local.__dict__.setdefault("kept", {})
        connection = kept.setdefault(server.port, server.connect())
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **headers})
            said = connection.getresponse()
            return Reply(said.status, said.read(), {name.lower(): value for name, value in said.getheaders()})
        except (OSError, http.client.HTTPException):
            connection.close()
            del kept[server.port]
            raise


def at_once(act: Callable[[int], None], numbers: Iterable[int], *, clients: int = CLIENTS) -> None:
    """Do it for each number, some at the same time; raises what one of them raised."""
    with ThreadPoolExecutor(clients) as pool:
        for done in pool.map(act, numbers):
            assert done is None
