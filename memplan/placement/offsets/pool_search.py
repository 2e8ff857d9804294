"""The lowest placement found in one pool: greedy, then repair of gaps, then exact search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import numpy as np

from memplan.core.arrays import Int64s
from memplan.placement.offsets.block_pairs import FAR
from memplan.placement.offsets.blocks import Blocks, take
from memplan.placement.offsets.bounds import peak_bound
from memplan.placement.offsets.exact import (
    MOST_BLOCKS,
    SearchData,
    fit,
    heaviest_clique,
    lower,
    searchable,
)
from memplan.placement.offsets.greedy import Space, place_general, rectangles
from memplan.placement.offsets.orders import features, portfolio
from memplan.placement.offsets.repair import repair_gaps
from memplan.placement.offsets.work_limit import FOUND, INFEASIBLE, Budget

TRIES = 200
"""Tries to improve the order of blocks that exact search can't handle, without any gain, before giving up."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Addresses of all blocks in one pool, their peak, the bound proven for it and who found them."""

    base: Int64s
    peak: int
    bound: int
    bound_method: str
    method: str


def pack(blocks: Blocks, space: Space, budget: Budget, *, seed: int = 0, enough: int = 0) -> Packing:
    """
    A placement of `blocks` in `space`, as low as `budget` allows; any peak up to `enough` is low enough.

    The capacity is no limit here: where it can't be met the placement exceeds it.
    """
    base = np.zeros(blocks.count, np.int64)
    degree = np.bincount(np.concatenate([blocks.pair_a, blocks.pair_b]), minlength=blocks.count)
    busy = (np.diff(blocks.part_ptr) > 0) | (degree > 0) | (blocks.fixed >= 0)
    bound, how = peak_bound(blocks, space.reserved)
    for b in np.flatnonzero(~busy):  # never alive and tied to nothing: the lowest legal address does
        base[b] = _lowest(int(blocks.size[b]), int(blocks.modulus[b]), int(blocks.residue[b]), space)
    rest = int((base + blocks.size)[~busy].max(initial=0))
    bound = max(bound, rest)
    chosen = np.flatnonzero(busy)
    if not len(chosen):
        return Packing(base, rest, rest, how, "greedy")
    inner = _pack_busy(
        take(blocks, chosen) if len(chosen) < blocks.count else blocks, space, budget, seed, bound, enough
    )
    base[chosen] = inner.base
    if inner.bound > bound:
        bound, how = inner.bound, inner.bound_method
    peak = max(rest, inner.peak)
    return Packing(base, peak, min(bound, peak), how, inner.method)


def _lowest(size: int, modulus: int, residue: int, space: Space) -> int:
    address = residue
    for start, end in sorted(space.reserved):
        if size and start < end and address < end and address + size > start:
            address = end + (residue - end) % modulus
    return address


def hard_bound(blocks: Blocks, space: Space) -> tuple[int, str]:
    """The bound on the peak that needs no search."""
    bound, how = peak_bound(blocks, space.reserved)
    data = searchable(blocks, space)
    clique = heaviest_clique(data) - data.slack if data is not None else 0
    return (clique, "blocks that exclude each other") if clique > bound else (bound, how)


