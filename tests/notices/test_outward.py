"""No request leaves for an inner address, by whatever name; and what leaves goes to the address that was judged."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from api import outward
from api.outward import Answer, Forbidden, Guard, Unreachable, post
from tests.notices.post import Receiver, serve

INNER = (
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254",
    "100.64.0.1", "100.127.255.255", "192.0.0.8", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.88.99.1",
    "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1", "100::1", "2001::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:a00:1::1",
)
OUTER = ("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::8a", "::ffff:1.1.1.1")


@pytest.mark.parametrize("text", INNER)
def test_an_inner_address_is_refused(text: str) -> None:
    assert not Guard().permits(ip_address(text))


@pytest.mark.parametrize("text", OUTER)
def test_an_address_of_the_internet_is_not(text: str) -> None:
    assert Guard().permits(ip_address(text))


def test_a_network_that_is_allowed_is_allowed_and_no_other() -> None:
    guard = Guard(("10.1.0.0/16", "fd00:1::/32"))
    assert [guard.permits(ip_address(text)) for text in ("10.1.2.3", "10.2.0.1", "::ffff:10.1.0.1", "fd00:1::5", "fd00:2::5")] == [
        True, False, True, True, False,
    ]


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_the_same_in_every_way_to_write_it(address: ipaddress.IPv4Address) -> None:
    mapped = ip_address(f"::ffff:{address}")
    assert Guard().permits(mapped) == Guard().permits(address)
    assert Guard((f"{address}/32",)).permits(mapped)
    if not Guard().permits(address):
        nat64, six_to_four = ip_network("64:ff9b::/96")[int(address)], ip_address((0x2002 << 112) | (int(address) << 80))
        assert not Guard().permits(nat64)
        assert not Guard().permits(six_to_four)


@given(st.ip_addresses())
def test_what_is_permitted_without_being_allowed_is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if Guard().permits(address):
        unwanted = (address.is_private, address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified)
        assert not any(unwanted)


def asked(url: str, guard: Guard) -> list[str]:
    return [str(address) for address in asyncio.run(guard.addresses(urlsplit(url)))]


@pytest.mark.parametrize("host", [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0",
    "127.0.0.1.", "[fe80::1]",
])
def test_no_way_to_write_this_machine_gets_past(host: str) -> None:
    with pytest.raises((Forbidden, Unreachable)):
        asked(f"https://{host}/", Guard())


def test_only_https_leaves_unless_http_is_allowed() -> None:
    for scheme in ("http", "ftp", "file", "gopher", ""):
        with pytest.raises(Forbidden, match="https"):
            asked(f"{scheme}://1.1.1.1/", Guard())
    assert asked("http://1.1.1.1/", Guard(plain=True)) == ["1.1.1.1"]


Names = Callable[..., None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """A name server of our own: each question for a name gets its next answer."""
    real = socket.getaddrinfo
    known: dict[str, list[list[str]]] = {}

    def getaddrinfo(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in known:
            return real(host, port, *rest, **more)
        answers = known[name].pop(0)
        return [found for address in answers for found in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def say(name: str, *answers: list[str]) -> None:
        known[name] = list(answers)

    return say


def test_a_name_with_one_inner_address_among_others_is_refused(names: Names) -> None:
    names("receiver.example", ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(Forbidden, match=r"receiver.example is 10.0.0.1, which is an inner address"):
        asked("https://receiver.example/", Guard())


def test_a_name_is_asked_for_once_and_the_connection_goes_to_what_was_judged(names: Names, receiver: Receiver) -> None:
    names("receiver.example", ["127.0.0.1"], ["127.0.0.2"])  # a second question would be answered otherwise
    guard = Guard(("127.0.0.1/32",), plain=True)
    answer = asyncio.run(post(f"http://receiver.example:{receiver.port}/a%2Fb?c=d", b"{}", {"X-One": "1"}, guard))
    assert answer.status == 204
    (heard,) = receiver.heard
    assert (heard.path, heard.headers["host"], heard.headers["x-one"]) == ("/a%2Fb?c=d", f"receiver.example:{receiver.port}", "1")


def test_a_redirect_is_not_followed_and_little_is_read(receiver: Receiver) -> None:
    guard = Guard(("127.0.0.0/8",), plain=True)
    receiver.answers = [(302, {"Location": f"http://127.0.0.1:{receiver.port}/inner"}, b""), (200, {}, b"x" * 100_000)]
    moved = asyncio.run(post(receiver.url, b"{}", {}, guard))
    large = asyncio.run(post(receiver.url, b"{}", {}, guard))
    assert (moved.status, len(large.beginning)) == (302, 4_096)
    assert len(receiver.heard) == 2


def test_a_user_in_the_url_becomes_basic_authentication(receiver: Receiver) -> None:
    url = receiver.url.replace("://", "://nora:p%40ss@")
    asyncio.run(post(url, b"{}", {}, Guard(("127.0.0.0/8",), plain=True)))
    assert receiver.heard[0].headers["authorization"] == "Basic bm9yYTpwQHNz"


def test_nobody_there_is_said_without_the_url(receiver: Receiver) -> None:
    url = "http://127.0.0.1:9/s3cr3t"
    with pytest.raises(Unreachable) as caught:
        asyncio.run(post(url, b"{}", {}, Guard(("127.0.0.0/8",), plain=True)))
    assert "s3cr3t" not in str(caught.value)


@contextmanager
def secured(server_name: str, folder: Path, receiver: Receiver) -> Iterator[tuple[int, Path]]:
    """A TLS server with a certificate for `server_name`: (port, the certificate)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, server_name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1)).add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256())
    )
    chain = folder / "chain.pem"
    chain.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    plain = serve(receiver)
    plain.shutdown()
    server = ThreadingHTTPServer(("127.0.0.1", 0), plain.RequestHandlerClass)
    plain.server_close()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], chain
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("certified", "taken"), [("receiver.example", True), ("other.example", False)])
def test_a_certificate_is_checked_against_the_name_not_the_address(
    names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certified: str, taken: bool
) -> None:
    names("receiver.example", ["127.0.0.1"])
    receiver = Receiver()
    with secured(certified, tmp_path, receiver) as (port, chain):
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        outward._trust.cache_clear()
        try:
            answer: Answer | None = asyncio.run(post(f"https://receiver.example:{port}/", b"{}", {}, Guard(("127.0.0.1/32",))))
        except Unreachable:
            answer = None
        finally:
            outward._trust.cache_clear()
    assert (answer is not None) == taken
    assert len(receiver.heard) == taken
