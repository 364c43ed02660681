"""Questions about alerts: lists, and one alert with its episodes, now or as of a position."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.clock import from_micros
from engine.delivery import DeliveryReceived, Disposition
from engine.errors import InvalidInput, Phrase
from engine.ledger import Ledger
from projections.alerts import COLUMNS, EPISODE_COLUMNS, SEVERITIES, TRANSITIONS, AlertFold, Episode
from projections.deliveries import CODES
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.views import Reader

MOST_EPISODES_IN_A_LIST: Final = 5
MOST_EPISODES: Final = 200
# Rows that are looked at for one page of the past before it ends early with a cursor.
MOST_LOOKED_AT: Final = 2_000

_TOPICS: Final = frozenset(event.TOPIC for event in TRANSITIONS)


class EpisodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One firing. `cause` says why it ended: resolved, no_longer_reported or newer_episode; `missed`: only its end was seen."""

    started_at: datetime
    ended_at: datetime | None
    occurrences: int
    acknowledged: bool
    severity: str
    incident: str | None
    cause: str | None
    missed: bool


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """One alert: its fields show the present (or last) episode.

    Attributes:
        title: the latest text.
        occurrences: monitoring events of the present episode.
        stale: its source should have repeated it and has not.
        episodes: the latest ones, oldest first: at most 5 in a list, 200 on its own (`episodes_total`).
        reported_at: when a monitoring event last spoke of it.
        labels, details, link: of the latest report; only where one alert was asked for.
    """

    id: UUID
    number: str
    source: str
    dedup_key: str
    title: str
    severity: str
    firing: bool
    stale: bool
    acknowledged: bool
    occurrences: int
    service: str | None
    resource: str | None
    started_at: datetime
    ended_at: datetime | None
    incident: str | None
    episodes: list[EpisodeRow]
    episodes_total: int
    reported_at: datetime | None
    labels: dict[str, str] = {}
    details: dict[str, str] = {}
    link: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts; None asks for all. `incident` is a number."""

    firing: bool | None = None
    severity: str | None = None
    service: str | None = None
    source: str | None = None
    incident: str | None = None

    def __post_init__(self) -> None:
        """Raises: InvalidInput: an unknown severity."""
        if self.severity is not None and self.severity not in SEVERITIES:
            raise InvalidInput("severity", Phrase("one of %s", ', '.join(SEVERITIES)))

    def values(self, incident: bytes | None) -> dict[str, Any]:
        return {
            "firing": self.firing, "severity": self.severity, "service": self.service, "source": self.source, "incident": incident,
        }

    def where(self) -> str:
        names = ("firing", "severity", "service", "source", "incident")
        return "".join(f" AND {name} = :{name}" for name in names if getattr(self, name) is not None)

    def fits(self, fold: AlertFold, incident: bytes | None) -> bool:
        return (
            (self.firing is None or self.firing == fold.firing)
            and self.severity in (None, fold.severity)
            and self.service in (None, fold.service)
            and self.source in (None, fold.source)
            and (self.incident is None or incident == fold.incident)
        )


def alerts(
    reader: Reader, *, filters: AlertFilter | None = None, as_of: int | None = None, cursor: str | None = None, limit: int = 50
) -> Page[AlertRow]:
    """Alerts that have a number, newest first.

    Raises:
        InvalidInput: bad cursor or limit.
    """
    filters, limit = filters or AlertFilter(), checked_limit(limit)
    key = from_cursor(cursor, "newest", (int,))
    at = reader.at(as_of)
    incident = None
    if filters.incident is not None:
        incident = _incident_id(reader, filters.incident)
        if incident is None:
            return Page(items=[], next=None, position=at)
    before = key[0] if key else at + 1
    if at != reader.position:
        return _past_page(reader, filters, incident, at, before, limit)
    sql = (
        f"SELECT {', '.join(COLUMNS)} FROM alerts WHERE number IS NOT NULL AND alert < :before{filters.where()} "
        "ORDER BY alert DESC LIMIT :count"
    )
    rows = reader.rows(sql, {**filters.values(incident), "before": before, "count": limit + 1})
    folds = [AlertFold.from_row(row) for row in rows[:limit]]
    more = to_cursor("newest", [folds[-1].alert]) if len(rows) > limit else None
    return Page(items=[_row(reader, fold, at, MOST_EPISODES_IN_A_LIST) for fold in folds], next=more, position=at)


def _past_page(reader: Reader, filters: AlertFilter, incident: bytes | None, at: int, before: int, limit: int) -> Page[AlertRow]:
    """What may have changed since is decided on the folded alert, so a page of a rare filter may be short and still go on."""
    sql = (
        "SELECT alert, id FROM alerts WHERE number IS NOT NULL AND alert < :before AND listed <= :at "
        "AND (:source IS NULL OR source = :source) ORDER BY alert DESC LIMIT :count"
    )
    values = {"before": before, "at": at, "source": filters.source, "count": MOST_LOOKED_AT}
    candidates = reader.rows(sql, values)
    items: list[AlertRow] = []
    last = before
    for alert, stream in candidates:
        if len(items) == limit:
            break
        fold, last = _fold_from_log(reader.ledger, stream, at), alert
        if fold is not None and fold.number is not None and filters.fits(fold, incident):
            items.append(_row(reader, fold, at, MOST_EPISODES_IN_A_LIST, past=True))
    ends = not candidates or (len(candidates) < MOST_LOOKED_AT and last == candidates[-1][0])
    return Page(items=items, next=None if ends else to_cursor("newest", [last]), position=at)


def alert(reader: Reader, number: str, *, as_of: int | None = None) -> AlertRow | None:
    """One alert by its number; None where it was not listed by then."""
    at = reader.at(as_of)
    found = reader.row(f"SELECT {', '.join(COLUMNS)} FROM alerts WHERE number = :number AND listed <= :at", {"number": number, "at": at})
    if found is None:
        return None
    past = at != reader.position
    fold = _fold_from_log(reader.ledger, found[1], at) if past else AlertFold.from_row(found)
    assert fold is not None
    row = _row(reader, fold, at, MOST_EPISODES, past=past)
    return _with_text(reader, row, fold, at)


def alert_id(reader: Reader, number: str) -> UUID | None:
    found = reader.row("SELECT id FROM alerts WHERE number = :number", {"number": number})
    return None if found is None else UUID(bytes=found[0])


def _incident_id(reader: Reader, number: str) -> bytes | None:
    found = reader.row("SELECT id FROM tickets WHERE number = :number", {"number": number})
    return None if found is None else found[0]


def _fold_from_log(ledger: Ledger, stream: bytes, at: int) -> AlertFold | None:
    fold: AlertFold | None = None
    for row in ledger.store.stream(stream):
        if row.position > at:
            break
        if fold is None:
            fold = AlertFold(UUID(bytes=row.stream), row.position)
        if row.type in _TOPICS:
            fold.apply(ledger.fact(row))
    return fold


def _row(reader: Reader, fold: AlertFold, at: int, most: int, *, past: bool = False) -> AlertRow:
    episodes = _episodes(reader, fold, most, past=past)
    reports = {
        row[0]: row[1:]
        for row in reader.rows(
            "SELECT opening, number, title, last_at FROM alert_reports WHERE alert = :alert ORDER BY opening DESC LIMIT :most",
            {"alert": fold.id.bytes, "most": most + 1},
        )
    }
    title = fold.title
    reported_at: int | None = None
    counts = {opening: number for opening, (number, _, _) in reports.items()}
    if past:
        counts[fold.opened], seen = _occurrences_at(reader, fold, at)
        if seen is not None:
            title, reported_at = _title_at(reader, seen) or title, _recorded_at(reader, seen[0])
    elif fold.opened in reports:
        _, title, reported_at = reports[fold.opened]
    numbers = _incident_numbers(reader, at, [fold.incident, *(episode.incident for episode in episodes)])
    shown = [
        EpisodeRow(
            started_at=from_micros(episode.started_at), ended_at=_instant(episode.ended_at),
            occurrences=0 if episode.opening is None else max(1, counts.get(episode.opening, 0)),
            acknowledged=episode.acknowledged, severity=episode.severity, incident=numbers.get(episode.incident),
            cause=episode.cause, missed=episode.opening is None,
        )
        for episode in sorted(episodes, key=lambda episode: (episode.started_at, episode.episode))
    ]
    present = next((episode for episode in episodes if episode.episode == fold.episode), None)
    assert fold.number is not None
    return AlertRow(
        id=fold.id, number=fold.number, source=fold.source, dedup_key=fold.dedup_key, title=title, severity=fold.severity,
        firing=fold.firing, stale=fold.stale, acknowledged=fold.acknowledged,
        occurrences=0 if present is None or present.opening is None else max(1, counts.get(present.opening, 0)),
        service=fold.service, resource=fold.resource, started_at=from_micros(fold.started_at), ended_at=_instant(fold.ended_at),
        incident=numbers.get(fold.incident), episodes=shown, episodes_total=fold.episode, reported_at=_instant(reported_at),
    )


def _episodes(reader: Reader, fold: AlertFold, most: int, *, past: bool) -> list[Episode]:
    if past:
        return sorted(fold.episodes.values(), key=lambda episode: episode.episode)[-most:]
    rows = reader.rows(
        f"SELECT {', '.join(EPISODE_COLUMNS)} FROM episodes WHERE alert = :alert ORDER BY episode DESC LIMIT :most",
        {"alert": fold.alert, "most": most},
    )
    return [Episode.from_row(row) for row in rows]


def _occurrences_at(reader: Reader, fold: AlertFold, at: int) -> tuple[int, tuple[int, int] | None]:
    """(monitoring events of the present episode by a position, place of the latest). Those of earlier ones are final."""
    values = {"alert": fold.id.bytes, "at": at, "opened": CODES[Disposition.OPENED], "repeated": CODES[Disposition.REPEATED]}
    opened = reader.row(
        "SELECT count(*), max(position) FROM monitoring_events WHERE alert = :alert AND disposition = :opened AND position <= :at",
        values,
    )
    assert opened is not None
    if opened[0] > fold.opened:
        # The position lies within a commit whose delivery opens a later episode too: this one's count is final already.
        report = reader.row(
            "SELECT number, position, place FROM alert_reports WHERE alert = :alert AND opening = :opening",
            {"alert": fold.id.bytes, "opening": fold.opened},
        )
        return (0, None) if report is None else (report[0], (report[1], report[2]))
    if opened[0] < fold.opened or opened[1] is None:
        return 0, None
    place = reader.row(
        "SELECT max(place) FROM monitoring_events WHERE alert = :alert AND disposition = :opened AND position = :position",
        {**values, "position": opened[1]},
    )
    start = (opened[1], place[0] if place else 0)
    values |= {"position": start[0], "place": start[1]}
    repeats = reader.row(
        "SELECT count(*) FROM monitoring_events WHERE alert = :alert AND disposition = :repeated AND position <= :at "
        "AND (position, place) > (:position, :place)",
        values,
    )
    latest = reader.row(
        "SELECT position, place FROM monitoring_events WHERE alert = :alert AND disposition = :repeated AND position <= :at "
        "AND (position, place) > (:position, :place) ORDER BY position DESC, place DESC LIMIT 1",
        values,
    )
    return 1 + (repeats[0] if repeats else 0), (latest[0], latest[1]) if latest else start


def _said(reader: Reader, place: tuple[int, int]) -> Any:
    stored = reader.ledger.store.at(place[0])
    event = reader.ledger.fact(stored).event if stored is not None else None
    return event.monitoring_events[place[1]].observation if isinstance(event, DeliveryReceived) else None


def _title_at(reader: Reader, place: tuple[int, int]) -> str | None:
    said = _said(reader, place)
    return None if said is None else str(said.title)


def _recorded_at(reader: Reader, position: int) -> int | None:
    stored = reader.ledger.store.at(position)
    return None if stored is None else stored.recorded_at


def _with_text(reader: Reader, row: AlertRow, fold: AlertFold, at: int) -> AlertRow:
    """`row` with what the latest report said."""
    if at != reader.position:
        _, place = _occurrences_at(reader, fold, at)
    else:
        found = reader.row(
            "SELECT position, place FROM alert_reports WHERE alert = :alert AND opening = :opening",
            {"alert": fold.id.bytes, "opening": fold.opened},
        )
        place = None if found is None else (found[0], found[1])
    said = None if place is None else _said(reader, place)
    if said is None:
        return row
    return msgspec.structs.replace(row, labels=said.labels, details=said.details, link=said.link)


def _incident_numbers(reader: Reader, at: int, incidents: Sequence[bytes | None]) -> dict[bytes | None, str]:
    wanted = sorted({incident for incident in incidents if incident is not None})
    if not wanted:
        return {}
    marks = ", ".join("?" * len(wanted))
    return dict(reader.rows(f"SELECT id, number FROM tickets WHERE id IN ({marks}) AND ticket <= ?", [*wanted, at]))


def _instant(value: int | None) -> datetime | None:
    return None if value is None else from_micros(value)
