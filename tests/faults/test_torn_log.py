"""A power cut leaves a part of the write-ahead log: the store opens with all that was committed before it, and with nothing by halves."""

import random
from typing import Final

import pytest

from tests.faults.promises import scratch
from tests.faults.torn import HEADER, Files, is_a_clean_prefix, written
from tests.soak import SOAK, Course

STEPS: Final = 40 if SOAK else 12
CUTS: Final = 20_000 if SOAK else 1_000
SECTOR: Final = 512

pytestmark = [pytest.mark.files, *([pytest.mark.process] if SOAK else [])]


def test_the_log_may_be_cut_at_the_edge_of_every_frame() -> None:
    with scratch() as folder:
        files = written(folder / "whole", STEPS)
        assert len(files.edges) > 2 * STEPS
        for edge in files.edges:
            is_a_clean_prefix(folder / "cut", files, files.log[:edge], edge)


def test_the_log_may_be_cut_anywhere() -> None:
    chance = random.Random(20260302)
    with scratch() as folder:
        files = written(folder / "whole", STEPS)
        course = Course(CUTS, "cuts")
        for number, cut in enumerate((0, 1, HEADER - 1, *(chance.randrange(len(files.log)) for _ in range(CUTS)))):
            is_a_clean_prefix(folder / "cut", files, files.log[:cut], cut)
            course.at(number)


def test_a_sector_that_was_not_written_hides_what_came_after_it_and_nothing_else() -> None:
    chance = random.Random(20260303)
    with scratch() as folder:
        files = written(folder / "whole", STEPS)
        course = Course(CUTS // 4, "sectors")
        for number in range(CUTS // 4):
            sector = chance.randrange(len(files.log) // SECTOR) * SECTOR
            is_a_clean_prefix(folder / "cut", files, hollowed(files, sector), sector)
            course.at(number)


def hollowed(files: Files, sector: int) -> bytes:
    """The log with zeros instead of one sector."""
    return files.log[:sector] + bytes(SECTOR) + files.log[sector + SECTOR :]
