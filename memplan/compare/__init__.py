"""Plans against profiles: one time axis, and the signed differences with what they cost."""

from memplan.compare.aligned_ops import AlignedStep
from memplan.compare.comparison import compare
from memplan.compare.curve_table import write_curves
from memplan.compare.kernel_places import KernelPlaces, write_kernels
from memplan.compare.op_matches import Matches
from memplan.compare.result import (
    ComparedMemory,
    Comparison,
    Deviation,
    DeviationKind,
    DeviationWhat,
    Summary,
    Tolerance,
    UnmatchedKernels,
)
from memplan.compare.step_causes import CauseKind, StepCause, StepCauses
from memplan.compare.timemap import TimeMap

__all__ = [
    "AlignedStep",
    "CauseKind",
    "ComparedMemory",
    "Comparison",
    "Deviation",
    "DeviationKind",
    "DeviationWhat",
    "KernelPlaces",
    "Matches",
    "StepCause",
    "StepCauses",
    "Summary",
    "TimeMap",
    "Tolerance",
    "UnmatchedKernels",
    "compare",
    "write_curves",
    "write_kernels",
]
