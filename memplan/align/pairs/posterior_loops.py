"""Back through the sums over all alignments: what each kernel likeliest runs, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np

from memplan.align.classes.likelihood import Likelihoods
from memplan.align.pairs.pair_columns import CORE, PART, UNPLACED, OpColumns, OpSpans, RunColumns, StepPrices
from memplan.align.pairs.pair_weights import fill_fits, fill_jumps
from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.core.jit import jit_inner, jit_numpy_division


@jit_inner
def _entered(
    ops: OpColumns,
    ratios: Likelihoods,
    following: int,
    low: int,
    core: Floats,
    by_name: Floats,
    next_a: Floats,
    next_c: Floats,
    enter: Floats,
    until: Floats,
) -> tuple[float, float]:
    """
    Fill `enter` with what lies behind entering each op at a kernel, `until` with its running sum, from 0 to all.

    The kernel's class is `following`, its band begins at row `low`, `core` and `by_name` say how well it fits. Returns
    the sum, and that over ops that the step begins with.
    """
    width, total = len(next_a), ops.token.shape[0]
    whole = again_from_first = 0.0
    for i in range(width):
        at = low + i
        enter[i] = 0.0
        until[i] = whole
        if at < total:
            opens = ratios.opens[following, ops.token[at]] * by_name[i]
            enter[i] = core[i] * next_c[i] + opens * ops.lead[at] * next_a[i]
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
    core, again, by_name, jumped = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    joined = np.zeros(width)
    enter = np.zeros(width + 1)
    until = np.zeros(width + 1)
    for j in range(kernels - 1, -1, -1):
        offset = run.low[j]
        kind = run.token[j]
        moved, following = 0, -1
        again_from_first = 0.0
        if j < kernels - 1:
            low, following = run.low[j + 1], run.token[j + 1]
            moved = low - offset
            fill_fits(ops, run, ratios, prices, j + 1, core, again, by_name)
            whole, again_from_first = _entered(ops, ratios, following, low, core, by_name, next_a, next_c, enter, until)
            fill_jumps(ops, spans, prices, until, low, whole, offset, 1, jumped)
            again_from_first *= prices.wrap
        for i in range(width - 1, -1, -1):
            at = offset + i
            if at >= total:
                now_a[i] = now_c[i] = now_u[i] = now_m[i] = joined[i] = 0.0
                continue
            new = i - moved
            leave = final[i]
            if j < kernels - 1:
                leave = jumped[i] + (enter[new + 1] if new + 1 >= 0 and new + 1 < width and at + 1 < total else 0.0)
                leave += ops.ends[at] * again_from_first
            stay_c = stay_a = stay_u = next_none = to_core = none_on = 0.0
            if j < kernels - 1 and new >= 0 and new < width:
                cls = ops.token[at]
                helps = ratios.behind[following, cls] * ops.stay[at] * by_name[new]
                leads = ratios.before[following, cls] * ops.lead[at] * by_name[new]
                stay_c = (helps + again[new]) * next_c[new]
                stay_a = leads * next_a[new]
                to_core = core[new] * next_c[new]
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
