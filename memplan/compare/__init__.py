"""
Plans against profiles: one time axis, and the signed differences with what they cost.

The alignment and what it rests on are imported when something is compared: the window starts without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.core.lazy_names import lazy_names

if TYPE_CHECKING:
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

__getattr__ = lazy_names(
    __name__,
    {
        "AlignedStep": "memplan.compare.aligned_ops",
        "compare": "memplan.compare.comparison",
        "write_curves": "memplan.compare.curve_table",
        "KernelPlaces": "memplan.compare.kernel_places",
        "write_kernels": "memplan.compare.kernel_places",
        "Matches": "memplan.compare.op_matches",
        **dict.fromkeys(("CauseKind", "StepCause", "StepCauses"), "memplan.compare.step_causes"),
        "TimeMap": "memplan.compare.timemap",
        **dict.fromkeys(
            (
                "ComparedMemory", "Comparison", "Deviation", "DeviationKind", "DeviationWhat", "Summary", "Tolerance",
                "UnmatchedKernels",
            ),
            "memplan.compare.result",
        ),
    },
)  # fmt: skip
