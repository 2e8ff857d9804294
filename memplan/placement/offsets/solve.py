"""The solver's entry point: from a problem to a checked assignment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.errors import InputError, MemplanError
from memplan.core.progress import Progress, silent
from memplan.placement.offsets.block_pairs import FAR
from memplan.placement.offsets.blocks import Blocks, compile_blocks, take
from memplan.placement.offsets.bounds import peak_bound
from memplan.placement.offsets.greedy import Space, place_general
from memplan.placement.offsets.infeasible import explain
from memplan.placement.offsets.orders import features, portfolio
from memplan.placement.offsets.penalties import by_pool, reuse_cost
from memplan.placement.offsets.pool_search import Packing, hard_bound, pack
from memplan.placement.offsets.problem import Assignment, Infeasibility, PoolResult, Problem, Term
from memplan.placement.offsets.reuse import pack_with_penalties
from memplan.placement.offsets.validate import validate
from memplan.placement.offsets.work_limit import Budget, Limits, default_work

EXPLAIN_WORK = 200_000_000
"""Most work on saying why a capacity can't be met, beyond that on the placement."""

_Group = TypeVar("_Group", bound=tuple[int, ...])


def assign(
    problem: Problem,
    *,
    limits: Limits | None = None,
    seed: int = 0,
    check: bool = True,
    explained: bool = True,
    progress: Progress = silent,
) -> Assignment:
    """
    Addresses for all buffers of `problem`, as low as the search finds within `limits`.

    Always answers: when a capacity can't be met, the assignment exceeds it and says by how much and why. The answer is
    the same for the same problem, `seed` and work limit. `check` runs the independent validator on it; with
    `explained` it says why a capacity can't be met.
    Raises `InputError` for a problem that contradicts itself.
    """
    limits = limits or Limits()
    if limits.work is None and limits.time_s is None:
        limits = replace(limits, work=default_work(len(problem.buffers)))
    budget = Budget(limits, progress=progress)
    minimise = "total_peak" in problem.objective or "max_peak" in problem.objective
    peak_first = minimise and _rank(problem, "reuse_cost") > min(
        _rank(problem, "total_peak"), _rank(problem, "max_peak")
    )
    blocks = compile_blocks(problem)
    _check_pins(problem, blocks)
    spaces = tuple(Space(FAR if p.capacity is None else p.capacity, p.reserved) for p in problem.pools)
    pool = _choose_pools(blocks, spaces, budget)
    base = np.zeros(blocks.count, np.int64)
    priced, cost_bound, chose = by_pool(problem, blocks, pool)
    results = []
    reason: Infeasibility | None = None
    method = "greedy"
    for k, space in enumerate(spaces):
        chosen = np.flatnonzero(pool == k)
        mine = take(blocks, chosen) if len(spaces) > 1 else blocks
        penalties = priced[k]
        lowest: Packing | None = None
        if not penalties or peak_first:
            enough = 0 if minimise else min(space.capacity, FAR - 1)
            share = budget.part(budget.left // 2 + 1) if penalties else budget
            lowest = packing = pack(mine, space, share, seed=seed, enough=enough)
            space = replace(space, capacity=packing.peak)
        if penalties:
            reuse = pack_with_penalties(mine, space, penalties, budget, seed=seed, minimise=minimise)
            packing = reuse.packing
            cost_bound += reuse.bound
        base[chosen] = packing.base
        method = packing.method if len(chosen) else method
        bound, how = (lowest.bound, lowest.bound_method) if lowest is not None else hard_bound(mine, space)
        if any(len(blocks.allowed[int(b)]) > 1 for b in chosen):
            bound, how = _bound_of_forced(blocks, k, space)
        peak = int((base + blocks.size)[chosen].max(initial=0))
        if explained and peak > spaces[k].capacity and reason is None:
            members: list[list[int]] = [[] for _ in chosen]
            for i in np.flatnonzero(np.isin(blocks.member_block, chosen)):
                members[int(np.searchsorted(chosen, blocks.member_block[i]))].append(int(i))
            found = replace(packing, peak=peak, bound=min(bound, peak))
            reason = explain(problem, mine, members, k, spaces[k], found, Budget(Limits(EXPLAIN_WORK)))
        results.append(PoolResult(problem.pools[k].id, peak, min(bound, peak), how))
    address = base[blocks.member_block] + blocks.member_rel
    ids = [p.id for p in problem.pools]
    placed = {b.id: (ids[int(pool[blocks.member_block[i]])], int(address[i])) for i, b in enumerate(problem.buffers)}
    over = [max(r.peak - s.capacity, 0) for r, s in zip(results, spaces, strict=True)]
    answer = Assignment(
        placed, tuple(results), reuse_cost(problem, placed), not any(over), sum(over), method,
        reuse_cost_bound=0 if chose else cost_bound, infeasibility=reason, work=budget.used,
    )  # fmt: skip
    if check:
        broken = validate(problem, answer)
        if broken:
            raise MemplanError("the solver made an invalid placement: {}; please report this problem", broken[0])
    return answer


def _rank(problem: Problem, term: Term) -> int:
    """Place of `term` in the objective, behind all others if it is not there."""
    return problem.objective.index(term) if term in problem.objective else len(problem.objective)


def _check_pins(problem: Problem, blocks: Blocks) -> None:
    """Raises `InputError` when pinned buffers, and what is tied to them, already break the rules by themselves."""
    if not (blocks.fixed >= 0).any():
        return
    base = blocks.fixed[blocks.member_block]
    pool = [problem.pools[blocks.allowed[int(b)][0]].id for b in blocks.member_block]
    address = base + blocks.member_rel
    pinned = tuple(b for i, b in enumerate(problem.buffers) if base[i] >= 0)
    placed = {b.id: (pool[i], int(address[i])) for i, b in enumerate(problem.buffers) if base[i] >= 0}

    def inside(groups: Iterable[_Group]) -> tuple[_Group, ...]:
        return tuple(group for group in groups if placed.keys() >= set(group))

    alone = replace(
        problem, buffers=pinned, reuse_penalties={},
        colocations=inside(problem.colocations), contiguous=inside(problem.contiguous),
        separations=inside(problem.separations), exclusions=inside(problem.exclusions),
        conflicts=None if problem.conflicts is None else frozenset(inside(problem.conflicts)),
    )  # fmt: skip
    stated = {"peak", "shortfall", "bound", "reuse cost", "capacity"}
    for broken in validate(alone, Assignment(placed, (), 0, True, 0, "pins")):
        if broken.rule not in stated:
            raise InputError("pins contradict each other, what they are tied to or a reserved range ({})", broken)


def _choose_pools(blocks: Blocks, spaces: tuple[Space, ...], budget: Budget) -> Int64s:
    """Pool index of every block; where there is a choice, that of the greedy placement that exceeds least."""
    if all(len(pools) == 1 for pools in blocks.allowed):
        return np.array([pools[0] for pools in blocks.allowed], np.int64)
    capacity = np.array([space.capacity for space in spaces])
    best: tuple[tuple[int, int], Int64s] | None = None
    for _, order in portfolio(features(blocks)):
        for best_fit in (True, False):
            pool, base, work = place_general(blocks, spaces, order, best_fit)
            budget.spend(work)
            peaks = np.zeros(len(spaces), np.int64)
            np.maximum.at(peaks, pool, base + blocks.size)
            rank = (int(np.maximum(peaks - capacity, 0).sum()), int(peaks.sum()))
            if best is None or rank < best[0]:
                best = rank, pool
    if best is None:
        raise ValueError("no order was tried")
    return best[1]


def _bound_of_forced(blocks: Blocks, pool: int, space: Space) -> tuple[int, str]:
    """The bound from those blocks that may be in no other pool."""
    forced = np.array([b for b in range(blocks.count) if blocks.allowed[b] == (pool,)], np.int64)
    bound, how = peak_bound(take(blocks, forced), space.reserved)
    return bound, f"{how} of buffers tied to this pool"
