"""Charts as small SVG drawings: geometry is computed here, `api/templates/parts/chart.html` shows it, CSS gives the colours.

Drawn by ourselves and not by Vega (`vl-convert`): measured there, a chart took 76 ms and 12 KB in a process of 83 MB that
needs 0.4 s to start; here it takes under a millisecond and 2 KB, and its marks are links, follow the dark scheme and need
no style that a strict content security policy forbids.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import Final

WIDTH: Final = 400
HEIGHT: Final = 176
LEFT: Final = 46
RIGHT: Final = 66
TOP: Final = 12
BOTTOM: Final = 22
LINE_HEIGHT: Final = 13
MOST_TICKS: Final = 4
MOST_X_LABELS: Final = 5
# Lengths of time that read well on an axis, in seconds.
_TIME_STEPS: Final = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000,
    864_000, 1_728_000, 4_320_000, 8_640_000,
)


@dataclass(frozen=True, slots=True)
class Point:
    """One place on the time axis.

    Attributes:
        label: for the axis.
        told: the whole figure in words, shown on hover.
        href: the tickets behind it.
        weekend: shaded.
    """

    label: str
    told: str
    href: str
    weekend: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Values along the points; None where there is none. `colour` is a class of the style sheet: one, two, three or four."""

    name: str
    values: Sequence[float | None]
    colour: str = "one"


@dataclass(frozen=True, slots=True)
class Mark:
    """A dot or a column with what it says and where it leads."""

    x: float
    y: float
    width: float
    height: float
    told: str
    href: str
    colour: str


@dataclass(frozen=True, slots=True)
class Label:
    x: float
    y: float
    text: str
    colour: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart, ready to be shown."""

    name: str
    title: str
    text: str
    weekends: list[tuple[float, float]]
    grid: list[tuple[float, str]]
    x_labels: list[Label]
    bands: list[tuple[str, str]] = field(default_factory=list)
    strokes: list[tuple[str, str]] = field(default_factory=list)
    dots: list[Mark] = field(default_factory=list)
    columns: list[Mark] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    top: int = TOP
    plot_width: int = WIDTH - LEFT - RIGHT
    plot_height: int = HEIGHT - TOP - BOTTOM


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places."""

    count: int
    top: float

    def x(self, index: int) -> float:
        step = (WIDTH - LEFT - RIGHT) / self.count
        return round(LEFT + step * (index + 0.5), 1)

    def y(self, value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / self.top), 1)


def number_ticks(highest: float) -> list[float]:
    """At most five round numbers from 0 to at or above `highest`."""
    if highest <= 0:
        return [0, 1]
    rough = highest / MOST_TICKS
    size: float = 10 ** floor(log10(rough))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
    step = max(step, 1.0) if highest >= MOST_TICKS else step
    return [step * index for index in range(ceil(highest / step) + 1)]


def time_ticks(highest: float) -> list[float]:
    """At most six lengths in seconds, in units that people think in."""
    step = next((step for step in _TIME_STEPS if step * (MOST_TICKS + 1) >= highest), _TIME_STEPS[-1])
    return [float(step * index) for index in range(max(1, ceil(highest / step)) + 1)]


def spread(
    name: str, title: str, points: Sequence[Point], middle: Series, high: Series, say: Callable[[float], str], text: str
) -> Drawing:
    """The median as a line, up to the 90th percentile as a band."""
    drawing, scale = _frame(name, title, points, [middle, high], time_ticks, say, text)
    for run in _runs(middle.values):
        upper = [high.values[index] if high.values[index] is not None else middle.values[index] for index in run]
        lower = [middle.values[index] for index in run]
        drawing.bands.append((_area(scale, run, _known(upper), _known(lower)), middle.colour))
        if len(run) > 1:
            drawing.strokes.append((_path(scale, run, _known(lower)), middle.colour))
    drawing.dots.extend(_dots(scale, points, middle))
    _end_labels(drawing, scale, [high, middle], say)
    return drawing


def lines(
    name: str, title: str, points: Sequence[Point], series: Sequence[Series], say: Callable[[float], str], text: str
) -> Drawing:
    """One line a series, labelled at its end."""
    drawing, scale = _frame(name, title, points, series, number_ticks, say, text)
    for one in series:
        for run in _runs(one.values):
            if len(run) > 1:
                drawing.strokes.append((_path(scale, run, _known([one.values[index] for index in run])), one.colour))
        drawing.dots.extend(_dots(scale, points, one))
    _end_labels(drawing, scale, series, say)
    return drawing


