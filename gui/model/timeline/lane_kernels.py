"""
Compiled kernels that turn one lane of slices into a row of pixels.

A lane is a run of slices ordered by start that do not overlap (where a damaged file has overlaps, a slice counts from
the end of the one before). A row has, for each pixel, the share of it that is busy and the category that fills most of
that share (weighted majority vote: exact when one category holds more than half).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.core.jit import jit
from memplan.gui.model.timeline.lane_sums import SPAN, SUM_BLOCK

_GALLOP = 48
_FAINT = np.float32(0.04)


@jit
def wide_slices(
    start: NDArray[np.int64],
    duration: NDArray[np.int64],
    peaks: NDArray[np.int64],
    t0: int,
    fraction: float,
    ns_per_px: float,
    width: int,
    shortest_px: float,
    found: NDArray[np.int64],
    left: NDArray[np.float64],
    right: NDArray[np.float64],
) -> int:
    """
    Slices of which at least `shortest_px` pixels are within the `width` from `t0 + fraction` on; how many there are.

    Their positions go to `found`, their borders within the picture, in pixels from its left, to `left` and `right`;
    no more than there is room for.
    """
    n = len(start)
    i = max(_lower_bound(start, 0, n, t0 + 1) - 1, 0)
    last = _lower_bound(start, i, n, t0 + int(np.ceil(fraction + width * ns_per_px)))
    shortest = shortest_px * ns_per_px
    count = 0
    while i < last and count < len(found):
        if i % SPAN == 0 and peaks[i // SPAN] < shortest:
            i += SPAN
            continue
        if duration[i] >= shortest:
            begin = (start[i] - t0 - fraction) / ns_per_px
            low, high = max(begin, 0.0), min(begin + duration[i] / ns_per_px, float(width))
            if high - low >= shortest_px:
                found[count], left[count], right[count] = i, low, high
                count += 1
        i += 1
    return count


@jit
def times_within(
    start: NDArray[np.int64],
    duration: NDArray[np.int64],
    category: NDArray[Any],
    t0: int,
    t1: int,
    times: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """Add, by category, how many of the slices there are and how much of `[t0, t1)` they fill."""
    for i in range(len(start)):
        inside = min(start[i] + duration[i], t1) - max(start[i], t0)
        times[category[i]] += max(inside, 0)
        counts[category[i]] += 1


@jit
def fill_cells(
    start: NDArray[np.int64],
    duration: NDArray[np.int64],
    category: NDArray[Any],
    origin: int,
    cell_ns: int,
    busy: NDArray[np.float32],
    top: NDArray[np.int32],
) -> None:
    """Share of each cell `[origin + i * cell_ns, ...)` that is busy, and its main category (-1: empty)."""
    cells = len(busy)
    vote = np.zeros(cells, dtype=np.float32)
    top[:] = -1
    busy[:] = 0
    reach = origin
    for i in range(len(start)):
        begin = max(start[i], reach)
        end = max(start[i] + duration[i], begin)
        reach = max(reach, end)
        kind = category[i]
        cell = min(max((begin - origin) // cell_ns, 0), cells - 1)
        last = min(max((end - origin) // cell_ns, 0), cells - 1)
        while cell <= last:
            low = origin + cell * cell_ns
            share = np.float32((min(end, low + cell_ns) - max(begin, low)) / cell_ns)
            busy[cell] += share
            weight = max(share, np.float32(1e-6))
            if top[cell] == kind:
                vote[cell] += weight
            elif vote[cell] >= weight:
                vote[cell] -= weight
            else:
                top[cell] = kind
                vote[cell] = weight - vote[cell]
            cell += 1
    for cell in range(cells):
        if top[cell] >= 0:
            busy[cell] = min(max(busy[cell], _FAINT), np.float32(1.0))


@jit
def halve_cells(busy: NDArray[np.float32], top: NDArray[np.int32], out_busy: Any, out_top: Any) -> None:
    """The next coarser level: each cell covers two of the finer one."""
    for cell in range(len(out_busy)):
        a, b = busy[2 * cell], busy[2 * cell + 1]
        out_busy[cell] = (a + b) / 2
        out_top[cell] = top[2 * cell] if (a >= b and top[2 * cell] >= 0) or top[2 * cell + 1] < 0 else top[2 * cell + 1]


@jit
def _from_cells(
    busy: NDArray[np.float32],
    top: NDArray[np.int32],
    cell_ns: float,
    offset: float,
    ns_per_px: float,
    share: NDArray[np.float32],
    kind: NDArray[np.int32],
) -> None:
    """`offset` is where the picture begins, in nanoseconds from the first cell."""
    cells = len(busy)
    for x in range(len(share)):
        first = int(np.floor((offset + x * ns_per_px) / cell_ns))
        last = int(np.floor((offset + (x + 1) * ns_per_px) / cell_ns))
        last = max(last, first + 1)
        total = np.float32(0)
        best = np.float32(-1)
        which = -1
        for cell in range(max(first, 0), min(last, cells)):
            total += busy[cell]
            if top[cell] >= 0 and busy[cell] > best:
                best = busy[cell]
                which = top[cell]
        share[x] = total / (last - first)
        kind[x] = which


@jit
def _lower_bound(values: NDArray[np.int64], low: int, high: int, key: int) -> int:
    while low < high:
        middle = (low + high) // 2
        if values[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@jit
def _summed(duration: NDArray[np.int64], sums: NDArray[np.int64], upto: int) -> int:
    block = upto // SUM_BLOCK
    total = sums[block]
    for i in range(block * SUM_BLOCK, upto):
        total += duration[i]
    return int(total)


@jit
def _from_slices(
    start: NDArray[np.int64],
    duration: NDArray[np.int64],
    category: NDArray[Any],
    sums: NDArray[np.int64],
    t0: int,
    fraction: float,
    ns_per_px: float,
    share: NDArray[np.float32],
    kind: NDArray[np.int32],
    edge: NDArray[np.uint8],
) -> None:
    """Times are taken relative to the whole nanosecond `t0`; `fraction` is the rest of the left border."""
    n = len(start)
    width = len(share)
    i = max(_lower_bound(start, 0, n, t0) - 1, 0)
    for x in range(width):
        left = fraction + x * ns_per_px
        right = left + ns_per_px
        total = 0.0
        which = -1
        vote = 0.0
        seen = 0
        while i < n:
            begin = float(start[i] - t0)
            if begin >= right:
                break
            end = begin + duration[i]
            if i + 1 < n and start[i + 1] - t0 < end:
                end = float(start[i + 1] - t0)
            if begin >= left:
                edge[x] = 1
            inside = max(min(end, right) - max(begin, left), 0.0)
            if end >= left:
                total += inside
                weight = max(inside, 1e-9)
                if which == category[i]:
                    vote += weight
                elif vote >= weight:
                    vote -= weight
                else:
                    which = category[i]
                    vote = weight - vote
            if end > right:
                break
            i += 1
            seen += 1
            if seen == _GALLOP:
                last = _lower_bound(start, i, n, t0 + int(np.ceil(right))) - 1
                if last > i:
                    total += _summed(duration, sums, last) - _summed(duration, sums, i)
                    i = last
        share[x] = min(np.float32(total / ns_per_px), np.float32(1.0))
        if which >= 0 and share[x] < 0.15:
            share[x] = np.float32(0.15)
        kind[x] = which


@jit
def _mix(colour: int, ground: int, share: float) -> int:
    part = int(share * 256)
    red = ((colour >> 16 & 255) * part + (ground >> 16 & 255) * (256 - part)) >> 8
    green = ((colour >> 8 & 255) * part + (ground >> 8 & 255) * (256 - part)) >> 8
    blue = ((colour & 255) * part + (ground & 255) * (256 - part)) >> 8
    return 0xFF000000 | red << 16 | green << 8 | blue


@jit
def paint_lane(
    image: NDArray[np.uint32],
    top_row: int,
    bottom_row: int,
    start: NDArray[np.int64],
    duration: NDArray[np.int64],
    category: NDArray[Any],
    sums: NDArray[np.int64],
    busy: NDArray[np.float32],
    top: NDArray[np.int32],
    cells: int,
    origin: int,
    cell_ns: int,
    t0: int,
    fraction: float,
    ns_per_px: float,
    colours: NDArray[np.uint32],
    ground: int,
) -> None:
    """
    Paint rows `[top_row, bottom_row)` of `image` (H, W) with the lane over the time from `t0 + fraction` on.

    `busy` and `top` hold the levels of cells one after another, `cells` of the finest first, each next half as many.
    A pixel longer than a finest cell reads the coarsest level that is still as fine as a pixel, a shorter one the
    slices themselves.
    """
    width = image.shape[1]
    share = np.zeros(width, dtype=np.float32)
    kind = np.full(width, -1, dtype=np.int32)
    edge = np.zeros(width, dtype=np.uint8)
    if ns_per_px >= cell_ns and cells > 0:
        first = 0
        size = cells
        length = float(cell_ns)
        while size > 1 and length * 2 <= ns_per_px:
            first += size
            size //= 2
            length *= 2
        part_busy, part_top = busy[first : first + size], top[first : first + size]
        _from_cells(part_busy, part_top, length, (t0 - origin) + fraction, ns_per_px, share, kind)
    else:
        _from_slices(start, duration, category, sums, t0, fraction, ns_per_px, share, kind, edge)
    row = np.empty(width, dtype=np.uint32)
    for x in range(width):
        if kind[x] < 0:
            row[x] = ground
            continue
        part = 0.2 + 0.8 * share[x]
        # A darker first pixel tells neighbours of one colour apart, where there is room for it.
        if edge[x] and x + 2 < width and share[x + 1] > 0.9 and share[x + 2] > 0.9 and not edge[x + 1]:
            part *= 0.55
        row[x] = _mix(colours[kind[x]], ground, part)
    for y in range(max(top_row, 0), min(bottom_row, image.shape[0])):
        for x in range(width):
            image[y, x] = row[x]
