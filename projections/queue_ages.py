"""The age of the queue, from kept counts: how many open tickets of each kind, priority, service and team were opened on which day.

The work queue keeps them (`queue_ages`). Counts, means and the day of a percentile come from them; the ticket that a percentile stands
at is then one of that day, at a known place in the queue's index. So a question costs as many rows as there are days and
combinations, and the tickets of a few days, however many are open.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from projections.queue_page import LEAST_PRIORITY, QueueFilter
from projections.views import Reader
from projections.work_queue import DAY

KEPT: Final = ("kind", "priority", "service", "team")


class Ages(Sequence[float]):
    """Ages in seconds, ascending.

    Attributes:
        total: their sum, in µs.
    """

    total: int

    @classmethod
    def of(cls, ages: Sequence[int]) -> "Ages":
        """Of ages in µs, in any order."""
        return _Counted(ages)


class _Counted(Ages):
    def __init__(self, ages: Sequence[int]) -> None:
        self._ages, self.total = sorted(ages), sum(ages)

    def __len__(self) -> int:
        return len(self._ages)

    def __getitem__(self, place: Any) -> Any:
        return self._ages[place] / 1_000_000


class _Kept(Ages):
    """Ages of the tickets that are counted in `days`, of which single ones are looked up."""

    def __init__(self, reader: Reader, until: int, only: Mapping[str, Any], days: Mapping[int, tuple[int, int]]) -> None:
        self._reader, self._until, self._only = reader, until, only
        self._days = sorted(((day, number) for day, (number, _) in days.items()), reverse=True)
        self._length = sum(number for _, number in self._days)
        self._known: dict[int, int] = {}
        opened = sum(day * DAY * number + within for day, (number, within) in days.items())
        self.total = self._length * until - opened + self._ahead()

    def _ahead(self) -> int:
        """What those lack that are said to be opened after the instant: they are no time old."""
        row = self._reader.row(
            f"SELECT sum(opened_at - :until) FROM tickets INDEXED BY open_by_priority WHERE {self._where()} AND opened_at > :until",
            {**self._only, "until": self._until},
        )
        return (row[0] if row else None) or 0

    def _where(self) -> str:
        if "priority" in self._only:
            return "open = 1" + "".join(f" AND {name} IS :{name}" for name in self._only)
        each = ", ".join(map(str, range(1, LEAST_PRIORITY + 1)))
        return f"open = 1 AND priority IN ({each})" + "".join(f" AND {name} IS :{name}" for name in self._only)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: Any) -> Any:
        if place not in self._known:
            self._look_up(place)
        return max(0, self._until - self._known[place]) / 1_000_000

    def _look_up(self, place: int) -> None:
        """And the next one, which a percentile lies between."""
        first = 0
        for day, number in self._days:
            if place < first + number:
                rows = self._reader.rows(
                    f"SELECT opened_at FROM tickets INDEXED BY open_by_priority WHERE {self._where()} AND opened_at >= :first "
                    "AND opened_at < :last ORDER BY opened_at DESC LIMIT 2 OFFSET :place",
                    {**self._only, "first": day * DAY, "last": (day + 1) * DAY, "place": place - first},
                )
                self._known |= {place + next_: row[0] for next_, row in enumerate(rows)}
                return
            first += number
        raise IndexError(place)


def ages(reader: Reader, until: int, filters: QueueFilter, group_by: str | None) -> dict[Any, Ages] | None:
    """Of the tickets in the queue now, together (under None) and by group; None: there are no counts for what is asked.

    Args:
        until: the instant to which age is counted, in µs since 1970.
    """
    only = filters.asked()
    if not only.keys() <= set(KEPT) or "" in only.values() or group_by not in (None, *KEPT):
        return None
    only = {name: value for name, value in filters.values().items() if name in only}
    group, where = group_by or "NULL", "".join(f" AND {name} = :{name}" for name in only)
    whole: defaultdict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    groups: defaultdict[Any, dict[int, tuple[int, int]]] = defaultdict(dict)
    for key, day, number, within in reader.iterate(
        f"SELECT {group}, day, sum(number), sum(within) FROM queue_ages WHERE 1{where} GROUP BY {group}, day", only
    ):
        whole[day] = (whole[day][0] + number, whole[day][1] + within)
        if group_by is not None:
            groups[key][day] = (number, within)
    found: dict[Any, Ages] = {None: _Kept(reader, until, only, whole)}
    for key, days in groups.items():
        label = f"P{key}" if group_by == "priority" else key
        found[label] = _Kept(reader, until, {**only, str(group_by): key if key != "" else None}, days)
    return found
