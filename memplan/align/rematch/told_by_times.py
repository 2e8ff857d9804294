"""
Kernels of a profile without shapes whose times tell which of several ops of a family they run.

The sum of the gradients of a small weight and that of activations are one type each: where they run in the other order
than planned, the short one takes as long as the long one should, everywhere. What updates the largest weight takes far
longer than the op it stands for, as nothing but that update would.
"""

from __future__ import annotations

import numpy as np

from memplan.align.assignment import KernelAssignment, each_step
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.core.arrays import Bools, Floats

_NEAR_ROWS, _NEAR_KERNELS = 3, 2
"""Rows, and kernels, by which two that changed places stand apart at most."""
_TIMES = 4.0
"""By what factor both times are nearer to the planned ones where two changed places."""
_EACH = 0.9
"""The share of such pairs of ops in which that is so."""
_FAR, _CLOSE = 8.0, 2.5
"""By what factor a time is above that of the op it stands for, and off the one it is of at most."""
_REACH = 40
"""Rows by which that one is away at most, but for updates, which runs do in orders of their own."""
_MOST = 200
"""Ops that nothing runs that are looked at in a step."""


def take_told_by_times(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where kernels without shapes run other ops of the family than they are matched with."""
    sequence, kernels, kernel_class, times = both.sequence, both.kernels, both.kernel_class, both.times
    if kernels.known.all():
        return
    blind = found.core & (found.row >= 0) & (found.first == found.last) & ~kernels.known[kernel_class] & (times > 0)
    blind &= np.append((sequence.op >= 0) & (sequence.time > 0), False)[found.row]
    measured = np.log(np.maximum(times, 1.0).astype(np.float64))
    planned = np.log(np.maximum(sequence.time, 1).astype(np.float64))
    _swap_pairs(both, found, blind, measured, planned)
    _take_missed(both, found, blind, measured, planned)


def _swap_pairs(both: PlanAndRun, found: KernelAssignment, blind: Bools, measured: Floats, planned: Floats) -> None:
    """Let two kernels of one class right after each other change places where their times are those of the other."""
    sequence, kernel_class = both.sequence, both.kernel_class
    mine = np.flatnonzero(blind)
    first, second = mine[:-1], mine[1:]
    near = (second - first <= _NEAR_KERNELS) & (kernel_class[first] == kernel_class[second])
    near &= (found.step[first] == found.step[second]) & (found.row[first] != found.row[second])
    near &= np.abs(found.row[first] - found.row[second]) <= _NEAR_ROWS
    first, second = first[near], second[near]
    token = sequence.token[found.row[first]].astype(np.int64), sequence.token[found.row[second]]
    alike = (sequence.classes.main[token[0]] == sequence.classes.main[token[1]]) & (token[0] != token[1])
    first, second, pair = first[alike], second[alike], (token[0] * len(sequence.classes) + token[1])[alike]
    if not len(first):
        return
    # The lesser of how far both are apart in the plan and in the run, in the other direction.
    run = measured[first] - measured[second]
    plan = planned[found.row[second]] - planned[found.row[first]]
    crossed = (run * plan > 0) & (np.minimum(np.abs(run), np.abs(plan)) >= np.log(_TIMES))
    _, kind = np.unique(pair, return_inverse=True)
    swapped = (np.bincount(kind, crossed) / np.bincount(kind) >= _EACH)[kind]
    first, second = first[swapped], second[swapped]
    row = found.row[first].copy()
    for array in (found.row, found.first, found.last):
        array[first] = array[second]
        array[second] = row


def _take_missed(both: PlanAndRun, found: KernelAssignment, blind: Bools, measured: Floats, planned: Floats) -> None:
    """Give ops that nothing runs the kernel of their family that takes as long as they should and far off its own."""
    sequence = both.sequence
    family, updates = sequence.classes.main[sequence.token], family_table().number("optimizer")
    for step in each_step(found.step):
        mine = step[blind[step]]
        ran = np.zeros(len(sequence), dtype=np.bool_)
        ran[found.row[step][found.row[step] >= 0]] = True
        mine = mine[measured[mine] - planned[found.row[mine]] >= np.log(_FAR)]
        if not len(mine):
            continue
        missed = np.flatnonzero(~ran & (sequence.op >= 0) & np.isin(family, family[found.row[mine]]))
        for row in missed[np.argsort(-planned[missed], kind="stable")][:_MOST].tolist():
            able = family[found.row[mine]] == family[row]
            able &= (family[row] == updates) | (np.abs(found.row[mine] - row) <= _REACH)
            off = np.where(able, np.abs(measured[mine] - planned[row]), np.inf)
            best = int(np.argmin(off))
            if off[best] <= np.log(_CLOSE):
                found.match(int(mine[best]), row)
                mine = np.delete(mine, best)
            if not len(mine):
                break


__all__ = ["take_told_by_times"]
