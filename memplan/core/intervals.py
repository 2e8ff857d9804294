"""Arithmetic of half-open intervals `[start, end)` of whole numbers (ns, bytes) as arrays of starts and ends."""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Int64s

Intervals = tuple[Int64s, Int64s]


def interval_union(start: Int64s, end: Int64s, *, keep_touching: bool = False) -> Intervals:
    """
    The disjoint intervals, in order, that cover what the given ones do; empty ones cover nothing and go.

    Touching ones become one, unless `keep_touching`.
    """
    filled = end > start
    start, end = start[filled], end[filled]
    if not len(start):
        return start, end
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    begins = start[1:] >= reach[:-1] if keep_touching else start[1:] > reach[:-1]
    first = np.append(True, begins)
    last = np.append(np.flatnonzero(first)[1:] - 1, len(start) - 1)
    return start[first], reach[last]


def interval_difference(whole: Intervals, part: Intervals) -> Intervals:
    """What the disjoint intervals `whole` cover and the disjoint intervals `part` do not."""
    ends = (whole[0], whole[1], part[0], part[1])
    edges = np.concatenate(ends)
    # To repeat them would keep the interpreter from every other thread: of many millions, for a tenth of a second.
    signs = zip(ends, (1, -1, -2, 2), strict=True)
    change = np.concatenate([np.full(len(times), sign, dtype=np.int8) for times, sign in signs])
    order = np.argsort(edges, kind="stable")
    level = np.cumsum(change[order], dtype=np.int8)  # of another type it would be summed with the interpreter held
    inside = np.flatnonzero(level[:-1] == 1)
    start, end = edges[order][inside], edges[order][inside + 1]
    return start[end > start], end[end > start]


def interval_total(start: Int64s, end: Int64s) -> int:
    """Sum of the lengths of disjoint intervals."""
    return int((end - start).sum())


def interval_intersection(one: Intervals, other: Intervals) -> Intervals:
    """What the disjoint intervals `one` and the disjoint intervals `other` both cover."""
    return interval_difference(one, interval_difference(one, other))


def intervals_within(whole: Intervals, start: int, end: int) -> Intervals:
    """The parts of disjoint, ordered intervals that lie in `[start, end)`."""
    near = slice(int(np.searchsorted(whole[1], start, side="right")), int(np.searchsorted(whole[0], end, side="left")))
    low, high = np.clip(whole[0][near], start, end), np.clip(whole[1][near], start, end)
    return low[high > low], high[high > low]
