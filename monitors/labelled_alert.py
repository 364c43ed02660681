"""An alert that is told by labels and annotations, the data model of Prometheus, as three adapters read it.

Labels identify, annotations describe. Facts: the Prometheus data model (an empty label value is an absent label; an alert
needs at least one label); which label names what is affected is our convention: `host`, `instance`, `resource` in that order.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from engine.errors import MalformedDelivery
from engine.observation import Observation, ObservationKind, Severity, SourceProfile, severity_of
from monitors.dedup import label_digest, sender_of
from monitors.json_body import member
from monitors.reading import MAX_NAME, cut, http_link, kind_of, name_of, read_object, scalar_text, texts_of, title_line

RESOURCE_LABELS: Final = ("host", "instance", "resource")
TITLE_ANNOTATIONS: Final = ("summary", "title", "description")


class Labels(NamedTuple):
    """A label set, without the labels that name the reporter."""

    names: dict[str, str]
    dedup_key: str
    sender: str | None


MOST_KNOWN: Final = 4_096
_KNOWN: dict[tuple[str, str, tuple[str, ...]], Labels] = {}


def read_labels(value: object, path: str, profile: SourceProfile) -> Labels:
    """The labels as text, empty and null ones dropped, and the identity that they make.

    A source repeats the same label sets for hours, so the last few thousand are remembered.

    Raises:
        MalformedDelivery: no object, no label at all, or a value that is no scalar (422).
    """
    members = read_object(value, path, what="an object of labels")
    try:
        # No text holds a NUL (the reader refuses it), so no two sets of texts look alike.
        key = ("\0".join(members), "\0".join(members.values()), profile.ignored_labels)
    except TypeError:  # a value that is no text
        return _labels(members, path, profile)
    known = _KNOWN.get(key)
    if known is None:
        known = _labels(members, path, profile)
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = known
    return known


def _labels(members: Mapping[str, object], path: str, profile: SourceProfile) -> Labels:
    names = {}
    for name, label in members.items():
        text = label if type(label) is str else _label_text(label, path, name)
        if text:
            names[name] = text
    if not names:
        raise MalformedDelivery(path, "expected at least one label with a value")
    sender = None
    if profile.ignored_labels:
        sender = sender_of(names, profile.ignored_labels)
        if sender is not None:
            names = {name: text for name, text in names.items() if name not in profile.ignored_labels}
    return Labels(names, label_digest(names), sender)


def read_annotations(value: object, path: str) -> dict[str, str]:
    """The annotations as text; null is none, empty and null ones are dropped.

    Raises:
        MalformedDelivery: neither an object nor null (422).
    """
    return {} if value is None else texts_of(read_object(value, path, what="an object of annotations"))


def labelled_observation(
    alert: Mapping[str, Any],
    labels: Labels,
    details: dict[str, str],
    *,
    kind: ObservationKind,
    episode_start: datetime | None,
    ended_at: datetime | None = None,
    lease_until: datetime | None = None,
    flags: tuple[str, ...] = (),
) -> Observation:
    """The observation of an alert whose labels, annotations (`details`), state and times have been read.

    `generatorURL` becomes the link where it is an absolute http(s) address and stays text in the details where it is not.
    """
    names = labels.names
    address = alert.get("generatorURL")
    link = http_link(address)
    if link is None and address:
        details = {**details, **texts_of({"generatorURL": address})}
    resource = names.get("host") or names.get("instance") or names.get("resource")
    service = names.get("service")
    return Observation(
        kind=kind,
        dedup_key=labels.dedup_key,
        title=_title(names, details),
        severity=_severity(names),
        service=cut(service, MAX_NAME) if service else None,
        resource=cut(resource, MAX_NAME) if resource else None,
        labels=names,
        details=details,
        episode_start=episode_start,
        ended_at=ended_at,
        lease_until=lease_until,
        sender=labels.sender,
        fingerprint=name_of(alert.get("fingerprint")),
        link=link,
        flags=flags,
    )


def _label_text(value: object, path: str, name: str) -> str | None:
    text = scalar_text(value)
    if text is None and value is not None:
        raise MalformedDelivery(member(path, name), f"expected a label value (text, number, true, false or null), got {kind_of(value)}")
    return text


def _title(names: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    for name in TITLE_ANNOTATIONS:
        text = annotations.get(name)
        if text:
            line = title_line(text)
            if line:
                return line
    alert = names.get("alertname")
    where = names.get("instance")
    if alert is None:
        return title_line(", ".join(f"{name}={text}" for name, text in names.items())) or "alert"
    return title_line(f"{alert} on {where}" if where else alert) or "alert"


def _severity(names: Mapping[str, str]) -> Severity | None:
    return severity_of(names.get("severity")) or severity_of(names.get("priority"))
