"""
The loop over sorted slices: nesting depth and covered time.

Plain Python over arrays, also compiled for large traces (`memplan.traces.timeline.nesting_jit`); keep to what Numba
understands.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_LANES = 256


def fill_nesting(
    starts: NDArray[np.int64],
    durations: NDArray[np.int64],
    bounds: NDArray[np.int64],
    depth: NDArray[np.int16],
    reach: NDArray[np.int64],
    covered: NDArray[np.int64],
    free_at: NDArray[np.int64],
) -> None:
    """
    Fill `depth`, `reach` and `covered` of slices sorted by track, start and descending duration.

    Track `t` owns rows `bounds[t]` to `bounds[t + 1]`. `depth` is the lowest lane that is free when the slice starts
    (for slices that nest, their nesting level), at most `MOST_LANES - 1`; `reach` the latest end so far on the track,
    `covered` the time under any slice so far, both in ns. `free_at` is room for `MOST_LANES` times.
    """
    for track in range(len(bounds) - 1):
        used = 0
        latest = np.int64(-(2**63) + 1)
        total = 0
        for row in range(bounds[track], bounds[track + 1]):
            start = starts[row]
            end = start + durations[row]
            lane = 0
            while lane < used and free_at[lane] > start:
                lane += 1
            if lane == used and used < MOST_LANES:
                used += 1
            lane = min(lane, MOST_LANES - 1)
            free_at[lane] = end
            depth[row] = lane
            if end > latest:
                total += end - max(start, latest)
                latest = end
            reach[row] = latest
            covered[row] = total
