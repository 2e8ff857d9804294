"""
How far the times of a run without shapes agree with planned ones, by ranks: how much longer differs by the machine.

Updates of large weights take longer, which tells in which of several orders a run does them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Floats

_NEAR = 0.25
"""Difference of ranks, as shares of all, from which two times are no more alike than others."""


def likeness_of_times(planned: Sequence[int], measured: Sequence[int]) -> float:
    """How much of a run's updates takes in order what was planned: the heaviest common subsequence, by ranks."""
    best = np.zeros(len(measured) + 1)
    ran = _ranks(np.array(measured))
    for rank in _ranks(np.array(planned)).tolist():
        worth = np.maximum(1.0 - np.abs(ran - rank) / _NEAR, 0.0)
        best[1:] = np.maximum.accumulate(np.maximum(best[:-1] + worth, best[1:]))
    return float(best[-1])


def rank_agreement(planned: Floats, measured: Floats) -> float:
    """Spearman's correlation of ranks, from -1 to 1; 0 where either side has one value alone."""
    one, other = (ranks - ranks.mean() for ranks in (_ranks(planned), _ranks(measured)))
    both = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / both if both > 0.0 else 0.0


def _ranks(times: NDArray[Any]) -> Floats:
    """Ranks of times from 0 to 1; equal ones have the middle of theirs."""
    ascending = np.sort(times)
    ranks: Floats = 0.5 * (np.searchsorted(ascending, times) + np.searchsorted(ascending, times, "right"))
    return ranks / max(1, len(times))


__all__ = ["likeness_of_times", "rank_agreement"]
