"""What sharing addresses costs: the pairs of buffers that pay for it, before and after placement."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from memplan.core.arrays import Int64s
from memplan.placement.offsets.block_pairs import forbidden_differences
from memplan.placement.offsets.blocks import Blocks
from memplan.placement.offsets.problem import Problem
from memplan.placement.offsets.reuse import Penalty


def priced_pairs(problem: Problem) -> list[tuple[int, int, int]]:
    """Positions in `problem.buffers` of pairs that pay when they share addresses, and how much."""
    index = {b.id: i for i, b in enumerate(problem.buffers)}
    listed = None if problem.conflicts is None else {frozenset(pair) for pair in problem.conflicts}
    excluded = {frozenset(pair) for pair in problem.exclusions}
    out = []
    for (a, b), weight in problem.reuse_penalties.items():
        first, second = problem.buffers[index[a]], problem.buffers[index[b]]
        if listed is not None:
            together = frozenset((a, b)) in listed
        elif frozenset((a, b)) in excluded:
            together = False
        else:
            together = any(
                start < other_end and other_start < end
                for start, end in first.intervals
                for other_start, other_end in second.intervals
                if start < end and other_start < other_end
            )
        if not together and first.size and second.size and weight:
            out.append((index[a], index[b], weight))
    return out


def reuse_cost(problem: Problem, placed: Mapping[int, tuple[int, int]]) -> int:
    """Sum of the penalties of pairs that share addresses although they are never alive together."""
    total = 0
    for i, j, weight in priced_pairs(problem):
        first, second = problem.buffers[i], problem.buffers[j]
        (pool_a, low_a), (pool_b, low_b) = placed[first.id], placed[second.id]
        if pool_a == pool_b and low_a < low_b + second.size and low_b < low_a + first.size:
            total += weight
    return total


def by_pool(problem: Problem, blocks: Blocks, pool: Int64s) -> tuple[list[tuple[Penalty, ...]], int, bool]:
    """
    Penalties by pool in numbers of the blocks of that pool, what is paid in any case, and whether pools were chosen.

    Tied buffers that lie on each other pay in any case; buffers in different pools never do. `pool[b]` is the pool of
    each block; where blocks with penalties could be in another pool, no cost bound follows from this choice.
    """
    pairs = priced_pairs(problem)
    number = np.zeros(blocks.count, np.int64)
    for k in range(len(problem.pools)):
        number[pool == k] = np.arange(int((pool == k).sum()))
    out: list[list[Penalty]] = [[] for _ in problem.pools]
    always, free_choice = 0, False
    for i, j, weight in pairs:
        a, b = int(blocks.member_block[i]), int(blocks.member_block[j])
        low, high = forbidden_differences(problem.buffers, blocks.member_rel, i, j)
        if a == b:
            always += weight if low < 0 < high else 0
            continue
        free_choice = free_choice or len(blocks.allowed[a]) > 1 or len(blocks.allowed[b]) > 1
        if pool[a] == pool[b]:
            out[int(pool[a])].append(Penalty(int(number[a]), int(number[b]), low, high, weight))
    return [tuple(penalties) for penalties in out], always, free_choice
