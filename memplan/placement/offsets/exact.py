"""Exact search in one pool: is there a placement within a capacity, and which is the lowest capacity that has one."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.placement.offsets.block_pairs import overlapping_pairs
from memplan.placement.offsets.blocks import Blocks
from memplan.placement.offsets.bounds import granule_of
from memplan.placement.offsets.greedy import Space
from memplan.placement.offsets.kernel_arrays import SearchArrays
from memplan.placement.offsets.orders import features
from memplan.placement.offsets.work_limit import FOUND, GAVE_UP, INFEASIBLE, Budget

MOST_BLOCKS = 4000
MOST_PAIRS = 3_000_000
MOST_CLIQUES = 64
FIRST_NODES = 4
"""Nodes per block in the first round of restarts; every round doubles them."""


@dataclass(frozen=True, slots=True)
class SearchData:
    """The blocks `chosen` for an exact search, what the compiled search reads of them, and by what they are sorted."""

    chosen: Int64s
    arrays: SearchArrays
    area: NDArray[np.float64]
    width: Int64s
    total: Int64s
    unit: int
    granule: int
    slack: int

    @property
    def count(self) -> int:
        """Number of blocks to place."""
        return len(self.chosen)


def searchable(blocks: Blocks, space: Space) -> SearchData | None:
    """
    `blocks` made ready for exact search in one pool, or `None` when they are too many or not flat.

    Flat blocks use all their bytes whenever they are alive. Sizes are rounded up to the granule that all addresses are
    multiples of, which excludes nothing; peaks and capacities are in these rounded bytes. Pinned blocks are not
    searched for but are obstacles.
    """
    owner = np.repeat(np.arange(blocks.count), np.diff(blocks.part_ptr))
    flat = bool((blocks.part_lo == 0).all() and (blocks.part_hi == blocks.size[owner]).all())
    whole = (blocks.pair_lo == -blocks.size[blocks.pair_b]) & (blocks.pair_hi == blocks.size[blocks.pair_a])
    if not flat or not whole.all() or blocks.count > MOST_BLOCKS or len(blocks.pair_a) > MOST_PAIRS:
        return None
    order = np.argsort(blocks.part_start, kind="stable")
    starts = blocks.part_start[order]
    if int((np.searchsorted(starts, blocks.part_end[order]) - np.arange(len(starts)) - 1).sum()) > MOST_PAIRS:
        return None
    timed = overlapping_pairs(blocks.part_start, blocks.part_end, owner)
    timed = timed[timed[:, 0] != timed[:, 1]]
    separate = np.stack([blocks.pair_a, blocks.pair_b], axis=1)
    pairs = np.concatenate([timed, separate])
    n = blocks.count
    key = np.unique(pairs.min(axis=1, initial=n) * n + pairs.max(axis=1, initial=0)) if len(pairs) else pairs.ravel()
    a, b = key // max(n, 1), key % max(n, 1)
    pinned = blocks.fixed >= 0
    free = np.flatnonzero(~pinned & (blocks.size > 0))
    granule = granule_of(blocks)
    size = -(-blocks.size[free] // granule) * granule
    number = np.full(n, -1, np.int64)
    number[free] = np.arange(len(free))
    bans = _bans(blocks, space, free, a, b)
    both = (number[a] >= 0) & (number[b] >= 0)
    near = _csr(number[a[both]], number[b[both]], len(free))
    keep = number[owner] >= 0
    section_start, section_end, sections = _sections(blocks.part_start[keep], blocks.part_end[keep])
    holder = number[owner[keep]]
    by_block = np.lexsort((section_start, holder))
    holder, section_start, section_end = holder[by_block], section_start[by_block], section_end[by_block]
    hull_first, hull_last = np.full(len(free), sections), np.zeros(len(free), np.int64)
    np.minimum.at(hull_first, holder, section_start)
    np.maximum.at(hull_last, holder, section_end)
    never = hull_first >= hull_last  # never alive: only separations hold it back
    hull_first[never], hull_last[never] = 0, 1
    links = _links(separate, number, hull_first, hull_last, len(free))
    lengths = section_end - section_start
    flat_owner = np.repeat(holder, lengths)
    flat_section = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths - section_start, lengths)
    timed_sections = max(sections, 1)
    cliques = _cliques(near, size) if len(separate) else []
    for k, clique in enumerate(cliques):
        flat_owner = np.concatenate([flat_owner, clique])
        flat_section = np.concatenate([flat_section, np.full(len(clique), timed_sections + k)])
        holder = np.concatenate([holder, clique])
        section_start = np.concatenate([section_start, np.full(len(clique), timed_sections + k)])
        section_end = np.concatenate([section_end, np.full(len(clique), timed_sections + k + 1)])
    by_block = np.lexsort((section_start, holder))
    spans = (_pointers(holder, len(free)), section_start[by_block], section_end[by_block])
    by_section = np.lexsort((flat_owner, flat_section))
    section_ptr = _pointers(flat_section, timed_sections + len(cliques))
    known = features(blocks)
    divisor = int(np.gcd.reduce(size)) if len(size) else 1
    plain = (
        not len(bans[1])
        and not pinned.any()
        and bool((divisor % blocks.modulus[free] == 0).all() and (blocks.residue[free] == 0).all())
    )
    return SearchData(
        chosen=free,
        arrays=SearchArrays(
            size, blocks.modulus[free], blocks.residue[free], *bans, hull_first, hull_last, *spans, *near, *links,
            section_ptr, flat_owner[by_section].astype(np.int32), timed_sections,
        ),
        area=size.astype(np.float64) * known.duration[free], width=known.duration[free], total=known.total[free],
        unit=divisor if plain else granule, granule=granule,
        slack=int((size - blocks.size[free]).max(initial=0)),
    )  # fmt: skip


def _pointers(owner: Int64s, count: int) -> Int64s:
    return np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))]).astype(np.int64)


def _csr(a: Int64s, b: Int64s, count: int) -> tuple[Int64s, NDArray[np.int32]]:
    """Neighbours of every block, both ways."""
    left, right = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.lexsort((right, left))
    return _pointers(left, count), right[order].astype(np.int32)


def _sections(start: Int64s, end: Int64s) -> tuple[Int64s, Int64s, int]:
    """
    Spans of sections that matter, and their number.

    A section matters when something starts with it and something ends with it; otherwise all that is alive in it is
    alive in one beside it as well.
    """
    if not len(start):
        return start, end, 0
    steps = int(end.max())
    begins, ends = np.zeros(steps, bool), np.zeros(steps, bool)
    begins[start] = True
    ends[end - 1] = True
    before = np.concatenate([[0], np.cumsum(begins & ends)]).astype(np.int64)
    # Between two sections that matter, starts come first and ends after: a span always holds one of them.
    return before[start], before[end], int(before[-1])


def _bans(blocks: Blocks, space: Space, free: Int64s, a: Int64s, b: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Addresses that reserved ranges and pinned neighbours take from each free block: pointers, low, high."""
    owner, low, high = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    number = np.full(blocks.count, -1, np.int64)
    number[free] = np.arange(len(free))
    for start, end in space.reserved:
        if start < end:
            owner.append(number[free])
            low.append(start - blocks.size[free])
            high.append(np.full(len(free), end))
    for mine, other in ((a, b), (b, a)):
        hit = (number[mine] >= 0) & (blocks.fixed[other] >= 0) & (blocks.size[other] > 0)
        owner.append(number[mine[hit]])
        low.append(blocks.fixed[other[hit]] - blocks.size[mine[hit]])
        high.append(blocks.fixed[other[hit]] + blocks.size[other[hit]])
    who, lower, upper = np.concatenate(owner), np.concatenate(low), np.concatenate(high)
    order = np.lexsort((upper, lower, who))
    return _pointers(who, len(free)), lower[order], upper[order]


