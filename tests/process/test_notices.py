"""No notice is lost when the server is killed: each one that the log asks for reaches its receiver, at least once."""

import http.client
import json
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from api.house import open_house
from engine.recipient import Channel, Recipient, Shape, recipient_id
from engine.rulebook import RULEBOOK, NoticeRule, Rulebook, RulebookPublished
from engine.work import Unit
from tests.notices.post import Heard, Receiver, serve
from tests.process.server import PATIENCE, Server, answer, send
from tests.stores import settings_at

KILLS: Final = 20
CLIENTS: Final = 3
MOST_BETWEEN: Final = 60
RULES: Final = RulebookPublished(notices=(NoticeRule(name="P1", when="ticket.priority == 'P1'", to=("on-call",)),), text="only P1")


class Load:
    """Clients that open one P1 incident after the other, of a service each."""

    def __init__(self, server: Server, token: str) -> None:
        self._server, self._token = server, token
        self._change = threading.Condition()
        self._up, self._over = False, False
        self.acknowledged, self._since = 0, 0
        self._threads = [threading.Thread(target=self._client, args=(who,), daemon=True) for who in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _client(self, who: int) -> None:
        number = 0
        while self._wait_until_up():
            connection = self._server.connect()
            try:
                while True:
                    number += 1
                    send(connection, self._token, _alert(f"service-{who}-{number}"))
                    assert answer(connection).status == 202
                    with self._change:
                        self.acknowledged, self._since = self.acknowledged + 1, self._since + 1
                        self._change.notify_all()
                        if self._over:
                            return
            except (OSError, http.client.HTTPException):
                connection.close()

    def _wait_until_up(self) -> bool:
        with self._change:
            assert self._change.wait_for(lambda: self._up or self._over, PATIENCE)
            return not self._over

    def kill_after(self, acknowledgements: int) -> None:
        with self._change:
            self._up, self._since = True, 0
            self._change.notify_all()
            assert self._change.wait_for(lambda: self._since >= acknowledgements, PATIENCE)
            self._up = False
            self._server.kill()

    def end(self) -> None:
        with self._change:
            self._over = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join(PATIENCE)


def _alert(service: str) -> object:
    labels = {"alertname": "Down", "severity": "critical", "service": service}
    times = {"startsAt": "2026-03-02T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}
    return {"version": "4", "status": "firing", "receiver": "tocsin", "alerts": [{"status": "firing", "labels": labels, "annotations": {}, **times}]}


def _prepare(data: Path, url: str) -> None:
    house = open_house(settings_at(data))
    values = {"channel": Channel.WEBHOOK, "target": url, "secret": "", "shape": Shape.TOCSIN, "language": "en"}
    house.ledger.run(Unit(lambda work: work.load(Recipient, recipient_id("on-call")).add(name="on-call", **values), actor="tocsin"))  # type: ignore[arg-type]  # values of several kinds
    house.ledger.run(Unit(lambda work: work.load(Rulebook, RULEBOOK).publish(RULES), actor="tocsin"))
    house.close()


def _asked_for(server: Server) -> dict[str, str]:
    """The notices that the log asks for: id -> ticket; one for each P1 incident in it."""
    log = server.log()
    opened = log.execute("SELECT count(*) FROM events WHERE type = 'incident.opened.v1'").fetchone()[0]
    states = [json.loads(state) for (state,) in log.execute("SELECT state FROM events WHERE type = 'notice.requested.v1'")]
    log.close()
    assert len(states) == opened
    return {state["notice"]: state["ticket"] for state in states}


@pytest.mark.process
def test_every_p1_reaches_its_receiver_when_the_server_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(20260302)
    receiver = Receiver()
    web = serve(receiver)
    server = Server(tmp_path, settings={"TOCSIN_ALLOWED_NETWORKS": "127.0.0.0/8", "TOCSIN_PLAIN_WEBHOOKS": "true"})
    _prepare(server.data, receiver.url)
    server.start()
    load = Load(server, server.token("alertmanager"))
    try:
        for _ in range(KILLS):
            load.kill_after(chance.randint(1, MOST_BETWEEN))
            server.start()
        load.end()
        asked_for = _asked_for(server)

        def all_here(heard: list[Heard]) -> bool:
            return asked_for.keys() <= {one.headers["webhook-id"] for one in heard}

        heard = receiver.wait(all_here)  # type: ignore[arg-type]  # a list is what it has
        server.stop()
    finally:
        load.end()
        server.close()
        web.shutdown()
        web.server_close()
    times = Counter(one.headers["webhook-id"] for one in heard)
    with capsys.disabled():
        print(
            f"\n{KILLS} kills: {load.acknowledged} alerts acknowledged, {len(asked_for)} notices asked for, "
            f"{len(asked_for.keys() - times.keys())} lost, {sum(times.values()) - len(times)} sent again"
        )
    assert times.keys() == asked_for.keys()
    assert len(asked_for) >= load.acknowledged
