"""Grafana: unified alerting (since 8) and the legacy notifications before it, told apart by their shape, at one address.

Unified: Alertmanager's form with additions (`values`, `valueString`, addresses of dashboard, panel and silence, which
describe and never identify; `state` with the words alerting and ok). Legacy: one rule a body, identified by `orgId` and `ruleId`, because
its recovery lists no `evalMatches`; it declares no start, so its episodes begin with the first trigger.

Facts: Grafana's documentation of the webhook contact point, and of the legacy webhook notifier. Its Test button sends an
alert like any other, with an address that is only a query.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from engine.errors import MalformedDelivery
from engine.observation import Observation, ObservationKind, Parsed, SourceProfile, severity_of
from monitors.adapter import Adapter
from monitors.dedup import composed_key
from monitors.integrations.alertmanager import left_out, read_members, trial
from monitors.json_body import member, read_documents
from monitors.reading import any_text, http_link, name_of, read_object, scalar_text, shown, texts_of, title_line

_DESCRIBED_BY: Final = ("values", "valueString", "dashboardURL", "panelURL", "silenceURL", "imageURL")
_GROUP_STATES: Final = {"alerting": "firing", "ok": "resolved"}
_LEGACY_KINDS: Final = {
    "alerting": ObservationKind.TRIGGER,
    "no_data": ObservationKind.TRIGGER,
    "ok": ObservationKind.RESOLVE,
    "pending": ObservationKind.INFORMATION,
    "paused": ObservationKind.INFORMATION,
    "unknown": ObservationKind.INFORMATION,
}
_LEGACY_FIELDS: Final = ("ruleId", "ruleName", "evalMatches", "ruleUrl")


def parse(body: bytes, content_type: str, profile: SourceProfile) -> Parsed:
    """The alerts of a notification in their order, or the one rule of a legacy notification.

    Raises:
        MalformedDelivery: unreadable (400), or an alert cannot be understood (422): then none of them is taken.
    """
    observations: list[Observation] = []
    lost, group = 0, None
    for path, document in read_documents(body, content_type):
        notification = read_object(document, path, what="an object with a list `alerts`")
        if "alerts" not in notification and any(name in notification for name in _LEGACY_FIELDS):
            observations.append(_read_legacy(notification, path))
            continue
        status = notification.get("status")
        if status is None:
            state = notification.get("state")
            status = _GROUP_STATES.get(state) if isinstance(state, str) else None
        observations += read_members(notification, path, profile, group_status=status, described_by=_DESCRIBED_BY)
        lost += left_out(notification)
        group = group or scalar_text(notification.get("groupKey"))
    return Parsed(observations=tuple(observations), lost=lost, group=group)


def snippet(address: str, token: str) -> str:
    """The contact point: by hand, or as a provisioning file."""
    return f"""\
# Grafana: Alerting > Contact points > Add contact point, integration "Webhook":
#   URL                                     {address}
#   HTTP method                             POST
#   Authorization header, scheme            Bearer
#   Authorization header, credentials       {token}
# then choose it under Alerting > Notification policies.
#
# Or as a file: provisioning/alerting/tocsin.yaml
apiVersion: 1
contactPoints:
  - orgId: 1
    name: tocsin
    receivers:
      - uid: tocsin
        type: webhook
        disableResolveMessage: false
        settings:
          url: {json.dumps(address)}
          httpMethod: POST
          authorization_scheme: Bearer
          authorization_credentials: {json.dumps(token)}
"""


def _read_legacy(notification: Mapping[str, Any], path: str) -> Observation:
    rule = notification.get("ruleId")
    if rule is None:
        raise MalformedDelivery(member(path, "ruleId"), "expected the rule's id")
    state = notification.get("state")
    kind = _LEGACY_KINDS.get(state.strip().lower()) if isinstance(state, str) else None
    if kind is None:
        raise MalformedDelivery(member(path, "state"), f"expected one of {', '.join(_LEGACY_KINDS)}, got {shown(state)}")
    tags = notification.get("tags")
    labels = texts_of(tags) if isinstance(tags, dict) else {}
    matches = notification.get("evalMatches")
    details = texts_of({"message": notification.get("message"), "title": notification.get("title"), "imageUrl": notification.get("imageUrl")})
    match_tags: dict[str, str] = {}
    for match in matches if isinstance(matches, list) else ():
        if isinstance(match, dict):
            details["evalMatches"] = any_text(matches) or ""
            found = match.get("tags")
            match_tags = match_tags or (texts_of(found) if isinstance(found, dict) else {})
    where = {**match_tags, **labels}
    link = http_link(notification.get("ruleUrl"))
    if link is None:
        details |= texts_of({"ruleUrl": notification.get("ruleUrl")})
    return Observation(
        kind=kind,
        dedup_key=composed_key([_id(notification.get("orgId")), _id(rule)], member(path, "ruleId")),
        title=_legacy_title(notification),
        severity=severity_of(labels.get("severity")),
        service=name_of(labels.get("service")),
        resource=name_of(where.get("host") or where.get("instance") or where.get("resource")),
        labels=labels,
        details=details,
        link=link,
    )


def _id(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _legacy_title(notification: Mapping[str, Any]) -> str:
    for name in ("ruleName", "title", "message"):
        text = notification.get(name)
        line = title_line(text) if isinstance(text, str) else ""
        if line:
            return line
    return f"rule {any_text(notification.get('ruleId'))}"


ADAPTER: Final = Adapter(name="grafana", title="Grafana alerting", parse=parse, snippet=snippet, trial=trial)
