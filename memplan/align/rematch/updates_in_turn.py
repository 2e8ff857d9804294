"""
Updates of a profile without shapes, where a step has as many kernels that update as it has updates: each in turn.

Nothing but the order and the times of such kernels tells which weight each updates. Where these agree, no other reading
is as likely as that none is missing.
"""

from __future__ import annotations

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy, each_step
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.time_ranks import rank_agreement
from memplan.core.arrays import Bools, Int64s

_FEWEST = 4
"""Updates from which the order of their times tells something."""
_AGREE = 0.6
"""Correlation of ranks of planned and measured times from which they agree."""


def take_updates_in_turn(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where kernels without shapes are all updates of a step."""
    sequence, kernels, kernel_class, times = both.sequence, both.kernels, both.kernel_class, both.times
    if kernels.known.all():
        return
    optimizer = family_table().number("optimizer")
    rows = np.flatnonzero((sequence.classes.main[sequence.token] == optimizer) & (sequence.op >= 0))
    if len(rows) < _FEWEST:
        return
    updating = ((kernels.main == optimizer) & ~kernels.known)[kernel_class]
    for step in each_step(found.step):
        mine = step[updating[step]]
        if len(mine) != len(rows):
            continue
        agree = rank_agreement(sequence.time[rows].astype(np.float64), times[mine].astype(np.float64))
        if agree < _AGREE:
            continue
        beside = step[~updating[step] & np.isin(found.row[step], rows)]
        _take_beside(mine, rows, beside, agree, found)
        _take(mine, rows, np.ones(len(mine), dtype=np.bool_), agree, found)


def _take_beside(mine: Int64s, rows: Int64s, beside: Int64s, agree: float, found: KernelAssignment) -> None:
    """Parts of updates go with the one behind them where some stand before the first, else with the one before."""
    leads = bool(len(beside)) and beside[0] < mine[0]
    place = np.searchsorted(mine, beside) - (0 if leads else 1)
    inside = (place >= 0) & (place < len(mine))
    _take(beside[inside], rows[place[inside]], np.zeros(int(inside.sum()), dtype=np.bool_), agree, found)


def _take(kernels: Int64s, rows: Int64s, core: Bools, agree: float, found: KernelAssignment) -> None:
    found.match(kernels, rows)
    found.core[kernels] = core
    found.how[kernels] = np.where(core, HOW.index(MatchedBy.KERNEL), HOW.index(MatchedBy.PART))
    for chance in (found.chance, found.scope_chance):
        chance[kernels] = np.maximum(chance[kernels], agree)


__all__ = ["take_updates_in_turn"]
