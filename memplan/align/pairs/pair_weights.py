"""What a pair of a kernel and an op weighs by place and time, and how far a run departs from a plan's order."""

from __future__ import annotations

import numpy as np

from memplan.align.classes.likelihood import Likelihoods
from memplan.align.pairs.pair_columns import OpColumns, OpSpans, RunColumns, StepPrices
from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.core.jit import jit_inner, jit_numpy_division

_NEAR, _AMONG_OTHERS = 5.0, 3
"""Places by which order between streams is commonly disturbed, and how many of them a kernel in no plan counts for."""

_REACH, _NEARBY, _ACROSS = 48, 10, 3
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


@jit_numpy_division
def _lasting(planned: float, measured: float, spread: float) -> float:
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
        fit[kernel] = near_by * _lasting(planned[kernel], measured[kernel], spread)


@jit_inner
def _mass_between(until: Floats, begin: int, stop: int) -> float:
    """What lies in the rows `[begin, stop)`, as far as they are there, of which `until` is the running sum."""
    width = len(until) - 1
    mass: float = until[min(max(stop, 0), width)] - until[min(max(begin, 0), width)]
    return mass


@jit_inner
def fill_fits(
    ops: OpColumns,
    run: RunColumns,
    ratios: Likelihoods,
    prices: StepPrices,
    kernel: int,
    core: Floats,
    again: Floats,
    by_name: Floats,
) -> None:
    """
    Fill, for each row of a kernel's band, how well the kernel fits the op as its core and as another of its cores.

    `by_name` is the factor in both of what the two are called. By place, a kernel fits no op whose needs run later.
    """
    kind, name, low, number = run.token[kernel], run.name[kernel], run.low[kernel], run.number[kernel]
    after, before, off, time = run.after[kernel], run.before[kernel], run.off[kernel], run.time[kernel]
    for i in range(min(core.shape[0], ops.token.shape[0] - low)):
        at = low + i
        cls = ops.token[at]
        factor = 1.0
        if name >= 0:
            factor = prices.same_name if ops.name[at] == name else prices.other_name
        by_name[i] = factor
        core[i], again[i] = ratios.core[kind, cls] * factor, ratios.again[kind, cls] * factor
        if before >= 0:
            near_by = _nearness(ops.place[at], after, before, off) if ops.since[at] <= number <= ops.until[at] else 0.0
            core[i] *= near_by * _lasting(ops.time[at], time, prices.spread)
            again[i] *= near_by


@jit_inner
def fill_jumps(
    ops: OpColumns,
    spans: OpSpans,
    prices: StepPrices,
    until: Floats,
    first: int,
    mass: float,
    low: int,
    way: int,
    jumped: Floats,
) -> None:
    """
    Fill, for each row from `low` on, what jumps there from any other (`way` -1) or from there to any other (1).

    `until` is the running sum of what is at other rows, from row `first` on, `mass` all of it. No jump is one to the
    next row that `way`, so distances count from that.
    """
    for i in range(min(jumped.shape[0], ops.token.shape[0] - low)):
        at = low + i
        beside = at + way
        total = prices.jump * mass
        begin, stop = max(beside - _REACH, spans.block_from[at]), min(beside + 1 + _REACH, spans.block_to[at])
        total += prices.near_jump * _mass_between(until, begin - first, stop - first)
        begin = min(max(beside - _NEARBY, spans.block_from[at]), beside - _ACROSS)
        stop = max(min(beside + 1 + _NEARBY, spans.block_to[at]), beside + 1 + _ACROSS)
        total += prices.neighbour_jump * _mass_between(until, begin - first, stop - first)
        if spans.group_to[at] - spans.group_from[at] > 1:
            total += ops.loose[at] * _mass_between(until, spans.group_from[at] - first, spans.group_to[at] - first)
        jumped[i] = total
