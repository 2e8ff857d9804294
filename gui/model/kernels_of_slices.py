"""Which kernel of the profile's table a slice of the timeline is."""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Int64s
from memplan.traces.profile import Kernels, Slices, TrackKind

DEVICE_TRACKS = frozenset({TrackKind.STREAM.value, TrackKind.COMMUNICATION.value})
"""The kinds of track whose slices may be kernels."""
_SAME_START = 4
"""Kernels that may begin in the same nanosecond."""


def kernels_of_slices(kernels: Kernels, kind: str, slices: Slices, index: Int64s | None = None) -> Int64s:
    """
    The row of `kernels` that each slice (of those at `index`) of a track of that kind is, -1 where it is none.

    A slice is the kernel with its start and length.
    """
    start, took = slices.start_ns, slices.duration_ns
    if index is not None:
        start, took = start[index], took[index]
    found = np.full(len(start), -1, dtype=np.int64)
    if kind not in DEVICE_TRACKS or not len(kernels):
        return found
    first = np.searchsorted(kernels.start_ns, start)
    for further in range(_SAME_START):
        row = np.minimum(first + further, len(kernels) - 1)
        same = (kernels.start_ns[row] == start) & (kernels.duration_ns[row] == took) & (found < 0)
        found[same] = row[same]
    return found
