"""
What frameworks do to every gradient before the updates, where there are more of them than the plan has updates.

A plan updates the weights of all experts of a layer at once, a run may take the norm of each of them and scale it. What
a long stretch of kernels of one family begins as, it is throughout: the parts of an update written out take turns.
"""

from __future__ import annotations

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun

_LONG = 8
"""Kernels from which a stretch is long: an update has fewer of one family in a row."""


def take_long_stretches(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where a stretch begins as what is done to gradients and goes on as parts of updates."""
    sequence, kernels, kernel_class = both.sequence, both.kernels, both.kernel_class
    main = kernels.main[kernel_class]
    edges = np.concatenate(([0], np.flatnonzero(np.diff(main)) + 1, [len(main)]))
    extra = np.append(sequence.extra, -1)[found.row] >= 0
    update = sequence.classes.main[sequence.token] == family_table().number("optimizer")
    part = (found.row >= 0) & ~found.core & np.append(update, False)[found.row]
    long = np.flatnonzero(np.diff(edges) >= _LONG)
    for begin, end in zip(edges[long].tolist(), edges[long + 1].tolist(), strict=True):
        if not extra[begin]:
            continue
        mine = np.arange(begin, end)
        what = [sequence.extras[number].what for number in sequence.extra[found.row[mine[extra[begin:end]]]].tolist()]
        other = mine[(found.row[begin:end] < 0) | part[begin:end]]
        if len(set(what)) > 1 or not len(other):
            continue
        # Of the weight that the last one before was of, for the plan has no row of its own.
        before = np.maximum.accumulate(np.where(extra[begin:end], mine, begin))[other - begin]
        found.match(other, found.row[before])
        found.how[other] = HOW.index(MatchedBy.PART)


__all__ = ["take_long_stretches"]
