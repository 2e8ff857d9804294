"""
Least reuse cost within a capacity: which pairs of buffers share addresses when not all can be kept apart.

Pairs are first all kept apart, like hard separations. When that is shown to be infeasible, a core is found, a few
pairs that can't all be kept apart; at least one pair of every core is paid for. The cheapest set of pairs that hits
every core (an implicit hitting set) bounds the cost from below; it is the least cost once the others can be kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memplan.placement.offsets.block_pairs import FAR
from memplan.placement.offsets.blocks import Blocks, with_pairs
from memplan.placement.offsets.exact import searchable, sections_over
from memplan.placement.offsets.greedy import Space
from memplan.placement.offsets.pool_search import Packing, pack
from memplan.placement.offsets.work_limit import Budget

MOST_CORES = 400
MOST_HITTING_NODES = 20_000
HITTING_WORK = 20_000
"""Work that one node of the hitting set search counts as."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """A pair of blocks whose bases must not differ by strictly between `low` and `high`, or else `weight` is paid."""

    first: int
    second: int
    low: int
    high: int
    weight: int


@dataclass(frozen=True, slots=True)
class Reuse:
    """The placement with the least reuse cost found, and a proven bound on that cost."""

    packing: Packing
    bound: int


def pack_with_penalties(
    blocks: Blocks, space: Space, penalties: Sequence[Penalty], budget: Budget, *, seed: int, minimise: bool
) -> Reuse:
    """A placement within the capacity of `space`, if there is one, that pays little for reuse and then is low."""
    fits = min(space.capacity, FAR - 1)
    weights = [p.weight for p in penalties]
    cores: list[frozenset[int]] = []
    bound, paid = 0, frozenset[int]()
    found: Packing | None = None
    while True:
        share = budget.part(budget.left // 8 + 1)
        trial = pack(_apart(blocks, penalties, paid), space, share, seed=seed, enough=fits)
        if trial.peak <= fits:
            found = trial
            break
        if trial.bound <= fits or len(cores) >= MOST_CORES or not budget.left:
            break
        new = _cores(blocks, space, penalties, paid, budget, seed)
        if not new:  # infeasible whatever is paid
            return Reuse(pack(blocks, space, budget, seed=seed, enough=0 if minimise else fits), bound)
        cores += new
        hit, nodes = _cheapest_hit(cores, weights, min(MOST_HITTING_NODES, budget.left // HITTING_WORK))
        budget.spend(nodes * HITTING_WORK)
        if hit is None:
            break
        paid, bound = hit, sum(weights[k] for k in hit)
    if found is None:
        paid, found = _give_way(blocks, space, penalties, paid, budget, seed)
    if minimise and found.peak <= fits:
        lower = pack(_apart(blocks, penalties, paid), space, budget, seed=seed)
        if lower.peak < found.peak:
            found = lower
    return Reuse(found, bound)


def _apart(blocks: Blocks, penalties: Sequence[Penalty], paid: frozenset[int]) -> Blocks:
    """`blocks` with all pairs but those paid for kept apart."""
    kept = [p for k, p in enumerate(penalties) if k not in paid]
    rows = np.array([(p.first, p.second, p.low, p.high) for p in kept], np.int64).reshape(-1, 4).T
    return with_pairs(blocks, (rows[0], rows[1], rows[2], rows[3]))


def _infeasible(
    blocks: Blocks, space: Space, penalties: Sequence[Penalty], kept: Sequence[int], budget: Budget, seed: int
) -> bool:
    """Whether keeping the pairs `kept` apart is shown to be infeasible."""
    paid = frozenset(range(len(penalties))) - frozenset(kept)
    trial = pack(_apart(blocks, penalties, paid), space, budget.part(2_000_000), seed=seed, enough=space.capacity)
    return trial.bound > space.capacity


def _cores(
    blocks: Blocks, space: Space, penalties: Sequence[Penalty], paid: frozenset[int], budget: Budget, seed: int
) -> list[frozenset[int]]:
    """Sets of pairs, none of them paid for, of which not all can be kept apart; none if no pair is to blame."""
    by_blocks: dict[tuple[int, int], list[int]] = {}
    for k, p in enumerate(penalties):
        if k not in paid:
            by_blocks.setdefault((min(p.first, p.second), max(p.first, p.second)), []).append(k)
    data = searchable(_apart(blocks, penalties, paid), space)
    out: dict[frozenset[int], None] = {}
    for clique in sections_over(data, space.capacity) if data is not None else []:
        members = sorted(clique)
        pairs = [(a, b) for x, a in enumerate(members) for b in members[x + 1 :]]
        out[frozenset(k for pair in pairs for k in by_blocks.get(pair, ()))] = None
    if out:
        return [] if frozenset() in out else list(out)
    kept = [k for k in range(len(penalties)) if k not in paid]
    step = max(len(kept) // 2, 1)
    while True:  # drop ever smaller runs of pairs that are not needed for the contradiction
        start = 0
        while start < len(kept):
            fewer = kept[:start] + kept[start + step :]
            if budget.left and _infeasible(blocks, space, penalties, fewer, budget, seed):
                kept = fewer
            else:
                start += step
        if step == 1:
            return [frozenset(kept)] if kept else []
        step = max(step // 2, 1)


def _cheapest_hit(
    cores: Sequence[frozenset[int]], weights: Sequence[int], most_nodes: int
) -> tuple[frozenset[int] | None, int]:
    """A cheapest set that has a member in every core, `None` when `most_nodes` do not suffice, and the nodes taken."""
    needed = [core for core in dict.fromkeys(cores) if not any(other < core for other in cores)]
    best: list[frozenset[int]] = [frozenset().union(*needed)]
    best_cost = [sum(weights[k] for k in best[0])]
    nodes = [0]

    def extend(chosen: frozenset[int], banned: frozenset[int], cost: int) -> None:
        nodes[0] += 1
        if nodes[0] > most_nodes:
            return
        open_cores = [core - banned for core in needed if not core & chosen]
        if not open_cores:
            if cost < best_cost[0]:
                best[0], best_cost[0] = chosen, cost
            return
        least, used = cost, set[int]()  # disjoint cores each cost their cheapest member
        for core in sorted(open_cores, key=len):
            if not core:
                return
            if not core & used:
                least += min(weights[k] for k in core)
                used |= core
        if least >= best_cost[0]:
            return
        core = min(open_cores, key=len)
        count = {k: sum(k in other for other in open_cores) for k in core}
        for k in sorted(core, key=lambda k: (-count[k] / max(weights[k], 1), k)):
            extend(chosen | {k}, banned, cost + weights[k])
            banned |= {k}

    extend(frozenset(), frozenset(), 0)
    return (best[0] if nodes[0] <= most_nodes else None), nodes[0]


def _give_way(
    blocks: Blocks, space: Space, penalties: Sequence[Penalty], paid: frozenset[int], budget: Budget, seed: int
) -> tuple[frozenset[int], Packing]:
    """A placement within the capacity if one is found at all, paying for more and more pairs, then for fewer again."""
    fits = min(space.capacity, FAR - 1)
    by_weight = sorted((k for k in range(len(penalties)) if k not in paid), key=lambda k: (penalties[k].weight, k))
    best: tuple[frozenset[int], Packing] | None = None
    for portion in (8, 4, 2, 1):
        more = paid | frozenset(by_weight[: -(-len(by_weight) // portion)])
        trial = pack(_apart(blocks, penalties, more), space, budget.part(budget.left // 4 + 1), seed=seed, enough=fits)
        if trial.peak <= fits or portion == 1:
            best = more, trial
            break
    if best is None or best[1].peak > fits:
        everything = frozenset(range(len(penalties)))
        return everything, pack(blocks, space, budget.part(budget.left // 2 + 1), seed=seed, enough=fits)
    for k in sorted(best[0], key=lambda k: (-penalties[k].weight, k)):
        if not budget.left:
            break
        fewer = best[0] - {k}
        trial = pack(_apart(blocks, penalties, fewer), space, budget.part(2_000_000), seed=seed, enough=fits)
        if trial.peak <= fits:
            best = fewer, trial
    return best
