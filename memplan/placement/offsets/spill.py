"""What to leave out of a pool so that all else fits its capacity: where bytes are lacking, and how many."""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.placement.offsets.blocks import compile_blocks, take
from memplan.placement.offsets.greedy import Rectangles, Space, rectangles
from memplan.placement.offsets.orders import features, portfolio
from memplan.placement.offsets.problem import Problem

_ROUNDS = 3
"""How often what is left is placed again without what lay above the capacity."""


def least_spill(problem: Problem) -> frozenset[int]:
    """
    Ids of buffers that one pool has no room for when the others keep theirs: of those that greedy orders find, the set
    with the fewest bytes times lifetime.

    Raises `ValueError` unless there is one pool with a capacity and every buffer has one lifetime.
    """
    every = compile_blocks(problem)
    alive = np.flatnonzero(np.diff(every.part_ptr) > 0)
    blocks = take(every, alive)
    (pool,) = problem.pools
    if pool.capacity is None or not blocks.simple:
        raise ValueError("only rectangles in one pool with a capacity can be left out")
    ready = rectangles(blocks, Space(reserved=pool.reserved))
    known = features(blocks)
    weight = blocks.size * known.duration
    best: tuple[int, Bools] | None = None
    for _, order in portfolio(known):
        spilled = _above(ready, order, pool.capacity)
        total = int(weight[spilled].sum())
        if best is None or total < best[0]:
            best = total, spilled
    out = np.zeros(every.count, dtype=bool)
    if best is not None:
        out[alive] = best[1]
    return frozenset(buffer.id for i, buffer in enumerate(problem.buffers) if out[every.member_block[i]])


def _above(ready: Rectangles, order: Int64s, capacity: int) -> Bools:
    """The blocks above `capacity`, placed in `order`; what lies there is left out and the rest placed again."""
    size = ready.size[: ready.counted]
    kept: Bools = np.ones(ready.counted, dtype=bool)
    for _ in range(_ROUNDS):
        _, base, _ = ready.place(order[kept[order]], best_fit=False)
        above = kept & (base + size > capacity)
        if not above.any():
            break
        kept &= ~above
    return ~kept
