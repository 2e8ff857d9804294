"""Busy intervals of a device: unions, and what of one is not covered by another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s



def union(start_ns: Int64s, end_ns: Int64s) -> tuple[Int64s, Int64s]:
    """Disjoint intervals in order that cover the same time; touching ones stay apart, empty ones go."""
    kept = end_ns > start_ns
    start_ns, end_ns = start_ns[kept], end_ns[kept]
    if not len(start_ns):
        return start_ns, end_ns
    order = np.argsort(start_ns, kind="stable")
    start_ns, reach = start_ns[order], np.maximum.accumulate(end_ns[order])
    first = np.concatenate(([True], start_ns[1:] >= reach[:-1]))
    last = np.append(np.flatnonzero(first)[1:] - 1, len(start_ns) - 1)
    return start_ns[first], reach[last]


def without(start_ns: Int64s, end_ns: Int64s, other_start: Int64s, other_end: Int64s) -> tuple[Int64s, Int64s]:
    """What of the disjoint intervals is not covered by the disjoint `other` ones."""
    edges = np.unique(np.concatenate((start_ns, end_ns, other_start, other_end)))
    if len(edges) < 2:
        return edges[:0], edges[:0]
    left = edges[:-1]

    def covered(starts: Int64s, ends: Int64s) -> NDArray[np.bool_]:
        position = np.searchsorted(starts, left, side="right") - 1
        inside = position >= 0
        inside[inside] = left[inside] < ends[position[inside]]
        return inside

    kept = covered(start_ns, end_ns) & ~covered(other_start, other_end)
    return left[kept], edges[1:][kept]


def total(start_ns: Int64s, end_ns: Int64s) -> int:
    """Sum of the lengths."""
    return int((end_ns - start_ns).sum())
