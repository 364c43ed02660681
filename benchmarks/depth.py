"""What the ten-thousandth costs against the first ones: repeats of one alert, and alerts that join one incident; on both databases."""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from typing import Final

from api.house import House, open_house
from api.settings import Settings, load_settings
from benchmarks.figures import scratch, seconds, share, tell
from projections.runner import Runner
from tests.services.postgres import running

MANY: Final = 10_000
SPAN: Final = 500
WARM: Final = 20
CASES: Final[dict[str, Callable[[int], str]]] = {
    "a repeat of one alert": lambda _: "srv",
    "an alert that joins one incident": lambda number: f"srv-{number}",
}


def run(_: argparse.Namespace) -> None:
    """SQLite, then PostgreSQL; each delivery has a synced commit of its own, and the views follow after each span."""
    with running() as server, scratch() as folder:
        for name in ("SQLite", "PostgreSQL"):
            for case, instance in CASES.items():
                database = server.database() if name == "PostgreSQL" else None
                early, late, folded = _measure(load_settings({}, data=folder / f"{name}-{case}", database=database), instance)
                tell(f"{name}: {case}, up to the {WARM + SPAN}th", f"{early:.2f} ms")
                tell(f"  up to the {MANY:,}th", f"{late:.2f} ms")
                tell("  ratio", f"{late / early:.2f}", "bar: <= 1.2")
                tell("  folding their events into the views, ratio", f"{folded[-1] / folded[0]:.2f}")


def _measure(settings: Settings, instance: Callable[[int], str]) -> tuple[float, float, list[float]]:
    """(median ms of the early ones, of the late ones, seconds of folding each of these spans)."""
    house = open_house(settings, first_admin=False)
    runner = Runner(house.ledger, settings.data / "views.db")
    spans = []
    for numbers in (range(WARM), range(WARM, WARM + SPAN), range(WARM + SPAN, MANY - SPAN), range(MANY - SPAN, MANY)):
        waits = asyncio.run(_ring(house, [_body(instance(number)) for number in numbers]))
        spans.append((share(waits, 0.5), seconds(runner.catch_up)))
    runner.close()
    house.close()
    return spans[1][0], spans[3][0], [spans[1][1], spans[3][1]]


async def _ring(house: House, bodies: list[bytes]) -> list[float]:
    """Milliseconds of each delivery, ascending."""
    waits = []
    for body in bodies:
        begun = time.perf_counter()
        await house.intake.receive("alertmanager", body, content_type="application/json")
        waits.append((time.perf_counter() - begun) * 1_000)
    return sorted(waits)


def _body(instance: str) -> bytes:
    labels = {"alertname": "HighErrorRate", "instance": instance, "service": "shop", "severity": "critical"}
    alert = {"status": "firing", "labels": labels, "annotations": {}, "startsAt": "2026-03-02T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}
    return json.dumps({"version": "4", "status": "firing", "receiver": "x", "groupLabels": {}, "alerts": [alert]}).encode()
