"""Pages of the console on a small and on a large store: server time as a browser on this machine sees it."""

import argparse
import http.client
import re
import shutil
import time
import urllib.parse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from api.house import open_house
from api.settings import load_settings
from benchmarks.figures import scratch, share, tell, times
from benchmarks.history import files, start_of, tickets
from benchmarks.intake import memory_mib, server
from engine.clock import SimulatedClock
from projections.runner import Runner

DAYS = 60.0
ROUNDS = 150
PASSWORD = "only-for-measuring"
PAST = "queue page as of a month back"


def run(options: argparse.Namespace) -> None:
    """The same pages at two sizes."""
    few = options.closed // 100
    sizes = ((options.open // 10, few), (options.open, few), (options.open, options.closed))
    told = []
    with scratch() as folder:
        for left_open, closed in sizes:
            data = folder / f"store-{left_open}-{closed}"
            build(data, left_open, closed)
            told.append(measure(data, left_open, closed))
            shutil.rmtree(data)
    small, busy, large = told
    for page in small:
        # As of a month back the number of open tickets is that of then, and stays the same; the closed ones grow.
        before = busy if page == PAST else small
        tell(f"{page}: largest store against {'few closed' if page == PAST else 'the smallest'}, p95", f"{large[page] / before[page]:.2f}", "bar: <= 1.3")


def build(data: Path, left_open: int, closed: int) -> None:
    """A store with its views and one account."""
    begun = time.perf_counter()
    clock = SimulatedClock(start_of(DAYS), running=False)
    house = open_house(load_settings({}, data=data), clock=clock, first_admin=False)
    house.directory.open_account(login="bench", name="Bench", role="admin", password=PASSWORD)
    events = tickets(house.ledger, clock, closed=closed, left_open=left_open, days=DAYS)
    runner = Runner(house.ledger, data / "views.db")
    runner.catch_up()
    runner.close()
    house.close()
    sizes = ", ".join(f"{name} {size:,.0f} MiB" for name, size in files(data) if size > 1)
    tell(f"store of {left_open:,} open and {closed:,} closed tickets", f"{events:,} events", f"made in {time.perf_counter() - begun:.0f} s; {sizes}")


def measure(data: Path, left_open: int, closed: int) -> dict[str, float]:
    """p95 in milliseconds of each page."""
    begun = time.perf_counter()
    with server(data) as (address, pid):
        tell("  start to ready", f"{time.perf_counter() - begun:.1f} s", "bar: <= 5 s")
        browser = Browser(address)
        month = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
        number = f"INC-{(left_open + closed) // 2}"
        found = {}
        for name, path, bar in (
            ("queue page", "/console", "bar: p95 <= 50 ms"),
            ("ticket page", f"/console/tickets/{number}", "bar: p95 <= 50 ms"),
            (PAST, f"/console?as_of={month}", "bar: p95 <= 200 ms"),
            ("portal, own tickets", "/portal", "bar: p95 <= 50 ms"),
            ("portal, form", "/portal/new", "bar: p95 <= 50 ms"),
            ("measures page, 7 days", "/console/measures", ""),
        ):
            spent = times(lambda path=path: browser.get(path), ROUNDS if "measures" not in path else 20)  # type: ignore[misc]  # mypy can't see through the default
            found[name] = share(spent, 0.95)
            tell(f"  {name}: p50 / p95", f"{share(spent, 0.5):.1f} / {found[name]:.1f} ms", bar)
        tell("  memory of the server", f"{memory_mib(pid):.0f} MiB", "bar: <= 160 MiB")
    return found


class Browser:
    """A signed-in connection that is kept open."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=60)
        self._cookies: dict[str, str] = {}
        form = {"login": "bench", "password": PASSWORD, "next": "/console"}
        page = self._ask("GET", "/console/sign-in")
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        if token:
            form["csrf_token"] = token[1]
        self._ask("POST", "/console/sign-in", urllib.parse.urlencode(form))

    def get(self, path: str) -> None:
        """Fetch a page and insist that it is one."""
        page = self._ask("GET", path)
        assert "<main" in page, page[:300]

    def _ask(self, method: str, path: str, body: str | None = None) -> str:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self._cookies[key] = rest.split(";")[0]
        assert answer.status < 400, (path, answer.status, text[:300])
        return text


