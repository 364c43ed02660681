"""Prometheus metrics: `tocsin_<room>_<thing>_<unit>`, labels from closed sets only, never a ticket's number."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.house import House
from engine.clock import micros
from engine.errors import StoreUnavailable
from monitors import kafka_measures
from projections import kafka_relay
from projections.dead_letters import CODEC, parked
from projections.outbox import counts, waiting_since
from projections.queue_page import glance
from projections.runner import Runner

METRICS: Final = CollectorRegistry()
OBSERVATIONS: Final = Counter(
    "tocsin_monitors_observations_total", "Observations by what was decided", ["disposition"], registry=METRICS
)
DELIVERIES: Final = Counter("tocsin_monitors_deliveries_total", "Deliveries by outcome", ["outcome"], registry=METRICS)
REQUESTS: Final = Histogram(
    "tocsin_api_request_duration_seconds", "Time to answer, by route and class of status", ["route", "status"], registry=METRICS,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
POSITION: Final = Gauge("tocsin_engine_log_position_events", "Last position of the log", registry=METRICS)
WAITING: Final = Gauge("tocsin_engine_waiting_units", "Units of work that wait to be committed", registry=METRICS)
NOTICES: Final = Counter(
    "tocsin_notices_sent_total", "Attempts to send a notice, by channel and what came of it", ["channel", "outcome"], registry=METRICS
)
NOTICES_WAITING: Final = Gauge("tocsin_notices_waiting", "Notices that wait to be sent", registry=METRICS)
NOTICES_DEAD: Final = Gauge("tocsin_notices_dead", "Notices that could not be sent and are not tried again", registry=METRICS)
NOTICES_AGE: Final = Gauge("tocsin_notices_oldest_seconds", "Age of the oldest notice that waits to be sent", registry=METRICS)
REPORTS: Final = Counter(
    "tocsin_portal_reports_total", "Reports of the portal by what became of them", ["outcome"], registry=METRICS
)
for _measure in (
    kafka_measures.RECORDS, kafka_measures.LAG, kafka_measures.SECONDS, kafka_relay.LAG_EVENTS, kafka_relay.LAG_SECONDS, kafka_relay.PUBLISHED,
):
    METRICS.register(_measure)
OPEN: Final = Gauge(
    "tocsin_projections_open_tickets", "Tickets in the queue, as the views of this node have it", ["priority"], registry=METRICS
)
SUBSCRIBERS: Final = Gauge("tocsin_api_stream_subscribers", "Open live streams", registry=METRICS)
READY: Final = Gauge("tocsin_ready", "1 where /readyz says that the process can do its work", registry=METRICS)
LEADS: Final = Gauge("tocsin_worker_leads", "1 where this process leads: fires timers and sends notices", registry=METRICS)
DRIFT: Final = Gauge("tocsin_clock_drift_seconds", "The wall clock minus the process's own, which follows it slowly", registry=METRICS)
FREE: Final = Gauge("tocsin_data_free_bytes", "Free space where the data folder lies", registry=METRICS)
SIZE: Final = Gauge("tocsin_data_size_bytes", "Size of the file system where the data folder lies", registry=METRICS)
ProcessCollector(registry=METRICS)


def exposition(house: House | None = None, runner: Runner | None = None) -> tuple[bytes, str]:
    """(the metrics as text, their content type); what is not asked anew keeps its last value."""
    if house is not None:
        WAITING.set(house.ledger.waiting)
        DRIFT.set(house.clock.drift_seconds())
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(house.settings.data)
            FREE.set(disk.free)
            SIZE.set(disk.total)
        with contextlib.suppress(StoreUnavailable):
            _ask(house, runner)
    return generate_latest(METRICS) + _of_views(house, runner), CONTENT_TYPE_LATEST


def _ask(house: House, runner: Runner | None) -> None:
    POSITION.set(house.store.head().position)
    if runner is None:
        return
    with runner.views.reader() as reader:
        found, since, queue = counts(reader), waiting_since(reader), glance(reader)
    for priority, number in queue.by_priority.items():
        OPEN.labels(priority).set(number)
    NOTICES_AGE.set(max(0.0, (house.clock.now() - since).total_seconds()) if since is not None else 0)
    NOTICES_WAITING.set(found["waiting"])
    NOTICES_DEAD.set(found["dead"])


def _of_views(house: House | None, runner: Runner | None) -> bytes:
    if house is None or runner is None:
        return b""
    views = CollectorRegistry()
    try:
        views.register(_Views(house, runner))
        return generate_latest(views)
    except StoreUnavailable:
        return b""


class _Views(Collector):
    """How far each view of this node is, whichever process folds it, and what this process has folded."""

    def __init__(self, house: House, runner: Runner) -> None:
        self._house, self._runner = house, runner

    def collect(self) -> Iterator[Metric]:
        per_view = ("projection",)
        events = GaugeMetricFamily("tocsin_projections_lag_events", "Events that a view is behind the log", labels=per_view)
        age = GaugeMetricFamily("tocsin_projections_lag_seconds", "Age of the oldest event that is not in a view yet", labels=per_view)
        dead = GaugeMetricFamily("tocsin_projections_dead_letters", "Events that are parked since a view cannot take them", labels=per_view)
        stopped = GaugeMetricFamily("tocsin_projections_stopped", "1 where a view takes no further event", labels=per_view)
        folded = CounterMetricFamily("tocsin_projections_folded_events", "Events folded into a view by this process", labels=per_view)
        with self._runner.views.reader() as reader:
            rows, letters = reader.rows("SELECT name, position, stopped IS NOT NULL FROM tracking ORDER BY name"), parked(reader)
        head, waited = self._house.store.head().position, {position: self._waited(position) for _, position, _ in rows}
        for name, position, ended in rows:
            events.add_metric([name], max(0, head - position))
            age.add_metric([name], waited[position])
            dead.add_metric([name], letters.get(name, 0))
            stopped.add_metric([name], ended)
            folded.add_metric([name], self._runner.folded[name])
        dead.add_metric([CODEC], letters.get(CODEC, 0))
        yield from (events, age, dead, stopped, folded)
        yield GaugeMetricFamily("tocsin_projections_rebuilding", "1 while views are built anew", self._runner.views.place.building)
        yield GaugeMetricFamily("tocsin_projections_folding", "1 where this process folds, 0 where it follows another", self._runner.folds)

    def _waited(self, position: int) -> float:
        rows = self._house.store.log(position, 1)
        return max(0, micros(self._house.clock.now()) - rows[0].recorded_at) / 1e6 if rows else 0.0


class Measured:
    """Times each request under its route's path template, so that no number or id becomes a label."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "unmatched")
            REQUESTS.labels(path, f"{status // 100}xx").observe(time.perf_counter() - begun)
