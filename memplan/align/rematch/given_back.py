"""
Kernels that make positions before a step's layers, some of which seem to be a part of the first op there.

One that counts up is of no op that stands elsewhere than what runs before and behind it. What stands between two
kernels that are in no plan, behind one that counts up, and is smaller than what its op reads or makes is made from
positions, too.
"""

from __future__ import annotations

import numpy as np

from memplan.align.assignment import KernelAssignment
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.core.arrays import Int64s

_MOST = 8
"""Kernels that are looked at behind one that counts up."""
_LEAST = 0.5
"""How sure it is at least that what is given back is in no plan."""


def give_back_positions(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where parts of ops are made from positions."""
    sequence, kernels, kernel_class = both.sequence, both.kernels, both.kernel_class
    counts_up = kernels.main[kernel_class] == family_table().number("range")
    sizes = np.maximum(kernels.inputs.max(axis=1, initial=0), kernels.outputs.max(axis=1, initial=0))
    ops = np.maximum(sequence.classes.inputs.max(axis=1, initial=0), sequence.classes.outputs.max(axis=1, initial=0))
    mains = np.flatnonzero(found.core & (found.row >= 0))
    if not len(mains):
        return
    lone = np.flatnonzero(counts_up & ~found.core & (found.row >= 0))
    after = np.searchsorted(mains, lone)
    beside = found.row[mains[np.stack([np.maximum(after - 1, 0), np.minimum(after, len(mains) - 1)])]]
    away = np.maximum(beside.min(axis=0) - found.row[lone], found.row[lone] - beside.max(axis=0))
    _give_back(found, lone[away > 0])
    free = found.row < 0
    for begin in np.flatnonzero(counts_up & free).tolist():
        next_main = int(mains[min(int(np.searchsorted(mains, begin)), len(mains) - 1)])
        behind = np.arange(begin, min(next_main if next_main > begin else len(free), begin + _MOST, len(free)))
        last = int(behind[free[behind]][-1])
        parts = behind[(behind < last) & ~free[behind]]
        _give_back(found, parts[sizes[kernel_class[parts]] < ops[sequence.token[found.row[parts]]]])


def _give_back(found: KernelAssignment, which: Int64s) -> None:
    """Let `which` be in no plan."""
    found.match(which, -1)
    found.chance[which] = found.scope_chance[which] = np.maximum(1.0 - found.scope_chance[which], _LEAST)


__all__ = ["give_back_positions"]
