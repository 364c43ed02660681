"""What a connection to a broker does that never gets far, without any broker."""

import contextlib
import gc
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer
from kafka.errors import KafkaError

from monitors import kafka_client
from monitors.kafka_client import client
from monitors.kafka_security import Security
from monitors.kafka_topics import FAILURES, Topics, last_words
from tests.process.server import free_port
from tests.services.certificates import Authority, Certificate


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def own(authority: Authority) -> Certificate:
    return authority.sign("own", "127.0.0.1")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "CONNECT_SECONDS", 1.0)  # a busy machine needs some of it for a handshake
    FAILURES.told("")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def refused(port: int, security: Security) -> str:
    """What is told of the failure."""
    with pytest.raises(KafkaError):
        client(Topics(servers=f"127.0.0.1:{port}", security=security), KafkaConsumer)
    return last_words()


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_a_handshake_that_is_never_answered_is_given_up(listener: socket.socket, authority: Authority) -> None:
    told = refused(port_of(listener), Security(tls=True, ca_file=authority.certificate))
    assert told.endswith("it does not answer when TLS begins")


def test_whoever_hangs_up_after_the_handshake_is_not_asked_at_once_again_and_again(
    listener: socket.socket, authority: Authority, own: Certificate
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.certificate, own.key)
    taken: list[socket.socket] = []

    def hang_up() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                taken.append(connection)
                context.wrap_socket(connection, server_side=True).close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    told = refused(port_of(listener), Security(tls=True, ca_file=authority.certificate))
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert "it hangs up after the TLS handshake; does it ask for a certificate (TOCSIN_KAFKA_CERTIFICATE_FILE)?" in told
    assert 1 < len(taken) < 10


@pytest.mark.parametrize("tls", [True, False])
def test_clients_that_failed_leave_no_descriptors_behind(listener: socket.socket, authority: Authority, tls: bool) -> None:
    security, port = Security(tls=tls, ca_file=authority.certificate if tls else None), port_of(listener) if tls else free_port()
    refused(port, security)
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            refused(port, security)
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        gc.enable()
