"""Greedy placement: blocks one by one, in many orders, each where it fits first or best."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from memplan.core.arrays import Int64s
from memplan.placement.offsets.block_pairs import FAR
from memplan.placement.offsets.blocks import Blocks
from memplan.placement.offsets.kernel_arrays import BlockArrays, PlacedBlocks, PoolArrays

BUCKETS = 4096
ROOM = 8
"""Entries per block that the time buckets may hold on average."""
MOST_ORDERED = 100_000
"""Up to so many blocks are all kept in order of address as well."""


@dataclass(frozen=True, slots=True)
class Space:
    """One pool as the solver sees it: capacity (`FAR` when there is none) and the ranges never used."""

    capacity: int = FAR
    reserved: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rectangles:
    """Simple blocks of one pool for `place_rectangles`; reserved ranges follow as blocks that are always alive."""

    size: Int64s
    start: Int64s
    end: Int64s
    modulus: Int64s
    residue: Int64s
    fixed: Int64s
    shifts: Int64s
    levels: Int64s
    bucket_ptr: Int64s
    counted: int
    first: Int64s = field(repr=False)

    def place(self, order: Int64s, best_fit: bool, limit: int = FAR) -> tuple[int, Int64s, int]:
        """Peak (-1 when above `limit`), address of each block and the work done, placing blocks in `order`."""
        from memplan.placement.offsets.greedy_kernels import place_rectangles

        base = np.zeros(len(self.size), np.int64)
        if len(self.first):
            order = np.concatenate([self.first, order[self.fixed[order] < 0]])
        peak, looked = place_rectangles(
            order, int(best_fit), self.size, self.start, self.end, self.modulus, self.residue, self.fixed,
            self.shifts, self.levels, self.bucket_ptr, self.counted, limit, base,
        )  # fmt: skip
        return int(peak), base[: self.counted], int(looked) + 8 * len(order)


def rectangles(blocks: Blocks, space: Space) -> Rectangles:
    """Simple `blocks` made ready for greedy placement in one pool."""
    reserved = np.array(sorted(space.reserved), np.int64).reshape(-1, 2)
    reserved = reserved[reserved[:, 0] < reserved[:, 1]]
    extra = len(reserved)
    steps = max(len(blocks.times) - 1, 1)
    start = np.concatenate([blocks.part_start, np.zeros(extra, np.int64)])
    end = np.concatenate([blocks.part_end, np.full(extra, steps)])
    return timed_rectangles(
        np.concatenate([blocks.size, reserved[:, 1] - reserved[:, 0]]), start, end,
        np.concatenate([blocks.fixed, reserved[:, 0]]),
        np.concatenate([blocks.modulus, np.ones(extra, np.int64)]),
        np.concatenate([blocks.residue, np.zeros(extra, np.int64)]),
        counted=blocks.count,
    )  # fmt: skip


def timed_rectangles(
    size: Int64s,
    start: Int64s,
    end: Int64s,
    fixed: Int64s,
    modulus: Int64s,
    residue: Int64s,
    *,
    counted: int,
    room: int = ROOM,
    widening: int = 0,
) -> Rectangles:
    """
    Rectangles alive over `[start, end)`; the first `counted` raise the peak, free ones are `fixed` at -1.

    Time buckets hold `room` entries per block on average. There are levels of them, each `2**widening` times as wide as
    the one before (0: one), and up to `MOST_ORDERED` blocks one that holds them all: what is placed is looked for in
    the finest bucket that is long enough, which costs time for each level that it has to be listed in.
    """
    steps = max(int(end.max(initial=0)), 1)
    shift, bucket_ptr = _buckets(start, end, steps, room)
    shifts, levels, pointers = [shift], [0, len(bucket_ptr) - 1], [bucket_ptr]
    top = max((steps - 1).bit_length(), shift)
    wider = list(range(shift + widening, top, widening)) if widening else []
    for wide in [*wider, *([top] if len(start) <= MOST_ORDERED and top > shift else [])]:
        pointers.append(pointers[-1][-1] + _entries(start, end, steps, wide)[1:])
        shifts.append(wide)
        levels.append(levels[-1] + len(pointers[-1]))
    return Rectangles(
        size, start, end, modulus, residue, fixed, np.array(shifts), np.array(levels), np.concatenate(pointers),
        counted, np.flatnonzero(fixed >= 0),
    )  # fmt: skip


def _buckets(start: Int64s, end: Int64s, steps: int, room: int = ROOM) -> tuple[int, Int64s]:
    """Width of time buckets, as a power of two of ranks, and how many entries those before each must hold."""
    shift = 0
    while ((steps - 1) >> shift) + 1 > BUCKETS or int((((end - 1) >> shift) - (start >> shift) + 1).sum()) > room * len(
        start
    ) + 1024:
        shift += 1
    return shift, _entries(start, end, steps, shift)


def _entries(start: Int64s, end: Int64s, steps: int, shift: int) -> Int64s:
    """How many entries the buckets of `2**shift` ranks before each must hold, and all of them."""
    change = np.zeros(((steps - 1) >> shift) + 2, np.int64)
    np.add.at(change, start >> shift, 1)
    np.subtract.at(change, ((end - 1) >> shift) + 1, 1)
    before: Int64s = np.concatenate([[0], np.cumsum(np.cumsum(change)[:-1])]).astype(np.int64)
    return before


def place_general(
    blocks: Blocks, spaces: tuple[Space, ...], order: Int64s, best_fit: bool
) -> tuple[Int64s, Int64s, int]:
    """Pool index and address of every block of any kind, and the work done, placing blocks in `order`."""
    from memplan.placement.offsets.greedy_kernels import place_blocks

    order = np.concatenate([np.flatnonzero(blocks.fixed >= 0), order[blocks.fixed[order] < 0]])
    allowed_ptr = np.concatenate([[0], np.cumsum([len(pools) for pools in blocks.allowed])]).astype(np.int64)
    allowed = np.array([pool for pools in blocks.allowed for pool in pools], np.int64)
    capacity = np.array([space.capacity for space in spaces], np.int64)
    reserved = np.array([span for space in spaces for span in space.reserved if span[0] < span[1]], np.int64)
    counts = [sum(a < b for a, b in space.reserved) for space in spaces]
    reserved_ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    shift, bucket_ptr = _buckets(blocks.part_start, blocks.part_end, max(len(blocks.times) - 1, 1))
    owner = np.repeat(np.arange(blocks.count), np.diff(blocks.part_ptr))
    placed = PlacedBlocks(
        np.full(blocks.count, -1, np.int64), np.zeros(blocks.count, np.int64), shift, bucket_ptr,
        np.empty(bucket_ptr[-1], np.int32), np.zeros(len(bucket_ptr) - 1, np.int64), np.full(len(owner), -1, np.int64),
    )  # fmt: skip
    arrays = BlockArrays(
        blocks.size, blocks.modulus, blocks.residue, blocks.fixed, allowed_ptr, allowed, blocks.part_ptr,
        blocks.part_lo, blocks.part_hi, blocks.part_start, blocks.part_end, owner, *adjacency(blocks),
    )  # fmt: skip
    pools = PoolArrays(capacity, reserved_ptr, reserved.reshape(-1, 2))
    looked = place_blocks(order, int(best_fit), tuple(arrays), tuple(pools), tuple(placed))
    return placed.pool, placed.base, int(looked) + 8 * blocks.count


def adjacency(blocks: Blocks) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """The pairs by block: pointers, neighbour, and between which differences (theirs less ours) must not lie."""
    a = np.concatenate([blocks.pair_a, blocks.pair_b])
    other = np.concatenate([blocks.pair_b, blocks.pair_a])
    low = np.concatenate([blocks.pair_lo, -blocks.pair_hi])
    high = np.concatenate([blocks.pair_hi, -blocks.pair_lo])
    order = np.lexsort((other, a))
    pointer = np.concatenate([[0], np.cumsum(np.bincount(a, minlength=blocks.count))]).astype(np.int64)
    return pointer, other[order], low[order], high[order]
