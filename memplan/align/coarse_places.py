"""Where kernels stand in a long plan or run, roughly: from its heavy ops, and from the rarest of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memplan.align.banded_alignment import MOST_CELLS, align_band, align_near
from memplan.align.likelihood import pair_model
from memplan.align.op_families import family_table
from memplan.align.pair_prices import PairPrices
from memplan.align.pair_result import counted_on
from memplan.align.planned_sequence import PlannedSequence
from memplan.core.arrays import Bools, Int32s, Int64s
from memplan.core.ascending import rising

_KERNELS, _OVERLAP, _LEAST, _ROWS, _BEHIND = 192, 32, 16, 448, 96
"""
Kernels of a piece, by how many it looks ahead, how many must be sure, rows that its band has, how many of them lie
before where the piece before ended: pieces follow one another.
"""
_FEW, _ABLE = 40, 100.0
"""One row in so many must be heavy to go by those alone; the ratio from which a kernel counts as one of them."""
_RARE, _FEW_MARKS, _CLEARER = 1.5, 8, 3.0
"""
Landmarks: how much more often than the rarest one they may come, how many other heavy rows there are for each at least,
and how much more likely a kernel must be one of them than another.
"""
_TOGETHER, _APART = 8, 4
"""
Heavy kernels that may lie between two of one burst of landmarks, and how many times further apart two rows of one kind
are: pieces of one op, or neighbours that changed places.
"""
_SURE = 0.6
"""Probability from which a match of the coarse alignment counts."""
_LOST = 0.5
"""Share of kernels matched below which a piece of the coarse alignment is sought in the whole plan."""


def coarse_places(sequence: PlannedSequence, model: PairPrices, kernel_class: Int32s, kernel_names: Int64s) -> Int64s:
    """The row near which every kernel stands, counted on over steps: from heavy ops, and in between in proportion."""
    heavy_rows, heavy_kernels = _anchors(sequence, model, kernel_class)
    rows = len(heavy_rows)
    # A band may reach into the next step; where all rows are seen, the last goes on to the first.
    single = replace(model.taken(heavy_rows), entry=(np.arange(rows) == 0).astype(np.float32))
    rules = pair_model()["coarse"]
    prices = model.prices.copy()
    prices[7:9] = rules["near_jump"], rules["neighbour_jump"]
    single = replace(single, prices=prices, skip_on=np.minimum(single.skip_on, np.float32(rules["skip_on"])))
    doubled = single.repeated(2)
    classes, names = kernel_class[heavy_kernels], kernel_names[heavy_kernels]
    about = _landmark_places(single, classes, names)
    if about is not None:
        near = align_near(single, classes, names, about, _ROWS, _ROWS // 2)
        return _between(sequence, heavy_rows, heavy_kernels, near.row, near.chance >= _SURE, len(kernel_class))
    places, certain = np.zeros(len(classes), dtype=np.int64), np.zeros(len(classes), dtype=np.bool_)
    begin, at, turn = 0, 0, 0
    while begin < len(classes):
        end = min(begin + _KERNELS, len(classes))
        look = min(end + _OVERLAP, len(classes))
        piece = None
        if rows > _ROWS:
            low = np.full(look - begin, max(0, at - _BEHIND), dtype=np.int64)
            piece = align_band(doubled, classes[begin:look], names[begin:look], low, _ROWS, near=at)
        if piece is None or float((piece.row >= 0).mean()) < _LOST:
            low = np.zeros(look - begin, dtype=np.int64)
            piece = align_band(single, classes[begin:look], names[begin:look], low, rows, near=at)
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


def _landmark_places(model: PairPrices, kernel_class: Int32s, kernel_names: Int64s) -> Int64s | None:
    """
    Rows about which kernels stand, counted on over steps: from the rarest ones, aligned whole, and in proportion.

    What runs once a micro-batch, such as the head, says which micro-batch it is where all layers look alike. `None`
    where nothing is rare, or where it isn't found.
    """
    rows = len(model.token)
    often = np.bincount(model.token, minlength=len(model.ratios.core))
    rare = (often > 0) & (often <= _RARE * often[often > 0].min())
    marks = np.flatnonzero(rare[model.token])
    if len(marks) * _FEW_MARKS > rows:
        return None
    others = (often > 0) & ~rare
    core = model.ratios.core
    of_rare, of_others = core[rare].max(axis=0), core[others].max(axis=0)
    found = np.flatnonzero(((of_rare >= _ABLE) & (of_rare > _CLEARER * of_others))[kernel_class])
    found = found[_one_of_each_burst(model, marks, kernel_class[found], found)]
    if len(found) < 2 or len(found) * len(marks) > MOST_CELLS:
        return None
    single = replace(model.taken(marks), entry=(np.arange(len(marks)) == 0).astype(np.float32))
    # Neighbours here are far from one another: no kernel runs two of them, no two that are left run one.
    none = np.zeros_like(model.ratios.fused)
    single = replace(single, ratios=replace(model.ratios, fused=none, again=none, behind=none))
    low = np.zeros(len(found), dtype=np.int64)
    result = counted_on(align_band(single, kernel_class[found], kernel_names[found], low, len(marks)), len(marks))
    sure = (result.row >= 0) & (result.chance >= _SURE)
    place = marks[result.row[sure] % len(marks)] + result.row[sure] // len(marks) * rows
    at = np.sort(found)[sure]
    kept = rising(place * len(place) + np.arange(len(place)))
    place, at = place[kept], at[kept]
    if len(place) < 2 or at[-1] == at[0]:
        return None
    slope = (place[-1] - place[0]) / (at[-1] - at[0])
    every = np.arange(len(kernel_class))
    about = np.interp(every, at, place)
    about = np.where(every < at[0], place[0] + (every - at[0]) * slope, about)
    about = np.where(every > at[-1], place[-1] + (every - at[-1]) * slope, about)
    return np.maximum(about, 0).astype(np.int64)


def _one_of_each_burst(model: PairPrices, marks: Int64s, kernel_class: Int32s, at: Int64s) -> Int64s:
    """
    Which landmarks to keep, in the order of the plan: of those close to one another the first of each kind.

    `marks` are the planned rows, `at` the places of the kernels, ascending. An op may run in several kernels and two
    neighbours in either order; a step further on the same kind of kernel is another op's.
    """
    kinds, first, kind_of_row = np.unique(model.token[marks], return_index=True, return_inverse=True)
    by_kind = np.argsort(kind_of_row, kind="stable")
    gaps = np.diff(marks[by_kind])[np.diff(kind_of_row[by_kind]) == 0]
    close = min(_TOGETHER, int(gaps.min(initial=len(model.token))) // _APART)
    kind = model.ratios.core[kinds].argmax(axis=0)[kernel_class]
    burst = np.cumsum(np.diff(at, prepend=at[:1]) > close)
    kept: Int64s = np.unique(burst * len(kinds) + np.argsort(np.argsort(first))[kind], return_index=True)[1]
    return kept


def _anchors(sequence: PlannedSequence, model: PairPrices, kernel_class: Int32s) -> tuple[Int64s, Int64s]:
    """Rows and kernels that a coarse alignment goes by: heavy ones and collectives, or all where there are too few."""
    known = family_table()
    rule = np.array([bool(rule.kernels) and rule.kernels[0] in known.heavy for rule in sequence.rules])
    rows = rule[sequence.token] & (sequence.op >= 0)
    if rows.sum() * _FEW < len(rows):
        rows = sequence.op >= 0
    able = (model.ratios.core[np.unique(sequence.token[rows])] >= _ABLE).any(axis=0)
    return np.flatnonzero(rows), np.flatnonzero(able[kernel_class])
