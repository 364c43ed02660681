"""Prometheus Alertmanager, webhook receiver: one body, many alerts, each with a state of its own.

Payload versions "4" and older (a numeric `groupKey`, no `fingerprint`, no `truncatedAlerts`). The group's fields are not
evidence about a member: `status` says "firing" while any member fires, `endsAt` of a firing member is at most a lease of somebody else.
Identity of an alert is our digest of its labels.

Facts: Alertmanager's configuration reference, `webhook_config`, and its `template.Data`; a repeat comes every
`repeat_interval` (4 h by default); 5xx is retried, 4xx (429 as well) is not.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from engine.errors import MalformedDelivery
from engine.observation import Observation, ObservationKind, Parsed, SourceProfile
from monitors.adapter import Adapter, clamped_end, post_command
from monitors.dates import read_instant
from monitors.json_body import element, member, read_documents
from monitors.labelled_alert import labelled_observation, read_annotations, read_labels
from monitors.reading import kind_of, read_list, read_object, scalar_text, shown, texts_of

DEFAULT_REPEAT_SECONDS: Final = 4 * 3600.0
TRIAL_LABELS: Final = {"alertname": "TocsinTrial", "severity": "info"}
_KINDS: Final = {"firing": ObservationKind.TRIGGER, "resolved": ObservationKind.RESOLVE}


def parse(body: bytes, content_type: str, profile: SourceProfile) -> Parsed:
    """The members of a webhook notification, in their order.

    Raises:
        MalformedDelivery: unreadable (400), or a member cannot be understood (422): then none of them is taken.
    """
    observations: list[Observation] = []
    lost, group = 0, None
    for path, document in read_documents(body, content_type):
        notification = read_object(document, path, what="an object with a list `alerts`")
        observations += read_members(notification, path, profile, group_status=notification.get("status"))
        lost += left_out(notification)
        group = group or scalar_text(notification.get("groupKey"))
    return Parsed(observations=tuple(observations), lost=lost, group=group)


def read_members(
    notification: Mapping[str, Any], path: str, profile: SourceProfile, *, group_status: object, described_by: tuple[str, ...] = ()
) -> list[Observation]:
    """The observations of a notification's `alerts`.

    Args:
        notification: the object that holds them.
        path: where it was found.
        profile: the source that it came from.
        group_status: holds for a member without a status.
        described_by: further fields of a member that go to the details.

    Raises:
        MalformedDelivery: a member cannot be understood (422).
    """
    within = member(path, "alerts")
    return [
        _read_member(alert, element(within, index), profile, group_status, described_by)
        for index, alert in enumerate(read_list(notification.get("alerts"), within, what="a list of alerts"))
    ]


def left_out(notification: Mapping[str, Any]) -> int:
    """How many alerts the sender says that it left out of this body (`truncatedAlerts`)."""
    count = notification.get("truncatedAlerts")
    if isinstance(count, str) and count.isascii() and count.isdigit() and len(count) < 10:
        count = int(count)
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 2**31 else 0


def snippet(address: str, token: str) -> str:
    """The receiver for `alertmanager.yml`."""
    return f"""\
# alertmanager.yml
route:
  receiver: tocsin            # or a route of your own that names it
receivers:
  - name: tocsin
    webhook_configs:
      - url: {json.dumps(address)}
        send_resolved: true
        http_config:
          authorization:
            type: Bearer
            credentials: {json.dumps(token)}
"""


def trial(address: str, token: str) -> str:
    """A notification of one alert."""
    alert = {"status": "firing", "labels": TRIAL_LABELS, "annotations": {"summary": "Trial alert"}}
    return post_command(address, {"version": "4", "status": "firing", "alerts": [alert]}, token=token)


def _read_member(
    alert: object, path: str, profile: SourceProfile, group_status: object, described_by: tuple[str, ...]
) -> Observation:
    if type(alert) is not dict:
        raise MalformedDelivery(path, f"expected an alert object, got {kind_of(alert)}")
    labels = read_labels(alert.get("labels"), f"{path}.labels", profile)
    status = alert.get("status")
    kind = _kind(group_status if status is None else status, path)
    details = read_annotations(alert.get("annotations"), f"{path}.annotations")
    if described_by:
        details |= texts_of({name: alert.get(name) for name in described_by})
    started_at = read_instant(alert.get("startsAt"), f"{path}.startsAt", zone=profile.zone)
    ended_at = read_instant(alert.get("endsAt"), f"{path}.endsAt", zone=profile.zone)
    if kind is ObservationKind.TRIGGER:
        return labelled_observation(alert, labels, details, kind=kind, episode_start=started_at)
    ended_at, flags = clamped_end(ended_at, started_at)
    return labelled_observation(alert, labels, details, kind=kind, episode_start=started_at, ended_at=ended_at, flags=flags)


def _kind(status: object, path: str) -> ObservationKind:
    kind = _KINDS.get(status) if isinstance(status, str) else None
    if kind is None and isinstance(status, str):
        kind = _KINDS.get(status.strip().lower())
    if kind is None:
        got = kind_of(status) if status is None else shown(status)
        raise MalformedDelivery(f"{path}.status", f"expected firing or resolved, got {got}")
    return kind


ADAPTER: Final = Adapter(
    name="alertmanager",
    title="Prometheus Alertmanager (webhook)",
    parse=parse,
    snippet=snippet,
    trial=trial,
    repeat_interval_seconds=DEFAULT_REPEAT_SECONDS,
)
