"""The library's connections, made as `kafka_security.py` says; each that fails says why in one line (`Failures`).

The library (kafka-python 3.0) is given its network by us, as its setting `kafka_client` allows. Its own

- throws away what a broker says just before it hangs up, which is why it refused a password;
- waits without end for a TLS handshake, so that a broker that hangs would hang us too;
- tries again at once, without end, where a broker hangs up after it took the connection;
- keeps a descriptor of each connection that was refused until somebody collects the garbage.
"""

import ssl
import traceback
from typing import Any, Final, Protocol

from kafka.errors import (
    IllegalSaslStateError,
    InvalidReceiveError,
    KafkaConnectionError,
    KafkaTimeoutError,
    RequestTimedOutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.inet import create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from monitors.kafka_security import Security, Unusable
from monitors.kafka_topics import FAILURES

# OpenSSL's numbers for a certificate that is right, and somebody else's (X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH).
OTHER_NAME: Final = (62, 64)


def network(security: Security, **options: Any) -> KafkaNetClient:
    """The network of one client of the library, by the client's options."""
    net = NetworkSelector(**options)
    return KafkaNetClient(net=net, manager=_Connections(net, security, **options), **options)


class _Node(Protocol):
    """A broker, as the library knows it."""

    node_id: int | str
    host: str
    port: int


class _Plain(KafkaTCPTransport):
    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        return _heard(super()._sock_recv())


class _Tls(KafkaSSLTransport):
    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        return _heard(super()._sock_recv())

    async def shake_hands(self, until: float | None) -> None:
        """The library's `handshake`, with an end."""
        while True:
            try:
                self._sock.do_handshake()
            except ssl.SSLWantReadError:
                await self._net.wait_read(self._sock, timeout_at=until)
            except ssl.SSLWantWriteError:
                await self._net.wait_write(self._sock, timeout_at=until)
            else:
                return


class _Connections(KafkaConnectionManager):
    """Of one client."""

    def __init__(self, net: NetworkSelector, security: Security, **options: Any) -> None:
        super().__init__(net, **options)
        self._security = security

    async def _build_transport(self, node: _Node, timeout_at: float | None = None) -> KafkaTCPTransport:
        try:
            context = self._security.context() if self._security.tls else None
        except Unusable as error:
            raise KafkaConnectionError(str(error)) from error
        try:
            sock = await create_connection(self._net, node.host, node.port, self.config["socket_options"], timeout_at=timeout_at)
        except KafkaConnectionError as error:
            traceback.clear_frames(error.__traceback__)  # they hold the socket, and each other
            raise
        if context is None:
            return _Plain(self._net, sock, host=node.host)
        transport = _Tls(self._net, sock, host=node.host, ssl_context=context)
        try:
            await transport.shake_hands(timeout_at)
        except (OSError, KafkaTimeoutError) as error:
            transport.close()
            raise KafkaConnectionError(error) from error
        return transport

    async def _connect(
        self, node: _Node, conn: KafkaConnection, reset_backoff_on_connect: bool = True, timeout_at: float | None = None
    ) -> None:
        before = self._backoff.get(node.node_id)
        try:
            if self._security.user is not None:
                conn.config["sasl_plain_password"] = self._security.password()
        except Unusable as error:
            conn.connection_lost(KafkaConnectionError(str(error)))
        else:
            await super()._connect(node, conn, reset_backoff_on_connect=reset_backoff_on_connect, timeout_at=timeout_at)
        if self.closed:
            return
        if not conn.init_future.failed():
            FAILURES.told("")
            return
        if reset_backoff_on_connect:  # else whoever asked for it counts the failures
            if before is not None:
                self._backoff[node.node_id] = before
            self.update_backoff(node.node_id)
        # The last of several tries has less time than it needs: that says nothing of the broker.
        if not (_out_of_time(conn.init_future.exception) and FAILURES.last()):
            FAILURES.told(f"{node.host}:{node.port}: {self._why(conn)}")

    def _why(self, conn: KafkaConnection) -> str:
        """What to tell of a connection that failed."""
        error: BaseException = conn.init_future.exception
        has_certificate = self._security.certificate_file is not None
        cause = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
        match cause:
            case ssl.SSLCertVerificationError():
                setting = "TOCSIN_KAFKA" if cause.verify_code in OTHER_NAME else "TOCSIN_KAFKA_CA_FILE"
                return f"its certificate does not hold ({setting}): {cause.verify_message}"
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError():  # the end of the connection, or of what came in
                return "it hangs up when TLS begins; does it speak TLS there (TOCSIN_KAFKA_TLS)?"
            case ssl.SSLError() if "ALERT" in (cause.reason or ""):
                what = "it does not take our certificate" if has_certificate else "it asks for a certificate"
                return f"{what} (TOCSIN_KAFKA_CERTIFICATE_FILE): {_words(cause)}"
            case ssl.SSLError():
                return f"TLS failed: {_words(cause)}"
            case KafkaTimeoutError() if self._security.tls and conn.parser is None:
                return "it does not answer when TLS begins"
            case SaslAuthenticationFailedError():
                said = str(cause.args[0]).removeprefix(f"{type(cause).__name__}: ") if cause.args else str(cause)
                return f"it does not take user or password (TOCSIN_KAFKA_USER, TOCSIN_KAFKA_PASSWORD_FILE): {said}"
            case UnsupportedSaslMechanismError():
                return f"it does not offer {self._security.mechanism} (TOCSIN_KAFKA_MECHANISM)"
            case IllegalSaslStateError():
                return "it asks for no user there (TOCSIN_KAFKA_USER)"
            case InvalidReceiveError() if not self._security.tls:
                return "it does not speak Kafka's protocol in plain; does it speak TLS there (TOCSIN_KAFKA_TLS)?"
            case _ if self._security.tls and conn.parser is not None and conn.broker_version_data is None:
                what = "does it take our certificate" if has_certificate else "does it ask for a certificate"
                return f"it hangs up after the TLS handshake; {what} (TOCSIN_KAFKA_CERTIFICATE_FILE)? {error}"
        return str(error)


def _out_of_time(error: BaseException) -> bool:
    return isinstance(error, RequestTimedOutError | KafkaTimeoutError) or error.args == ("Connection timed out",)


def _heard(received: tuple[bytes, Exception | None]) -> tuple[bytes, Exception | None]:
    """What came before the end is heard first; the end is met again."""
    data, error = received
    return data, None if data else error


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
