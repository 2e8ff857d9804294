"""
Local search on the order of greedy placement, led by the gaps that make the peak higher than what is alive.

At a step where a placement is too high there is an unused gap under some block. The block can't sink because others,
alive at other times, lie in the gap; these are moved to an earlier place in the order, where they find another address.
"""

from __future__ import annotations

from random import Random

import numpy as np

from memplan.core.arrays import Int64s
from memplan.placement.offsets.blocks import Blocks
from memplan.placement.offsets.bounds import step_loads
from memplan.placement.offsets.greedy import Rectangles
from memplan.placement.offsets.work_limit import Budget

PATIENCE = 400
"""Tries without any gain after which the search gives up."""


def repair_gaps(
    blocks: Blocks,
    ready: Rectangles,
    order: Int64s,
    best_fit: bool,
    goal: int,
    budget: Budget,
    seed: int,
    patience: int = PATIENCE,
) -> tuple[int, Int64s]:
    """Lowest peak found and its addresses, starting from greedy placement in `order`; stops at `goal`."""
    live = step_loads(blocks)
    start, end, size = blocks.part_start, blocks.part_end, blocks.size
    random = Random(seed)  # noqa: S311 - a search that can be repeated, no secret
    peak, base, work = ready.place(order, best_fit)
    budget.spend(work)
    position = np.empty(len(order), np.int64)
    idle = 0
    while peak > goal and budget.left and idle < patience:
        idle += 1
        top = base + size
        too_high = np.flatnonzero(top > max(goal, peak - 1))
        block = int(too_high[int(random.random() * len(too_high))])
        over = live[start[block] : end[block]]
        fullest = np.flatnonzero(over == over.max())
        step = int(start[block] + fullest[int(random.random() * len(fullest))])
        position[order] = np.arange(len(order))
        blockers = _blockers(blocks, base, top, position, block, step, random)
        budget.spend(20 * len(order))
        if not len(blockers):
            continue
        if random.random() >= 0.3:
            blockers = blockers[[int(random.random() * len(blockers))]]
        new = order
        for moved in map(int, blockers):
            position[new] = np.arange(len(new))
            at = int(position[moved])
            rivals = np.flatnonzero((start < end[moved]) & (end > start[moved]) & (position < at))
            if not len(rivals):
                continue
            earlier = np.sort(position[rivals])[::-1]
            # Mostly a few places earlier, sometimes far: squaring a uniform number favours the near ones.
            to = int(earlier[int(random.random() ** 3 * len(earlier))])
            new = np.concatenate([new[:to], [moved], new[to:at], new[at + 1 :]])
        found, placed, work = ready.place(new, best_fit, peak)
        budget.spend(work)
        if 0 <= found <= peak:
            idle = 0 if found < peak else idle
            peak, base, order = found, placed, new
    return peak, base


def _blockers(
    blocks: Blocks, base: Int64s, top: Int64s, position: Int64s, block: int, step: int, random: Random
) -> Int64s:
    """Blocks placed before that keep what lies above a gap under `block`, drawn by its bytes, from sinking into it."""
    start, end = blocks.part_start, blocks.part_end
    alive = np.flatnonzero((start <= step) & (end > step))
    alive = alive[np.argsort(base[alive], kind="stable")]
    below = np.concatenate([[0], np.maximum.accumulate(top[alive])[:-1]])
    gaps = np.flatnonzero((base[alive] > below) & (base[alive] <= base[block]))
    if not len(gaps):
        return gaps
    width = base[alive[gaps]] - below[gaps]
    drawn = int(np.searchsorted(np.cumsum(width), int(random.random() * int(width.sum())), side="right"))
    above, bottom = int(alive[gaps[drawn]]), int(below[gaps[drawn]])
    ceiling = bottom + min(int(blocks.size[above]), int(base[above]) - bottom)
    together = (start < end[above]) & (end > start[above])
    return np.flatnonzero(together & (base < ceiling) & (top > bottom) & (position < position[above]))
