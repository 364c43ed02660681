"""What it costs as the store grows: the same acts on ever larger stores. Draws docs/growth.svg.

What must stay flat is shown against the smallest store; rebuilding, which grows with the log, as events a second.
"""

import argparse
import asyncio
import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from api.house import open_house
from api.settings import load_settings
from benchmarks.figures import scratch, share, tell, times
from benchmarks.history import start_of, tickets
from benchmarks.intake import server
from benchmarks.pages import DAYS, PASSWORD, Browser
from engine.clock import SimulatedClock
from engine.ledger import Ledger
from engine.person import Person
from engine.work import Unit, Work
from monitors.intake import Intake
from projections.runner import Runner

OPEN: Final = 2_000
ALERTS: Final = 2_000
ROUNDS: Final = 200
PICTURE: Final = Path(__file__).resolve().parents[1] / "docs" / "growth.svg"
COLOURS: Final = ("#2f6fa7", "#b4552d", "#4c8a3f", "#8a4f9e", "#a58a1f")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 46, 190, 24, 40


def run(options: argparse.Namespace) -> None:
    """Every size in turn; the store with the most tickets has `--growth` of them."""
    sizes = [options.growth // 100, options.growth // 10, options.growth]
    found: dict[str, list[float]] = {}
    rates = []
    with scratch() as folder:
        for size in sizes:
            data = folder / f"store-{size}"
            events, rate = build(data, size)
            tell(f"store of {size:,} tickets: rebuilding", f"{rate:,.0f} events/s", f"{events:,} events; bar: >= 25,000")
            rates.append(rate)
            for name, milliseconds in {**acts(data), **pages(data, size)}.items():
                tell(f"  {name}: p50", f"{milliseconds:.2f} ms")
                found.setdefault(name, []).append(milliseconds)
            shutil.rmtree(data)
    for name, values in found.items():
        tell(f"{name}: largest against smallest", f"{values[-1] / values[0]:.2f}", "bar: <= 1.3")
    tell("rebuilding, largest against the one before", f"{rates[-1] / rates[-2]:.2f}", "bar: >= 0.9")
    PICTURE.write_text(picture(sizes, found))
    tell("drawn", str(PICTURE.relative_to(PICTURE.parents[1])))


def build(data: Path, size: int) -> tuple[int, float]:
    """A store, some alerts at its beginning, and its views; (events, events a second of folding them)."""
    clock = SimulatedClock(start_of(DAYS), running=False)
    house = open_house(load_settings({}, data=data), clock=clock, first_admin=False)
    house.directory.open_account(login="bench", name="Bench", role="admin", password=PASSWORD)
    asyncio.run(_ring(house.intake, range(ALERTS), clock.now()))
    left_open = min(OPEN, size // 2)
    tickets(house.ledger, clock, closed=size - left_open, left_open=left_open, days=DAYS)
    runner = Runner(house.ledger, data / "views.db")
    events = house.ledger.last_position
    begun = time.perf_counter()
    runner.catch_up()
    rate = events / (time.perf_counter() - begun)
    runner.close()
    house.close()
    return events, rate


async def _ring(intake: Intake, numbers: range, start: datetime) -> None:
    for number in numbers:
        labels = {"alertname": "DiskFull", "severity": "warning", "instance": f"srv-{number}"}
        alert = {"status": "firing", "labels": labels, "annotations": {}, "startsAt": start.isoformat(), "endsAt": "0001-01-01T00:00:00Z"}
        body = json.dumps({"version": "4", "status": "firing", "receiver": "x", "groupLabels": {}, "alerts": [alert]}).encode()
        await intake.receive("alertmanager", body, content_type="application/json")


def acts(data: Path) -> dict[str, float]:
    """Median milliseconds of writing, without HTTP: each its own synced commit."""
    clock = SimulatedClock(datetime.now(UTC), running=False)
    house = open_house(load_settings({}, data=data), clock=clock, first_admin=False)
    start = start_of(DAYS)

    def append(ledger: Ledger = house.ledger) -> None:
        def decide(work: Work) -> None:
            work.fresh(Person, work.new_id()).register(name="Nora", email=None)

        ledger.run(Unit(decide, actor="user:bench"))

    numbers = iter(range(ALERTS))

    def repeat() -> None:
        # Each of another alert, which lies at the beginning of the log and in nobody's memory.
        number = next(numbers)
        asyncio.run(_ring(house.intake, range(number, number + 1), start))

    found = {"append": share(times(append, ROUNDS), 0.5), "dedup decision": share(times(repeat, ROUNDS), 0.5)}
    house.close()
    return found


def pages(data: Path, size: int) -> dict[str, float]:
    """Median milliseconds of pages."""
    with server(data) as (address, _):
        browser = Browser(address)
        month = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
        asked = {"queue page": "/console", "ticket page": f"/console/tickets/INC-{size // 2}", "as-of page": f"/console?as_of={month}"}
        return {name: share(times(lambda path=path: browser.get(path), ROUNDS), 0.5) for name, path in asked.items()}  # type: ignore[misc]  # mypy can't see through the default


def picture(sizes: list[int], found: dict[str, list[float]]) -> str:
    """The lines as an SVG: the cost against that of the smallest store."""
    inner, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    xs = [LEFT + inner * place / (len(sizes) - 1) for place in range(len(sizes))]

    def y(value: float) -> float:
        return TOP + high * (1 - min(value, 2.0) / 2.0)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="12">',
        "<title>Cost of five acts as the store grows, against the smallest store</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for level in (0.0, 0.5, 1.0, 1.3, 2.0):
        dash = ' stroke-dasharray="4 3"' if level == 1.3 else ""
        parts.append(f'<path d="M{LEFT} {y(level):.1f}H{WIDTH - RIGHT}" stroke="#c8c8c8"{dash}/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(level) + 4:.1f}" text-anchor="end" fill="#444">{level:g}×</text>')
    for x, size in zip(xs, sizes, strict=True):
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 16}" text-anchor="middle" fill="#444">{size:,} tickets</text>')
    ends = sorted((values[-1] / values[0], place) for place, values in enumerate(found.values()))
    low = HEIGHT * 2.0
    for last, place in reversed(ends):
        name, values = list(found.items())[place]
        colour = COLOURS[place % len(COLOURS)]
        line = " ".join(f"{x:.1f},{y(value / values[0]):.1f}" for x, value in zip(xs, values, strict=True))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y(value / values[0]):.1f}" r="3" fill="{colour}"/>' for x, value in zip(xs, values, strict=True)]
        label = y(last) if low > HEIGHT else max(y(last), low + 16)
        low = label
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{label + 4:.1f}" fill="{colour}">{name}, {values[-1]:.2f} ms</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
