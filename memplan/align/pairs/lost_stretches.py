"""
Stretches of a long run that a coarse alignment has lost: aligned once more with all rows of a step.

Heavy ops alone don't tell where kernels stand among updates or in loading and logging between steps. Where for long
hardly any kernel fits the rows of its band, the stretch and some kernels on either side see all rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memplan.align.pairs.banded_alignment import MOST_CELLS, Band, align_band
from memplan.align.pairs.pair_prices import PairPrices
from memplan.align.pairs.pair_result import PairResult, counted_on
from memplan.align.plan_and_run import PlanAndRun
from memplan.core.arrays import Int64s

_LONG, _LOST = 48, 0.6
"""Kernels from which a stretch is looked at, and the share of them without a row from which it is lost."""
_AROUND = 200
"""Kernels on either side that are aligned again with it: they tell where it begins and ends."""
_MOST_TIMES = 4
"""How many alignments of the largest size are done at most."""


def find_lost_stretches(chain: PlanAndRun, model: PairPrices, found: PairResult) -> PairResult:
    """The result, with stretches that were lost as all rows tell them, where more kernels fit so."""
    rows, left = len(model.ops.token), MOST_CELLS * _MOST_TIMES
    for begin, end in _stretches(found.row < 0):
        cells = (end - begin) * rows
        if cells > min(left, MOST_CELLS):
            continue
        left -= cells
        some = slice(begin, end)
        low = np.zeros(end - begin, dtype=np.int64)
        step, at = divmod(int(found.place[begin]), rows)
        band = Band(chain.kernel_class[some], chain.kernel_names[some], low, rows, near=at)
        again = counted_on(align_band(model, band), rows)
        again = again.moved((step - int(again.place[0]) // rows) * rows)
        if (again.row >= 0).sum() > (found.row[some] >= 0).sum() and again.place[-1] // rows == (
            found.place[end - 1] // rows
        ):
            found.put(np.arange(begin, end), again)
    return found


def _stretches(lost: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Where kernels are lost for long, with those around; what is around two stretches makes them one."""
    if len(lost) < _LONG:
        return
    total = np.concatenate(([0], np.cumsum(lost)))
    dense = (total[_LONG:] - total[:-_LONG]) >= _LOST * _LONG
    edges: Int64s = np.flatnonzero(np.diff(np.concatenate(([0], dense.astype(np.int8), [0]))))
    begins = np.maximum(edges[::2] - _AROUND, 0)
    ends = np.minimum(edges[1::2] + _LONG - 1 + _AROUND, len(lost))
    apart = np.concatenate(([True], begins[1:] > ends[:-1])) if len(begins) else np.zeros(0, dtype=np.bool_)
    for members in np.split(np.arange(len(begins)), np.flatnonzero(apart)[1:]):
        if len(members):
            yield int(begins[members[0]]), int(ends[members[-1]])