def _links(
    separate: Int64s, number: Int64s, first: Int64s, last: Int64s, count: int
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Separations between blocks whose hulls do not meet: they tie the sections between them together."""
    a, b = number[separate[:, 0]], number[separate[:, 1]]
    keep = (a >= 0) & (b >= 0)
    a, b = a[keep], b[keep]
    begin = np.minimum(last[a], last[b]) - 1
    end = np.maximum(first[a], first[b]) + 1
    apart = end - begin > 1
    a, b, begin, end = a[apart], b[apart], begin[apart], end[apart]
    left, right = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.lexsort((right, left))
    return _pointers(left, count), right[order], np.tile(begin, 2)[order], np.tile(end, 2)[order]


def _cliques(near: tuple[Int64s, NDArray[np.int32]], size: Int64s) -> list[Int64s]:
    """Heavy sets of blocks that all exclude each other, one grown from each block, the heaviest few."""
    pointers, other = near
    found: dict[tuple[int, ...], int] = {}
    heavy_first = np.lexsort((np.arange(len(size)), -size))
    place = np.empty(len(size), np.int64)
    place[heavy_first] = np.arange(len(size))
    neighbours = [set(map(int, other[pointers[v] : pointers[v + 1]])) for v in range(len(size))]
    for seed in map(int, heavy_first[: 4 * MOST_CLIQUES]):
        clique = [seed]
        for v in sorted(neighbours[seed], key=lambda v: int(place[v])):
            if all(v in neighbours[u] for u in clique):
                clique.append(v)
        found[tuple(sorted(clique))] = int(size[clique].sum())
    best = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:MOST_CLIQUES]
    return [np.array(clique, np.int64) for clique, _ in best]


def heaviest_clique(data: SearchData) -> int:
    """Bytes of the heaviest set found of blocks that all exclude each other: no peak is lower."""
    pointers, members, size = data.arrays.section_ptr, data.arrays.section_block, data.arrays.size
    weights = np.add.reduceat(size[members], pointers[:-1]) if len(members) else np.zeros(1, np.int64)
    return int(weights[np.diff(pointers) > 0].max(initial=0)) if len(members) else 0


def sections_over(data: SearchData, capacity: int) -> list[list[int]]:
    """
    Block numbers of sets that can't fit into `capacity` because all exclude each other, without those not needed.

    At each step, and for each clique found, the smallest blocks are left out as long as the rest is too large.
    """
    pointers, members, size = data.arrays.section_ptr, data.arrays.section_block, data.arrays.size
    out: dict[tuple[int, ...], None] = {}
    for s in range(len(pointers) - 1):
        inside = members[pointers[s] : pointers[s + 1]]
        excess = int(size[inside].sum()) - data.slack - capacity
        if excess <= 0:
            continue
        kept = []
        for b in inside[np.argsort(size[inside], kind="stable")]:
            if int(size[b]) < excess:
                excess -= int(size[b])
            else:
                kept.append(int(data.chosen[b]))
        out[tuple(sorted(kept))] = None
    return [list(kept) for kept in out]


def _orders(data: SearchData, seed: int, round_: int) -> list[tuple[Int64s, Int64s, int]]:
    """Which blocks to try first: order, rank among those with as many bytes alive, and whether to sort by these."""
    wide, large, full = -data.width, -data.area, -data.total
    by_width, by_area = np.lexsort((large, wide)), np.lexsort((wide, large))
    static = [(np.lexsort((full, large, wide)), by_width, 0), (by_area, by_area, 1), (by_width, by_width, 1)]
    if round_ >= 2:  # the same with noise, another one each time
        random = Random(seed * 1000 + round_)  # noqa: S311 - a search that can be repeated, no secret
        noise = np.array([0.5 + 1.5 * random.random() for _ in range(data.count)])
        noisy = np.lexsort((wide, large * noise)) if round_ % 2 else np.lexsort((large, wide * noise))
        static.append((noisy, noisy, 1))
    out = []
    for order, ranked, by_total in static:
        rank = np.empty(data.count, np.int64)
        rank[ranked] = np.arange(data.count)
        out.append((order.astype(np.int64), rank, by_total))
    return out


def fit(data: SearchData, capacity: int, budget: Budget, *, seed: int = 0, rounds: int = 64) -> tuple[int, Int64s]:
    """
    Whether the blocks of `data` fit into `capacity`, and addresses if so.

    Depth-first search restarted with several orders and ever more nodes, until it is decided, `rounds` are over or the
    budget is spent.
    """
    from memplan.placement.offsets.search_kernels import search_offsets

    offset, counts = np.full(data.count, -1, np.int64), np.zeros(2, np.int64)
    if not data.count:
        return FOUND, offset
    nodes = FIRST_NODES * data.count
    for round_ in range(rounds):
        for order, rank, by_total in _orders(data, seed, round_):
            left = budget.left
            if left <= 0:
                return GAVE_UP, offset
            status = search_offsets(
                capacity, tuple(data.arrays), order, rank, by_total, nodes, min(left, budget.slice), offset, counts
            )
            budget.spend(int(counts[1]))
            if status != GAVE_UP:
                return int(status), offset
        nodes *= 2
    return GAVE_UP, offset


def lower(
    data: SearchData, peak: int, bound: int, budget: Budget, *, seed: int = 0, least: int = 0
) -> tuple[int, int, Int64s | None]:
    """
    Lowest peak found, the bound proven, and addresses if better than `peak`.

    Capacities between bound and peak are tried by bisection with few rounds of search first and ever more; one that is
    shown to be infeasible raises the bound. Peaks at or below `least` are good enough.
    """
    best: Int64s | None = None
    unit = data.unit
    bound = -(-bound // unit) * unit
    rounds = 3
    while peak > max(bound, least) and budget.left:
        hopeless = bound - 1  # capacities up to here were not decided with so few rounds
        middle, share = bound, 3
        while budget.left:
            status, offset = fit(data, middle, budget.part(budget.left // share + 1), seed=seed, rounds=rounds)
            if status == FOUND:
                best = offset.copy()
                peak = int((offset + data.arrays.size).max())
            elif status == INFEASIBLE:
                bound = (middle // unit + 1) * unit
            else:
                hopeless = max(hopeless, middle)
            if peak <= max(bound, least, hopeless + unit):
                break
            middle, share = max((max(hopeless, bound - 1) + peak) // 2 // unit * unit, bound), 6
            if middle <= hopeless:
                middle += unit
        rounds += 2
    return peak, min(bound, peak), best
