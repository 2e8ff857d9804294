"""Why buffers do not fit: the few that can't be placed together, when they meet, and what would resolve it."""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.units import format_bytes
from memplan.placement.offsets.blocks import Blocks, take
from memplan.placement.offsets.bounds import step_loads
from memplan.placement.offsets.exact import searchable, sections_over
from memplan.placement.offsets.greedy import Space
from memplan.placement.offsets.pool_search import Packing, pack
from memplan.placement.offsets.problem import Infeasibility, Problem
from memplan.placement.offsets.work_limit import Budget

TRIAL_WORK = 5_000_000


def explain(
    problem: Problem, blocks: Blocks, members: list[list[int]], pool: int, space: Space, found: Packing, budget: Budget
) -> Infeasibility:
    """
    Buffers of one pool that exceed its capacity together.

    `members[b]` are the positions in `problem.buffers` of what block `b` of the pool consists of. A set that is too
    large at one step is preferred; otherwise blocks are left out one by one as long as the rest is shown not to fit.
    """
    kept, irreducible = _too_large_together(blocks, space)
    together = bool(kept)
    proven = together or found.bound > space.capacity
    if not kept and proven:
        kept, irreducible = _thin_out(blocks, space, budget)
    step = _common_step(blocks, np.array(kept, np.int64)) if kept else None
    if not kept:
        live = step_loads(blocks)
        if len(live):
            step_rank = int(live.argmax())
            owner = np.repeat(np.arange(blocks.count), np.diff(blocks.part_ptr))
            kept = sorted(set(owner[(blocks.part_start <= step_rank) & (blocks.part_end > step_rank)].tolist()))
            step = int(blocks.times[step_rank])
    ids = [i for b in kept for i in members[b]]
    buffers = [problem.buffers[i] for i in ids]
    needed = int(blocks.size[np.array(kept, np.int64)].sum()) if together else found.bound
    names = tuple(b.name or str(b.id) for b in buffers)
    return Infeasibility(
        pool=problem.pools[pool].id, capacity=space.capacity, buffers=tuple(b.id for b in buffers), names=names,
        step=step, needed=needed, irreducible=irreducible, proven=proven,
        remedies=_remedies(problem, blocks, kept, members, step, needed - space.capacity, found, space),
    )  # fmt: skip


def _too_large_together(blocks: Blocks, space: Space) -> tuple[list[int], bool]:
    """The smallest set found of blocks that all exclude each other and are larger than the room there is."""
    room = space.capacity - sum(max(min(b, space.capacity) - a, 0) for a, b in space.reserved)
    alone = np.flatnonzero(blocks.size > room)
    if len(alone):
        return [int(alone[0])], True
    data = searchable(blocks, space)
    sets = sections_over(data, room) if data is not None else _live_sets(blocks, room)
    if not sets:
        return [], False
    least = min(sets, key=lambda kept: (len(kept), kept))
    return least, True


def _live_sets(blocks: Blocks, room: int) -> list[list[int]]:
    """For problems too large or odd for exact search: the blocks of the fullest step, the largest that are needed."""
    live = step_loads(blocks)
    if not len(live) or int(live.max()) <= room:
        return []
    step = int(live.argmax())
    owner = np.repeat(np.arange(blocks.count), np.diff(blocks.part_ptr))
    alive = (blocks.part_start <= step) & (blocks.part_end > step)
    height = np.zeros(blocks.count, np.int64)
    np.add.at(height, owner[alive], (blocks.part_hi - blocks.part_lo)[alive])
    largest = np.argsort(-height, kind="stable")
    count = int(np.searchsorted(np.cumsum(height[largest]), room, side="right")) + 1
    return [sorted(int(b) for b in largest[:count])]


def _thin_out(blocks: Blocks, space: Space, budget: Budget) -> tuple[list[int], bool]:
    """Blocks that are shown not to fit, none of which can be left out as far as the search can tell."""
    kept = list(range(blocks.count))
    certain = True
    run = max(len(kept) // 4, 1)
    while True:
        start = 0
        while start < len(kept):
            fewer = kept[:start] + kept[start + run :]
            if not fewer or not budget.left:
                certain = certain and bool(budget.left)
                start += run
                continue
            trial = pack(take(blocks, np.array(fewer, np.int64)), space, budget.part(TRIAL_WORK), enough=space.capacity)
            if trial.bound > space.capacity:
                kept = fewer
            else:
                certain = certain and (run > 1 or trial.peak <= space.capacity)
                start += run
        if run == 1:
            return kept, certain
        run = max(run // 4, 1)


def _common_step(blocks: Blocks, kept: Int64s) -> int | None:
    """The first time at which all blocks `kept` are alive, `None` if there is none."""
    if blocks.graph or not len(blocks.times):
        return None
    chosen = np.zeros(blocks.count, bool)
    chosen[kept] = True
    owner = np.repeat(np.arange(blocks.count), np.diff(blocks.part_ptr))
    change = np.zeros(len(blocks.times), np.int64)
    np.add.at(change, blocks.part_start[chosen[owner]], 1)
    np.subtract.at(change, blocks.part_end[chosen[owner]], 1)
    together = np.flatnonzero(np.cumsum(change) >= len(kept))
    return int(blocks.times[together[0]]) if len(together) else None


def _remedies(
    problem: Problem, blocks: Blocks, kept: list[int], members: list[list[int]], step: int | None, excess: int,
    found: Packing, space: Space,
) -> tuple[str, ...]:  # fmt: skip
    out = [f"raise the capacity from {format_bytes(space.capacity)} to {format_bytes(found.peak)} ({found.peak} bytes)"]
    where = f"at step {step}" if step is not None else "while the others are alive"
    largest = sorted(kept, key=lambda b: (-int(blocks.size[b]), b))[:3]
    for b in largest:
        name = " and ".join(problem.buffers[i].name or f"buffer {problem.buffers[i].id}" for i in members[b][:2])
        enough = int(blocks.size[b]) >= excess
        out.append(
            f"move or recompute {name} ({format_bytes(int(blocks.size[b]))}) so that it is not there {where}"
            + ("" if enough else "; more than this one has to go")
        )
    apart = {frozenset(pair) for pair in problem.separations}
    ids = [problem.buffers[i].id for b in kept for i in members[b]]
    if any(frozenset((a, b)) in apart for x, a in enumerate(ids) for b in ids[x + 1 :]):
        out.append("allow separated buffers among these to share addresses")
    return tuple(out)
