"""
Forward sums over all alignments of planned ops with measured kernels; `posterior_loops` goes back through them.

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
from memplan.align.pairs.pair_columns import CORE, MISSED, PART, UNPLACED, OpColumns, OpSpans, RunColumns, StepPrices
from memplan.align.pairs.pair_weights import fill_fits, fill_jumps
from memplan.core.arrays import Float32s, Floats
from memplan.core.jit import jit_inner, jit_numpy_division


@jit_inner
def _done(ops: OpColumns, column: Float32s, low: int, before: Floats, until: Floats) -> tuple[float, float]:
    """
    Fill `before` with what has been through each op by a kernel, `until` with its running sum, from 0 to all.

    The sum, and that over ops that the step ends with.
    """
    width, total = column.shape[0], ops.token.shape[0]
    mass = round_again = 0.0
    for i in range(width):
        at = low + i
        done = column[i, CORE] + column[i, UNPLACED]
        if at < total:
            done += ops.bare[at] * column[i, PART] + ops.passed[at] * column[i, MISSED]
        before[i] = done
        until[i] = mass
        mass += done
        if at < total:
            round_again += ops.ends[at] * done
    before[width] = 0.0
    until[width] = mass
    return mass, round_again


@jit_numpy_division
def forward(
    of_ops: tuple[Any, ...],
    of_spans: tuple[Any, ...],
    of_run: tuple[Any, ...],
    of_ratios: tuple[Any, ...],
    of_prices: tuple[Any, ...],
    start: Floats,
    cells: Float32s,
    scale: Floats,
    end: Floats,
) -> None:
    """
    Fill `cells[j, i - run.low[j], state]` and `scale[j]`; `end` receives the finished mass of every op after the last.

    The first five are what `OpColumns`, `OpSpans`, `RunColumns`, `Likelihoods.turned` and `StepPrices` hold. `start` is
    the mass that stands before each op. The first op is a sentinel that no kernel runs.
    """
    ops, spans = OpColumns(*of_ops), OpSpans(*of_spans)
    run, ratios = RunColumns(*of_run), Likelihoods(*of_ratios)
    kernels, width = cells.shape[0], cells.shape[1]
    total = ops.token.shape[0]
    prices = StepPrices(*of_prices)
    before = np.zeros(width + 1)
    until = np.zeros(width + 1)
    core, again, by_name, jumped = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    for j in range(kernels):
        offset = run.low[j]
        moved = offset - run.low[j - 1] if j > 0 else 0
        kind = run.token[j]
        mass = round_again = 0.0
        if j > 0:
            mass, round_again = _done(ops, cells[j - 1], run.low[j - 1], before, until)
            fill_jumps(ops, spans, prices, until, run.low[j - 1], mass, offset, -1, jumped)
        fill_fits(ops, run, ratios, prices, j, core, again, by_name)
        round_again *= prices.wrap
        column = 0.0
        for i in range(width):
            at = offset + i
            if at >= total:
                for state in range(4):
                    cells[j, i, state] = 0.0
                continue
            cls = ops.token[at]
            leads, helps = ratios.before[kind, cls] * by_name[i], ratios.behind[kind, cls] * by_name[i]
            opens = ratios.opens[kind, cls] * by_name[i]
            old = i + moved
            was_a = was_c = was_u = was_m = 0.0
            if j > 0 and old >= 0 and old < width:
                was_a, was_c = cells[j - 1, old, PART], cells[j - 1, old, CORE]
                was_u, was_m = cells[j - 1, old, UNPLACED], ops.passed[at] * cells[j - 1, old, MISSED]
            first = start[i]
            if j > 0:
                first = jumped[i] + (before[old - 1] if old - 1 >= 0 and old - 1 < width else 0.0)
                first += ops.entry[at] * round_again
            new_c = core[i] * (first + was_a) + helps * ops.stay[at] * (was_c + prices.back * was_u) + again[i] * was_c
            new_a = ops.lead[at] * (opens * first + leads * was_a)
            if i > 0:
                new_c += ratios.fused[kind, cls] * cells[j, i - 1, CORE]
            new_u = prices.unplanned * (was_c + ops.bare[at] * was_a + was_m) + prices.unplanned_on * was_u
            if j == 0:
                new_u += prices.unplanned * start[i + 1]
            new_m = 0.0
            if i > 0:
                own = cells[j, i - 1, CORE] + ops.bare[at - 1] * cells[j, i - 1, PART] + cells[j, i - 1, UNPLACED]
                new_m = ops.skip[at] * own + ops.skip_on[at] * cells[j, i - 1, MISSED]
            cells[j, i, PART] = new_a
            cells[j, i, CORE] = new_c
            cells[j, i, UNPLACED] = new_u
            cells[j, i, MISSED] = new_m
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
            end[i] = cells[kernels - 1, i, CORE] + cells[kernels - 1, i, UNPLACED] + cells[kernels - 1, i, MISSED]
            end[i] += ops.bare[at] * cells[kernels - 1, i, PART]
        else:
            end[i] = 0.0
