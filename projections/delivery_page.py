"""Questions about what arrived: deliveries (rejected ones too) and monitoring events; texts are read from the log."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.clock import from_micros
from engine.delivery import DeliveryReceived, DeliveryRejected, MonitoringEvent
from engine.errors import InvalidInput, Phrase
from engine.event import Event
from projections.alert_page import alert_id
from projections.deliveries import CODES, DISPOSITIONS
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.views import Reader

MOST_LOOKED_THROUGH: Final = 1_000
_COLUMNS: Final = "position, id, source, adapter, received_at, length, events, lost, status, path, reason"


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery.

    Attributes:
        state: decided or rejected.
        length: of the body in bytes.
        monitoring_events: how many it holds.
        lost: alerts that the sender says it left out.
        status, path, reason: of a rejected one: what was answered, and the first place that was wrong.
    """

    id: UUID
    position: int
    source: str
    adapter: str
    received_at: datetime
    state: str
    length: int
    monitoring_events: int
    lost: int
    status: int | None
    path: str | None
    reason: str | None


class MonitoringEventRow(msgspec.Struct, frozen=True, kw_only=True):
    """One monitoring event (the ITIL event): what was said, and what was decided.

    Attributes:
        delivery, place: where it stands (`place` from 0).
        kind: trigger, resolve, acknowledge, heartbeat, information or change.
        number: of another record that it made (a change).
    """

    delivery: UUID
    position: int
    place: int
    received_at: datetime
    source: str
    kind: str
    disposition: str
    dedup_key: str | None
    title: str
    severity: str | None
    service: str | None
    resource: str | None
    labels: dict[str, str]
    details: dict[str, str]
    occurred_at: datetime | None
    episode_start: datetime | None
    ended_at: datetime | None
    alert: str | None
    incident: str | None
    number: str | None
    rule: str | None
    rule_version: int | None
    link: str | None
    flags: tuple[str, ...]


class DeliveryDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery with its monitoring events.

    Attributes:
        body: digest of the kept body, as the ledger's store finds it; None: not kept.
        truncated: only the beginning of the body was kept.
        identity: the identity that the sender gave the delivery.
    """

    delivery: DeliveryRow
    observations: list[MonitoringEventRow]
    identity: str | None
    body: str | None
    content_type: str
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringEventFilter:
    """Which monitoring events; None asks for all. `alert` is a number."""

    source: str | None = None
    disposition: str | None = None
    alert: str | None = None

    def __post_init__(self) -> None:
        """Raises: InvalidInput: an unknown disposition."""
        if self.disposition is not None and self.disposition not in CODES:
            raise InvalidInput("disposition", Phrase("one of %s", ', '.join(DISPOSITIONS)))


def deliveries(
    reader: Reader,
    *,
    source: str | None = None,
    rejected: bool | None = None,
    as_of: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[DeliveryRow]:
    """Deliveries, the latest first.

    Args:
        rejected: only those that could not be read (True), or that could (False).

    Raises:
        InvalidInput: bad cursor or limit.
    """
    limit = checked_limit(limit)
    key, at = from_cursor(cursor, "newest", (int,)), reader.at(as_of)
    where = "" if source is None else " AND source = :source"
    if rejected is not None:
        where += " AND status IS NOT NULL" if rejected else " AND status IS NULL"
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM deliveries WHERE position < :before{where} ORDER BY position DESC LIMIT :count",
        {"before": min(key[0], at + 1) if key else at + 1, "source": source, "count": limit + 1},
    )
    more = to_cursor("newest", [rows[limit - 1][0]]) if len(rows) > limit else None
    return Page(items=[_row(row) for row in rows[:limit]], next=more, position=at)


def first_since(reader: Reader, source: str, position: int) -> DeliveryRow | None:
    """A source's first delivery after a position that could be read, else its latest; None: none came.

    It is looked for among the first thousand, so that a sender that is wrong all night costs no more than one that is not.
    """
    values = {"source": source, "position": position, "most": MOST_LOOKED_THROUGH}
    since = f"SELECT {_COLUMNS} FROM deliveries WHERE source = :source AND position > :position ORDER BY position"
    row = reader.row(f"SELECT * FROM ({since} LIMIT :most) WHERE status IS NULL ORDER BY position LIMIT 1", values)
    row = row or reader.row(f"{since} DESC LIMIT 1", values)
    return None if row is None else _row(row)


def delivery(reader: Reader, delivery_id: UUID) -> DeliveryDetail | None:
    """One delivery with what was made of it; None where it is not known."""
    row = reader.row(f"SELECT {_COLUMNS} FROM deliveries WHERE id = :id", {"id": delivery_id.bytes})
    if row is None:
        return None
    found, event = _row(row), _event(reader, row[0])
    if isinstance(event, DeliveryReceived):
        told = [_told(reader, row[0], place, event, said) for place, said in enumerate(event.monitoring_events)]
        return DeliveryDetail(
            delivery=found, observations=told, identity=event.identity, body=event.body, content_type=event.content_type,
            truncated=False,
        )
    assert isinstance(event, DeliveryRejected)
    return DeliveryDetail(
        delivery=found, observations=[], identity=None, body=event.body, content_type=event.content_type,
        truncated=event.truncated,
    )


def monitoring_events(
    reader: Reader,
    *,
    filters: MonitoringEventFilter | None = None,
    as_of: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[MonitoringEventRow]:
    """Monitoring events, the latest first; within a delivery the last first.

    Raises:
        InvalidInput: bad cursor or limit.
    """
    filters, limit = filters or MonitoringEventFilter(), checked_limit(limit)
    key, at = from_cursor(cursor, "newest", (int, int)), reader.at(as_of)
    joins = where = ""
    values: dict[str, Any] = {"position": key[0] if key else at + 1, "place": key[1] if key else 0, "at": at, "count": limit + 1}
    if filters.source is not None:
        # CROSS: the monitoring events are walked in order, whatever the statistics say.
        joins = "CROSS JOIN deliveries AS d ON d.position = m.position"
        where += " AND d.source = :source"
        values["source"] = filters.source
    if filters.disposition is not None:
        code = next(code for disposition, code in CODES.items() if disposition == filters.disposition)
        # Written out, not bound: so the index of those that are not repeats can be used.
        where += f" AND m.disposition = {code}"
    if filters.alert is not None:
        alert = alert_id(reader, filters.alert)
        where += " AND m.alert = :alert"
        values["alert"] = b"" if alert is None else alert.bytes
    rows = reader.rows(
        f"SELECT m.position, m.place FROM monitoring_events AS m {joins} "
        f"WHERE m.position <= :at AND (m.position, m.place) < (:position, :place){where} "
        "ORDER BY m.position DESC, m.place DESC LIMIT :count",
        values,
    )
    more = to_cursor("newest", rows[limit - 1]) if len(rows) > limit else None
    return Page(items=_tell(reader, rows[:limit]), next=more, position=at)


def disposition_counts(reader: Reader) -> dict[str, int]:
    """How many monitoring events had each disposition, since the beginning."""
    counts = dict(reader.rows("SELECT disposition, number FROM disposition_counts"))
    return {disposition.value: counts.get(code, 0) for code, disposition in enumerate(DISPOSITIONS)}


def _tell(reader: Reader, places: Iterable[tuple[Any, ...]]) -> list[MonitoringEventRow]:
    items: list[MonitoringEventRow] = []
    read: tuple[int, Event | None] = (0, None)
    for position, place in places:
        if read[0] != position:
            read = (position, _event(reader, position))
        event = read[1]
        if isinstance(event, DeliveryReceived):
            items.append(_told(reader, position, place, event, event.monitoring_events[place]))
    return items


def _event(reader: Reader, position: int) -> Event | None:
    stored = reader.ledger.store.at(position)
    return None if stored is None else reader.ledger.fact(stored).event


def _told(reader: Reader, position: int, place: int, event: DeliveryReceived, said: MonitoringEvent) -> MonitoringEventRow:
    observation = said.observation
    return MonitoringEventRow(
        delivery=_delivery_id(reader, position), position=position, place=place, received_at=event.received_at,
        source=event.source, kind=observation.kind.value, disposition=said.disposition.value,
        dedup_key=said.dedup_key or observation.dedup_key, title=observation.title,
        severity=None if observation.severity is None else observation.severity.value, service=observation.service,
        resource=observation.resource, labels=observation.labels, details=observation.details, occurred_at=observation.occurred_at,
        episode_start=observation.episode_start, ended_at=observation.ended_at, alert=said.alert_number,
        incident=said.incident_number, number=said.number, rule=said.rule, rule_version=said.rule_version, link=observation.link,
        flags=observation.flags,
    )


def _delivery_id(reader: Reader, position: int) -> UUID:
    row = reader.row("SELECT id FROM deliveries WHERE position = :position", {"position": position})
    assert row is not None
    return UUID(bytes=row[0])


def _row(row: tuple[Any, ...]) -> DeliveryRow:
    return DeliveryRow(
        position=row[0], id=UUID(bytes=row[1]), source=row[2], adapter=row[3], received_at=from_micros(row[4]),
        state="decided" if row[8] is None else "rejected", length=row[5], monitoring_events=row[6], lost=row[7], status=row[8],
        path=row[9], reason=row[10],
    )
