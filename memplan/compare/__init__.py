"""Plans against profiles: one time axis, and the signed differences with what they cost."""

from memplan.compare.comparison import compare
from memplan.compare.curve_table import write_curves
from memplan.compare.result import (
    ComparedMemory,
    Comparison,
    Deviation,
    DeviationKind,
    DeviationWhat,
    Matches,
    Summary,
    Tolerance,
    UnmatchedKernels,
)
from memplan.compare.timemap import TimeMap

__all__ = [
    "ComparedMemory",
    "Comparison",
    "Deviation",
    "DeviationKind",
    "DeviationWhat",
    "Matches",
    "Summary",
    "TimeMap",
    "Tolerance",
    "UnmatchedKernels",
    "compare",
    "write_curves",
]
