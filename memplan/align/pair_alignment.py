"""The alignment of one rank's kernels with the rows of a plan: which row each kernel belongs to, and how surely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memplan.align.banded_alignment import MOST_CELLS, PIECE_KERNELS, align_band, align_near, likelihood_of
from memplan.align.blind.timed_classes import TimedClasses, timed_classes
from memplan.align.coarse.coarse_places import coarse_places
from memplan.align.collective_rows import join_neighbours, place_collectives
from memplan.align.likelihood import Likelihoods
from memplan.align.lost_stretches import find_lost_stretches
from memplan.align.op_families import family_table
from memplan.align.pair_prices import PairPrices, other_prices, pair_prices, unsized_prices, with_able_kernels
from memplan.align.pair_result import PairResult, counted_on
from memplan.align.planned_sequence import PlannedSequence
from memplan.align.probabilities.second_opinions import doubted_by, stand_alike
from memplan.align.run_habits import with_habits
from memplan.align.tokens import TokenClasses
from memplan.core.arrays import Float32s, Int32s, Int64s

_SOME_ROWS, _SOME_KERNELS = 3_000, 4_000
"""Rows and kernels of the beginning of a step that tell one order of a plan from another."""


def how_likely(
    sequence: PlannedSequence,
    ratios: Likelihoods,
    row_names: Int64s,
    kernels: TokenClasses,
    kernel_class: Int32s,
    kernel_names: Int64s,
) -> float:
    """The logarithm of how likely the first kernels are with the rows of `sequence` in their order."""
    beside = kernels.among(family_table().apart)[kernel_class]
    chain = np.flatnonzero(~beside)[:_SOME_KERNELS]
    if not len(chain):
        return 0.0
    model = pair_prices(sequence, ratios, row_names).taken(np.arange(min(len(sequence), _SOME_ROWS)))
    return likelihood_of(model, kernel_class[chain], kernel_names[chain])


def align_pairs(
    sequence: PlannedSequence,
    ratios: Likelihoods,
    kernels: TokenClasses,
    row_names: Int64s,
    kernel_class: Int32s,
    kernel_names: Int64s,
    times: Float32s,
) -> PairResult:
    """
    Posterior of every kernel over the rows of `sequence`.

    `row_names` and `kernel_names` number names that both sides know, -1 for others; `times` are what kernels took in
    nanoseconds: of collectives, and where no kernel has shapes of all, they tell which of several they are.
    Collectives run beside everything else, so the others are aligned without them; then those of each kind, each near
    where it stands. What is too large to be weighed whole is aligned coarsely first, by its products and attention
    alone, and then near that.
    """
    known = family_table()
    beside = kernels.among(known.apart)[kernel_class]
    model = pair_prices(sequence, ratios, row_names)
    blind = not kernels.known[kernel_class[~beside]].any()
    if blind:
        model = unsized_prices(model)
    chain, found = np.flatnonzero(~beside), PairResult.empty(len(kernel_class))
    model = with_able_kernels(model, sequence, kernel_class[chain])
    if len(chain):
        classes, names = kernel_class[chain], kernel_names[chain]
        if len(chain) * len(sequence) <= MOST_CELLS:
            low = np.zeros(len(chain), dtype=np.int64)

            def whole(model: PairPrices, timed: TimedClasses | None = None) -> PairResult:
                if timed is not None:
                    model = replace(model, ratios=timed.ratios(model.ratios))
                kinds = classes if timed is None else timed.kernel_class
                return counted_on(align_band(model, kinds, names, low, len(sequence)), len(sequence))

            first, timed = whole(model), None
            if blind:
                timed = timed_classes(sequence, ratios, classes, times[chain], first.row)
                first = whole(model, timed)
            other = whole(other_prices(model), timed)
            result = whole(replace(model, ratios=with_habits(ratios, model.token, first.row, classes)), timed)
            # Habits tell where small kernels belong, not where in the step anything stands.
            if not stand_alike(result, first):
                result = first
        else:
            places = coarse_places(sequence, model, classes, names)
            some = slice(0, PIECE_KERNELS)
            first, other = (
                align_near(each, classes[some], names[some], places[some]) for each in (model, other_prices(model))
            )
            model = replace(model, ratios=with_habits(model.ratios, model.token, first.row, classes[some]))
            result = find_lost_stretches(model, classes, names, align_near(model, classes, names, places))
        found.put(chain, doubted_by(sequence, result, (first, other), classes))
    collectives = np.flatnonzero(beside)
    place_collectives(sequence, model, kernels, kernel_class, kernel_names, times, collectives, found)
    join_neighbours(sequence, kernels, kernel_class, collectives, found)
    return found
