"""Prometheus itself says of each alert that it rings when it should, and that a healthy Tocsin rings none."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.process.server import ROOT

FOLDER: Final = ROOT / "deploy" / "prometheus"
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("promtool") is None and not os.environ.get("CI"), reason="Prometheus is not installed"),
]

WORKER: Final = 'instance="worker:8801", job="tocsin-worker"'
API: Final = 'instance="api-1:8800", job="tocsin-api"'
HOOKS: Final = f'tocsin_api_request_duration_seconds_count{{{API}, route="/hooks/{{source}}", status="%s"}}'
HEALTHY: Final = {
    f"up{{{API}}}": "1x600",
    f"up{{{WORKER}}}": "1x600",
    f"tocsin_ready{{{API}}}": "1x600",
    f"tocsin_ready{{{WORKER}}}": "1x600",
    f"tocsin_worker_leads{{{API}}}": "0x600",
    f"tocsin_worker_leads{{{WORKER}}}": "1x600",
    f'tocsin_projections_lag_seconds{{{API}, projection="work_queue"}}': "9x600",
    f'tocsin_projections_stopped{{{API}, projection="work_queue"}}': "0x600",
    f'tocsin_projections_dead_letters{{{API}, projection="work_queue"}}': "0x600",
    f"tocsin_projections_rebuilding{{{API}}}": "0x600",
    f"tocsin_projections_folding{{{API}}}": "0x600",
    f"tocsin_projections_folding{{{WORKER}}}": "1x600",
    f"tocsin_notices_oldest_seconds{{{WORKER}}}": "110x600",
    f"tocsin_notices_dead{{{WORKER}}}": "0x600",
    'tocsin_monitors_kafka_lag_records{partition="0"}': "900x600",
    'tocsin_monitors_kafka_records_total{outcome="dead"}': "3x600",
    f"tocsin_clock_drift_seconds{{{API}}}": "-1.9x600",
    f"tocsin_data_free_bytes{{{API}}}": "16x600",
    f"tocsin_data_size_bytes{{{API}}}": "100x600",
    HOOKS % "2xx": "0+1000x600",
    HOOKS % "5xx": "0+9x600",
}
# What makes each ring, and the minutes after which it must; one minute before `for` is over it must not yet.
ILL: Final[dict[str, tuple[dict[str, str], int]]] = {
    "TocsinDown": ({f"up{{{API}}}": "0x600"}, 1),
    "TocsinNotReady": ({f"tocsin_ready{{{API}}}": "0x600"}, 1),
    "TocsinIntakeErrors": ({HOOKS % "5xx": "0+11x600"}, 6),
    "TocsinNoLeader": ({f"tocsin_worker_leads{{{WORKER}}}": "0x600"}, 1),
    "TocsinTwoLeaders": ({f"tocsin_worker_leads{{{API}}}": "1x600"}, 2),
    "TocsinViewsBehind": ({f'tocsin_projections_lag_seconds{{{API}, projection="work_queue"}}': "11x600"}, 1),
    "TocsinViewStopped": ({f'tocsin_projections_stopped{{{API}, projection="work_queue"}}': "1x600"}, 0),
    "TocsinNobodyFolds": ({f"tocsin_projections_folding{{{WORKER}}}": "0x600"}, 1),
    "TocsinDeadLetters": ({f'tocsin_projections_dead_letters{{{API}, projection="work_queue"}}': "1x600"}, 5),
    "TocsinNoticeLate": ({f"tocsin_notices_oldest_seconds{{{WORKER}}}": "121x600"}, 1),
    "TocsinNoticesDead": ({f"tocsin_notices_dead{{{WORKER}}}": "1x600"}, 0),
    "TocsinKafkaBehind": ({'tocsin_monitors_kafka_lag_records{partition="1"}': "101x600"}, 2),
    "TocsinKafkaDeadLetters": ({'tocsin_monitors_kafka_records_total{outcome="dead"}': "0+1x600"}, 1),
    "TocsinClockDrift": ({f"tocsin_clock_drift_seconds{{{API}}}": "-2.1x600"}, 2),
    "TocsinDiskLow": ({f"tocsin_data_free_bytes{{{API}}}": "14x600"}, 5),
    "TocsinDiskFullSoon": ({f"tocsin_data_free_bytes{{{API}}}": "45-0.05x600"}, 61),
}
FIRING: Final = 'count by (alertname) (ALERTS{alertstate="firing"})'


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]]
    return found


def looked(minutes: int, *alerts: str) -> dict[str, Any]:
    return {
        "expr": FIRING, "eval_time": f"{minutes}m",
        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts],
    }


def case(name: str, changes: dict[str, str], *looks: dict[str, Any]) -> dict[str, Any]:
    series = [{"series": name, "values": values} for name, values in {**HEALTHY, **changes}.items()]
    return {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": list(looks)}


def promtool(folder: Path, cases: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    (folder / "rules.test.yml").write_text(json.dumps({"rule_files": [str(FOLDER / "rules.yml")], "evaluation_interval": "1m", "tests": cases}))
    return subprocess.run(["promtool", "test", "rules", "rules.test.yml"], cwd=folder, capture_output=True, text=True, check=False)


def test_the_files_are_what_prometheus_takes() -> None:
    done = subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_rings_when_it_should_and_not_before(tmp_path: Path) -> None:
    assert {rule["alert"] for rule in rules() if "alert" in rule} == set(ILL)
    cases = [case("healthy", {}, looked(1), looked(30), looked(120))]
    for alert, (changes, minutes) in ILL.items():
        before = [looked(minutes - 1)] if minutes else []
        cases.append(case(alert, changes, *before, looked(minutes, alert), looked(minutes + 3, alert)))
    done = promtool(tmp_path, cases)
    assert done.returncode == 0, done.stdout + done.stderr


def test_with_every_process_gone_it_rings_that_nobody_leads(tmp_path: Path) -> None:
    gone = dict.fromkeys(HEALTHY, "1 stale")
    gone |= {f"up{{{API}}}": "1 0x100", f"up{{{WORKER}}}": "1 0x100"}
    done = promtool(tmp_path, [{**case("gone", gone), "promql_expr_test": [
        {"expr": FIRING, "eval_time": "10m", "exp_samples": [
            {"labels": '{alertname="TocsinDown"}', "value": 2}, {"labels": '{alertname="TocsinNoLeader"}', "value": 1},
        ]},
    ]}])
    assert done.returncode == 0, done.stdout + done.stderr


def test_views_that_are_built_anew_ring_nobody(tmp_path: Path) -> None:
    changes = {
        f'tocsin_projections_lag_seconds{{{API}, projection="work_queue"}}': "1000x600",
        f"tocsin_projections_rebuilding{{{API}}}": "1x600",
    }
    done = promtool(tmp_path, [case("rebuilding", changes, looked(30))])
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
            assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
