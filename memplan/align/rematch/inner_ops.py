"""
Ops that run inside the one before them, between its parts: a gradient is added to those before as soon as it is made.

A norm that is written out makes the gradient of its weight before that of what it reads; what adds the former to the
one before it stands between its parts. It fits that op in all its operands, and the op it is inside only by one.
"""

from __future__ import annotations

import math

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.classes.likelihood import exact_ratio
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Bools, Int64s

_ALMOST = 0.99
"""What is left of a ratio by rounding, at least."""
_MOST = 2
"""Ops that may run inside one: of what it makes beside its main result."""


def inner_kernels(both: PlanAndRun, found: KernelAssignment) -> Bools:
    """Kernels that are all of an op that runs inside the one they are matched with, or inside the one before."""
    sequence, ratios, kernel_class = both.sequence, both.ratios, both.kernel_class
    outer, exact = _outer_rows(sequence), _ALMOST * math.exp(exact_ratio())
    row = np.where((found.row >= 0) & (found.first == found.last), found.row, 0)
    inside = np.zeros(len(row), dtype=np.bool_)
    for away in range(_MOST + 1):
        near = np.minimum(row + away, len(sequence) - 1)
        of = (outer[near] == row) if away else (outer[near] >= 0)
        inside |= of & (ratios.core[sequence.token[near], kernel_class] >= exact)
    return inside & (row > 0)


def take_inner_ops(both: PlanAndRun, inside: Bools, found: KernelAssignment) -> None:
    """Change `found` in place so that kernels `inside` run ops inside the one that the kernel before them is of."""
    sequence, ratios, kernel_class = both.sequence, both.ratios, both.kernel_class
    outer, exact, rows = _outer_rows(sequence), _ALMOST * math.exp(exact_ratio()), len(sequence)
    mine = np.flatnonzero(inside)
    if not len(mine):
        return
    others = np.flatnonzero(~inside & (found.row >= 0))
    before = np.searchsorted(others, mine) - 1
    mine, before = mine[before >= 0], others[before[before >= 0]]
    near = found.step[before] == found.step[mine]
    mine, before = mine[near], before[near]
    within = found.row[before]
    within = np.where(outer[within] >= 0, outer[within], within)
    taken: set[int] = set()
    filled = []
    for kernel, row in zip(mine.tolist(), within.tolist(), strict=True):
        for target in range(row + 1, min(row + 1 + _MOST, rows)):
            key = int(found.step[kernel]) * rows + target
            fits = ratios.core[sequence.token[target], kernel_class[kernel]] >= exact
            if outer[target] == row and key not in taken and fits:
                taken.add(key)
                filled.append((kernel, target))
                break
    if not filled:
        return
    kernel, target = np.array(filled, dtype=np.int64).T
    # What was taken for these ops before, and fits what they are inside at least as well.
    run = found.step * np.int64(rows) + found.row
    worse = np.flatnonzero(~inside & (found.row >= 0) & np.isin(run, list(taken)))
    around = outer[found.row[worse]]
    moved = (
        ratios.behind[sequence.token[around], kernel_class[worse]]
        >= ratios.core[sequence.token[found.row[worse]], kernel_class[worse]]
    )
    _put(found, worse[moved], around[moved], MatchedBy.PART)
    _put(found, kernel, target, MatchedBy.KERNEL)


def _put(found: KernelAssignment, kernel: Int64s, row: Int64s, how: MatchedBy) -> None:
    found.match(kernel, row)
    found.core[kernel] = how is MatchedBy.KERNEL
    found.how[kernel] = HOW.index(how)


def _outer_rows(sequence: PlannedSequence) -> Int64s:
    """For each row of what the op before it makes beside its main result the row of that op, else -1."""
    written = np.array([rule.written_out for rule in sequence.rules])[sequence.token]
    sizes = sequence.classes.operands.max(axis=1)[sequence.token]
    planned = sequence.op >= 0
    found = np.full(len(sequence), -1, dtype=np.int64)
    for away in range(1, _MOST + 1):
        made = (sequence.classes.outputs[sequence.token[:-away]] == sizes[away:, None]).any(axis=1)
        inner = made & written[:-away] & ~written[away:] & planned[:-away] & planned[away:]
        inner &= sizes[away:] < sizes[:-away]
        if away > 1:
            inner &= found[away - 1 : -1] == np.arange(len(inner))
        found[away:] = np.where(inner, np.arange(len(inner)), found[away:])
    return found


__all__ = ["inner_kernels", "take_inner_ops"]
