"""
Forward and backward sums over all alignments of planned ops with measured kernels.

A pair hidden Markov model: a path goes through ops and kernels in order. A kernel is the *core* of an op, a *part* of
one that several kernels run, fused into the kernel of the op before, or in no plan; an op may be left out. A path may
also jump to any op, at a price: profiles begin in the middle, repeat steps and run phases in another order.

Each column (kernel) is scaled to sum to one (Rabiner 1989, section V.A; Durbin et al. 1998, chapter 4), so sums
never leave the range of floats. Banded: column `j` sees ops `low[j] .. low[j] + width`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memplan.align.classes.likelihood import Likelihoods
from memplan.align.pairs.pair_columns import OpColumns, OpSpans, RunColumns
from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.core.jit import jit_inner, jit_numpy_division

PART, CORE, UNPLACED, MISSED = 0, 1, 2, 3
"""States of a cell: parts so far, core seen, kernel in no plan, op left out."""


_NEAR, _AMONG_OTHERS = 5.0, 3
"""Places by which order between streams is commonly disturbed, and how many of them a kernel in no plan counts for."""


_REACH, _NEIGHBOURS, _ACROSS = 48, 10, 3
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
def _standing(ops: OpColumns, run: RunColumns, at: int, kernel: int) -> float:
    """How well the place of an op fits a kernel between two: not at all where what it needs runs later."""
    near_by = _nearness(ops.place[at], run.after[kernel], run.before[kernel], run.off[kernel])
    return near_by if ops.since[at] <= run.number[kernel] <= ops.until[at] else 0.0


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


@jit_numpy_division
def forward(
    of_ops: tuple[Any, ...],
    of_spans: tuple[Any, ...],
    of_run: tuple[Any, ...],
    of_ratios: tuple[Any, ...],
    prices: Floats,
    start: Floats,
    cells: Float32s,
    scale: Floats,
    end: Floats,
) -> None:
    """
    Fill `cells[j, i - run.low[j], state]` and `scale[j]`; `end` receives the finished mass of every op after the last.

    The first four are what `OpColumns`, `OpSpans`, `RunColumns` and `Likelihoods.turned` hold.

    `prices` are those of an unplanned kernel, of another one, of coming back from it, of a jump, of beginning the step
    again, the factors of names that are equal or differ, the prices of a jump within `_REACH` rows and of one among
    `_NEIGHBOURS`, and the standard deviation of the logarithm of durations by planned ones. `start` is the mass that
    stands before each op. The first op is a sentinel that no kernel runs.
    """
    ops, spans = OpColumns(*of_ops), OpSpans(*of_spans)
    run, ratios = RunColumns(*of_run), Likelihoods(*of_ratios)
    kernels, width = cells.shape[0], cells.shape[1]
    total = ops.token.shape[0]
    unplanned, unplanned_on, back, jump, wrap, same, other, near, beside, spread = prices
    before = np.zeros(width + 1)
    until = np.zeros(width + 1)
    for j in range(kernels):
        offset = run.low[j]
        moved = offset - run.low[j - 1] if j > 0 else 0
        kind = run.token[j]
        mass = round_again = 0.0
        if j > 0:
            for i in range(width):
                a = cells[j - 1, i, 0]
                at = run.low[j - 1] + i
                done = cells[j - 1, i, 1] + cells[j - 1, i, 2]
                if at < total:
                    done += ops.bare[at] * a + ops.passed[at] * cells[j - 1, i, 3]
                before[i] = done
                until[i] = mass
                mass += done
                if at < total:
                    round_again += ops.ends[at] * done
            before[width] = 0.0
            until[width] = mass
        round_again *= wrap
        column = 0.0
        for i in range(width):
            at = offset + i
            if at >= total:
                for state in range(4):
                    cells[j, i, state] = 0.0
                continue
            cls = ops.token[at]
            fit, more = ratios.core[kind, cls], ratios.again[kind, cls]
            leads, helps, opens = ratios.before[kind, cls], ratios.behind[kind, cls], ratios.opens[kind, cls]
            name = run.name[j]
            if name >= 0:
                factor = same if ops.name[at] == name else other
                fit *= factor
                leads *= factor
                helps *= factor
                opens *= factor
                more *= factor
            if run.before[j] >= 0:
                near_by = _standing(ops, run, at, j)
                fit *= near_by * _lasting(ops.time[at], run.time[j], spread)
                more *= near_by
            old = i + moved
            was_a = was_c = was_u = was_m = 0.0
            if j > 0 and old >= 0 and old < width:
                was_a, was_c = cells[j - 1, old, 0], cells[j - 1, old, 1]
                was_u, was_m = cells[j - 1, old, 2], ops.passed[at] * cells[j - 1, old, 3]
            if j == 0:
                first = start[i]
            else:
                was = at - old
                begin = max(at - 1 - _REACH, spans.block_from[at]) - was
                stop = min(at + _REACH, spans.block_to[at]) - was
                begin, stop = min(max(begin, 0), width), min(max(stop, 0), width)
                first = jump * mass + near * (until[stop] - until[begin])
                begin = min(max(at - 1 - _NEIGHBOURS, spans.block_from[at]), at - 1 - _ACROSS) - was
                stop = max(min(at + _NEIGHBOURS, spans.block_to[at]), at + _ACROSS) - was
                begin, stop = min(max(begin, 0), width), min(max(stop, 0), width)
                first += beside * (until[stop] - until[begin])
                if spans.group_to[at] - spans.group_from[at] > 1:
                    begin, stop = (
                        min(max(spans.group_from[at] - was, 0), width),
                        min(max(spans.group_to[at] - was, 0), width),
                    )
                    first += ops.loose[at] * (until[stop] - until[begin])
                if old - 1 >= 0 and old - 1 < width:
                    first += before[old - 1]
                first += ops.entry[at] * round_again
            new_c = fit * (first + was_a) + helps * ops.stay[at] * (was_c + back * was_u) + more * was_c
            new_a = ops.lead[at] * (opens * first + leads * was_a)
            if i > 0:
                new_c += ratios.fused[kind, cls] * cells[j, i - 1, 1]
            new_u = unplanned * (was_c + ops.bare[at] * was_a + was_m) + unplanned_on * was_u
            if j == 0:
                new_u += unplanned * start[i + 1]
            new_m = 0.0
            if i > 0:
                own = cells[j, i - 1, 1] + ops.bare[at - 1] * cells[j, i - 1, 0] + cells[j, i - 1, 2]
                new_m = ops.skip[at] * own + ops.skip_on[at] * cells[j, i - 1, 3]
            cells[j, i, 0] = new_a
            cells[j, i, 1] = new_c
            cells[j, i, 2] = new_u
            cells[j, i, 3] = new_m
            column += new_a + new_c + new_u + new_m
        if column <= 0.0:
            column = 1.0
        scale[j] = column
        for i in range(width):
            for state in range(4):
                cells[j, i, state] /= column
    for i in range(width):
        at = run.low[kernels - 1] + i
        if at < total:
            end[i] = cells[kernels - 1, i, 1] + cells[kernels - 1, i, 2] + cells[kernels - 1, i, 3]
            end[i] += ops.bare[at] * cells[kernels - 1, i, 0]
        else:
            end[i] = 0.0


@jit_numpy_division
def posterior(
    of_ops: tuple[Any, ...],
    of_spans: tuple[Any, ...],
    of_run: tuple[Any, ...],
    of_ratios: tuple[Any, ...],
    prices: Floats,
    cells: Float32s,
    scale: Floats,
    final: Floats,
    total_mass: float,
    best: Int64s,
    chance: Floats,
    alone: Floats,
    of_scope: Floats,
    first_op: Int64s,
    last_op: Int64s,
    place: Int64s,
) -> None:
    """
    Go back through what `forward` filled: the likeliest op of each kernel and with what probability.

    `alone` is the probability that the kernel is in no plan, `of_scope` that of what the likelier of the two says it is
    of the model: of any op of the scope of the likeliest, or of no op that is planned (scope -1). `first_op` to
    `last_op` are the ops that are fused in it, `place` the op that is current there whatever the kernel is.
    `final` is the weight of ending after each op.
    """
    ops, spans = OpColumns(*of_ops), OpSpans(*of_spans)
    run, ratios = RunColumns(*of_run), Likelihoods(*of_ratios)
    kernels, width = cells.shape[0], cells.shape[1]
    total = ops.token.shape[0]
    unplanned, unplanned_on, back, jump, wrap, same, other, near, beside, spread = prices
    next_a, next_c, next_u = np.zeros(width), np.zeros(width), np.zeros(width)
    now_a, now_c, now_u, now_m = np.zeros(width), np.zeros(width), np.zeros(width), np.zeros(width)
    joined = np.zeros(width)
    enter = np.zeros(width + 1)
    until = np.zeros(width + 1)
    for j in range(kernels - 1, -1, -1):
        offset = run.low[j]
        kind = run.token[j]
        moved = 0
        jumped = again_from_first = 0.0
        if j < kernels - 1:
            moved = run.low[j + 1] - offset
            following = run.token[j + 1]
            name = run.name[j + 1]
            for i in range(width):
                at = run.low[j + 1] + i
                enter[i] = 0.0
                until[i] = jumped
                if at < total:
                    cls = ops.token[at]
                    factor = 1.0
                    if name >= 0:
                        factor = same if ops.name[at] == name else other
                    fit, opens = ratios.core[following, cls] * factor, ratios.opens[following, cls] * factor
                    if run.before[j + 1] >= 0:
                        fit *= _standing(ops, run, at, j + 1) * _lasting(ops.time[at], run.time[j + 1], spread)
                    enter[i] = fit * next_c[i] + opens * ops.lead[at] * next_a[i]
                    jumped += enter[i]
                    again_from_first += ops.entry[at] * enter[i]
            until[width] = jumped
            jumped *= jump
            again_from_first *= wrap
        for i in range(width - 1, -1, -1):
            at = offset + i
            if at >= total:
                now_a[i] = now_c[i] = now_u[i] = now_m[i] = joined[i] = 0.0
                continue
            cls = ops.token[at]
            if j == kernels - 1:
                leave = final[i]
                stay_c = stay_a = stay_u = next_none = 0.0
                to_core = 0.0
                none_on = 0.0
            else:
                leave = jumped
                new = i - moved
                shift = at - new
                begin = max(at + 1 - _REACH, spans.block_from[at]) - shift
                stop = min(at + 2 + _REACH, spans.block_to[at]) - shift
                begin, stop = min(max(begin, 0), width), min(max(stop, 0), width)
                leave += near * (until[stop] - until[begin])
                begin = min(max(at + 1 - _NEIGHBOURS, spans.block_from[at]), at + 1 - _ACROSS) - shift
                stop = max(min(at + 2 + _NEIGHBOURS, spans.block_to[at]), at + 2 + _ACROSS) - shift
                begin, stop = min(max(begin, 0), width), min(max(stop, 0), width)
                leave += beside * (until[stop] - until[begin])
                if spans.group_to[at] - spans.group_from[at] > 1:
                    begin, stop = (
                        min(max(spans.group_from[at] - shift, 0), width),
                        min(max(spans.group_to[at] - shift, 0), width),
                    )
                    leave += ops.loose[at] * (until[stop] - until[begin])
                if new + 1 >= 0 and new + 1 < width and at + 1 < total:
                    leave += enter[new + 1]
                leave += ops.ends[at] * again_from_first
                stay_c = stay_a = stay_u = next_none = to_core = none_on = 0.0
                if new >= 0 and new < width:
                    factor = 1.0
                    if run.name[j + 1] >= 0:
                        factor = same if ops.name[at] == run.name[j + 1] else other
                    following = run.token[j + 1]
                    fit = ratios.core[following, cls] * factor
                    more = ratios.again[following, cls] * factor
                    if run.before[j + 1] >= 0:
                        near_by = _standing(ops, run, at, j + 1)
                        fit *= near_by * _lasting(ops.time[at], run.time[j + 1], spread)
                        more *= near_by
                    helps = ratios.behind[following, cls] * ops.stay[at] * factor
                    leads = ratios.before[following, cls] * ops.lead[at] * factor
                    stay_c = (helps + more) * next_c[new]
                    stay_a = leads * next_a[new]
                    to_core = fit * next_c[new]
                    stay_u = helps * back * next_c[new]
                    next_none = unplanned * next_u[new]
                    none_on = unplanned_on * next_u[new]
            missed = missed_on = joint = 0.0
            if i + 1 < width and at + 1 < total:
                missed = ops.skip[at + 1] * now_m[i + 1]
                missed_on = ops.skip_on[at + 1] * now_m[i + 1]
                joint = ratios.fused[kind, ops.token[at + 1]] * now_c[i + 1]
            joined[i] = joint
            now_c[i] = leave + stay_c + next_none + joint + missed
            now_a[i] = ops.bare[at] * (leave + next_none + missed) + stay_a + to_core
            now_u[i] = leave + stay_u + none_on + missed
            now_m[i] = (leave if j == kernels - 1 else ops.passed[at] * (leave + next_none)) + missed_on
        top, top_at, none, where, where_at = 0.0, -1, 0.0, -1.0, -1
        for i in range(width):
            mine = cells[j, i, 1] * now_c[i] + cells[j, i, 0] * now_a[i]
            free = cells[j, i, 2] * now_u[i]
            none += free
            if mine > top:
                top, top_at = mine, i
            if mine + free > where:
                where, where_at = mine + free, i
        best[j] = offset + top_at if top_at >= 0 else -1
        place[j] = offset + where_at
        chance[j], alone[j] = top / total_mass, none / total_mass
        scope = ops.scope[offset + top_at] if top > none else -1
        alike = none if scope < 0 else 0.0
        for i in range(width):
            at = offset + i
            if at < total and ops.scope[at] == scope:
                alike += cells[j, i, 1] * now_c[i] + cells[j, i, 0] * now_a[i]
                # Ops of one scope fused in this kernel count once.
                if i + 1 < width and at + 1 < total and ops.scope[at + 1] == scope:
                    alike -= cells[j, i, 1] * joined[i]
        of_scope[j] = alike / total_mass
        first_op[j] = last_op[j] = best[j]
        if top_at >= 0:
            i = top_at
            while (
                i > 0
                and cells[j, i - 1, 1] * now_c[i - 1] > 0.5 * top
                and ratios.fused[kind, ops.token[offset + i]] > 0.0
            ):
                i -= 1
            first_op[j] = offset + i
            i = top_at
            while (
                i + 1 < width
                and offset + i + 1 < total
                and cells[j, i + 1, 1] * now_c[i + 1] > 0.5 * top
                and ratios.fused[kind, ops.token[offset + i + 1]] > 0.0
            ):
                i += 1
            last_op[j] = offset + i
        for i in range(width):
            next_a[i], next_c[i], next_u[i] = now_a[i] / scale[j], now_c[i] / scale[j], now_u[i] / scale[j]
