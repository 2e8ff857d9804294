"""
The problem as flat arrays: rigid blocks of buffers, what they occupy when, and which blocks exclude each other.

Buffers that are colocated or contiguous move together. They become one block with a base address; each member sits at a
fixed distance from it. Everything that follows (bounds, greedy, search) places blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.placement.offsets.block_pairs import disjoint_parts, graph_pairs, interval_ranks, pairs_of
from memplan.placement.offsets.problem import Problem


@dataclass(frozen=True, slots=True)
class Blocks:
    """
    Rigid blocks, index `b` in `range(n)`; all arrays int64.

    - `size[b]`: extent in bytes; `base % modulus[b] == residue[b]`; `fixed[b]`: pinned base or -1
    - `allowed[b]`: indices into `Problem.pools`
    - `member_block[i]`, `member_rel[i]`: block of `Problem.buffers[i]` and its distance from the base
    - parts `part_ptr[b]:part_ptr[b + 1]`: disjoint rectangles `[part_lo, part_hi)` from the base times ranks
      `[part_start, part_end)` into `times`
    - pairs: `base[pair_b] - base[pair_a]` must not lie strictly between `pair_lo` and `pair_hi`, in addition to
      what the parts say. In `graph` mode the pairs say everything and there are no parts.
    """

    size: Int64s
    modulus: Int64s
    residue: Int64s
    fixed: Int64s
    allowed: tuple[tuple[int, ...], ...]
    member_block: Int64s
    member_rel: Int64s
    part_ptr: Int64s
    part_lo: Int64s
    part_hi: Int64s
    part_start: Int64s
    part_end: Int64s
    times: Int64s
    pair_a: Int64s
    pair_b: Int64s
    pair_lo: Int64s
    pair_hi: Int64s
    graph: bool

    @property
    def count(self) -> int:
        """Number of blocks."""
        return len(self.size)

    @property
    def simple(self) -> bool:
        """Whether every block is one rectangle that only lifetimes and addresses restrict."""
        if self.graph or len(self.pair_a) or len(self.part_lo) != self.count:
            return False
        whole = bool((self.part_lo == 0).all() and (self.part_hi == self.size).all())
        return whole and bool((np.diff(self.part_ptr) == 1).all())


def compile_blocks(problem: Problem) -> Blocks:
    """
    The blocks of `problem`.

    Raises `InputError` for ids that do not exist, values out of range and constraints that contradict each other.
    """
    buffers = problem.buffers
    index = _index(problem)
    block_of, rel = _rigid(problem, index)
    count = int(block_of.max()) + 1 if len(buffers) else 0
    size = np.zeros(count, np.int64)
    np.maximum.at(size, block_of, rel + np.fromiter((b.size for b in buffers), np.int64, len(buffers)))
    modulus, residue, fixed, allowed = _addresses(problem, block_of, rel, count)
    times, starts, ends, owner = interval_ranks(buffers)
    graph = problem.conflicts is not None or bool(problem.exclusions)
    if graph:
        part_ptr = np.zeros(count + 1, np.int64)
        parts = np.zeros((4, 0), np.int64)
        pairs = graph_pairs(problem, index, block_of, rel, starts, ends, owner)
    else:
        part_ptr, parts = disjoint_parts(buffers, block_of, rel, count, starts, ends, owner)
        pairs = pairs_of(problem.separations, index, buffers, block_of, rel)
    return Blocks(
        size, modulus, residue, fixed, allowed, block_of, rel,
        part_ptr, parts[0], parts[1], parts[2], parts[3], times, *pairs, graph,
    )  # fmt: skip


def _index(problem: Problem) -> dict[int, int]:
    index = {buffer.id: i for i, buffer in enumerate(problem.buffers)}
    if len(index) != len(problem.buffers):
        raise InputError("two buffers have the same id", remedy="give every buffer its own id")
    pools = {pool.id: pool for pool in problem.pools}
    if len(pools) != len(problem.pools):
        raise InputError("two pools have the same id", remedy="give every pool its own id")
    for pool in problem.pools:
        if (pool.capacity is not None and pool.capacity < 0) or any(a < 0 or a > b for a, b in pool.reserved):
            raise InputError(
                "a capacity or reserved range is negative or reversed", place=Sentence("pool {}", (pool.name,))
            )
    for buffer in problem.buffers:
        place = f"buffer {buffer.id}"
        if buffer.size < 0 or buffer.alignment < 1:
            raise InputError("size must be at least 0 and alignment at least 1", place=place)
        if any(start > end for start, end in buffer.intervals):
            raise InputError("an interval ends before it starts", place=place, remedy="intervals are [start, end)")
        if not buffer.pools or any(pool not in pools for pool in buffer.pools):
            raise InputError("pools {} are not all declared", buffer.pools, place=place)
        if buffer.pin is not None and (buffer.pin[0] not in buffer.pools or buffer.pin[1] % buffer.alignment):
            raise InputError("pinned to {} against its pools or alignment", buffer.pin, place=place)
        if buffer.pin is not None and buffer.pin[1] < 0:
            raise InputError("pinned below address 0", place=place)
    groups = [("colocation", problem.colocations), ("contiguous group", problem.contiguous)]
    pairs = [("separation", problem.separations), ("exclusion", problem.exclusions)]
    pairs += [("conflict", tuple(problem.conflicts or ())), ("reuse penalty", tuple(problem.reuse_penalties))]
    for kind, members in [*groups, *pairs]:
        for ids in members:
            unknown = [i for i in ids if i not in index]
            if unknown:
                raise InputError(
                    "no buffer has id {}",
                    unknown[0],
                    place=Sentence(
                        "{} {}",
                        (kind, tuple(ids)),
                    ),
                )
            if len(set(ids)) != len(ids):
                raise InputError(
                    "names a buffer twice",
                    place=Sentence(
                        "{} {}",
                        (kind, tuple(ids)),
                    ),
                )
    return index


def _rigid(problem: Problem, index: dict[int, int]) -> tuple[Int64s, Int64s]:
    """Block number and distance from the block's base of every buffer (union-find that keeps distances)."""
    buffers = problem.buffers
    parent = list(range(len(buffers)))
    shift = [0] * len(buffers)  # address of the buffer less that of its parent

    def find(i: int) -> tuple[int, int]:
        path = []
        while parent[i] != i:
            path.append(i)
            i = parent[i]
        total = 0
        for j in reversed(path):
            total += shift[j]
            parent[j], shift[j] = i, total
        return i, (shift[path[0]] if path else 0)

    def tie(first: int, second: int, distance: int, place: str) -> None:
        (root_a, a), (root_b, b) = find(first), find(second)
        if root_a == root_b:
            if b - a != distance:
                raise InputError("contradicts the other colocations and contiguous groups", place=place)
            return
        low, high = sorted((root_a, root_b))
        parent[high] = low
        shift[high] = a + distance - b if low == root_a else b - distance - a

    for group in problem.colocations:
        for other in group[1:]:
            tie(index[group[0]], index[other], 0, f"colocation {group}")
    for group in problem.contiguous:
        for left, right in pairwise(group):
            tie(index[left], index[right], buffers[index[left]].size, f"contiguous group {group}")
    roots = [find(i) for i in range(len(buffers))]
    number: dict[int, int] = {}
    block_of = np.fromiter((number.setdefault(root, len(number)) for root, _ in roots), np.int64, len(buffers))
    rel = np.fromiter((distance for _, distance in roots), np.int64, len(buffers))
    if len(buffers):
        lowest = np.full(len(number), np.iinfo(np.int64).max)
        np.minimum.at(lowest, block_of, rel)
        rel -= lowest[block_of]
    return block_of, rel


