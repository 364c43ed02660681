"""The Alertmanager API: Prometheus, a ruler or `amtool` post alerts here as if Tocsin were an Alertmanager.

The body is an array of alerts without a status: an `endsAt` that has passed says "resolved", a later one is a lease that the
next post renews. Both come out of `parse` as a firing with `lease_until`; what has passed is decided at receipt
(`Adapter.received`). Identity is the webhook's, so one alert that arrives by both ways is one alert.

Facts: Alertmanager's API v2 specification (`postableAlert`) and its handler: without `endsAt` an alert holds for `resolve_timeout`
(5 min by default); without `startsAt` it starts at receipt, so no start is declared and a repeat continues the open episode;
an empty array is accepted.
"""

import json
from typing import Final
from urllib.parse import urlsplit

from engine.observation import Observation, ObservationKind, Parsed, SourceProfile
from monitors.adapter import Adapter, post_command
from monitors.dates import read_instant
from monitors.integrations.alertmanager import TRIAL_LABELS
from monitors.json_body import ROOT, element, read_json
from monitors.labelled_alert import labelled_observation, read_annotations, read_labels
from monitors.reading import read_list, read_object

RESOLVE_TIMEOUT_SECONDS: Final = 300.0


def parse(body: bytes, _content_type: str, profile: SourceProfile) -> Parsed:
    """The posted alerts, in their order, all as firing.

    Raises:
        MalformedDelivery: unreadable (400), or an alert cannot be understood (422): then none of them is taken.
    """
    alerts = read_list(read_json(body), ROOT, what="a list of alerts")
    return Parsed(observations=tuple(_read_alert(alert, element(ROOT, index), profile) for index, alert in enumerate(alerts)))


def snippet(address: str, token: str) -> str:
    """The `alerting` block for `prometheus.yml`; Prometheus itself adds `/api/v2/alerts` to the path."""
    parts = urlsplit(address)
    path = parts.path.removesuffix("/").removesuffix("/api/v2/alerts")
    host = parts.netloc.rpartition("@")[2]
    if parts.port is None:
        host += ":443" if parts.scheme == "https" else ":80"
    return f"""\
# prometheus.yml; nothing tells it to send the end of an alert too: it always does, for 15 minutes,
# and it repeats what fires at least every --rules.alert.resend-delay (1 minute)
alerting:
  alertmanagers:
    - scheme: {parts.scheme or "http"}
      path_prefix: {json.dumps(path or "/")}
      api_version: v2
      authorization:
        type: Bearer
        credentials: {json.dumps(token)}
      static_configs:
        - targets: [{json.dumps(host)}]
"""


def trial(address: str, token: str) -> str:
    """One alert, as Prometheus posts it; it ends by itself after 5 minutes."""
    return post_command(address, [{"labels": TRIAL_LABELS, "annotations": {"summary": "Trial alert"}}], token=token)


def _read_alert(value: object, path: str, profile: SourceProfile) -> Observation:
    alert = read_object(value, path, what="an alert object")
    labels = read_labels(alert.get("labels"), f"{path}.labels", profile)
    details = read_annotations(alert.get("annotations"), f"{path}.annotations")
    return labelled_observation(
        alert,
        labels,
        details,
        kind=ObservationKind.TRIGGER,
        episode_start=read_instant(alert.get("startsAt"), f"{path}.startsAt", zone=profile.zone),
        lease_until=read_instant(alert.get("endsAt"), f"{path}.endsAt", zone=profile.zone),
    )


ADAPTER: Final = Adapter(
    name="prometheus",
    title="Prometheus (Alertmanager API)",
    parse=parse,
    snippet=snippet,
    trial=trial,
    endpoint="/api/v2/alerts",
    lease_seconds=RESOLVE_TIMEOUT_SECONDS,
    lease_end_resolves=True,
)
