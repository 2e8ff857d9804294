"""Sums and maxima of runs of a lane's durations, by which drawing leaps over slices."""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Int64s

SUM_BLOCK = 16
SPAN = 64


def block_sums(duration: Int64s) -> Int64s:
    """Running sum of `duration` before every `SUM_BLOCK`-th slice, and of all of them at the end."""
    total = np.concatenate(([0], np.cumsum(duration)))
    return np.append(total[::SUM_BLOCK], total[-1])


def span_peaks(duration: Int64s) -> Int64s:
    """Longest of every `SPAN` durations."""
    return np.maximum.reduceat(duration, np.arange(0, len(duration), SPAN))
