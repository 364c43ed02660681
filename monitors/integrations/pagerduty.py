"""PagerDuty Events API v2, as its clients speak it: alert events (`/v2/enqueue`) and change events (`/v2/change/enqueue`).

The imitated API answers an invalid event with 400 and the whole list of faults, so all are collected here before one
error is raised. It has no start of an episode: `timestamp` is only when the sender saw it. The routing key is a credential; it is
demanded and goes nowhere.

Facts: PagerDuty's developer documentation, "Events API v2" (fields, words, lengths); the public reports of its 400 answers,
by which a summary of more than 1,024 characters is refused, not cut.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from engine.errors import MalformedDelivery
from engine.observation import Observation, ObservationKind, Parsed, SourceProfile, severity_of
from monitors.adapter import Adapter, post_command
from monitors.dates import read_instant
from monitors.json_body import ROOT, read_json
from monitors.reading import any_text, http_link, kind_of, name_of, read_object, shown, texts_of, title_line

MAX_BODY_BYTES: Final = 512 * 1024      # the imitated API's limit for a request; the HTTP layer holds it
MAX_SUMMARY: Final = 1_024
MAX_DEDUP_KEY: Final = 255
SEVERITIES: Final = ("critical", "error", "warning", "info")
CHANGE_ENDPOINT: Final = "/v2/change/enqueue"
_ACTIONS: Final = {
    "trigger": ObservationKind.TRIGGER,
    "acknowledge": ObservationKind.ACKNOWLEDGE,
    "resolve": ObservationKind.RESOLVE,
}


class InvalidEvent(MalformedDelivery):
    """An event that the imitated API refuses with 400.

    Attributes:
        errors: every fault, each as `path: what was expected`, the first one being `path` and `expected`.
    """

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        path, expected = faults[0]
        super().__init__(path, expected, status=400)
        self.errors = [f"{where}: {what}" for where, what in faults]


def parse(body: bytes, _content_type: str, profile: SourceProfile) -> Parsed:
    """The one statement of an alert event.

    A missing or empty `dedup_key` of a trigger stays None: each such trigger is a new alert.

    Raises:
        InvalidEvent: always with status 400, with every fault found.
    """
    event = _read_event(body)
    faults = _Faults()
    _routing_key(event, faults)
    action = event.get("event_action")
    kind = _ACTIONS.get(action) if isinstance(action, str) else None
    if kind is None:
        faults.add("event_action", f"expected one of {', '.join(_ACTIONS)}, got {shown(action)}")
    key = _dedup_key(event, faults, needed=kind in (ObservationKind.ACKNOWLEDGE, ObservationKind.RESOLVE))
    if kind is ObservationKind.ACKNOWLEDGE or kind is ObservationKind.RESOLVE:
        faults.raise_any()
        return Parsed(observations=(Observation(kind=kind, dedup_key=key, title=_summary_if_any(event) or title_line(key or "")),))
    payload = _payload(event, faults)
    summary = _summary(payload, faults)
    origin = _required_text(payload, "source", faults)
    severity = payload.get("severity")
    if severity not in SEVERITIES:
        faults.add("payload.severity", f"expected one of {', '.join(SEVERITIES)}, got {shown(severity)}")
    labels = _labels(payload, faults)
    occurred_at = _timestamp(payload, profile, faults)
    faults.raise_any()
    custom = payload.get("custom_details")
    return Parsed(
        observations=(
            Observation(
                kind=ObservationKind.TRIGGER,
                dedup_key=key,
                title=title_line(summary),
                severity=severity_of(severity),
                service=_service(custom),
                resource=name_of(origin),
                labels=labels,
                details=_details(event, custom, summary),
                occurred_at=occurred_at,
                link=_link(event),
            ),
        )
    )


def parse_change(body: bytes, _content_type: str, profile: SourceProfile) -> Parsed:
    """The one statement of a change event: a record of a deliberate change, never an alert.

    Raises:
        InvalidEvent: always with status 400, with every fault found.
    """
    event = _read_event(body)
    faults = _Faults()
    _routing_key(event, faults)
    payload = _payload(event, faults)
    summary = _summary(payload, faults)
    occurred_at = _timestamp(payload, profile, faults)
    faults.raise_any()
    custom = payload.get("custom_details")
    return Parsed(
        observations=(
            Observation(
                kind=ObservationKind.CHANGE,
                dedup_key=None,
                title=title_line(summary),
                service=_service(custom),
                resource=name_of(payload.get("source")),
                details=_details(event, custom, summary),
                occurred_at=occurred_at,
                link=_link(event),
            ),
        )
    )


def trial(address: str, token: str) -> str:
    """A trigger; the token is its routing key."""
    event = {
        "routing_key": token,
        "event_action": "trigger",
        "dedup_key": "tocsin-trial",
        "payload": {"summary": "Trial alert", "source": "trial.example.com", "severity": "info"},
    }
    return post_command(address, event)


def snippet(address: str, token: str) -> str:
    """What a client of that API asks for."""
    return f"""\
