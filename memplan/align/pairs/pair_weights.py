"""What a pair of a kernel and an op weighs by place and time, and how far a run departs from a plan's order."""

from __future__ import annotations

import numpy as np

from memplan.align.pairs.pair_columns import OpColumns, RunColumns
from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.core.jit import jit_inner, jit_numpy_division

_NEAR, _AMONG_OTHERS = 5.0, 3
"""Places by which order between streams is commonly disturbed, and how many of them a kernel in no plan counts for."""


REACH, NEARBY, ACROSS = 48, 10, 3
"""
Rows by which a run departs from the plan's order within a layer now and then, and often: ops that don't need one
another. From one layer to another it is no more than a few.
"""

_LEAST_FASTER, _LEAST_SLOWER = 0.01, 0.15
"""
The least that a collective's time counts where it is below the planned one, and above it: of two it is rather the
longer one, but any may wait for others.
"""


@jit_numpy_division
def _nearness(place: int, begin: int, end: int, off: int) -> float:
    """How well an op at `place` fits a kernel between two places, `off` kernels from either: falls with a long tail."""
    away = (max(begin - place, place - end, 0) + _AMONG_OTHERS * off) / _NEAR
    return 1.0 / (1.0 + away * away)


@jit_inner
def standing(ops: OpColumns, run: RunColumns, at: int, kernel: int) -> float:
    """How well the place of an op fits a kernel between two: not at all where what it needs runs later."""
    near_by = _nearness(ops.place[at], run.after[kernel], run.before[kernel], run.off[kernel])
    return near_by if ops.since[at] <= run.number[kernel] <= ops.until[at] else 0.0


@jit_numpy_division
def lasting(planned: float, measured: float, spread: float) -> float:
    """How well durations fit, the better the less they spread: a collective often waits, but is hardly too fast."""
    if planned <= 0.0 or measured <= 0.0:
        return 1.0
    away = np.log(measured / planned) / spread
    return max(float(np.exp(-0.5 * away * away)) / spread, _LEAST_SLOWER if measured >= planned else _LEAST_FASTER)


@jit_numpy_division
def fit_alone(
    place: Int64s,
    begin: Int64s,
    end: Int64s,
    off: Int64s,
    planned: Float32s,
    measured: Float32s,
    spread: float,
    fit: Floats,
) -> None:
    """Fill `fit` with how well place and time of each collective fit the op at `place`, whatever others run."""
    for kernel in range(len(place)):
        near_by = _nearness(place[kernel], begin[kernel], end[kernel], off[kernel])
        fit[kernel] = near_by * lasting(planned[kernel], measured[kernel], spread)


@jit_inner
def mass_between(until: Floats, begin: int, stop: int) -> float:
    """What lies in the rows `[begin, stop)`, as far as they are there, of which `until` is the running sum."""
    width = len(until) - 1
    mass: float = until[min(max(stop, 0), width)] - until[min(max(begin, 0), width)]
    return mass
