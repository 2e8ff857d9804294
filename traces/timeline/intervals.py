"""Arithmetic of time intervals, given as arrays of starts and ends in ns."""

from __future__ import annotations

import numpy as np

from memplan.traces.profile import Int64s


def union(start: Int64s, end: Int64s) -> tuple[Int64s, Int64s]:
    """The disjoint intervals, in order, that cover what the given ones do; touching ones become one."""
    if not len(start):
        return start, end
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    first = np.append(True, start[1:] > reach[:-1])
    last = np.append(np.flatnonzero(first)[1:] - 1, len(start) - 1)
    return start[first], reach[last]


def without(whole: tuple[Int64s, Int64s], part: tuple[Int64s, Int64s]) -> tuple[Int64s, Int64s]:
    """What the disjoint intervals `whole` cover and the disjoint intervals `part` do not."""
    edges = np.concatenate([whole[0], whole[1], part[0], part[1]])
    change = np.repeat([1, -1, -2, 2], [len(whole[0]), len(whole[1]), len(part[0]), len(part[1])])
    order = np.argsort(edges, kind="stable")
    level = np.cumsum(change[order])
    inside = np.flatnonzero(level[:-1] == 1) if len(level) else np.empty(0, dtype=np.int64)
    start, end = edges[order][inside], edges[order][inside + 1]
    return start[end > start], end[end > start]
