"""What tests in a browser share: the real application on a port, pages whose errors count, and when a page is awake."""

import os
import re
import shutil
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from playwright.sync_api import BrowserContext, Page, ViewportSize

from api.app import create_app
from api.house import House
from projections.runner import Runner

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
PASSWORD = "a long enough one"
PHONE: ViewportSize = {"width": 390, "height": 844}
# Collects what a strict policy refused; the console's own messages would come too late for a test that ends.
WATCH = "addEventListener('securitypolicyviolation', (event) => (window.refused ??= []).push(event.violatedDirective + ' ' + event.blockedURI))"


class Server:
    """The real application on a port of its own, and a monitor that rings."""

    def __init__(self, house: House, data: Path) -> None:
        self.house = house
        self.token = house.directory.create_token(role="monitor", source="alertmanager")
        self.runner = Runner(house.ledger, data / "views.db")
        self._app = create_app(house, self.runner)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self._started = threading.Event()
        self._thread: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        config = uvicorn.Config(self._app, log_level="error", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self._thread.start()
        httpx2.get(f"{self.address}/healthz", timeout=10)  # the socket listens already: this waits until it is answered

    def stop(self) -> None:
        self.server.should_exit = True
        assert self._thread is not None
        self._thread.join(20)

    def ask(self, method: str, path: str, *, role: str, json: Any = None) -> Any:
        """A request of a program with this role, and the views hold what it did."""
        headers = {"Authorization": f"Bearer {self.house.directory.create_token(role=role)}"}
        answer = httpx2.request(method.upper(), f"{self.address}{path}", json=json, headers=headers)
        assert answer.status_code < 300, answer.text
        assert self.runner.wait_for(self.house.ledger.last_position, 10)
        return answer.json()

    def ring(self, title: str, *, service: str, severity: str = "critical", firing: bool = True, started: datetime | None = None) -> str:
        """An alert fires or ends; the number of its incident."""
        alert: dict[str, Any] = {
            "status": "firing" if firing else "resolved",
            "labels": {"alertname": title, "service": service, "severity": severity, "instance": "srv-web-01"},
            "annotations": {"summary": title}, "startsAt": (started or datetime.now(UTC)).isoformat(),
        }
        if not firing:
            alert["endsAt"] = datetime.now(UTC).isoformat()
        body = {"version": "4", "groupKey": "{}", "status": alert["status"], "alerts": [alert]}
        answer = httpx2.post(f"{self.address}/hooks/alertmanager", json=body, headers={"Authorization": f"Bearer {self.token}"})
        number: str = answer.json()["observations"][0]["incident"]
        assert self.runner.wait_for(self.house.ledger.last_position, 10)
        return number


class Watched:
    """Pages whose errors fail the test at its end."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.faults: list[str] = []
        self.expected: list[str] = []
        context.add_init_script(WATCH)

    def page(self, path: str = "/console") -> Page:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        page.goto(path)
        return page

    def close(self) -> None:
        for page in self.context.pages:
            self.faults += page.evaluate("window.refused ?? []")
        self.context.close()
        assert [fault for fault in self.faults if not any(re.search(each, fault) for each in self.expected)] == []


def live(page: Page) -> None:
    """Wait until the page listens to the stream, so its scripts run: a key pressed earlier is nobody's."""
    page.locator('[data-live][data-stream="open"]').wait_for(state="attached")
