"""Lanes for the kernels of a rank in viewers that take slices of one lane to be apart or one inside the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Int64s
from memplan.traces.profile import Kernels
from memplan.traces.timeline.nesting import MOST_LANES, fill_nesting


@dataclass(frozen=True, slots=True)
class KernelLanes:
    """The lane of every kernel, counted from 0, and the lanes' names."""

    lane: Int64s
    names: Sequence[str]


def kernel_lanes(kernels: Kernels) -> KernelLanes:
    """
    A lane for each stream and one more wherever kernels of a stream overlap; in order of streams.

    Profiles have kernels of one stream that begin before the one ahead of them ends; Perfetto drops such slices.
    Kernels whose stream is not known are those of communication.
    """
    count = len(kernels)
    order = np.lexsort((-kernels.duration_ns, kernels.start_ns, kernels.stream))
    first = np.unique(kernels.stream[order], return_index=True)[1]
    depth = np.zeros(count, dtype=np.int16)
    reach, covered, free_at = (np.zeros(size, dtype=np.int64) for size in (count, count, MOST_LANES))
    bounds = np.append(first, count)
    fill_nesting(kernels.start_ns[order], kernels.duration_ns[order], bounds, depth, reach, covered, free_at)
    keys = np.empty((count, 2), dtype=np.int64)
    keys[order, 0], keys[order, 1] = kernels.stream[order], depth
    pairs, lane = np.unique(keys, axis=0, return_inverse=True)
    names = [
        (f"Stream {stream}" if stream >= 0 else "Communication") + (f", overlapping {beside}" if beside else "")
        for stream, beside in pairs.tolist()
    ]
    return KernelLanes(lane.reshape(-1).astype(np.int64), names)
