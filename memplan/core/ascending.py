"""What of a sequence ascends."""

from __future__ import annotations

import bisect

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s


def rising(values: Int64s) -> NDArray[np.int64]:
    """Positions of a longest strictly ascending part of `values`."""
    if not len(values) or bool((np.diff(values) > 0).all()):
        return np.arange(len(values), dtype=np.int64)
    # Patience sorting: ends[k] is the smallest value that ends an ascending part of k + 1 values.
    ends: list[int] = []
    holders: list[int] = []
    before: list[int] = []
    for position, value in enumerate(values.tolist()):
        place = bisect.bisect_left(ends, value)
        if place == len(ends):
            ends.append(value)
            holders.append(position)
        else:
            ends[place], holders[place] = value, position
        before.append(holders[place - 1] if place else -1)
    chosen = []
    position = holders[-1]
    while position >= 0:
        chosen.append(position)
        position = before[position]
    return np.array(chosen[::-1], dtype=np.int64)
