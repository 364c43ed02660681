"""A bell whose tickets tell people, a real SMTP server and a real HTTP receiver; `tests/conftest.py` makes them fixtures."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from engine import notice
from engine.clock import SimulatedClock
from engine.ledger import Ledger
from engine.notice import Notices, notices_id
from engine.recipient import Channel, Recipient, Shape, recipient_id
from engine.rulebook import RULEBOOK, NoticeRule, Rulebook, RulebookPublished
from engine.work import Unit
from tests.conftest import Bell
from tests.process.server import free_port

# Seconds after which a test that waits is given up; nothing is timed by it.
PATIENCE: Final = 60


class Tower(Bell):
    """A bell with the policy of notices, recipients and rules."""

    def __init__(self, ledger: Ledger, clock: SimulatedClock) -> None:
        ledger.react(notice.WATCHED, notice.tell)
        super().__init__(ledger, clock)

    def recipient(self, *names: str, target: str = "", shape: Shape = Shape.TOCSIN, secret: str = "") -> None:
        """By mail, or by webhook where a target with a scheme is given."""
        for name in names:
            values: dict[str, Any] = {
                "name": name, "channel": Channel.WEBHOOK if "://" in target else Channel.MAIL, "target": target or f"{name}@example.org",
                "secret": secret, "shape": shape, "language": "en",
            }
            self.ledger.run(Unit(lambda work, v=values: work.load(Recipient, recipient_id(v["name"])).add(**v), actor="user:admin"))  # type: ignore[misc]  # bound per name

    def rules(self, *rules: NoticeRule) -> None:
        edition = RulebookPublished(notices=rules, text=repr(rules))
        self.ledger.run(Unit(lambda work: work.load(Rulebook, RULEBOOK).publish(edition), actor="user:admin"))

    def fires(self, key: str = "web-1", severity: str = "critical", **labels: str) -> None:
        """An alert that opens an incident (of its own service), or repeats."""
        self._alert("firing", key, severity, labels)

    def ends(self, key: str = "web-1", severity: str = "critical", **labels: str) -> None:
        self._alert("resolved", key, severity, labels)

    def _alert(self, status: str, key: str, severity: str, labels: dict[str, str]) -> None:
        alert = {
            "status": status, "labels": {"alertname": "Down", "severity": severity, "instance": key, "service": key, **labels},
            "annotations": {"summary": f"{key} is down"}, "startsAt": "2026-03-02T10:00:00Z",
            "endsAt": "2026-03-02T10:00:20Z" if status == "resolved" else "0001-01-01T00:00:00Z",
        }
        self.ring("alertmanager", json.dumps({"version": "4", "status": status, "receiver": "tocsin", "alerts": [alert]}).encode())

    def later(self, seconds: float) -> None:
        """Let time pass, and fire what is due meanwhile."""
        self.clock.advance(seconds)
        while self.run_due():
            pass

    def told(self) -> list[tuple[str, str]]:
        """(purpose, recipient) of every notice that was requested, in log order."""
        return [(event.purpose.value, event.recipient) for event in self.events(notice.NoticeRequested) if isinstance(event, notice.NoticeRequested)]

    def notices(self, place: int = 0) -> Notices:
        return self.ledger.get(Notices, notices_id(self.incidents[place].id))


P1: Final = NoticeRule(name="P1", when="ticket.priority == 'P1'", to=("on-call",))


@dataclass
class Heard:
    """One request that a receiver took."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A real HTTP server on this machine; it answers as `answers` says, then 204.

    Attributes:
        answers: (status, headers, body) for the next requests.
    """

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    hold: threading.Event | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/s3cr3t-path"

    def take(self, heard: Heard) -> tuple[int, dict[str, str], bytes]:
        with self.changed:
            self.heard.append(heard)
            self.changed.notify_all()
            answer = self.answers.pop(0) if self.answers else (204, {}, b"")
        if self.hold is not None:
            self.hold.wait(PATIENCE)
        return answer

    def wait(self, until: Callable[[Sequence[Heard]], bool]) -> list[Heard]:
        """What was heard, as soon as the condition holds."""
        with self.changed:
            assert self.changed.wait_for(lambda: until(self.heard), PATIENCE), self.heard
            return list(self.heard)


def serve(receiver: Receiver, port: int = 0) -> ThreadingHTTPServer:
    """Start it, on the port of its life before where it had one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more, content = receiver.take(Heard(self.path, headers, body))
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *_: Any) -> None:  # noqa: A002  # the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@dataclass
class PostOffice:
    """A real SMTP server on this machine.

    Attributes:
        refusals: answers to the next RCPT or DATA instead of taking the mail.
    """

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    async def handle_DATA(  # noqa: N802  # the library's name
        self, _server: SMTP, _session: Session, envelope: Envelope,
    ) -> str:
        with self.changed:
            if self.refusals:
                return self.refusals.pop(0)
            assert isinstance(envelope.content, bytes)
            mail = message_from_bytes(envelope.content, policy=default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
            self.recipients += envelope.rcpt_tos
            self.changed.notify_all()
        return "250 taken"

    def wait(self, count: int) -> list[EmailMessage]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.mails) >= count, PATIENCE), self.mails
            return list(self.mails)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for a while."""
    found = Receiver()
    server = serve(found)
    yield found
    server.shutdown()
    server.server_close()


@contextmanager
def delivering() -> Iterator[PostOffice]:
    """A mail server for a while."""
    office = PostOffice(port=free_port())
    controller = Controller(office, hostname="127.0.0.1", port=office.port)
    controller.start()
    yield office
    controller.stop()


def verified(secret: str, heard: Heard) -> bool:
    """What a receiver does, in its own words (Standard Webhooks 1.0.0)."""
    key = base64.b64decode(secret.split("_", 1)[1])
    said = f"{heard.headers['webhook-id']}.{heard.headers['webhook-timestamp']}.".encode() + heard.body
    expected = base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
    return expected in [part.split(",", 1)[1] for part in heard.headers["webhook-signature"].split(" ")]
