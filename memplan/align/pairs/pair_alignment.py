"""The alignment of one rank's kernels with the rows of a plan: which row each kernel belongs to, and how surely."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from memplan.align.classes.op_families import family_table
from memplan.align.pairs.banded_alignment import MOST_CELLS, PIECE_KERNELS, Band, align_band, align_near, likelihood_of
from memplan.align.pairs.coarse_places import coarse_places
from memplan.align.pairs.collective_rows import join_neighbours, place_collectives
from memplan.align.pairs.lost_stretches import find_lost_stretches
from memplan.align.pairs.pair_prices import PairPrices, other_prices, pair_prices, unsized_prices, with_able_kernels
from memplan.align.pairs.pair_result import PairResult, counted_on
from memplan.align.pairs.run_habits import with_habits
from memplan.align.pairs.second_opinions import doubted_by, stand_alike
from memplan.align.pairs.timed_classes import TimedClasses, timed_classes
from memplan.align.plan_and_run import PlanAndRun

_SOME_ROWS, _SOME_KERNELS = 3_000, 4_000
"""Rows and kernels of the beginning of a step that tell one order of a plan from another."""


def how_likely(both: PlanAndRun) -> float:
    """The logarithm of how likely the first kernels are with the rows of a plan in their order."""
    beside = both.kernels.among(family_table().apart)[both.kernel_class]
    chain = np.flatnonzero(~beside)[:_SOME_KERNELS]
    if not len(chain):
        return 0.0
    model = pair_prices(both).taken(np.arange(min(len(both.sequence), _SOME_ROWS)))
    return likelihood_of(model, both.kernel_class[chain], both.kernel_names[chain])


def align_pairs(both: PlanAndRun) -> PairResult:
    """
    Posterior of every kernel over the rows of a plan.

    Times tell, of collectives and where no kernel has shapes of all, which of several they are. Collectives run beside
    everything else, so the others are aligned without them; then those of each kind, each near where it stands.
    """
    known = family_table()
    beside = both.kernels.among(known.apart)[both.kernel_class]
    model = pair_prices(both)
    blind = not both.kernels.known[both.kernel_class[~beside]].any()
    if blind:
        model = unsized_prices(model)
    others, found = np.flatnonzero(~beside), PairResult.empty(len(both.kernel_class))
    model = with_able_kernels(model, both.sequence, both.kernel_class[others])
    if len(others):
        chain = both.of_kernels(others)
        if len(others) * len(both.sequence) <= MOST_CELLS:
            read = _read_whole(chain, model, blind=blind)
        else:
            read = _read_in_bands(chain, model)
        model = read.model
        found.put(others, doubted_by(both.sequence, read.result, read.opinions, chain.kernel_class))
    collectives = np.flatnonzero(beside)
    place_collectives(both, model, collectives, found)
    join_neighbours(both, collectives, found)
    return found


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a chain of kernels was found to run, what other readings of it say, and the model it went by."""

    result: PairResult
    opinions: tuple[PairResult, PairResult]
    model: PairPrices


def _read_whole(chain: PlanAndRun, model: PairPrices, *, blind: bool) -> _Reading:
    """Every kernel beside all rows; where runs are `blind`, without shapes, with what times say."""
    rows, low = len(chain.sequence), np.zeros(len(chain.kernel_class), dtype=np.int64)
    timed: TimedClasses | None = None

    def whole(model: PairPrices) -> PairResult:
        kinds = chain.kernel_class
        if timed is not None:
            model, kinds = replace(model, ratios=timed.ratios(model.ratios)), timed.kernel_class
        return counted_on(align_band(model, Band(kinds, chain.kernel_names, low, rows)), rows)

    first = whole(model)
    if blind:
        timed = timed_classes(chain, first.row)
        first = whole(model)
    other = whole(other_prices(model))
    result = whole(_with_habits(chain, model, first))
    # Habits tell where small kernels belong, not where in the step anything stands.
    return _Reading(result if stand_alike(result, first) else first, (first, other), model)


def _read_in_bands(chain: PlanAndRun, model: PairPrices) -> _Reading:
    """Every kernel near where products and attention alone put it: what is too large to be weighed whole."""
    places, some = coarse_places(chain, model), np.arange(min(PIECE_KERNELS, len(chain.kernel_class)))
    begin = chain.of_kernels(some)
    first, other = (align_near(begin, each, places[some]) for each in (model, other_prices(model)))
    model = _with_habits(begin, model, first)
    result = find_lost_stretches(chain, model, align_near(chain, model, places))
    return _Reading(result, (first, other), model)


def _with_habits(chain: PlanAndRun, model: PairPrices, first: PairResult) -> PairPrices:
    return replace(model, ratios=with_habits(chain.ratios, model.ops.token, first.row, chain.kernel_class))
