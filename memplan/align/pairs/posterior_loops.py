"""Back through the sums over all alignments: what each kernel likeliest runs, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np

from memplan.align.classes.likelihood import Likelihoods
from memplan.align.pairs.pair_columns import CORE, PART, UNPLACED, OpColumns, OpSpans, RunColumns, StepPrices
from memplan.align.pairs.pair_weights import ACROSS, NEARBY, REACH, lasting, mass_between, standing
from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.core.jit import jit_inner, jit_numpy_division


@jit_numpy_division
def _entered(
    ops: OpColumns,
    run: RunColumns,
    ratios: Likelihoods,
    prices: StepPrices,
    kernel: int,
    next_a: Floats,
    next_c: Floats,
    enter: Floats,
    until: Floats,
) -> tuple[float, float]:
    """
    Fill `enter` with what lies behind entering each op at a kernel, `until` with its running sum, from 0 to all.

    The sum, and that over ops that the step begins with.
    """
    width, total = len(next_a), ops.token.shape[0]
    following, name, low = run.token[kernel], run.name[kernel], run.low[kernel]
    whole = again_from_first = 0.0
    for i in range(width):
        at = low + i
        enter[i] = 0.0
        until[i] = whole
        if at < total:
            cls = ops.token[at]
            factor = 1.0
            if name >= 0:
                factor = prices.same_name if ops.name[at] == name else prices.other_name
            fit, opens = ratios.core[following, cls] * factor, ratios.opens[following, cls] * factor
            if run.before[kernel] >= 0:
                fit *= standing(ops, run, at, kernel) * lasting(ops.time[at], run.time[kernel], prices.spread)
            enter[i] = fit * next_c[i] + opens * ops.lead[at] * next_a[i]
            whole += enter[i]
            again_from_first += ops.entry[at] * enter[i]
    until[width] = whole
    return whole, again_from_first


@jit_inner
def _likeliest(column: Float32s, now_a: Floats, now_c: Floats, now_u: Floats) -> tuple[float, int, float, int]:
    """The mass of a kernel's likeliest op, its row (-1: none), the mass of no op, and the row that is current there."""
    top, top_at, none, where, where_at = 0.0, -1, 0.0, -1.0, -1
    for i in range(column.shape[0]):
        mine = column[i, CORE] * now_c[i] + column[i, PART] * now_a[i]
        free = column[i, UNPLACED] * now_u[i]
        none += free
        if mine > top:
            top, top_at = mine, i
        if mine + free > where:
            where, where_at = mine + free, i
    return top, top_at, none, where_at


@jit_inner
def _of_scope(
    ops: OpColumns,
    column: Float32s,
    offset: int,
    scope: int,
    alike: float,
    now_a: Floats,
    now_c: Floats,
    joined: Floats,
) -> float:
    """`alike` and the mass of all ops of `scope`; those fused in this kernel count once."""
    width, total = column.shape[0], ops.token.shape[0]
    for i in range(width):
        at = offset + i
        if at < total and ops.scope[at] == scope:
            alike += column[i, CORE] * now_c[i] + column[i, PART] * now_a[i]
            if i + 1 < width and at + 1 < total and ops.scope[at + 1] == scope:
                alike -= column[i, CORE] * joined[i]
    return alike


@jit_inner
def _fused(
    ops: OpColumns,
    ratios: Likelihoods,
    column: Float32s,
    offset: int,
    kind: int,
    at: int,
    least: float,
    now_c: Floats,
) -> tuple[int, int]:
    """The first and last row of the ops fused in the kernel of row `at`: each is in it with `least` and more."""
    first = last = at
    while first > 0 and column[first - 1, CORE] * now_c[first - 1] > least:
        if ratios.fused[kind, ops.token[offset + first]] <= 0.0:
            break
        first -= 1
    while (
        last + 1 < column.shape[0]
        and offset + last + 1 < ops.token.shape[0]
        and column[last + 1, CORE] * now_c[last + 1] > least
    ):
        if ratios.fused[kind, ops.token[offset + last + 1]] <= 0.0:
            break
        last += 1
    return first, last


@jit_numpy_division
def posterior(
    of_ops: tuple[Any, ...],
    of_spans: tuple[Any, ...],
    of_run: tuple[Any, ...],
    of_ratios: tuple[Any, ...],
    of_prices: tuple[Any, ...],
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
    prices = StepPrices(*of_prices)
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
            jumped, again_from_first = _entered(ops, run, ratios, prices, j + 1, next_a, next_c, enter, until)
            jumped *= prices.jump
            again_from_first *= prices.wrap
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
                new = i - moved
                shift = at - new
                leave = jumped
                begin, stop = max(at + 1 - REACH, spans.block_from[at]), min(at + 2 + REACH, spans.block_to[at])
                leave += prices.near_jump * mass_between(until, begin - shift, stop - shift)
                begin = min(max(at + 1 - NEARBY, spans.block_from[at]), at + 1 - ACROSS)
                stop = max(min(at + 2 + NEARBY, spans.block_to[at]), at + 2 + ACROSS)
                leave += prices.neighbour_jump * mass_between(until, begin - shift, stop - shift)
                if spans.group_to[at] - spans.group_from[at] > 1:
                    leave += ops.loose[at] * mass_between(
                        until, spans.group_from[at] - shift, spans.group_to[at] - shift
                    )
                if new + 1 >= 0 and new + 1 < width and at + 1 < total:
                    leave += enter[new + 1]
                leave += ops.ends[at] * again_from_first
                stay_c = stay_a = stay_u = next_none = to_core = none_on = 0.0
                if new >= 0 and new < width:
                    factor = 1.0
                    if run.name[j + 1] >= 0:
                        factor = prices.same_name if ops.name[at] == run.name[j + 1] else prices.other_name
                    following = run.token[j + 1]
                    fit = ratios.core[following, cls] * factor
                    more = ratios.again[following, cls] * factor
                    if run.before[j + 1] >= 0:
                        near_by = standing(ops, run, at, j + 1)
                        fit *= near_by * lasting(ops.time[at], run.time[j + 1], prices.spread)
                        more *= near_by
                    helps = ratios.behind[following, cls] * ops.stay[at] * factor
                    leads = ratios.before[following, cls] * ops.lead[at] * factor
                    stay_c = (helps + more) * next_c[new]
                    stay_a = leads * next_a[new]
                    to_core = fit * next_c[new]
                    stay_u = helps * prices.back * next_c[new]
                    next_none = prices.unplanned * next_u[new]
                    none_on = prices.unplanned_on * next_u[new]
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
        top, top_at, none, where_at = _likeliest(cells[j], now_a, now_c, now_u)
        best[j] = offset + top_at if top_at >= 0 else -1
        place[j] = offset + where_at
        chance[j], alone[j] = top / total_mass, none / total_mass
        scope = ops.scope[offset + top_at] if top > none else -1
        alike = _of_scope(ops, cells[j], offset, scope, none if scope < 0 else 0.0, now_a, now_c, joined)
        of_scope[j] = alike / total_mass
        first_op[j] = last_op[j] = best[j]
        if top_at >= 0:
            first, last = _fused(ops, ratios, cells[j], offset, kind, top_at, 0.5 * top, now_c)
            first_op[j], last_op[j] = offset + first, offset + last
        for i in range(width):
            next_a[i], next_c[i], next_u[i] = now_a[i] / scale[j], now_c[i] / scale[j], now_u[i] / scale[j]
