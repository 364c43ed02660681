"""From a critical alert to its notice at a receiver on the same machine: in peace, in a storm, and of many incidents at once."""

import argparse
import http.client
import json
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from api.house import open_house
from api.settings import load_settings
from benchmarks.figures import scratch, share, tell
from benchmarks.intake import server, tocsin
from engine.rulebook import RULEBOOK, NoticeRule, Rulebook, RulebookPublished
from engine.work import Unit

QUIET_ALERTS = 200
STORM_SECONDS = 60
STORM_ALERTS_A_SECOND = 1_700  # 100,000 a minute
MEMBERS = 100
MANY = 2_000
RULES = RulebookPublished(
    notices=(NoticeRule(name="P1", when="ticket.priority == 'P1' && ticket.service.startsWith('watched')", to=("bench",)),), text="bench"
)


class Receiver:
    """Notes when each service's notice arrives."""

    def __init__(self) -> None:
        arrived: dict[str, float] = {}
        self.arrived, self.changed = arrived, threading.Condition()
        changed = self.changed

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["data"]
                with changed:
                    arrived.setdefault(data["service"], time.perf_counter())
                    changed.notify_all()
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *_: Any) -> None:  # noqa: A002  # the library's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, services: Sequence[str]) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: all(service in self.arrived for service in services), 300):
                raise SystemExit("notices did not arrive within five minutes")


def run(_: argparse.Namespace) -> None:
    """Each case on a fresh store."""
    receiver = Receiver()
    url = f"http://127.0.0.1:{receiver.server.server_address[1]}/"
    with scratch() as folder:
        data = folder / "data"
        _prepare(data, url)
        with server(data, TOCSIN_ALLOWED_NETWORKS="127.0.0.0/8", TOCSIN_PLAIN_WEBHOOKS="true") as (address, _pid):
            token = tocsin("token", "create", "--role", "monitor", "--source", "alertmanager", data=data)
            post = Poster(address, token)
            _tell_latency("critical alert to notice, in peace", receiver, _watched(post, "quiet", QUIET_ALERTS, 0.02), "bar: p99 <= 5 s")
            storm = Storm(address, token)
            sent = _watched(post, "storm", STORM_SECONDS * 5, 0.2)
            alerts, seconds = storm.stop()
            _tell_latency("the same in a storm", receiver, sent, "bar: p99 <= 30 s")
            tell("  alerts of the storm", f"{alerts / seconds * 60:,.0f} a minute", "bar: 100,000 a minute")
            begun = time.perf_counter()
            services = [f"watched-many-{number}" for number in range(MANY)]
            for first in range(0, MANY, MEMBERS):
                post([_alert(service, service) for service in services[first : first + MEMBERS]])
            receiver.wait(services)
            tell(f"{MANY:,} incidents at once, one recipient: all told after", f"{time.perf_counter() - begun:.1f} s")
    receiver.server.shutdown()


def _prepare(data: Path, url: str) -> None:
    house = open_house(load_settings({}, data=data))
    house.ledger.run(Unit(lambda work: work.load(Rulebook, RULEBOOK).publish(RULES), actor="tocsin"))
    house.close()
    tocsin("recipient", "add", "bench", "--webhook", url, data=data)


class Poster:
    """Posts Alertmanager bodies on a kept connection."""

    def __init__(self, address: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def __call__(self, alerts: list[dict[str, Any]]) -> None:
        body = json.dumps({"version": "4", "status": "firing", "receiver": "tocsin", "alerts": alerts})
        self._connection.request("POST", "/hooks/alertmanager", body, self._headers)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise SystemExit(f"intake answered {answer.status}")


class Storm:
    """So many alerts a second, of 50 services, each alert a new one, until it is stopped."""

    def __init__(self, address: str, token: str) -> None:
        self._post, self._stop, self._alerts = Poster(address, token), threading.Event(), 0
        self._begun = time.perf_counter()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._post([_alert(f"shop-{(self._alerts + member) % 50}", f"host-{self._alerts + member}") for member in range(MEMBERS)])
            self._alerts += MEMBERS
            self._stop.wait(max(0.0, self._begun + self._alerts / STORM_ALERTS_A_SECOND - time.perf_counter()))

    def stop(self) -> tuple[int, float]:
        """(alerts, seconds)."""
        self._stop.set()
        self._thread.join()
        return self._alerts, time.perf_counter() - self._begun


def _watched(post: Poster, name: str, count: int, pause: float) -> dict[str, float]:
    """Post one critical alert after the other, of a service each: service -> when."""
    sent = {}
    for number in range(count):
        service = f"watched-{name}-{number}"
        sent[service] = time.perf_counter()
        post([_alert(service, service)])
        time.sleep(pause)
    return sent


def _alert(service: str, instance: str) -> dict[str, Any]:
    labels = {"alertname": "Down", "severity": "critical", "service": service, "instance": instance}
    return {"status": "firing", "labels": labels, "annotations": {}, "startsAt": "2026-03-02T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}


def _tell_latency(name: str, receiver: Receiver, sent: dict[str, float], bar: str) -> None:
    receiver.wait(list(sent))
    took = sorted((receiver.arrived[service] - at) * 1_000 for service, at in sent.items())
    tell(f"{name}, p50 / p99", f"{share(took, 0.5):.0f} / {share(took, 0.99):.0f} ms", bar)
