"""Where kernels stand in a long plan or run, roughly: from its heavy ops, and from the rarest of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memplan.align.classes.likelihood import pair_model
from memplan.align.classes.op_families import family_table
from memplan.align.pairs.banded_alignment import Band, align_band, align_near
from memplan.align.pairs.landmarks import ABLE, LandmarkChain, landmark_chain
from memplan.align.pairs.pair_columns import EndCosts
from memplan.align.pairs.pair_prices import PairPrices
from memplan.align.pairs.pair_result import PairResult
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Bools, Floats, Int32s, Int64s
from memplan.core.ascending import rising

_KERNELS, _OVERLAP, _LEAST, _ROWS, _BEHIND = 192, 32, 16, 448, 96
"""
Kernels of a piece, by how many it looks ahead, how many must be sure, rows that its band has, how many of them lie
before where the piece before ended: pieces follow one another.
"""
_FEW = 40
"""One row in so many must be heavy to go by those alone."""
_LEAST_ROWS, _OF_APART, _USUAL = 96, 0.5, 0.9
"""
Rows of a band between landmarks at least, and share of what most of them (a quantile) are apart that it is wider: the
further apart, the less surely it is known where between two of them a kernel stands.
"""
_EDGE = 2.0
"""How much more than usual the number of kernels at an edge counts: those of updates may be one or five each."""
_SURE = 0.6
"""Probability from which a match of the coarse alignment counts."""
_LOST = 0.5
"""Share of kernels matched below which a piece of the coarse alignment is sought in the whole plan."""


def coarse_places(both: PlanAndRun, model: PairPrices) -> Int64s:
    """The row near which every kernel stands, counted on over steps: from heavy ops, and in between in proportion."""
    sequence, kernel_class, kernel_names = both.sequence, both.kernel_class, both.kernel_names
    heavy_rows, heavy_kernels = _anchors(sequence, model, kernel_class)
    rows = len(heavy_rows)
    # A band may reach into the next step; where all rows are seen, the last goes on to the first.
    single = model.taken(heavy_rows).with_columns(entry=(np.arange(rows) == 0).astype(np.float32))
    rules = pair_model()["coarse"]
    prices = model.prices._replace(near_jump=float(rules["near_jump"]), neighbour_jump=float(rules["neighbour_jump"]))
    skip_on = np.minimum(single.ops.skip_on, np.float32(rules["skip_on"]))
    single = replace(single, prices=prices).with_columns(skip_on=skip_on)
    doubled = single.repeated(2)
    classes, names = kernel_class[heavy_kernels], kernel_names[heavy_kernels]
    planned = np.concatenate(([0], np.cumsum(sequence.op >= 0)))
    every = planned[np.append(heavy_rows, len(sequence))].astype(np.float64)
    ends = _end_costs(every, heavy_kernels, len(kernel_class))
    chain = landmark_chain(single, classes, heavy_kernels, every, ends)
    if chain is not None:
        near = _along(both.of_kernels(heavy_kernels), single, chain)
        return _between(sequence, heavy_rows, heavy_kernels, near.row, near.chance >= _SURE, len(kernel_class))
    places, certain = np.zeros(len(classes), dtype=np.int64), np.zeros(len(classes), dtype=np.bool_)
    begin, at, turn = 0, 0, 0
    while begin < len(classes):
        end = min(begin + _KERNELS, len(classes))
        look = min(end + _OVERLAP, len(classes))
        piece = None
        if rows > _ROWS:
            low = np.full(look - begin, max(0, at - _BEHIND), dtype=np.int64)
            piece = align_band(doubled, Band(classes[begin:look], names[begin:look], low, _ROWS, near=at))
        if piece is None or float((piece.row >= 0).mean()) < _LOST:
            low = np.zeros(look - begin, dtype=np.int64)
            piece = align_band(single, Band(classes[begin:look], names[begin:look], low, rows, near=at))
        matched = np.flatnonzero(piece.row[: end - begin] >= 0)
        sure = matched[piece.chance[matched] >= _SURE]
        if len(sure) < _LEAST:
            sure = matched  # rather the likeliest than none
        if len(sure):
            # Forwards by up to three quarters of a step, or back by the rest.
            moves = (np.diff(piece.row[sure], prepend=at) + rows // 4) % rows - rows // 4
            places[begin + sure] = at + turn * rows + np.cumsum(moves)
            certain[begin + sure] = piece.chance[sure] >= _SURE
            turn, at = divmod(int(places[begin + sure[-1]]), rows)
            end = begin + int(sure[-1]) + 1  # what follows is sought again from there
        begin = end
    return _between(sequence, heavy_rows, heavy_kernels, places, certain, len(kernel_class))


def _end_costs(planned: Floats, kernels: Int64s, count: int) -> EndCosts:
    """
    What it costs a run to begin and end where its `kernels`, the heavy ones of `count`, say.

    Before the first heavy op of a step and after its last stand others, such as the updates: so many, or as few as
    usually stand between two. `planned` ops stand before each heavy one, and in all.
    """
    if not len(kernels):
        return EndCosts(0.0, 0.0, 0.0, 0.0)
    inside = -float(np.log(pair_model()["prices"]["start_inside"]))
    usual = count / len(kernels)
    costs = []
    for ran, step in (
        (int(kernels[0]), float(planned[0])),
        (count - 1 - int(kernels[-1]), float(planned[-1] - planned[-2]) - 1.0),
    ):
        whole = abs(float(np.log((ran + usual) / (step + usual))))
        part = max(0.0, float(np.log((ran + usual) / (2.0 * usual))))
        costs += [_EDGE * whole, inside + _EDGE * part]
    return EndCosts(*costs)


def _along(heavy: PlanAndRun, model: PairPrices, chain: LandmarkChain) -> PairResult:
    """All kernels aligned near where landmarks put them, these where they stand."""
    rows = len(model.ops.token)
    about = chain.about(len(heavy.kernel_class))
    # A landmark is told by a name of its own.
    names, row_names = np.full(len(about), -1, dtype=np.int64), np.full(rows, -1, dtype=np.int64)
    names[chain.kernel] = row_names[chain.row % rows] = chain.row % rows
    apart = float(np.quantile(np.diff(chain.row), _USUAL))
    width = int(np.clip(apart * _OF_APART + _LEAST_ROWS, _LEAST_ROWS, _ROWS))
    told = replace(heavy, kernel_names=names)
    return align_near(told, model.with_columns(name=row_names), about, width, width // 2)


def _between(
    sequence: PlannedSequence, rows: Int64s, kernels: Int64s, places: Int64s, certain: Bools, count: int
) -> Int64s:
    """Rows near which all of `count` kernels stand, from places among `rows` that some `kernels` certainly have."""
    places, kernels = places[certain], kernels[certain]
    if not len(places):
        return np.zeros(count, dtype=np.int64)
    whole = rows[places % len(rows)] + places // len(rows) * len(sequence)
    # Equal places ascend with their kernels; what jumps ahead or back alone is left out.
    kept = rising(whole * len(whole) + np.arange(len(whole)))
    whole, kernels = whole[kept], kernels[kept]
    # Before the first and after the last of them a step goes on, to its end where kernels are enough.
    ahead, left = len(sequence) - 1 - int(whole[-1]) % len(sequence), count - 1 - int(kernels[-1])
    ends = (
        [int(whole[0]) - min(int(kernels[0]), int(whole[0]))],
        [int(whole[-1]) + (ahead if 2 * left > ahead else left)],
    )
    at = np.concatenate(([0], kernels, [count - 1]))
    return np.interp(np.arange(count), at, np.concatenate((ends[0], whole, ends[1]))).astype(np.int64)


def _anchors(sequence: PlannedSequence, model: PairPrices, kernel_class: Int32s) -> tuple[Int64s, Int64s]:
    """Rows and kernels that a coarse alignment goes by: heavy ones and collectives, or all where there are too few."""
    known = family_table()
    rule = np.array([bool(rule.kernels) and rule.kernels[0] in known.heavy for rule in sequence.rules])
    rows = rule[sequence.token] & (sequence.op >= 0)
    if rows.sum() * _FEW < len(rows):
        rows = sequence.op >= 0
    able = (model.ratios.core[np.unique(sequence.token[rows])] >= ABLE).any(axis=0)
    return np.flatnonzero(rows), np.flatnonzero(able[kernel_class])
