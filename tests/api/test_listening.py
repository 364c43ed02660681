"""How a port is listened on: without TCP_NODELAY on each connection, a kept-open one waits 40 ms for every answer."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from api.command.serving import listen
from api.settings import BadSettings
from tests.process.server import free_port


class Accepted(asyncio.Protocol):
    """Notes whether a connection waits to gather small packets."""

    def __init__(self, noted: "asyncio.Future[int]") -> None:
        self._noted = noted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        accepted = transport.get_extra_info("socket")
        self._noted.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        transport.close()


async def nodelay(bound: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    noted: asyncio.Future[int] = loop.create_future()
    server = await loop.create_server(lambda: Accepted(noted), sock=bound)
    async with server:
        _, writer = await asyncio.open_connection(*bound.getsockname()[:2])
        found = await noted
        writer.close()
    return found


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("shared", [False, True])
def test_small_answers_are_sent_at_once(run: Callable[..., Any], shared: bool) -> None:
    assert run(nodelay(listen("127.0.0.1", free_port(), shared=shared)))


def test_a_socket_that_does_not_name_its_protocol_is_the_trap() -> None:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
    bound.bind(("127.0.0.1", 0))
    assert not asyncio.run(nodelay(bound))


def test_a_port_is_shared_only_by_those_that_say_so() -> None:
    port = free_port()
    with listen("127.0.0.1", port, shared=True) as one, listen("127.0.0.1", port, shared=True) as two:
        one.listen()
        two.listen()
        with pytest.raises(BadSettings, match="cannot listen"):
            listen("127.0.0.1", port)
