"""Kernels aligned with a band of rows: all that a plan has, or those near where each kernel is thought to stand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align.pair_columns import OpColumns, RatioTables, RunColumns
from memplan.align.pair_prices import PairPrices
from memplan.align.pair_result import PairResult
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


def align_near(
    model: PairPrices,
    kernel_class: Int32s,
    kernel_names: Int64s,
    places: Int64s,
    width: int = BAND_ROWS,
    behind: int = _BEHIND,
) -> PairResult:
    """
    Align every kernel with `width` rows near `places`, of which `behind` lie before them, piece by piece.

    Rows count on over steps.
    """
    rows = len(model.token)
    low = np.maximum(places - behind, 0)
    repeats = int(low.max() + width) // rows + 1
    tiled = model.repeated(repeats)
    columns = _op_columns(tiled)
    size, count = PIECE_KERNELS * BAND_ROWS // width, len(kernel_class)

    def piece(begin: int) -> PairResult:
        end = min(begin + size, count)
        left, right = max(0, begin - _OVERLAP), min(count, end + _OVERLAP)
        some = slice(left, right)
        found = align_band(tiled, kernel_class[some], kernel_names[some], low[some], width, columns=columns)
        return found.part(begin - left, end - left)

    return PairResult.joined(list(in_threads(piece, range(0, count, size))))


def align_band(
    model: PairPrices,
    kernel_class: Int32s,
    kernel_names: Int64s,
    low: Int64s,
    width: int,
    *,
    near: int | None = None,
    spans: tuple[Int64s, Int64s, Int64s] | None = None,
    times: Float32s | None = None,
    columns: OpColumns | None = None,
) -> PairResult:
    """
    Kernels against `width` rows from `low` on.

    They begin at row `near`, or where steps begin, likelier than elsewhere. `spans` are places between which each
    kernel stands and how many kernels from them, where that is known, and `times` are what they took. `columns` are
    those of `model`, where several bands share them.
    """
    from memplan.align.pair_loops import posterior

    kernels = len(kernel_class)
    ops = columns or _op_columns(model)
    read, cells, scale, total = _summed(model, ops, kernel_class, kernel_names, low, width, near, spans, times)
    final = _final(model, low, width, near)
    best, first_op, last_op, place = (np.empty(kernels, dtype=np.int64) for _ in range(4))
    chance, alone, of_scope = np.empty(kernels), np.empty(kernels), np.empty(kernels)
    posterior(
        *read, model.prices, model.scope, cells, scale, final, total if total > 0 else 1.0,
        best, chance, alone, of_scope, first_op, last_op, place,
    )  # fmt: skip
    row = np.where(chance > alone, best, -1)
    chance, alone, of_scope = (np.clip(column, 0.0, 1.0) for column in (chance, alone, of_scope))
    return PairResult(row, chance, alone, of_scope, first_op, last_op, place)


def likelihood_of(model: PairPrices, kernel_class: Int32s, kernel_names: Int64s) -> float:
    """The logarithm of the sum over all alignments of kernels with all rows."""
    low, rows = np.zeros(len(kernel_class), dtype=np.int64), len(model.token)
    ops = _op_columns(model)
    _, _, scale, total = _summed(model, ops, kernel_class, kernel_names, low, rows, None, None, None)
    return float(np.log(scale).sum() + np.log(max(total, 1e-300)))


def _final(model: PairPrices, low: Int64s, width: int, near: int | None) -> Floats:
    """The weight of ending after each row of the last kernel's band."""
    final = np.full(width, model.start_inside)
    if near is None and len(model.token) - int(low[-1]) <= width:
        final[len(model.token) - int(low[-1]) - 1] = 1.0
    return final


def _summed(
    model: PairPrices,
    ops: OpColumns,
    kernel_class: Int32s,
    kernel_names: Int64s,
    low: Int64s,
    width: int,
    near: int | None,
    spans: tuple[Int64s, Int64s, Int64s] | None,
    times: Float32s | None,
) -> tuple[tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]], NDArray[np.float32], Floats, float]:
    """What both loops read, cells and scales of the way forward, and the sum over all alignments."""
    from memplan.align.pair_loops import forward

    kernels = len(kernel_class)
    nowhere = np.full(kernels, -1, dtype=np.int64)
    spans = spans or (nowhere, nowhere, nowhere)
    times = nowhere.astype(np.float32) if times is None else times
    cells = np.empty((kernels, width, 4), dtype=np.float32)
    scale, end = np.empty(kernels), np.empty(width)
    start = np.full(width + 1, model.start_inside)
    if near is None:
        stretch = model.entry[low[0] : low[0] + width]
        start[: len(stretch)][stretch > 0] = 1.0
    else:
        # Where the piece before ended, or a little further on.
        ahead = np.arange(width + 1) + int(low[0]) - near - 1
        start = np.maximum(_FROM_NEAR ** np.abs(np.where(ahead >= 0, ahead, 2.0 * ahead)), model.start_inside**3)
    side_by_side = np.ascontiguousarray
    # Ratios of one class of kernels side by side, as the loops read them.
    ratios = RatioTables(
        side_by_side(model.ratios.core.T), side_by_side(model.ratios.before.T), side_by_side(model.ratios.behind.T),
        side_by_side(model.ratios.opens.T), side_by_side(model.ratios.again.T), side_by_side(model.ratios.fused.T),
    )  # fmt: skip
    columns = tuple(ops), tuple(RunColumns(kernel_class, low, kernel_names, *spans, times)), tuple(ratios)
    forward(*columns, model.prices, start, cells, scale, end)
    return columns, cells, scale, float((end * _final(model, low, width, near)).sum())


def _op_columns(model: PairPrices) -> OpColumns:
    return OpColumns(
        model.token, model.names, model.place, model.time, model.stay, model.lead, model.bare, model.skip,
        model.skip_on, model.passed, model.entry, model.ends, *_spans(model.group), *_spans(model.block), model.loose,
    )  # fmt: skip


def _spans(group: Int64s) -> tuple[Int64s, Int64s]:
    """The first row and the row after the last of the group of each row."""
    edges = np.concatenate(([0], np.flatnonzero(np.diff(group)) + 1, [len(group)]))
    sizes = np.diff(edges)
    return np.repeat(edges[:-1], sizes), np.repeat(edges[1:], sizes)
