"""Priority from impact and urgency, as ITIL has it: an editable matrix, P1 (first) to P5 (last)."""

from enum import StrEnum
from typing import Final


class Level(StrEnum):
    """How far an incident reaches (impact) and how soon it hurts (urgency)."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Priority(StrEnum):
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"
    P5 = "P5"


Matrix = dict[tuple[Level, Level], Priority]

# impact × urgency; the usual ITIL table.
DEFAULT_MATRIX: Final[Matrix] = {
    (Level.HIGH, Level.HIGH): Priority.P1,
    (Level.HIGH, Level.MEDIUM): Priority.P2,
    (Level.HIGH, Level.LOW): Priority.P3,
    (Level.MEDIUM, Level.HIGH): Priority.P2,
    (Level.MEDIUM, Level.MEDIUM): Priority.P3,
    (Level.MEDIUM, Level.LOW): Priority.P4,
    (Level.LOW, Level.HIGH): Priority.P3,
    (Level.LOW, Level.MEDIUM): Priority.P4,
    (Level.LOW, Level.LOW): Priority.P5,
}


def priority_of(impact: Level, urgency: Level, matrix: Matrix = DEFAULT_MATRIX) -> Priority:
    """The priority that the matrix gives."""
    return matrix[impact, urgency]
