"""
Compiled placement of blocks one by one in a given order.

Both kernels answer the same question, at which address a block fits best among those already placed. One is for
plain rectangles and keeps what is placed sorted by address, in time buckets of several widths; the other takes every
kind of block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.jit import jit, jit_inner, longer
from memplan.placement.offsets.block_pairs import FAR
from memplan.placement.offsets.kernel_arrays import BlockArrays, PlacedBlocks, PoolArrays

FIRST_FIT, BEST_FIT = 0, 1


@jit
def _sort(listed: Any, start: int, stop: int, base: Any) -> None:
    """Sort blocks `start` to `stop` of `listed` by address (shell sort: little to compile)."""
    step = 1
    while step < (stop - start) // 3:
        step = 3 * step + 1
    while step:
        for position in range(start + step, stop):
            block = listed[position]
            at = position
            while at >= start + step and base[listed[at - step]] > base[block]:
                listed[at] = listed[at - step]
                at -= step
            listed[at] = block
        step //= 3


@jit
def _merge(listed: Any, first: int, middle: int, stop: int, base: Any, spare: Any) -> None:
    """
    Bring blocks `first` to `stop` of `listed` in order of address, of which those before `middle` are.

    `spare` has room for the others.
    """
    if middle + 1 >= stop:
        if middle < stop:
            block = listed[middle]
            low, high = first, middle
            while low < high:
                half = (low + high) >> 1
                if base[listed[half]] <= base[block]:
                    low = half + 1
                else:
                    high = half
            listed[low + 1 : stop] = listed[low:middle]
            listed[low] = block
        return
    _sort(listed, middle, stop, base)
    spare[: stop - middle] = listed[middle:stop]
    left, right = middle - 1, stop - middle - 1
    while right >= 0:
        block = spare[right]
        address = base[block]
        while left >= first and base[listed[left]] > address:
            listed[left + right + 1] = listed[left]
            left -= 1
        listed[left + right + 1] = block
        right -= 1


@jit_inner
def _one_rounding(order: Any, fixed: Any, modulus: Any, residue: Any) -> tuple[bool, int, int]:
    """Whether blocks without an address are rounded in several ways; modulus and residue of all, 1 and 0 if so."""
    mixed, mod, rest = False, -1, -1
    for block in order:
        if fixed[block] < 0:
            if mod < 0:
                mod, rest = modulus[block], residue[block]
            mixed |= modulus[block] != mod or residue[block] != rest
    if mixed or mod < 0:
        return mixed, 1, 0
    return mixed, mod, rest


@jit
def place_rectangles(
    order: Any,  # int64[k]: blocks in the order to place them
    best_fit: int,
    size: Any,  # int64[n]
    start: Any,  # int64[n] time ranks
    end: Any,
    modulus: Any,
    residue: Any,
    fixed: Any,  # int64[n]: address that is given, or -1
    shifts: Any,  # int64[levels]: a time bucket of a level is 2**shift ranks, those of the next are wider
    levels: Any,  # int64[levels + 1]: the first bucket of each level
    bucket_ptr: Any,  # int64[buckets + 1]: room for every block in each bucket it meets
    counted: int,  # blocks from this number on are reserved ranges: they do not raise the peak
    limit: int,  # give up as soon as the peak exceeds it
    base: Any,  # int64[n], written: address of each placed block
) -> Any:
    """Peak, or -1 when it exceeds `limit`, and the number of placed blocks that were looked at."""
    n = order.size
    # Placed blocks by time bucket, in order of address up to some; a block that meets one bucket of a level, the finest
    # there is, looks at what is there. One that meets several of each collects what is there and sorts it.
    slots = np.empty(bucket_ptr[-1], np.int32)
    filled = bucket_ptr[:-1].copy()
    ordered = bucket_ptr[:-1].copy()
    spare = np.empty(n, np.int32)
    seen = np.full(size.size if levels[-1] - levels[-2] > 1 else 0, -1, np.int32)
    # Of placed blocks: first and last time, address, and the next free one, rounded where one rounding holds for all.
    spans = np.empty((size.size, 4), np.int64)
    mixed, common, offset = _one_rounding(order, fixed, modulus, residue)
    peak = 0
    looked = 0
    for k in range(n):
        block = order[k]
        need, first, last = size[block], start[block], end[block]
        where = fixed[block]
        if where < 0:
            mod, rest = modulus[block], residue[block]
            level = 0
            while level < shifts.size - 1 and first >> shifts[level] != (last - 1) >> shifts[level]:
                level += 1
            low_bucket, high_bucket = first >> shifts[level], (last - 1) >> shifts[level]
            if low_bucket == high_bucket:
                bucket = levels[level] + low_bucket
                begin, stop = bucket_ptr[bucket], filled[bucket]
                _merge(slots, begin, ordered[bucket], stop, base, spare)
                ordered[bucket] = stop
                source = slots
            else:
                begin = stop = 0
                for bucket in range(levels[level] + low_bucket, levels[level] + high_bucket + 1):
                    for position in range(bucket_ptr[bucket], filled[bucket]):
                        other = slots[position]
                        if seen[other] == k or start[other] >= last or end[other] <= first:
                            continue
                        seen[other] = k
                        spare[stop] = other
                        stop += 1
                    looked += filled[bucket] - bucket_ptr[bucket]
                _sort(spare, 0, stop, base)
                source = spare
            current = rest
            least = FAR
            where = -1
            for position in range(begin, stop):
                other = source[position]
                # No branch where it could go either way: what is not there meanwhile takes no room.
                span = spans[other]
                meets = (span[0] < last) & (span[1] > first)
                room = span[2] - current - need
                if (room >= 0) & meets & (room < least):
                    least, where = room, current
                    if best_fit == 0 or room == 0:
                        stop = position
                        break
                top = span[3] * meets
                if mixed:
                    if top > current:
                        current = top + (rest - top) % mod
                else:
                    current = max(current, top)
            looked += stop - begin
            if where < 0:
                where = current
        base[block] = where
        top = where + need
        spans[block] = (first, last, where, top + (offset - top) % common)
        if block < counted and top > peak:
            peak = top
            if peak > limit:
                return -1, looked
        for level in range(shifts.size):
            for bucket in range(
                levels[level] + (first >> shifts[level]), levels[level] + ((last - 1) >> shifts[level]) + 1
            ):
                slots[filled[bucket]] = block
                filled[bucket] += 1
    return peak, looked


@jit
def place_blocks(
    order: Int64s,
    best_fit: int,
    of_blocks: tuple[Any, ...],
    of_pools: tuple[Any, ...],
    of_placed: tuple[Any, ...],
) -> int:
    """
    Places every block in `order` where nothing is placed; how many placed parts and pairs were looked at.

    The tuples hold what `BlockArrays`, `PoolArrays` and `PlacedBlocks` do, of which the last is written.
    """
    blocks, pools, placed = BlockArrays(*of_blocks), PoolArrays(*of_pools), PlacedBlocks(*of_placed)
    peaks = np.zeros(len(pools.capacity), np.int64)
    # Addresses strictly between the two columns are forbidden.
    ranges = np.empty((64, 2), np.int64)
    looked = 0
    for block in order:
        need = blocks.size[block]
        chosen, chosen_where, chosen_rank = -1, 0, (2, 0)
        for a in range(blocks.allowed_ptr[block], blocks.allowed_ptr[block + 1]):
            here, where = blocks.allowed[a], blocks.fixed[block]
            if where < 0:
                ranges, count, work = _forbidden(blocks, pools, placed, block, here, ranges)
                looked += work
                where = _lowest_gap(ranges[:count], blocks.modulus[block], blocks.residue[block], best_fit)
            # A pool where it fits; among these the one whose peak rises least, then the lowest address.
            rank = (0 if where + need <= pools.capacity[here] else 1, max(where + need - peaks[here], 0))
            if chosen < 0 or rank < chosen_rank or (rank == chosen_rank and where < chosen_where):
                chosen, chosen_where, chosen_rank = here, where, rank
        placed.base[block], placed.pool[block] = chosen_where, chosen
        peaks[chosen] = max(peaks[chosen], chosen_where + need)
        for p in range(blocks.part_ptr[block], blocks.part_ptr[block + 1]):
            from_, to = blocks.part_start[p] >> placed.shift, (blocks.part_end[p] - 1) >> placed.shift
            for bucket in range(from_, to + 1):
                placed.bucket_part[placed.bucket_ptr[bucket] + placed.bucket_count[bucket]] = p
                placed.bucket_count[bucket] += 1
    return looked


@jit_inner
def _forbidden(
    blocks: BlockArrays, pools: PoolArrays, placed: PlacedBlocks, block: int, here: int, ranges: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int, int]:
    """
    Between which addresses of the pool `here` that of `block` can't lie.

    Gives `ranges`, longer where need be, how many of its rows count, and how many parts and pairs were looked at.
    """
    need = blocks.size[block]
    count = looked = 0
    for r in range(pools.reserved_ptr[here], pools.reserved_ptr[here + 1]):
        start, end = pools.reserved[r]
        ranges, count = _with_range(ranges, count, start - need, end)
    for q in range(blocks.pair_ptr[block], blocks.pair_ptr[block + 1]):
        looked += 1
        other = blocks.pair_block[q]
        if placed.pool[other] == here:
            address = placed.base[other]
            ranges, count = _with_range(ranges, count, address - blocks.pair_hi[q], address - blocks.pair_lo[q])
    for p in range(blocks.part_ptr[block], blocks.part_ptr[block + 1]):
        first, last = blocks.part_start[p], blocks.part_end[p]
        for bucket in range(first >> placed.shift, ((last - 1) >> placed.shift) + 1):
            from_ = placed.bucket_ptr[bucket]
            looked += placed.bucket_count[bucket]
            for position in range(from_, from_ + placed.bucket_count[bucket]):
                q = placed.bucket_part[position]
                other = blocks.part_block[q]
                met = blocks.part_start[q] < last and blocks.part_end[q] > first and placed.pool[other] == here
                if met and placed.seen[q] != p:
                    placed.seen[q] = p
                    address = placed.base[other]
                    low, high = address + blocks.part_lo[q] - blocks.part_hi[p], address + blocks.part_hi[q]
                    ranges, count = _with_range(ranges, count, low, high - blocks.part_lo[p])
    return ranges, count, looked


@jit_inner
def _with_range(ranges: NDArray[np.int64], count: int, low: int, high: int) -> tuple[NDArray[np.int64], int]:
    """The `count` rows and one more, in `ranges` or where there is room for it."""
    if count == len(ranges):
        ranges = longer(ranges)
    ranges[count, 0], ranges[count, 1] = low, high
    return ranges, count + 1


@jit_inner
def _lowest_gap(ranges: NDArray[np.int64], modulus: int, residue: int, best_fit: int) -> int:
    """The lowest aligned address outside of all `ranges`, or with `best_fit` that with least room above it."""
    current, least, where = residue, FAR, -1
    for position in np.argsort(ranges[:, 0]):
        room = ranges[position, 0] - current
        if room >= 0 and room < least:
            least, where = room, current
            if best_fit == 0:
                break
        above = ranges[position, 1]
        if above > current:
            current = above + (residue - above) % modulus
    return current if where < 0 else where