def columns(name: str, title: str, points: Sequence[Point], one: Series, say: Callable[[float], str], text: str) -> Drawing:
    """A column for each point."""
    drawing, scale = _frame(name, title, points, [one], number_ticks, say, text)
    width = round(min(28.0, (WIDTH - LEFT - RIGHT) / scale.count * 0.72), 1)
    for index, value in enumerate(one.values):
        if value:
            y = scale.y(value)
            drawing.columns.append(
                Mark(round(scale.x(index) - width / 2, 1), y, width, round(scale.y(0) - y, 1), points[index].told, points[index].href, one.colour)
            )
    _end_labels(drawing, scale, [one], say)
    return drawing


def _frame(
    name: str, title: str, points: Sequence[Point], series: Sequence[Series], ticks: Callable[[float], list[float]],
    say: Callable[[float], str], text: str,
) -> tuple[Drawing, _Scale]:
    highest = max((value for one in series for value in one.values if value is not None), default=0.0)
    chosen = ticks(highest)
    scale = _Scale(max(1, len(points)), max(chosen[-1], 1e-9))
    step = (WIDTH - LEFT - RIGHT) / scale.count
    every = max(1, ceil(len(points) / MOST_X_LABELS))
    drawing = Drawing(
        name=name, title=title, text=text,
        weekends=[(round(LEFT + step * index, 1), round(step, 1)) for index, point in enumerate(points) if point.weekend],
        grid=[(scale.y(tick), say(tick) if tick else "0") for tick in chosen],
        x_labels=[Label(scale.x(index), HEIGHT - 6, points[index].label) for index in range(0, len(points), every)],
    )
    return drawing, scale


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _runs(values: Sequence[float | None]) -> list[list[int]]:
    """Neighbours that have a value: a gap is shown as a gap."""
    runs: list[list[int]] = []
    for index, value in enumerate(values):
        if value is None:
            continue
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def _path(scale: _Scale, run: Sequence[int], values: Sequence[float]) -> str:
    return "M" + "L".join(f"{scale.x(index)},{scale.y(value)}" for index, value in zip(run, values, strict=True))


def _area(scale: _Scale, run: Sequence[int], upper: Sequence[float], lower: Sequence[float]) -> str:
    if len(run) == 1:  # a single day is a bar, so that it is seen
        x = scale.x(run[0])
        return f"M{x - 3},{scale.y(upper[0])}H{x + 3}V{scale.y(lower[0])}H{x - 3}Z"
    back = "L".join(f"{scale.x(index)},{scale.y(value)}" for index, value in zip(reversed(run), reversed(lower), strict=True))
    return f"{_path(scale, run, upper)}L{back}Z"


def _dots(scale: _Scale, points: Sequence[Point], one: Series) -> list[Mark]:
    return [
        Mark(scale.x(index), scale.y(value), 0, 0, points[index].told, points[index].href, one.colour)
        for index, value in enumerate(one.values)
        if value is not None
    ]


def _end_labels(drawing: Drawing, scale: _Scale, series: Sequence[Series], say: Callable[[float], str]) -> None:
    """Name and last value at the end of each line, kept apart; the first of `series` stands highest where they meet."""
    placed = []
    for one in series:
        known = [(index, value) for index, value in enumerate(one.values) if value is not None]
        if known:
            placed.append((scale.y(known[-1][1]), one, known[-1][1]))
    placed.sort(key=lambda each: each[0])
    heights = [y for y, _, _ in placed]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + 2 * LINE_HEIGHT)
    # What was pushed below the axis goes up again, and what stands above it makes room.
    lowest = float(HEIGHT - BOTTOM - LINE_HEIGHT + 2)
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], lowest)
        lowest = heights[index] - 2 * LINE_HEIGHT
    for at, (_, one, value) in zip(heights, placed, strict=True):
        drawing.labels.append(Label(WIDTH - RIGHT + 6, round(at, 1), say(value), "label"))
        if one.name:
            drawing.labels.append(Label(WIDTH - RIGHT + 6, round(at + LINE_HEIGHT - 1, 1), one.name))
