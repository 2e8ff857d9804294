"""
Compiled placement of blocks one by one in a given order.

Both kernels answer the same question, at which address a block fits best among those already placed. One is for
plain rectangles and keeps what is placed sorted by address; the other takes every kind of block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memplan.core.jit import jit
from memplan.placement.offsets.blocks import FAR

FIRST_FIT, BEST_FIT = 0, 1
MOST_ORDERED = 100_000


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
    shift: int,  # a time bucket is 2**shift ranks
    bucket_ptr: Any,  # int64[buckets + 1]: room for every block in each bucket it meets
    counted: int,  # blocks from this number on are reserved ranges: they do not raise the peak
    limit: int,  # give up as soon as the peak exceeds it
    base: Any,  # int64[n], written: address of each placed block
) -> Any:
    """Peak, or -1 when it exceeds `limit`, and the number of placed blocks that were looked at."""
    n = order.size
    # Placed blocks by ascending address. Keeping them all in order gets too dear for very many; then blocks that meet
    # several time buckets collect what is there and sort it.
    ordered = n <= MOST_ORDERED
    every = np.empty(n, np.int32)
    seen = np.full(0 if ordered else size.size, -1, np.int32)
    placed = 0
    # What is looked at of a block lies together: when it is alive, and from where to where it lies.
    spans = np.empty((size.size, 4), np.int64)
    spans[:, 0], spans[:, 1] = start, end
    slots = np.empty(bucket_ptr[-1], np.int32)  # the same by time bucket
    filled = np.zeros(bucket_ptr.size - 1, np.int64)
    peak = 0
    looked = 0
    for k in range(n):
        block = order[k]
        need, first, last = size[block], start[block], end[block]
        low_bucket, high_bucket = first >> shift, (last - 1) >> shift
        where = fixed[block]
        if where < 0:
            mod, rest = modulus[block], residue[block]
            # Nearly all alignments are powers of two, and to divide takes as long as all else that is done for a block.
            mask = max(mod - 1, 0) if mod & (mod - 1) == 0 else -1
            if low_bucket == high_bucket:
                source, begin, stop = slots, bucket_ptr[low_bucket], bucket_ptr[low_bucket] + filled[low_bucket]
            elif ordered:
                source, begin, stop = every, 0, placed
            else:
                count = 0
                for bucket in range(low_bucket, high_bucket + 1):
                    for position in range(bucket_ptr[bucket], bucket_ptr[bucket] + filled[bucket]):
                        other = slots[position]
                        if seen[other] == k or start[other] >= last or end[other] <= first:
                            continue
                        seen[other] = k
                        every[count] = other
                        count += 1
                    looked += filled[bucket]
                step = 1
                while step < count // 3:
                    step = 3 * step + 1
                while step:  # shell sort: little to compile, and buckets are sorted already
                    for position in range(step, count):
                        other = every[position]
                        at = position
                        while at >= step and base[every[at - step]] > base[other]:
                            every[at] = every[at - step]
                            at -= step
                        every[at] = other
                    step //= 3
                source, begin, stop = every, 0, count
            current = rest
            least = FAR
            where = -1
            for position in range(begin, stop):
                other = source[position]
                if spans[other, 0] >= last or spans[other, 1] <= first:
                    continue
                room = spans[other, 2] - current - need
                if room >= 0 and room < least:
                    least, where = room, current
                    if best_fit == 0 or room == 0:
                        stop = position
                        break
                top = spans[other, 3]
                if top > current:
                    current = top
                    if mask >= 0:
                        current += (rest - current) & mask
                    else:
                        over = (current - rest) % mod
                        if over:
                            current += mod - over
            looked += stop - begin
            if where < 0:
                where = current
        base[block] = where
        spans[block, 2], spans[block, 3] = where, where + need
        if block < counted and where + need > peak:
            peak = where + need
            if peak > limit:
                return -1, looked
        if ordered:
            low, high = 0, placed
            while low < high:
                middle = (low + high) >> 1
                if base[every[middle]] <= where:
                    low = middle + 1
                else:
                    high = middle
            for position in range(placed, low, -1):
                every[position] = every[position - 1]
            every[low] = block
            placed += 1
        for bucket in range(low_bucket, high_bucket + 1):
            begin = bucket_ptr[bucket]
            position = begin + filled[bucket]
            while position > begin and base[slots[position - 1]] > where:
                slots[position] = slots[position - 1]
                position -= 1
            slots[position] = block
            filled[bucket] += 1
    return peak, looked


@jit
def place_blocks(
    order: Any,
    best_fit: int,
    size: Any,
    modulus: Any,
    residue: Any,
    fixed: Any,
    allowed_ptr: Any,  # int64[n + 1] into allowed: pools that a block may use
    allowed: Any,
    capacity: Any,  # int64[pools]
    reserved_ptr: Any,  # int64[pools + 1] into reserved, rows (start, end)
    reserved: Any,
    part_ptr: Any,  # int64[n + 1] into the four part arrays
    part_lo: Any,
    part_hi: Any,
    part_start: Any,
    part_end: Any,
    shift: int,
    bucket_ptr: Any,
    pair_ptr: Any,  # int64[n + 1] into the three pair arrays: neighbour and forbidden differences of addresses
    pair_block: Any,
    pair_lo: Any,
    pair_hi: Any,
    pool: Any,  # int64[n], written
    base: Any,  # int64[n], written
) -> int:
    """Places every block; returns the number of placed parts and pairs that were looked at."""
    n = size.size
    slots = np.empty(bucket_ptr[-1], np.int32)
    filled = np.zeros(bucket_ptr.size - 1, np.int64)
    owner = np.empty(part_lo.size, np.int32)
    for b in range(n):
        for p in range(part_ptr[b], part_ptr[b + 1]):
            owner[p] = b
    seen = np.full(part_lo.size, -1, np.int64)
    done = np.zeros(n, np.uint8)
    peaks = np.zeros(capacity.size, np.int64)
    below = np.empty(64, np.int64)  # forbidden addresses lie strictly between below[i] and above[i]
    above = np.empty(64, np.int64)
    found = np.empty(64, np.int64)
    looked = 0
    for k in range(order.size):
        block = order[k]
        need, mod, rest = size[block], modulus[block], residue[block]
        chosen, chosen_where, chosen_rank = -1, 0, (2, 0)
        for a in range(allowed_ptr[block], allowed_ptr[block + 1]):
            here = allowed[a]
            count = 0
            if fixed[block] < 0:
                for r in range(reserved_ptr[here], reserved_ptr[here + 1]):
                    if count == below.size:
                        below, above = np.append(below, below), np.append(above, above)
                    below[count], above[count] = reserved[r, 0] - need, reserved[r, 1]
                    count += 1
                for q in range(pair_ptr[block], pair_ptr[block + 1]):
                    looked += 1
                    other = pair_block[q]
                    if done[other] == 0 or pool[other] != here:
                        continue
                    if count == below.size:
                        below, above = np.append(below, below), np.append(above, above)
                    # pair_lo < address of the other less ours < pair_hi is forbidden
                    below[count], above[count] = base[other] - pair_hi[q], base[other] - pair_lo[q]
                    count += 1
                for p in range(part_ptr[block], part_ptr[block + 1]):
                    stamp = k * (n + 1) + a
                    first, last = part_start[p], part_end[p]
                    hits = 0
                    for bucket in range(first >> shift, ((last - 1) >> shift) + 1):
                        for position in range(bucket_ptr[bucket], bucket_ptr[bucket] + filled[bucket]):
                            looked += 1
                            q = slots[position]
                            if part_start[q] >= last or part_end[q] <= first:
                                continue
                            if pool[owner[q]] != here or seen[q] == stamp:
                                continue
                            seen[q] = stamp
                            if hits == found.size:
                                found = np.append(found, found)
                            found[hits] = q
                            hits += 1
                    for h in range(hits):
                        q = found[h]
                        seen[q] = -1
                        if count == below.size:
                            below, above = np.append(below, below), np.append(above, above)
                        address = base[owner[q]]
                        below[count] = address + part_lo[q] - part_hi[p]
                        above[count] = address + part_hi[q] - part_lo[p]
                        count += 1
            if fixed[block] >= 0:
                where = fixed[block]
            else:
                sequence = np.argsort(below[:count])
                current, least, where = rest, FAR, -1
                for position in sequence:
                    room = below[position] - current
                    if room >= 0 and room < least:
                        least, where = room, current
                        if best_fit == 0:
                            break
                    if above[position] > current:
                        current = above[position] + (rest - above[position]) % mod
                if where < 0:
                    where = current
            # A pool where it fits; among these the one whose peak rises least, then the lowest address.
            rank = (0 if where + need <= capacity[here] else 1, max(where + need - peaks[here], 0))
            if chosen < 0 or rank < chosen_rank or (rank == chosen_rank and where < chosen_where):
                chosen, chosen_where, chosen_rank = here, where, rank
        base[block], pool[block], done[block] = chosen_where, chosen, 1
        peaks[chosen] = max(peaks[chosen], chosen_where + need)
        for p in range(part_ptr[block], part_ptr[block + 1]):
            for bucket in range(part_start[p] >> shift, ((part_end[p] - 1) >> shift) + 1):
                slots[bucket_ptr[bucket] + filled[bucket]] = p
                filled[bucket] += 1
    return looked
