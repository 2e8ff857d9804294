"""
The likeliest chain of landmarks: pairs of a planned one and a measured one, in order, as far apart on either side.

What runs once a micro-batch looks alike in all of them; that one is as far from the next in a run as in its plan is
what keeps count. So chains are scored as in the alignment of long reads (Li 2018, minimap2, section 2.1): each pair
adds, a difference between the two distances takes away.
"""

from __future__ import annotations

import numpy as np

from memplan.align.pairs.pair_columns import EndCosts
from memplan.core.arrays import Floats, Int64s
from memplan.core.jit import jit_numpy_division

_BEFORE, _MARKS = 8, 3
"""Measured landmarks that may come before one in a chain, and planned ones of their kind that are tried for each."""
_WORTH, _JUMP = 3.0, 12.0
"""What a pair adds, what a chain costs that goes on anywhere else: natural logarithms, as the pair model's prices."""
_SLACK, _SHARE, _MOST = 1.0, 0.15, 12.0
"""Kernels, and share of the shorter one, by which distances may differ at a cost of one; the most that it costs."""
_FEW, _TIMES, _MOST_TIMES = 20.0, 2.0, 8.0
"""
Of kernels of all kinds, how many are as good as none, what it costs to be e times as many, and the most of that: those
between the last heavy op of a step and the first of the next may be one or five an update.
"""
_LEFT_OUT = 0.2
"""What each planned landmark costs that is left out."""


@jit_numpy_division
def _gap(measured: float, planned: float) -> float:
    """The cost of two distances that are not equal."""
    return min(abs(measured - planned) / (_SLACK + _SHARE * min(measured, planned)), _MOST)


@jit_numpy_division
def _times(measured: float, planned: float) -> float:
    """The cost of so many kernels of all kinds where others are planned."""
    return min(_TIMES * abs(float(np.log((measured + _FEW) / (planned + _FEW)))), _MOST_TIMES)


@jit_numpy_division
def chain_of(
    kind: Int64s,
    at: Int64s,
    among: Int64s,
    count: int,
    mark: Int64s,
    first: Int64s,
    rank: Int64s,
    place: Floats,
    among_all: Floats,
    of_ends: tuple[float, ...],
    score: Floats,
    back: Int64s,
    offset: Int64s,
) -> int:
    """
    Fill `score` and `back` of every pair; the number of the last pair of the best chain, -1 where there is none.

    Measured landmarks are of `kind` and stand `at` kernels from the beginning, of `count`, and `among` those of all
    kinds. Planned ones are rows `mark[first[kind]:first[kind + 1]]`, ascending; row `r` is the `rank[r]`-th of all and
    stands at `place[r]` in kernels and at `among_all[r]` among those of all kinds, whose last values are of a whole
    step. `of_ends` are what `EndCosts` holds. Pair `offset[f] + j` is that of measured landmark `f` and the `j`-th
    planned one of its kind.
    """
    ends = EndCosts(*of_ends)
    best, best_at = 0.0, -1
    top, top_at = 0.0, -1
    for f in range(len(kind)):
        begin, end = first[kind[f]], first[kind[f] + 1]
        for j in range(end - begin):
            row = mark[begin + j]
            value, source = _WORTH - min(_gap(at[f], place[row]) + ends.begin, ends.begin_inside), -1
            if best_at >= 0 and best - _JUMP + _WORTH > value:
                value, source = best - _JUMP + _WORTH, best_at
            score[offset[f] + j], back[offset[f] + j] = value, source
        for before in range(max(0, f - _BEFORE), f):
            low, high = first[kind[before]], first[kind[before] + 1]
            away = float(at[f] - at[before])
            q = 0
            for j in range(end - begin):
                row = mark[begin + j]
                while low + q < high and mark[low + q] < row:
                    q += 1
                for turn in range(1, min(_MARKS, high - low) + 1):
                    other = q - turn
                    planned, every, between = place[row], among_all[row], rank[row] - 1
                    if other < 0:  # of the step before
                        other += high - low
                        planned += place[-1]
                        every += among_all[-1]
                        between += len(mark)
                    planned -= place[mark[low + other]]
                    every -= among_all[mark[low + other]]
                    between -= rank[mark[low + other]]
                    value = score[offset[before] + other] + _WORTH - _LEFT_OUT * between
                    value -= _gap(away, planned) + _times(among[f] - among[before], every)
                    if value > score[offset[f] + j]:
                        score[offset[f] + j], back[offset[f] + j] = value, offset[before] + other
        for j in range(end - begin):
            value = score[offset[f] + j]
            if value > best:
                best, best_at = value, offset[f] + j
            left = place[-1] - place[mark[begin + j]]
            value -= min(_gap(count - at[f], left) + ends.end, ends.end_inside)
            if value > top:
                top, top_at = value, offset[f] + j
    return top_at


__all__ = ["chain_of"]
