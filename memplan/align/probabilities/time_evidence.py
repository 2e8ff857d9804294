"""What times say of the matches of kernels without shapes, for the trees that tell how sure these are."""

from __future__ import annotations

import numpy as np

from memplan.align.assignment import KernelAssignment
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.time_ranks import rank_agreement
from memplan.core.arrays import Floats
from memplan.core.medians import medians_of_kinds

_FEWEST = 8
"""Kernels on ops of a family from which a correlation of their times is told."""
_SILENT = -2.0
"""What stands where times say nothing: of kernels with shapes, of parts, of no op, of ops without a planned time."""
_MOST_OFF = 6.0
"""The limit of logarithms of factors between times."""


def time_evidence(both: PlanAndRun, found: KernelAssignment) -> tuple[Floats, Floats, Floats, Floats]:
    """
    For each kernel how far its time is off and how far its kind's are, and how far times of its family and run agree.

    The first two are logarithms of factors beside what is usual for the family of ops in this run, the second their
    mean among kernels of a class on ops of a class; the others are correlations of ranks with planned times.
    """
    sequence, kernels, kernel_class, times = both.sequence, both.kernels, both.kernel_class, both.times
    off, like, family_agrees, run_agrees = (np.full(len(times), _SILENT) for _ in range(4))
    able = (found.row >= 0) & (found.first == found.last) & ~kernels.known[kernel_class] & (times > 0)
    exchanged = sequence.classes.among(family_table().apart)[sequence.token]
    able &= np.append((sequence.op >= 0) & (sequence.time > 0) & ~exchanged, False)[found.row]
    if not able.any():
        return off, like, family_agrees, run_agrees
    whole = np.flatnonzero(able & found.core)
    token = sequence.token[found.row].astype(np.int64)
    family = sequence.classes.main[token].astype(np.int64)
    longer = np.log(times[whole].astype(np.float64) / sequence.time[found.row[whole]])
    usual = medians_of_kinds(family[whole], longer)[family[whole]]
    off[whole] = np.minimum(np.abs(longer - usual), _MOST_OFF)
    _, kind = np.unique(token[whole] * len(kernels) + kernel_class[whole], return_inverse=True)
    like[whole] = (np.bincount(kind, off[whole]) / np.bincount(kind))[kind]
    planned, measured = sequence.time[found.row].astype(np.float64), times.astype(np.float64)
    run_agrees[able] = rank_agreement(planned[whole], measured[whole]) if len(whole) >= _FEWEST else 0.0
    for number in np.unique(family[able]).tolist():
        mine = whole[family[whole] == number]
        if len(mine) >= _FEWEST:
            family_agrees[able & (family == number)] = rank_agreement(planned[mine], measured[mine])
    return off, like, family_agrees, run_agrees


__all__ = ["time_evidence"]