def _pack_busy(blocks: Blocks, space: Space, budget: Budget, seed: int, bound: int, enough: int) -> Packing:
    goal = max(bound, enough)
    ready = rectangles(blocks, space) if blocks.simple else None
    whole = replace(blocks, allowed=((0,),) * blocks.count)
    best_peak, best, best_order, best_fits = FAR, np.zeros(blocks.count, np.int64), np.zeros(0, np.int64), True
    method = how = ""

    def done() -> bool:
        return best_peak <= goal or not budget.left

    for name, order in portfolio(features(blocks)):
        for best_fit in (True, False):
            if best_peak <= goal or (not budget.left and best_peak < FAR):
                break
            if ready is not None:
                peak, base, work = ready.place(order, best_fit, best_peak - 1)
            else:
                _, base, work = place_general(whole, (space,), order, best_fit)
                peak = int((base + blocks.size).max())
            budget.spend(work)
            if 0 <= peak < best_peak:
                best_peak, best, best_order, best_fits = peak, base, order, best_fit
                method = f"greedy, {name}, {'best' if best_fit else 'first'} fit"
    if done():
        return Packing(best, best_peak, bound, how, method)
    small = blocks.count <= MOST_BLOCKS
    if ready is not None:
        share = budget.left // 8 if small else budget.left
        peak, base = repair_gaps(
            blocks, ready, best_order, best_fits, goal, budget.part(share), seed, 60 if small else 400
        )
        if peak < best_peak:
            best_peak, best, method = peak, base, "gap repair"
    data = None if done() else searchable(blocks, space)
    if data is not None:
        found = _exactly(blocks, space, data, budget, seed, Packing(best, best_peak, bound, how, method), enough)
        best, best_peak, bound, how, method = found.base, found.peak, found.bound, found.bound_method, found.method
        goal = max(bound, enough)
    if not done() and data is None:
        if ready is not None:
            for attempt in range(1, 9):
                if done():
                    break
                peak, base = repair_gaps(blocks, ready, best_order, best_fits, goal, budget, seed + attempt)
                if peak < best_peak:
                    best_peak, best, method = peak, base, "gap repair"
        else:
            peak, base = _shuffle(whole, space, best_order, best_peak, best, goal, budget, seed)
            if peak < best_peak:
                best_peak, best, method = peak, base, "order search"
    return Packing(best, best_peak, bound, how, method)


def _exactly(
    blocks: Blocks, space: Space, data: SearchData, budget: Budget, seed: int, found: Packing, enough: int
) -> Packing:
    """`found` made better or proven by exact search."""
    pinned = int((blocks.fixed + blocks.size)[blocks.fixed >= 0].max(initial=0))

    def addresses(offset: Int64s) -> Int64s:
        base = np.maximum(blocks.fixed, 0)
        still = np.setdiff1d(np.arange(blocks.count), data.chosen)
        for b in still:
            if blocks.fixed[b] < 0:
                base[b] = _lowest(int(blocks.size[b]), int(blocks.modulus[b]), int(blocks.residue[b]), space)
        base[data.chosen] = offset
        return base

    best, peak, bound, how, method = found.base, found.peak, found.bound, found.bound_method, found.method
    clique = heaviest_clique(data) - data.slack
    if clique > bound:
        bound, how = clique, "blocks that exclude each other"
    if enough >= bound and enough < peak:  # only the capacity matters
        status, offset = fit(data, enough // data.granule * data.granule, budget, seed=seed)
        if status == FOUND:
            base = addresses(offset)
            return Packing(base, max(pinned, int((base + blocks.size).max())), bound, how, "exact search")
        if status == INFEASIBLE:
            bound, how = max(bound, enough // data.granule * data.granule + 1), "exact search"
    if peak > max(bound, enough) and budget.left:
        granule = data.granule
        _, floor, offsets = lower(data, -(-peak // granule) * granule, bound, budget, seed=seed, least=enough)
        if floor - data.slack > bound:
            bound, how = floor - data.slack, "exact search"
        if offsets is not None:
            base = addresses(offsets)
            top = max(pinned, int((base + blocks.size).max()))
            if top < peak:
                best, peak, method = base, top, "exact search"
    return Packing(best, peak, bound, how, method)


def _shuffle(
    blocks: Blocks, space: Space, order: Int64s, peak: int, base: Int64s, goal: int, budget: Budget, seed: int
) -> tuple[int, Int64s]:
    """Greedy placement in ever changed orders: a block that makes the peak is moved forward; any kind of block."""
    random = Random(seed)  # noqa: S311 - a search that can be repeated, no secret
    idle = 0
    while peak > goal and budget.left and idle < TRIES:
        idle += 1
        highest = np.flatnonzero(base + blocks.size == peak)
        moved = int(highest[int(random.random() * len(highest))]) if random.random() < 0.7 else (
            int(random.random() * blocks.count)
        )  # fmt: skip
        at = int(np.flatnonzero(order == moved)[0])
        to = int(random.random() * (at + 1))
        new = np.concatenate([order[:to], [moved], order[to:at], order[at + 1 :]])
        _, placed, work = place_general(blocks, (space,), new, random.random() < 0.5)
        budget.spend(work)
        found = int((placed + blocks.size).max())
        if found <= peak:
            idle = 0 if found < peak else idle
            peak, base, order = found, placed, new
    return peak, base