def _addresses(
    problem: Problem, block_of: Int64s, rel: Int64s, count: int
) -> tuple[Int64s, Int64s, Int64s, tuple[tuple[int, ...], ...]]:
    """Modulus, residue, pinned base and allowed pools of every block."""
    position = {pool.id: k for k, pool in enumerate(problem.pools)}
    modulus, residue, fixed = [1] * count, [0] * count, [-1] * count
    allowed: list[tuple[int, ...] | None] = [None] * count
    for i, buffer in enumerate(problem.buffers):
        b, distance, place = int(block_of[i]), int(rel[i]), f"buffer {buffer.id}"
        modulus[b], residue[b] = _congruence(modulus[b], residue[b], buffer.alignment, -distance, place)
        pools = tuple(position[pool] for pool in buffer.pools)
        if buffer.pin is not None:
            pools = (position[buffer.pin[0]],)
            base = buffer.pin[1] - distance
            if base < 0 or fixed[b] not in (-1, base):
                raise InputError("its pin contradicts that of a buffer it is tied to", place=place)
            fixed[b] = base
        before = allowed[b]
        allowed[b] = pools if before is None else tuple(p for p in before if p in pools)
        if not allowed[b]:
            raise InputError("shares no pool with a buffer it is tied to", place=place)
    for b in range(count):
        if fixed[b] >= 0 and fixed[b] % modulus[b] != residue[b]:
            raise InputError("a pin contradicts the alignment of a buffer tied to it", place=Sentence("block {}", (b,)))
    needed = tuple(pools or () for pools in allowed)
    return np.array(modulus, np.int64), np.array(residue, np.int64), np.array(fixed, np.int64), needed


