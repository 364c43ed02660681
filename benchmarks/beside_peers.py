"""What `benchmarks/peers/run_tocsin.sh` needs of Python: `tickets N`, `alerts N URL TOKEN`, `session URL LOGIN PASSWORD`.

Settings come from the environment, as for the `tocsin` command.
"""

import http.client
import json
import re
import sys
import urllib.parse
from datetime import UTC, datetime

from api.house import open_house
from api.settings import load_settings
from benchmarks.history import start_of, tickets
from engine.clock import SimulatedClock
from projections.runner import Runner

DAYS = 30.0


def fill_tickets(count: int) -> None:
    """A store of so many open tickets, made before its server is started."""
    settings = load_settings()
    clock = SimulatedClock(start_of(DAYS), running=False)
    house = open_house(settings, clock=clock)
    if house.first_admin is None:
        raise SystemExit("the store is not new")
    tickets(house.ledger, clock, closed=0, left_open=count, days=DAYS)
    runner = Runner(house.ledger, settings.data / "views.db")
    runner.catch_up()
    runner.close()
    print(*house.first_admin)
    house.close()


def fill_alerts(count: int, address: str, token: str) -> None:
    """So many distinct alerts, in deliveries of 100."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc)
    start = datetime.now(UTC).isoformat()
    for first in range(0, count, 100):
        alerts = [
            {
                "status": "firing", "startsAt": start, "endsAt": "0001-01-01T00:00:00Z", "annotations": {"summary": "load high"},
                "labels": {"alertname": "HighLoad", "instance": f"filled-{number}", "severity": "major", "service": "web"},
            }
            for number in range(first, first + 100)
        ]
        body = json.dumps({"version": "4", "status": "firing", "receiver": "bench", "groupLabels": {}, "alerts": alerts})
        connection.request("POST", "/hooks/alertmanager", body, {"Content-Type": "application/json", "Authorization": token})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise SystemExit(f"refused: {answer.status}")


def session(address: str, login: str, password: str) -> None:
    """The cookie of a session, as a browser would send it."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc)
    connection.request("GET", "/console/sign-in")
    answer = connection.getresponse()
    form_cookie = answer.headers["Set-Cookie"].partition(";")[0]
    token = re.search(r'name="csrf_token" value="([^"]*)"', answer.read().decode())
    assert token
    form = urllib.parse.urlencode({"csrf_token": token[1], "login": login, "password": password})
    connection.request("POST", "/console/sign-in", form, {"Content-Type": "application/x-www-form-urlencoded", "Cookie": form_cookie})
    answer = connection.getresponse()
    answer.read()
    print(next(value.partition(";")[0] for value in answer.headers.get_all("Set-Cookie") or () if value.startswith("tocsin_session")))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "tickets":
        fill_tickets(int(rest[0]))
    elif what == "alerts":
        fill_alerts(int(rest[0]), rest[1], rest[2])
    elif what == "session":
        session(*rest)
