"""A server that is told to stop ends its live streams and goes, without an error."""

import signal
from pathlib import Path

import pytest

from tests.process.server import Server, run

pytestmark = pytest.mark.process


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_open_stream_does_not_hold_up_the_end(tmp_path: Path, how: signal.Signals) -> None:
    server = Server(tmp_path)
    server.start()
    token = run("token", "create", "--role", "agent", "--data", str(server.data))
    connection = server.connect()
    connection.request("GET", "/api/v1/stream", headers={"Authorization": f"Bearer {token}"})
    stream = connection.getresponse()
    assert stream.status == 200
    assert stream.readline().startswith(b"retry:")
    server.tell(how)
    assert server.ended() in (0, -how, 128 + how)  # as shells tell of a signal
    connection.close()
    assert "Traceback" not in (tmp_path / "server.err").read_text()
    server.start()  # nothing is left behind that would keep it from starting again
    server.close()
