"""Which kernel of the profile's table a slice of the timeline is."""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Int64s
from memplan.traces.profile import Kernels, Slices, TrackKind

DEVICE_TRACKS = frozenset({TrackKind.STREAM.value, TrackKind.COMMUNICATION.value})
"""The kinds of track whose slices may be kernels."""
_ROUNDED_NS = 1
"""Traces and kernel tables of text round one start, and one length, differently by as much."""
_TOGETHER = 6
"""Kernels that may begin within that of a moment; a table with more of them is damaged."""


def kernels_of_slices(kernels: Kernels, kind: str, slices: Slices, index: Int64s | None = None) -> Int64s:
    """
    The row of `kernels` that each slice (of those at `index`) of a track of that kind is, -1 where it is none.

    A slice is the first kernel with its start and length; tables and traces may call one kernel by other names.
    """
    start, took = slices.start_ns, slices.duration_ns
    if index is not None:
        start, took = start[index], took[index]
    found = np.full(len(start), -1, dtype=np.int64)
    if kind not in DEVICE_TRACKS or not len(kernels):
        return found
    first = np.searchsorted(kernels.start_ns, start - _ROUNDED_NS)
    for further in range(_TOGETHER):
        row = np.minimum(first + further, len(kernels) - 1)
        near = np.abs(kernels.start_ns[row] - start) <= _ROUNDED_NS
        if not near.any():
            break
        same = near & (np.abs(kernels.duration_ns[row] - took) <= _ROUNDED_NS) & (found < 0)
        found[same] = row[same]
    return found


def kernel_of_slice(kernels: Kernels, kind: str, slices: Slices, index: int) -> int:
    """The row of `kernels` that one slice is, -1 where it is none."""
    return int(kernels_of_slices(kernels, kind, slices, np.array([index], dtype=np.int64))[0])
