"""
In which of several orders a run without shapes updates its weights: updates of large weights take longer.

What is compared are ranks, for how much longer differs from machine to machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memplan.core.arrays import Floats

_NEAR = 0.25
"""Difference of ranks, as shares of all, from which two times are no more alike than others."""


def likeness_of_times(planned: Sequence[int], measured: Sequence[int]) -> float:
    """How much of a run's updates takes in order what was planned: the heaviest common subsequence, by ranks."""
    best = np.zeros(len(measured) + 1)
    ran = _ranks(measured)
    for rank in _ranks(planned).tolist():
        worth = np.maximum(1.0 - np.abs(ran - rank) / _NEAR, 0.0)
        best[1:] = np.maximum.accumulate(np.maximum(best[:-1] + worth, best[1:]))
    return float(best[-1])


def _ranks(times: Sequence[int]) -> Floats:
    """Ranks of times from 0 to 1; equal ones have the middle of theirs."""
    every = np.array(times, dtype=np.int64)
    ascending = np.sort(every)
    ranks: Floats = 0.5 * (np.searchsorted(ascending, every) + np.searchsorted(ascending, every, "right"))
    return ranks / max(1, len(every))


__all__ = ["likeness_of_times"]
