"""Plans against profiles: one time axis, and the signed differences with what they cost."""

from memplan.compare.comparison import compare
from memplan.compare.curve_table import write_curves
from memplan.compare.result import (
    Comparison,
    Deviation,
    DeviationKind,
    DeviationWhat,
    Matches,
    ComparedMemory,
    Summary,
    Tolerance,
    UnmatchedKernels,
)
from memplan.compare.timemap import TimeMap

__all__ = [
    "Comparison",
    "Deviation",
    "DeviationKind",
    "DeviationWhat",
    "Matches",
    "ComparedMemory",
    "Summary",
    "TimeMap",
    "Tolerance",
    "UnmatchedKernels",
    "compare",
    "write_curves",
]
