"""
What `lane_kernels` does for the screen, by NumPy: for lanes that are shown before those loops are compiled.

A lane needs no pyramid for it. A pixel's share of busy time is exact, from the sums of the durations before its two
borders; of the slices within it the one at its middle gives the category, not the one that fills most of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Floats, Int64s
from memplan.gui.model.timeline.lane_sums import SUM_BLOCK


def roomy_slices(
    columns: tuple[NDArray[np.int64], NDArray[np.int64]],
    t0: int,
    fraction: float,
    ns_per_px: float,
    width: int,
    shortest_px: float,
    most: int,
) -> tuple[Int64s, Floats, Floats]:
    """As `lane_kernels.wide_slices`: positions and borders of the first `most`, of starts and durations."""
    start, duration = columns
    first = max(int(np.searchsorted(start, t0 + 1)) - 1, 0)
    last = int(np.searchsorted(start, t0 + int(np.ceil(fraction + width * ns_per_px))))
    long = first + np.flatnonzero(duration[first:last] >= shortest_px * ns_per_px)
    begin = (start[long] - t0 - fraction) / ns_per_px
    left, right = np.maximum(begin, 0.0), np.minimum(begin + duration[long] / ns_per_px, float(width))
    shown = np.flatnonzero(right - left >= shortest_px)[:most]
    return long[shown], left[shown], right[shown]


def add_times_within(
    start: NDArray[np.int64],
    duration: NDArray[np.int64],
    category: NDArray[Any],
    t0: int,
    t1: int,
    times: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """As `lane_kernels.times_within`."""
    inside = np.minimum(start + duration, t1) - np.maximum(start, t0)
    np.add.at(times, category, np.maximum(inside, 0))
    counts += np.bincount(category, minlength=len(counts))


def draw_lane(
    image: NDArray[np.uint32],
    rows: tuple[int, int],
    columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any], NDArray[np.int64]],
    t0: int,
    fraction: float,
    ns_per_px: float,
    colours: NDArray[np.uint32],
    ground: int,
) -> None:
    """
    Paint rows `[rows[0], rows[1])` of `image` (H, W) with the lane over the time from `t0 + fraction` on.

    `columns` are the lane's starts, durations, categories and sums of runs of durations.
    """
    start, duration, category, sums = columns
    width = image.shape[1]
    border = fraction + np.arange(width + 1) * ns_per_px
    # A slice has begun by a border when it starts before it: starts are whole, borders are not.
    begun = np.searchsorted(start, t0 + np.ceil(border).astype(np.int64))
    busy = _summed(duration, sums, begun)
    running = begun > 0
    last = np.maximum(begun - 1, 0)
    busy -= np.where(running, np.maximum((start[last] - t0) + duration[last] - border, 0.0), 0.0)
    share = np.clip(np.diff(busy) / ns_per_px, 0.0, 1.0)

    middle = t0 + np.floor(border[:-1] + ns_per_px / 2).astype(np.int64)
    at = np.searchsorted(start, middle, side="right") - 1
    over = (start[at] - t0) + duration[at] < border[:-1]
    at = np.where((at < 0) | over, begun[:-1], at)
    edge = begun[1:] > begun[:-1]
    filled = (share > 0) | edge
    tint = colours[category[np.minimum(at, len(start) - 1)]]

    share = np.maximum(share, 0.15)
    # A darker first pixel tells neighbours of one colour apart, where there is room for it.
    roomy = np.zeros(width, dtype=bool)
    if width > 2:
        roomy[:-2] = edge[:-2] & (share[1:-1] > 0.9) & (share[2:] > 0.9) & ~edge[1:-1]
    part = ((0.2 + 0.8 * share) * np.where(roomy, 0.55, 1.0) * 256).astype(np.uint32)
    row = np.full(width, 0xFF000000, dtype=np.uint32)
    for shift in (16, 8, 0):
        row |= ((tint >> shift & 255) * part + (ground >> shift & 255) * (256 - part)) >> 8 << shift
    image[max(rows[0], 0) : max(rows[1], 0)] = np.where(filled, row, np.uint32(ground))


def _summed(duration: NDArray[np.int64], sums: NDArray[np.int64], upto: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of the first `upto` durations, for each of them."""
    block = upto // SUM_BLOCK
    place = block[:, None] * SUM_BLOCK + np.arange(SUM_BLOCK)
    inside = np.where(place < upto[:, None], duration[np.minimum(place, len(duration) - 1)], 0)
    total: Int64s = sums[block] + inside.sum(axis=1)
    return total.astype(np.float64)