def _congruence(modulus: int, residue: int, other: int, remainder: int, place: str) -> tuple[int, int]:
    """The one congruence that says both `x % modulus == residue` and `x % other == remainder % other`."""
    if modulus % other == 0 and (residue - remainder) % other == 0:
        return modulus, residue
    common = gcd(modulus, other)
    if (remainder - residue) % common:
        raise InputError("alignments of buffers tied together contradict each other", place=place)
    steps = (remainder - residue) // common * pow(modulus // common, -1, other // common) % (other // common)
    combined = modulus // common * other
    if combined > 2**60:
        raise InputError("the common alignment of buffers tied together is out of range", place=place)
    return combined, (residue + modulus * steps) % combined


def take(blocks: Blocks, chosen: Int64s) -> Blocks:
    """The blocks `chosen` (ascending indices) alone, renumbered; `member_*` are left empty."""
    number = np.full(blocks.count, -1, np.int64)
    number[chosen] = np.arange(len(chosen))
    owner = np.repeat(np.arange(blocks.count), np.diff(blocks.part_ptr))
    kept = number[owner] >= 0
    part_ptr = np.concatenate([[0], np.cumsum(np.diff(blocks.part_ptr)[chosen])]).astype(np.int64)
    edges = np.stack([blocks.part_start[kept], blocks.part_end[kept]])
    used, ranks = np.unique(edges, return_inverse=True)
    ranks = ranks.reshape(edges.shape).astype(np.int64)
    both = (number[blocks.pair_a] >= 0) & (number[blocks.pair_b] >= 0)
    none = np.zeros(0, np.int64)
    return Blocks(
        size=blocks.size[chosen], modulus=blocks.modulus[chosen], residue=blocks.residue[chosen],
        fixed=blocks.fixed[chosen], allowed=tuple(blocks.allowed[int(b)] for b in chosen),
        member_block=none, member_rel=none,
        part_ptr=part_ptr, part_lo=blocks.part_lo[kept], part_hi=blocks.part_hi[kept],
        part_start=np.ascontiguousarray(ranks[0]), part_end=np.ascontiguousarray(ranks[1]), times=blocks.times[used],
        pair_a=number[blocks.pair_a[both]], pair_b=number[blocks.pair_b[both]],
        pair_lo=blocks.pair_lo[both], pair_hi=blocks.pair_hi[both], graph=blocks.graph,
    )  # fmt: skip


def with_pairs(blocks: Blocks, pairs: tuple[Int64s, Int64s, Int64s, Int64s]) -> Blocks:
    """`blocks` with more pairs (a, b, lo, hi) that exclude each other."""
    a, b, low, high = pairs
    return replace(
        blocks,
        pair_a=np.concatenate([blocks.pair_a, a]), pair_b=np.concatenate([blocks.pair_b, b]),
        pair_lo=np.concatenate([blocks.pair_lo, low]), pair_hi=np.concatenate([blocks.pair_hi, high]),
    )  # fmt: skip
