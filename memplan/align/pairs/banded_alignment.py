"""Kernels aligned with a band of rows: all that a plan has, or those near where each kernel is thought to stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align.pairs.pair_columns import OpColumns, OpSpans, RunColumns
from memplan.align.pairs.pair_prices import PairPrices
from memplan.align.pairs.pair_result import PairResult
from memplan.align.plan_and_run import PlanAndRun
from memplan.core.arrays import Float32s, Floats, Int32s, Int64s
from memplan.core.workers import in_threads

MOST_CELLS = 24_000_000
"""Cells held at once: four states of four bytes each."""
PIECE_KERNELS, _OVERLAP = 60_000, 300
"""Kernels of a piece, and by how many neighbours overlap: what is near an end is taken from the piece that goes on."""
BAND_ROWS, _BEHIND = 72, 28
"""Rows that a kernel is compared with, and how many of them lie before where a coarse alignment puts it."""
_FROM_NEAR = 0.6
"""How much less likely a piece begins a row further on than where the one before it ended."""


@dataclass(frozen=True, slots=True)
class Band:
    """
    Kernels in the order in which they ran, each beside `width` rows of a plan from `low` on.

    They begin at row `near`, or where steps begin, likelier than elsewhere. `spans` are places between which each
    kernel stands, how many kernels from them, and the number of the kernel in its run, where that is known; `times` are
    what they took in nanoseconds.
    """

    kernel_class: Int32s
    kernel_names: Int64s
    low: Int64s
    width: int
    near: int | None = None
    spans: tuple[Int64s, Int64s, Int64s, Int64s] | None = None
    times: Float32s | None = None

    def columns(self) -> RunColumns:
        """What the loops read of them."""
        nowhere = np.full(len(self.low), -1, dtype=np.int64)
        times = nowhere.astype(np.float32) if self.times is None else self.times
        return RunColumns(
            self.kernel_class, self.low, self.kernel_names, *(self.spans or (nowhere, nowhere, nowhere, nowhere)), times
        )

    def start(self, model: PairPrices) -> Floats:
        """The weight of beginning before each row of the first kernel's band, and behind the last of them."""
        start = np.full(self.width + 1, model.start_inside)
        if self.near is None:
            stretch = model.ops.entry[self.low[0] : self.low[0] + self.width]
            start[: len(stretch)][stretch > 0] = 1.0
        else:
            # Where the piece before ended, or a little further on.
            ahead = np.arange(self.width + 1) + int(self.low[0]) - self.near - 1
            off = np.abs(np.where(ahead >= 0, ahead, 2.0 * ahead))
            start = np.maximum(_FROM_NEAR**off, model.start_inside**3)
        return start

    def final(self, model: PairPrices) -> Floats:
        """The weight of ending after each row of the last kernel's band."""
        final = np.full(self.width, model.start_inside)
        if self.near is None and len(model.ops.token) - int(self.low[-1]) <= self.width:
            final[len(model.ops.token) - int(self.low[-1]) - 1] = 1.0
        return final


def align_near(
    chain: PlanAndRun, model: PairPrices, places: Int64s, width: int = BAND_ROWS, behind: int = _BEHIND
) -> PairResult:
    """
    Align every kernel of `chain` with `width` rows near `places`, of which `behind` lie before them, piece by piece.

    Rows count on over steps.
    """
    rows = len(model.ops.token)
    low = np.maximum(places - behind, 0)
    repeats = int(low.max() + width) // rows + 1
    tiled = model.repeated(repeats)
    spans = _op_spans(tiled.ops)
    size, count = PIECE_KERNELS * BAND_ROWS // width, len(places)

    def piece(begin: int) -> PairResult:
        end = min(begin + size, count)
        left, right = max(0, begin - _OVERLAP), min(count, end + _OVERLAP)
        some = slice(left, right)
        found = align_band(tiled, Band(chain.kernel_class[some], chain.kernel_names[some], low[some], width), spans)
        return found.part(begin - left, end - left)

    return PairResult.joined(list(in_threads(piece, range(0, count, size))))


def align_band(model: PairPrices, band: Band, spans: OpSpans | None = None) -> PairResult:
    """The posterior of the kernels of `band`; `spans` are those of `model`, where several bands share them."""
    from memplan.align.pairs.posterior_loops import posterior

    kernels = len(band.low)
    final = band.final(model)
    read, cells, scale, total = _summed(model, spans or _op_spans(model.ops), band, final)
    best, first_op, last_op, place = (np.empty(kernels, dtype=np.int64) for _ in range(4))
    chance, alone, of_scope = np.empty(kernels), np.empty(kernels), np.empty(kernels)
    posterior(
        *read, tuple(model.prices), cells, scale, final, total if total > 0 else 1.0,
        best, chance, alone, of_scope, first_op, last_op, place,
    )  # fmt: skip
    row = np.where(chance > alone, best, -1)
    chance, alone, of_scope = (np.clip(column, 0.0, 1.0) for column in (chance, alone, of_scope))
    return PairResult(row, chance, alone, of_scope, first_op, last_op, place)


def likelihood_of(model: PairPrices, kernel_class: Int32s, kernel_names: Int64s) -> float:
    """The logarithm of the sum over all alignments of kernels with all rows."""
    low, rows = np.zeros(len(kernel_class), dtype=np.int64), len(model.ops.token)
    band = Band(kernel_class, kernel_names, low, rows)
    _, _, scale, total = _summed(model, _op_spans(model.ops), band, band.final(model))
    return float(np.log(scale).sum() + np.log(max(total, 1e-300)))


_Read = tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]
"""What both loops read: ops, their spans, kernels and ratios."""


def _summed(
    model: PairPrices, spans: OpSpans, band: Band, final: Floats
) -> tuple[_Read, NDArray[np.float32], Floats, float]:
    """What both loops read, cells and scales of the way forward, and the sum over all alignments."""
    from memplan.align.pairs.pair_loops import forward

    kernels = len(band.low)
    cells = np.empty((kernels, band.width, 4), dtype=np.float32)
    scale, end = np.empty(kernels), np.empty(band.width)
    columns = tuple(model.ops), tuple(spans), tuple(band.columns()), tuple(model.ratios.turned())
    forward(*columns, tuple(model.prices), band.start(model), cells, scale, end)
    return columns, cells, scale, float((end * final).sum())


def _op_spans(ops: OpColumns) -> OpSpans:
    return OpSpans(*_spans(ops.group), *_spans(ops.block))


def _spans(group: Int64s) -> tuple[Int64s, Int64s]:
    """The first row and the row after the last of the group of each row."""
    edges = np.concatenate(([0], np.flatnonzero(np.diff(group)) + 1, [len(group)]))
    sizes = np.diff(edges)
    return np.repeat(edges[:-1], sizes), np.repeat(edges[1:], sizes)
