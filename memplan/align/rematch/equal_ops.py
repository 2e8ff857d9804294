"""
Equal ops of a step that equal kernels run: one that nothing runs, where another runs twice in a row.

A graph mode begins a step with whatever is ready, so that the first op of a kind may stand where the last one of the
step before is looked for: that one then seems to run twice, and the first one never. Where it is so in every step, the
second of the two is the first.
"""

from __future__ import annotations

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.plan_and_run import PlanAndRun
from memplan.core.arrays import Int64s

_MOST = 20_000_000
"""Pairs of a missed op and a kernel that are looked at: a step of so many ops is of no graph that a compiler sorted."""


def take_equal_ops_in_turn(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where an op of a kind never runs and the one before it, of that kind, twice."""
    sequence, kernel_class = both.sequence, both.kernel_class
    alone = np.flatnonzero((found.row >= 0) & (found.first == found.last))
    # Of two that seem to run one op, one alone counts as what runs it.
    pair = sequence.token[found.row[alone]].astype(np.int64) * (int(kernel_class.max(initial=0)) + 1)
    pair += kernel_class[alone]
    chosen = alone[np.isin(pair, pair[found.core[alone]])]
    ran = np.zeros(len(sequence), dtype=np.bool_)
    ran[found.row[found.core & (found.row >= 0)]] = True
    never = np.flatnonzero(~ran & (sequence.op >= 0))
    tokens = sequence.token[found.row[chosen]]
    never = never[np.isin(sequence.token[never], tokens)]
    if len(never) * len(chosen) > _MOST:
        return
    for missed in never.tolist():
        mine = chosen[tokens == sequence.token[missed]]
        for kind in np.unique(kernel_class[mine]).tolist():
            _take(found, mine[kernel_class[mine] == kind], missed)


def _take(found: KernelAssignment, kernels: Int64s, missed: int) -> None:
    """Let `missed` be run by those of `kernels` that seem to run the op before it once more."""
    rows = found.row[kernels]
    planned = np.unique(rows)
    after = int(np.searchsorted(planned, missed))
    before, following = int(planned[after - 1]), int(planned[after % len(planned)])
    if before == following:
        return
    repeated = (rows[1:-1] == before) & (rows[:-2] == before) & (rows[2:] == following)
    places = (np.flatnonzero(repeated) + 1).tolist()
    if places and rows[0] == before and rows[1] == following and missed < following:
        places.insert(0, 0)  # a run that begins with a step
    if places:
        both = kernels[rows == before]
        found.core[both], found.how[both] = True, HOW.index(MatchedBy.KERNEL)
    for at in places:
        kernel = kernels[at]
        found.step[kernel] = found.step[kernels[at + 1 if missed < following else at - 1]]
        found.row[kernel] = found.first[kernel] = found.last[kernel] = found.place[kernel] = missed
