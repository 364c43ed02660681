"""Requests that leave for an address that somebody else wrote down: none of them reaches an inner network unless it is allowed.

A name is resolved once, every address that it stands for is judged, and the connection is made to exactly those: a second answer
of the name server comes to nothing (DNS rebinding). TLS, SNI and the Host header stay the name's. Redirects are not followed,
proxies of the environment are not used, and little is read of what is answered.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import httpx2 as httpx

from engine.errors import TocsinError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

TIMEOUT_SECONDS: Final = 10.0
RESOLVE_SECONDS: Final = 5.0
MOST_READ_BYTES: Final = 4 * 1024
PORTS: Final = {"http": 80, "https": 443}

# Beyond what `ipaddress` calls not global: ranges that may lead to inner addresses by way of something else.
_DETOURS: Final = tuple(
    ip_network(text)
    for text in (
        "64:ff9b::/96", "64:ff9b:1::/48",  # NAT64: the last 32 bits are an IPv4 address
        "2002::/16",                       # 6to4: so are bits 16 to 48
        "2001::/32",                       # Teredo
        "::/96",                           # IPv4-compatible, long deprecated
        "192.88.99.0/24",                  # 6to4 relays
        "192.0.0.0/24",                    # protocol assignments; a cloud keeps its metadata there
        "fec0::/10",                       # site-local, deprecated
    )
)


class Forbidden(TocsinError):
    """The request may not leave: its scheme or its address is not allowed."""


class Unreachable(TocsinError):
    """Nobody answered: the name is unknown, the connection was refused or broke off, or it took too long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver said.

    Attributes:
        beginning: of the body, at most `MOST_READ_BYTES`.
    """

    status: int
    headers: Mapping[str, str]
    beginning: bytes


class Guard:
    """Says which addresses may be reached.

    Args:
        allowed: inner networks that may be, as `10.1.0.0/16`.
        plain: allow http besides https.

    Raises:
        ValueError: no network.
    """

    def __init__(self, allowed: Sequence[str] = (), *, plain: bool = False) -> None:
        self.allowed: tuple[Network, ...] = tuple(ip_network(text, strict=False) for text in allowed)
        self.plain = plain

    def permits(self, address: Address) -> bool:
        """Whether a request may go there: a global address, or one inside a network that is allowed."""
        inner = _mapped(address)
        if any(inner in network for network in self.allowed if network.version == inner.version):
            return True
        return inner.is_global and not inner.is_multicast and not any(
            inner in network for network in _DETOURS if network.version == inner.version
        )

    async def addresses(self, url: SplitResult) -> list[Address]:
        """The addresses behind a URL's name, each of them permitted; IPv4 first.

        Raises:
            Forbidden: one of them is not, or the scheme is not.
            Unreachable: there is none.
        """
        host, port = url.hostname or "", url.port or PORTS.get(url.scheme, 0)
        if url.scheme != "https" and not (url.scheme == "http" and self.plain):
            raise Forbidden("only https is allowed (TOCSIN_PLAIN_WEBHOOKS=true allows http)")
        found = await _resolve(host, port)
        for address in found:
            if not self.permits(address):
                where = host if host == str(address) else f"{host} is {address}, which"
                raise Forbidden(f"{where} is an inner address that TOCSIN_ALLOWED_NETWORKS does not allow")
        return found


def _mapped(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped one (::ffff:10.0.0.1) stands for."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


async def _resolve(host: str, port: int) -> list[Address]:
    """Whatever the resolver takes for an address counts as the address that it is (`127.1`, `0x7f000001`, `2130706433`)."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError, TimeoutError):
        raise Unreachable(f"the name {host} is not known now") from None
    found = dict.fromkeys(ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers)
    if not found:
        raise Unreachable(f"the name {host} is not known now")
    return sorted(found, key=lambda address: address.version)


@cache
def _trust() -> ssl.SSLContext:
    """The certificates that are trusted; reading them takes long, so once."""
    return httpx.create_ssl_context(trust_env=True)


async def post(url: str, content: bytes, headers: Mapping[str, str], guard: Guard) -> Answer:
    """Post to where a URL leads now.

    Raises:
        Forbidden: it leads where it must not.
        Unreachable: nobody answered.
    """
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS * 2):
            for address in await guard.addresses(parts):
                with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
                    return await _post_to(address, parts, content, headers)
    except TimeoutError:
        raise Unreachable("it took too long to answer") from None
    except httpx.TimeoutException:
        raise Unreachable("it took too long to answer") from None
    except (httpx.TransportError, httpx.InvalidURL, ssl.SSLError) as error:
        # Not the error's own text: it may hold the URL.
        raise Unreachable(f"the connection broke off ({type(error).__name__})") from None
    raise Unreachable("the connection was refused, or its certificate is not trusted")


async def _post_to(address: Address, url: SplitResult, content: bytes, headers: Mapping[str, str]) -> Answer:
    host = url.hostname or ""
    bracketed = f"[{host}]" if ":" in host else host
    name = bracketed if url.port in (None, PORTS[url.scheme]) else f"{bracketed}:{url.port}"
    literal = f"[{address}]" if address.version == 6 else str(address)
    port = url.port or PORTS[url.scheme]
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    login = (unquote(url.username or ""), unquote(url.password or "")) if url.username is not None else None
    # One connection a request: a pooled one is known by its address, and two names can share that.
    async with httpx.AsyncClient(
        verify=_trust(), trust_env=False, follow_redirects=False, timeout=TIMEOUT_SECONDS, auth=login,
        limits=httpx.Limits(max_keepalive_connections=0),
    ) as client:
        request = client.build_request(
            "POST", f"{url.scheme}://{literal}:{port}{path}", content=content, headers={**headers, "Host": name, "Connection": "close"},
            extensions={"sni_hostname": host},
        )
        answer = await client.send(request, stream=True)
        try:
            return Answer(answer.status_code, answer.headers, await _beginning(answer))
        finally:
            await answer.aclose()


async def _beginning(answer: httpx.Response) -> bytes:
    """Raw bytes, so that a small body cannot unpack to a large one."""
    read = b""
    async for chunk in answer.aiter_raw():
        read += chunk
        if len(read) >= MOST_READ_BYTES:
            break
    return read[:MOST_READ_BYTES]
