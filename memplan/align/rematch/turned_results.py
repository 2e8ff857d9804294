"""
Kernels that turn all that an op makes into another layout: of that op, not some of the next one that reads it.

An attention kernel that takes queries, keys and values in a layout of its own gives its result in that layout, too, and
its gradient makes three such things: where one of them is turned back for the op, all are.
"""

from __future__ import annotations

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.core.arrays import Bools, Floats, Int64s

_TURNING = ("transpose", "copy")
_MOST = 4
"""Kernels behind an op that are looked at: no op makes more large things than that."""
_LEADS = 2
"""Kernels right before an op that turn what it reads from which it turns back what it makes."""


def take_turned_results(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where some of what an op made seems to be turned for the next one."""
    sequence, kernels, kernel_class = both.sequence, both.kernels, both.kernel_class
    turns = kernels.among([family_table().number(name) for name in _TURNING])[kernel_class]
    turns &= ~found.core
    mains = np.flatnonzero(found.core & (found.row >= 0))
    next_row = np.append(found.first[mains[1:]], -1)
    # Ops that what turns something stands right behind.
    chosen = np.flatnonzero(
        np.append(turns, False)[mains + 1]
        & (found.first[mains] == found.last[mains])
        & (sequence.op[found.row[mains]] >= 0)
    )
    main, after = mains[chosen], next_row[chosen]
    if not len(main):
        return
    made = kernels.outputs[kernel_class[main]]
    size_of = kernels.operands.max(axis=1)
    used = np.zeros(made.shape, dtype=np.bool_)
    members, inside = [], np.ones(len(main), dtype=np.bool_)
    for away in range(1, _MOST + 1):
        kernel = np.minimum(main + away, len(turns) - 1)
        alike = (kernels.main[kernel_class[kernel]] == kernels.main[kernel_class[main + 1]]) & turns[kernel]
        whole = (made == size_of[kernel_class[kernel], None]) & (made > 0) & ~used
        inside = inside & (main + away < len(turns)) & alike & whole.any(axis=1)
        place = whole.argmax(axis=1)
        used[inside, place[inside]] = True
        members.append((kernel, inside))
    own = [inside & (found.row[kernel] == found.row[main]) for kernel, inside in members]
    leads, lead_chances = _leads(both, found, main, turns)
    sure = np.where(leads, lead_chances[0], 0.0), np.where(leads, lead_chances[1], 0.0)
    told = leads | ((np.sum([each for _, each in members], axis=0) > 1) & np.any(own, axis=0))
    for which, chances in enumerate((found.chance, found.scope_chance)):
        for (kernel, _), mine in zip(members, own, strict=True):
            np.maximum(sure[which], np.where(mine, chances[kernel], 0.0), out=sure[which])
    for (kernel, inside), mine in zip(members, own, strict=True):
        row = found.row[kernel]
        changed = told & inside & ~mine & ((row == after) | (row < 0))
        where = kernel[changed]
        found.match(where, found.row[main[changed]])
        found.chance[where], found.scope_chance[where] = sure[0][changed], sure[1][changed]
        found.how[where] = HOW.index(MatchedBy.PART)


def _leads(
    both: PlanAndRun, found: KernelAssignment, main: Int64s, turns: Bools
) -> tuple[Bools, tuple[Floats, Floats]]:
    """Whether what an op reads is turned right before it, as it is behind it, and how sure that is of it."""
    kernels, kernel_class = both.kernels, both.kernel_class
    leads = main >= _LEADS
    chances = np.ones((2, len(main)))
    for away in range(1, _LEADS + 1):
        kernel = np.maximum(main - away, 0)
        leads &= turns[kernel] & (found.row[kernel] == found.row[main])
        leads &= kernels.main[kernel_class[kernel]] == kernels.main[kernel_class[main + 1]]
        chances = np.minimum(chances, (found.chance[kernel], found.scope_chance[kernel]))
    return leads, (chances[0], chances[1])


__all__ = ["take_turned_results"]
