"""Prometheus metrics: `tocsin_<room>_<thing>_<unit>`, labels from closed sets only, never a ticket's number."""

import time
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.house import House
from monitors import kafka_measures
from projections.outbox import counts
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
LAG: Final = Gauge("tocsin_projections_lag_events", "Events that the views are behind the log", registry=METRICS)
WAITING: Final = Gauge("tocsin_engine_waiting_units", "Units of work that wait to be committed", registry=METRICS)
NOTICES: Final = Counter(
    "tocsin_notices_sent_total", "Attempts to send a notice, by channel and what came of it", ["channel", "outcome"], registry=METRICS
)
NOTICES_WAITING: Final = Gauge("tocsin_notices_waiting", "Notices that wait to be sent", registry=METRICS)
NOTICES_DEAD: Final = Gauge("tocsin_notices_dead", "Notices that could not be sent and are not tried again", registry=METRICS)
REPORTS: Final = Counter(
    "tocsin_portal_reports_total", "Reports of the portal by what became of them", ["outcome"], registry=METRICS
)
for _measure in (kafka_measures.RECORDS, kafka_measures.LAG, kafka_measures.SECONDS):
    METRICS.register(_measure)
SUBSCRIBERS: Final = Gauge("tocsin_api_stream_subscribers", "Open live streams", registry=METRICS)


def exposition(house: House, runner: Runner) -> tuple[bytes, str]:
    """(the metrics as text, their content type)."""
    POSITION.set(house.ledger.last_position)
    LAG.set(runner.lag)
    WAITING.set(house.ledger.waiting)
    with runner.views.reader() as reader:
        found = counts(reader)
    NOTICES_WAITING.set(found["waiting"])
    NOTICES_DEAD.set(found["dead"])
    return generate_latest(METRICS), CONTENT_TYPE_LATEST


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