# Any client of PagerDuty's Events API v2:
#   events address                          {address}
#   routing key (integration key)           {token}
# where it has a field of its own for change events: {address.removesuffix(ADAPTER.endpoint) + CHANGE_ENDPOINT}
# To try it out:
{trial(address, token)}\
"""


class _Faults:
    """The faults of one event, in the order in which they were found."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def add(self, path: str, expected: str) -> None:
        self._found.append((path, expected))

    def raise_any(self) -> None:
        if self._found:
            raise InvalidEvent(self._found)


def _read_event(body: bytes) -> dict[str, Any]:
    try:
        event = read_json(body)
    except MalformedDelivery as fault:
        raise InvalidEvent([(fault.path, fault.expected)]) from None
    if isinstance(event, dict):
        return event
    raise InvalidEvent([(ROOT, f"expected an event object, got {kind_of(event)}")])


def _routing_key(event: Mapping[str, Any], faults: _Faults) -> None:
    key = event.get("routing_key")
    if not isinstance(key, str) or not key.strip():     # its value never enters a message: it is a credential
        faults.add("routing_key", "expected the integration's routing key")


def _dedup_key(event: Mapping[str, Any], faults: _Faults, *, needed: bool) -> str | None:
    key = event.get("dedup_key")
    if key is None or key == "":
        if needed:
            faults.add("dedup_key", "expected the key of the alert to be acknowledged or resolved")
        return None
    if not isinstance(key, str):
        faults.add("dedup_key", f"expected text, got {kind_of(key)}")
    elif len(key) > MAX_DEDUP_KEY:
        faults.add("dedup_key", f"expected at most {MAX_DEDUP_KEY} characters, got {len(key)}")
    else:
        return key
    return None


def _payload(event: Mapping[str, Any], faults: _Faults) -> dict[str, Any]:
    payload = event.get("payload")
    if not isinstance(payload, dict):
        faults.add("payload", f"expected an object, got {kind_of(payload)}")
        faults.raise_any()      # what it should hold need not be listed
    return read_object(payload, "payload")


def _summary_if_any(event: Mapping[str, Any]) -> str:
    payload = event.get("payload")
    summary = payload.get("summary") if isinstance(payload, dict) else None
    return title_line(summary) if isinstance(summary, str) else ""


def _required_text(payload: Mapping[str, Any], name: str, faults: _Faults) -> str:
    text = payload.get(name)
    if isinstance(text, str) and text.strip():
        return text
    faults.add(f"payload.{name}", "expected text that is not empty" if isinstance(text, str) else f"expected text, got {kind_of(text)}")
    return ""


def _summary(payload: Mapping[str, Any], faults: _Faults) -> str:
    summary = _required_text(payload, "summary", faults)
    if len(summary) > MAX_SUMMARY:
        faults.add("payload.summary", f"expected at most {MAX_SUMMARY} characters, got {len(summary)}")
    return summary


def _labels(payload: Mapping[str, Any], faults: _Faults) -> dict[str, str]:
    labels = {}
    for name in ("component", "group", "class"):
        value = payload.get(name)
        if isinstance(value, list | dict):
            faults.add(f"payload.{name}", f"expected text, got {kind_of(value)}")
        text = any_text(value)
        if text:
            labels[name] = text
    return labels


def _timestamp(payload: Mapping[str, Any], profile: SourceProfile, faults: _Faults) -> datetime | None:
    try:
        return read_instant(payload.get("timestamp"), "payload.timestamp", zone=profile.zone)
    except MalformedDelivery as fault:
        faults.add(fault.path, fault.expected)
        return None


def _service(custom: object) -> str | None:
    value = custom.get("service") if isinstance(custom, dict) else None
    return name_of(value) if isinstance(value, str) else None


def _details(event: Mapping[str, Any], custom: object, summary: str) -> dict[str, str]:
    details = texts_of({name: event.get(name) for name in ("client", "client_url", "links", "images") if event.get(name)})
    if title_line(summary) != summary:
        details["summary"] = summary
    return details | (texts_of(custom) if isinstance(custom, dict) else texts_of({"custom_details": custom}))


def _link(event: Mapping[str, Any]) -> str | None:
    links = event.get("links")
    addresses = [link.get("href") for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    return next((address for address in map(http_link, [event.get("client_url"), *addresses]) if address), None)


ADAPTER: Final = Adapter(
    name="pagerduty", title="PagerDuty Events API v2", parse=parse, snippet=snippet, trial=trial, endpoint="/v2/enqueue"
)
