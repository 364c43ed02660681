"""The drawings of the measures: round axes, honest gaps, labels that do not cover each other."""

import re

import pytest

from api.charts import HEIGHT, LINE_HEIGHT, Drawing, Point, Series, columns, lines, number_ticks, spread, time_ticks

POINTS = [Point(f"{day} Mar", f"{day} March: told", f"/tickets?day={day}", weekend=day in (7, 8)) for day in range(1, 11)]


def say(value: float) -> str:
    return f"{value:g}"


def drawn(middle: list[float | None], high: list[float | None]) -> Drawing:
    points = POINTS[: len(middle)]
    return spread("restore", "Time to restore, by day", points, Series("median", middle), Series("p90", high), say, "text")


@pytest.mark.parametrize("highest", [0.4, 1, 3, 4, 7, 10, 19, 99, 100, 1_234, 98_765])
def test_an_axis_of_numbers_ends_at_or_above_the_highest_and_has_few_round_steps(highest: float) -> None:
    ticks = number_ticks(highest)
    assert ticks[-1] >= highest
    assert 2 <= len(ticks) <= 6
    assert all(tick == int(tick) for tick in ticks) or highest < 4


@pytest.mark.parametrize("seconds", [0, 0.5, 59, 61, 3_599, 90_000, 2_000_000, 90_000_000])
def test_an_axis_of_lengths_has_steps_that_people_think_in(seconds: float) -> None:
    ticks = time_ticks(seconds)
    assert ticks[-1] >= seconds
    assert 2 <= len(ticks) <= 13


def test_a_day_without_a_value_is_a_gap_and_not_a_zero() -> None:
    drawing = drawn([60, 120, None, 90, 60], [100, 200, None, 150, 100])
    assert len(drawing.strokes) == 2
    assert len(drawing.bands) == 2
    assert len(drawing.dots) == 4


def test_a_single_day_is_seen() -> None:
    drawing = drawn([None, 60, None], [None, 90, None])
    assert len(drawing.dots) == len(drawing.bands) == 1
    assert drawing.strokes == []


def test_labels_at_the_end_keep_their_distance_and_stay_above_the_axis() -> None:
    for middle, high in (([1.0, 1.0], [1.0, 1.0]), ([0.0, 0.0], [0.1, 5_000.0]), ([50.0, 50.0], [52.0, 52.0])):
        labels = [label for label in drawn(list(middle), list(high)).labels if label.colour == "label"]
        first, second = sorted(label.y for label in labels)
        assert second - first >= 2 * LINE_HEIGHT - 0.1
        assert second <= HEIGHT - 2 * LINE_HEIGHT


def test_every_mark_tells_its_figure_and_leads_to_its_tickets() -> None:
    drawing = columns("noise", "Events", POINTS, Series("events", [1.0] * 10), say, "text")
    assert [mark.href for mark in drawing.columns] == [point.href for point in POINTS]
    assert all("told" in mark.told for mark in drawing.columns)


def test_weekends_are_shaded_and_nothing_lies_outside_the_drawing() -> None:
    drawing = lines("volume", "Volume", POINTS, [Series("opened", [float(day % 4) for day in range(10)])], say, "text")
    assert len(drawing.weekends) == 2
    numbers = [float(found) for path, _ in drawing.strokes for found in re.findall(r"[\d.]+", path)]
    assert all(0 <= number <= drawing.width for number in numbers)
    assert len(drawing.x_labels) <= 5


def test_nothing_measured_draws_an_empty_frame() -> None:
    drawing = drawn([None, None], [None, None])
    assert drawing.grid
    assert drawing.labels == []
    assert lines("none", "None", [], [Series("x", [])], say, "text").x_labels == []
