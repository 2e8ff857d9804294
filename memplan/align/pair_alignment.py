"""The alignment of one rank's kernels with the rows of a plan: which row each kernel belongs to, and how surely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align.likelihood import Likelihoods, pair_model
from memplan.align.op_families import family_table
from memplan.align.planned_sequence import PlannedSequence

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_MOST_CELLS = 12_000_000
"""Cells held at once: four states of four bytes each."""
_PIECE, _OVERLAP = 60_000, 300
"""Kernels of a piece, and by how many neighbours overlap: what is near an end is taken from the piece that goes on."""
_WIDTH, _BEHIND = 72, 28
"""Rows that a kernel is compared with, and how many of them lie before where a coarse alignment puts it."""
_COARSE_KERNELS, _COARSE_OVERLAP, _COARSE_ROWS, _COARSE_BEHIND = 256, 32, 448, 96
"""The same of the coarse alignment, whose pieces follow one another."""
_FEW, _ABLE = 40, 100.0
"""One row in so many must be heavy to go by those alone; the ratio from which a kernel counts as one of them."""
_LOST = 0.5
"""Share of kernels matched below which a piece of the coarse alignment is sought in the whole plan."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """
    For every kernel: the likeliest row (-1: none) and its probability, that of being in no plan, the rows fused in it.

    `place` is the row that is current there, whatever the kernel is; rows count on over repeated steps.
    """

    row: Int64s
    chance: Floats
    alone: Floats
    first: Int64s
    last: Int64s
    place: Int64s

    def part(self, begin: int, end: int) -> PairResult:
        """Kernels `begin` to `end` alone."""
        return PairResult(*(column[begin:end] for column in self._columns()))

    @staticmethod
    def joined(parts: Sequence[PairResult]) -> PairResult:
        """Pieces one after the other."""
        return PairResult(*(np.concatenate(columns) for columns in zip(*(part._columns() for part in parts), strict=True)))

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.row, self.chance, self.alone, self.first, self.last, self.place


@dataclass(frozen=True, slots=True)
class _Model:
    """Columns that the loops take: classes, ratios, prices by row."""

    token: Int32s
    ratios: Likelihoods
    names: Int64s
    stay: Singles
    bare: Singles
    skip: Singles
    skip_on: Singles
    entry: Singles
    prices: Floats
    start_inside: float

    def taken(self, rows: Int64s) -> _Model:
        """Those rows alone."""
        return self._by_row(lambda column: column[rows])

    def repeated(self, times: int) -> _Model:
        """The rows of so many steps."""
        return self._by_row(lambda column: np.tile(column, times))

    def _by_row(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> _Model:
        return replace(
            self,
            token=change(self.token),
            names=change(self.names),
            stay=change(self.stay),
            bare=change(self.bare),
            skip=change(self.skip),
            skip_on=change(self.skip_on),
            entry=change(self.entry),
        )


def align_pairs(
    sequence: PlannedSequence, ratios: Likelihoods, row_names: Int64s, kernel_class: Int32s, kernel_names: Int64s
) -> PairResult:
    """
    Posterior of every kernel over the rows of `sequence`.

    `row_names` and `kernel_names` number names that both sides know, -1 for others. What is too large to be weighed
    whole is aligned coarsely first, by its products, attention and collectives alone, and then near that.
    """
    kernels, rows = len(kernel_class), len(sequence)
    model = _model(sequence, ratios, row_names)
    if not kernels:
        nothing, none = np.zeros(0, dtype=np.int64), np.zeros(0)
        return PairResult(nothing, none, none, nothing, nothing, nothing)
    if kernels * rows <= _MOST_CELLS:
        return _run(model, kernel_class, kernel_names, np.zeros(kernels, dtype=np.int64), rows)
    return _near(model, kernel_class, kernel_names, _coarse_places(sequence, model, kernel_class, kernel_names))


def _near(model: _Model, kernel_class: Int32s, kernel_names: Int64s, places: Int64s) -> PairResult:
    """Align every kernel with the rows near `places`, piece by piece; rows count on over steps."""
    rows = len(model.token)
    low = np.maximum(places - _BEHIND, 0)
    repeats = int(low.max() + _WIDTH) // rows + 1
    tiled = model.repeated(repeats)
    found: list[PairResult] = []
    begin = 0
    while begin < len(kernel_class):
        end = min(begin + _PIECE, len(kernel_class))
        left, right = max(0, begin - _OVERLAP), min(len(kernel_class), end + _OVERLAP)
        piece = _run(tiled, kernel_class[left:right], kernel_names[left:right], low[left:right], _WIDTH)
        found.append(piece.part(begin - left, end - left))
        begin = end
    return PairResult.joined(found)


def _coarse_places(
    sequence: PlannedSequence, model: _Model, kernel_class: Int32s, kernel_names: Int64s
) -> Int64s:
    """The row near which every kernel stands, counted on over steps: from heavy ops, and in between in proportion."""
    heavy_rows, heavy_kernels = _anchors(sequence, model, kernel_class)
    small = model.taken(heavy_rows)
    rows = len(heavy_rows)
    doubled = small.repeated(2)
    classes, names = kernel_class[heavy_kernels], kernel_names[heavy_kernels]
    places = np.zeros(len(classes), dtype=np.int64)
    begin, at, turn = 0, 0, 0
    while begin < len(classes):
        end = min(begin + _COARSE_KERNELS, len(classes))
        look = min(end + _COARSE_OVERLAP, len(classes))
        piece = None
        if rows > _COARSE_ROWS:
            low = np.full(look - begin, max(0, at - _COARSE_BEHIND), dtype=np.int64)
            piece = _run(doubled, classes[begin:look], names[begin:look], low, _COARSE_ROWS, near=at)
        if piece is None or float((piece.row >= 0).mean()) < _LOST:
            low = np.zeros(look - begin, dtype=np.int64)
            piece = _run(doubled, classes[begin:look], names[begin:look], low, 2 * rows, near=at)
        kept = piece.place[: end - begin]
        falls = np.cumsum(np.diff(kept, prepend=at) < -rows // 2)
        places[begin:end] = kept + (turn + falls) * rows
        last = int(kept[-1]) + int(falls[-1]) * rows if len(kept) else at
        turn, at = turn + last // rows, last % rows
        begin = end
    whole = heavy_rows[places % rows] + places // rows * len(sequence)
    ordered = np.maximum.accumulate(whole)
    numbers = np.arange(len(kernel_class))
    return np.interp(numbers, heavy_kernels, ordered).astype(np.int64)


def _anchors(sequence: PlannedSequence, model: _Model, kernel_class: Int32s) -> tuple[Int64s, Int64s]:
    """Rows and kernels that a coarse alignment goes by: heavy ones and collectives, or all where there are too few."""
    known = family_table()
    rule = np.array([bool(rule.kernels) and rule.kernels[0] in known.heavy | known.collectives for rule in sequence.rules])
    rows = rule[sequence.token] & (sequence.op >= 0)
    if rows.sum() * _FEW < len(rows):
        rows = sequence.op >= 0
    able = (model.ratios.core[np.unique(sequence.token[rows])] >= _ABLE).any(axis=0)
    return np.flatnonzero(rows), np.flatnonzero(able[kernel_class])


def _model(sequence: PlannedSequence, ratios: Likelihoods, names: Int64s) -> _Model:
    prices = pair_model()["prices"]
    parted = np.array([bool(rule.parts) for rule in sequence.rules])[sequence.token]
    written = np.array([rule.written_out for rule in sequence.rules])[sequence.token]
    extra = sequence.extra >= 0
    free = sequence.opens | ((sequence.op < 0) & ~extra)
    ordered = ("unplanned", "unplanned_on", "back", "jump", "wrap", "same_name", "other_name")
    return _Model(
        sequence.token,
        ratios,
        names,
        np.where(parted, prices["stay_with_parts"], prices["stay"]).astype(np.float32),
        np.where(written, prices["bare_written_out"], prices["bare"]).astype(np.float32),
        np.where(free, 1.0, prices["skip"]).astype(np.float32),
        np.where(free | extra, 1.0, prices["skip_on"]).astype(np.float32),
        sequence.begins.astype(np.float32),
        np.array([prices[name] for name in ordered]),
        float(prices["start_inside"]),
    )


def _run(
    model: _Model, kernel_class: Int32s, kernel_names: Int64s, low: Int64s, width: int, *, near: int | None = None
) -> PairResult:
    """
    Kernels against `width` rows from `low` on.

    They begin at row `near`, or where steps begin, likelier than elsewhere.
    """
    from memplan.align.pair_loops import forward, posterior

    kernels = len(kernel_class)
    cells = np.empty((kernels, width, 4), dtype=np.float32)
    scale, end = np.empty(kernels), np.empty(width)
    start = np.full(width + 1, model.start_inside)
    if near is None:
        stretch = model.entry[low[0] : low[0] + width]
        start[: len(stretch)][stretch > 0] = 1.0
    else:
        start[max(0, near - int(low[0]) - 1) : near - int(low[0]) + 2] = 1.0
    shared = (
        model.token, kernel_class, low, model.ratios.core, model.ratios.part, model.ratios.again, model.ratios.fused,
        model.names, kernel_names, model.stay, model.bare, model.skip, model.skip_on, model.entry, model.prices,
    )  # fmt: skip
    forward(*shared, start, cells, scale, end)
    final = np.full(width, model.start_inside)
    if near is None and len(model.token) - int(low[-1]) <= width:
        final[len(model.token) - int(low[-1]) - 1] = 1.0
    total = float((end * final).sum())
    best, first_op, last_op, place = (np.empty(kernels, dtype=np.int64) for _ in range(4))
    chance, alone = np.empty(kernels), np.empty(kernels)
    posterior(*shared, cells, scale, final, total if total > 0 else 1.0, best, chance, alone, first_op, last_op, place)
    row = np.where(chance > alone, best, -1)
    return PairResult(row, np.minimum(chance, 1.0), np.minimum(alone, 1.0), first_op, last_op, place)
