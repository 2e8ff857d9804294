"""
Medians of long columns, of all rows or of each kind: the lower of two middle ones, so that it is one that was measured.

Of few values that stand beside each other, as ranks do, the mean of the two middle ones is taken instead: `statistics`.
"""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Floats, Int64s


def weighted_median(values: Floats | Int64s, weights: Floats | Int64s) -> float:
    """The value with half of the weight on either side of it; those that are NaN count for nothing, 1 where all are."""
    known = ~np.isnan(values)
    order = np.argsort(values[known], kind="stable")
    reach = np.cumsum(weights[known][order])
    return float(values[known][order][np.searchsorted(reach, reach[-1] / 2)]) if len(reach) and reach[-1] > 0 else 1.0


def median_of(values: Floats) -> float:
    """The median of `values`, each of which counts alike."""
    return weighted_median(values, np.ones(len(values)))


def medians_of_kinds(kind: Int64s, values: Floats, rows: Int64s | None = None, *, least: int = 1) -> Floats:
    """By kind, the median of the `values` (of those in `rows`); NaN of kinds with under `least`."""
    rows = np.arange(len(kind), dtype=np.int64) if rows is None else rows
    order = rows[np.lexsort((values[rows], kind[rows]))]
    found = np.full(int(kind.max(initial=-1)) + 1, np.nan)
    if len(order):
        begins = np.flatnonzero(np.append(True, np.diff(kind[order]) != 0))
        counts = np.diff(np.append(begins, len(order)))
        middle = values[order][begins + (counts - 1) // 2]
        found[kind[order][begins]] = np.where(counts >= least, middle, np.nan)
    return found
