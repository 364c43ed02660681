"""A real Prometheus scrapes a real Tocsin by our configuration and is asked everything that rules and dashboard ask."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.process.server import PATIENCE, ROOT, Server, answer, body, free_port, run, send

DEPLOY: Final = ROOT / "deploy"
NEEDED: Final = pytest.mark.skipif(shutil.which("prometheus") is None and not os.environ.get("CI"), reason="Prometheus is not installed")
pytestmark = pytest.mark.process
# Of these a quiet Tocsin without Kafka and without recipients has nothing to show.
QUIET: Final = ("tocsin_notices_sent_total", "tocsin_monitors_kafka_")


def panels() -> list[tuple[str, str]]:
    """(title, query) of all that the dashboard asks, for a Prometheus that scrapes each second."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    return [(panel["title"], target["expr"].replace("$__rate_interval", "10s")) for panel in dashboard["panels"] for target in panel["targets"]]


def rules() -> list[tuple[str, str]]:
    """(name, expression) of all rules."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    return [(rule.get("alert") or rule["record"], rule["expr"]) for group in groups for rule in group["rules"]]


class Prometheus:
    """It runs by our configuration, with other targets and each second."""

    def __init__(self, folder: Path, target: int) -> None:
        configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(DEPLOY / "prometheus" / "rules.yml")]
        configuration["scrape_configs"] = configuration["scrape_configs"][:1]
        configuration["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        self._port = free_port()
        with (folder / "prometheus.err").open("w") as said:
            self._process = subprocess.Popen(
                ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
                 f"--web.listen-address=127.0.0.1:{self._port}"],
                stdout=said, stderr=said,
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result; an error of the query is one of the test."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                query = urllib.parse.urlencode({"query": expression})
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/query?{query}", timeout=PATIENCE) as said:
                    found = json.load(said)
                assert found["status"] == "success"
                result: list[dict[str, Any]] = found["data"]["result"]
                return result
            except urllib.error.HTTPError as error:
                if error.code == 503 and time.monotonic() < deadline:  # it starts
                    continue
                raise AssertionError(f"{expression}: {error.read().decode()}") from error
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                assert self._process.poll() is None, "it ended"
                time.sleep(0.05)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.close()


@NEEDED
def test_every_panel_and_rule_asks_for_what_is_there(server: Server, tmp_path: Path) -> None:
    token, connection = server.token("alertmanager"), server.connect()
    prometheus = Prometheus(tmp_path, server.port)
    try:
        asked = [*panels(), *rules()]
        open_yet = {(name, query) for name, query in panels() if not any(word in query for word in QUIET)}
        assert len(open_yet) > 20
        deadline, minute = time.monotonic() + PATIENCE, 0
        while open_yet:
            assert time.monotonic() < deadline, f"no result: {sorted(open_yet)}"
            minute += 1
            send(connection, token, body("web-1", ended=minute % 2 == 0, minute=minute))
            assert answer(connection).status == 202
            open_yet = {(name, query) for name, query in open_yet if not prometheus.query(query)}
        for name, query in asked:
            prometheus.query(query)
            assert not (name.startswith("Tocsin") and prometheus.query(f'ALERTS{{alertname="{name}", alertstate="firing"}}')), name
        # A rule about a metric that is not there never rings: every name must be one that a process tells.
        told = {sample.name for family in text_string_to_metric_families(metrics(server)) for sample in family.samples}
        told |= {family.name for family in text_string_to_metric_families(metrics(server))} | {name for name, _ in rules()} | {"up", "ALERTS"}
        told |= {f"{family.name}_total" for family in text_string_to_metric_families(metrics(server)) if family.type == "counter"}
        for name, query in asked:
            assert named(query) <= told, name
    finally:
        prometheus.close()
        connection.close()


def metrics(server: Server) -> str:
    connection = server.connect()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def named(query: str) -> set[str]:
    """The metrics that a query names."""
    bare = re.sub(r'"[^"]*"', "", query)
    return set(re.findall(r"\b(?:tocsin[a-z0-9_:]*|process_[a-z_]+|up|ALERTS)\b", bare))


def test_the_dashboard_can_be_read_at_one_look() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    assert len(dashboard["panels"]) <= 14
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


def test_metrics_say_how_the_process_is(server: Server) -> None:
    assert run("token", "create", "--role", "admin", "--data", str(server.data))
    figures: dict[str, float] = {}
    deadline = time.monotonic() + PATIENCE
    while figures.get("tocsin_worker_leads") != 1:  # the first lease is taken after the start
        assert time.monotonic() < deadline
        figures = {sample.name: sample.value for family in text_string_to_metric_families(metrics(server)) for sample in family.samples}
    assert figures["tocsin_ready"] == 1
    assert 0 < figures["tocsin_data_free_bytes"] <= figures["tocsin_data_size_bytes"]
    assert abs(figures["tocsin_clock_drift_seconds"]) < 60
    assert figures["process_resident_memory_bytes"] > 0
