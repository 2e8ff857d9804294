"""
Products of one size that a plan tells apart: gate and up against down, where a model is as wide as its experts.

Each expert (or the one network of a layer) runs so many of the one op and then one of the other, or the other way round
on the way back. Sizes don't tell them, their turn does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby

import numpy as np

from memplan.align.assignment import KernelAssignment
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Float32s, Int64s

_AS_WELL = 0.03
"""The share of the best ratio from which a product may as well be what a kernel runs: factors may be turned."""

_NEAR, _MOST_PIECES = 6, 3.5
"""Rows by which two such products stand apart at most, and pieces of the one: there may be both gradients and a sum."""
_BETWEEN = ("gate", "gate_grad", "activation", "activation_grad")
"""What stands between gate or up and down, one of which there is."""
_EXACT = 1e-6
"""By how much a number of pieces may be off a whole one."""


def take_equal_pieces_in_turn(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where kernels of one class may run two products of a block, one of them in pieces."""
    sequence, ratios, kernels, kernel_class = both.sequence, both.ratios, both.kernels, both.kernel_class
    sizes = np.sort(np.column_stack((kernels.inputs[:, :2], kernels.outputs[:, :1])), axis=1)
    kind_of = np.unique(sizes, axis=0, return_inverse=True)[1].ravel()  # factors may stand in either order
    products = sequence.classes.among(family_table().matrix_products)
    of_block: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(products[sequence.token] & (sequence.op >= 0)).tolist():
        of_block[int(sequence.block[row])].append(row)
    # One that seems to run the op behind as well may be the second of three.
    alone = np.flatnonzero((found.row >= 0) & (found.first == found.row) & kernels.known[kernel_class])
    token = sequence.token[found.row[alone]]
    # Not what is a part of a product, such as a copy.
    ran = alone[products[token] & (ratios.core[token, kernel_class[alone]] > ratios.behind[token, kernel_class[alone]])]
    classes = int(kernel_class.max(initial=0)) + 1
    pairs: set[tuple[int, int]] = set()
    alike_blocks: dict[tuple[bytes, int], Sequence[tuple[int, int]]] = {}
    for key in np.unique(sequence.block[found.row[ran]] * classes + kernel_class[ran]).tolist():
        block, kind = divmod(key, classes)
        rows = of_block[block]
        like = sequence.token[rows].tobytes(), kind
        if like not in alike_blocks:
            alike_blocks[like] = _pairs(sequence, ratios.core[sequence.token[rows], kind], rows)
        pairs |= {(rows[first], rows[second]) for first, second in alike_blocks[like]}
    by_row = ran[np.argsort(found.row[ran], kind="stable")]
    row_of, kind_of_each = found.row[by_row], kind_of[kernel_class]
    chosen = sorted(pairs)
    ends = (np.searchsorted(row_of, np.array(chosen, dtype=np.int64), side=side).tolist() for side in ("left", "right"))
    # How often the one is cut goes by what both are.
    times: dict[tuple[int, int], int] = {}
    for pair, begins, stops in zip(chosen, *ends, strict=True):
        tokens = int(sequence.token[pair[0]]), int(sequence.token[pair[1]])
        if tokens not in times:
            times[tokens] = _times(sequence, *pair)
        mine = np.sort(np.concatenate([by_row[begin:end] for begin, end in zip(begins, stops, strict=True)]))
        _take(kind_of_each, found, mine, pair, times[tokens])


def _pairs(sequence: PlannedSequence, fit: Float32s, rows: Sequence[int]) -> Sequence[tuple[int, int]]:
    """Which two of `rows` may as well run what they `fit`, one of them in pieces, by their places."""
    able = np.flatnonzero(fit >= _AS_WELL * fit.max()).tolist()
    between = [family_table().number(name) for name in _BETWEEN]
    return [
        (first, second)
        for first, second in combinations(able, 2)
        if rows[second] - rows[first] <= _NEAR
        and np.isin(sequence.classes.main[sequence.token[rows[first] + 1 : rows[second]]], between).any()
        and _times(sequence, rows[first], rows[second]) != 1
    ]


def _times(sequence: PlannedSequence, first: int, second: int) -> int:
    """Into how many times as many pieces as the other the one of two products is cut: negative if the second is."""
    classes = sequence.classes
    for one, other, sign in ((first, second, 1), (second, first, -1)):
        token = sequence.token[one]
        ratio = _work(sequence, one) / _work(sequence, other)
        of_one = classes.groups[token] == classes.groups[sequence.token[other]] and bool(classes.pieces[token])
        if of_one and 1 < ratio < _MOST_PIECES and abs(ratio - round(ratio)) < _EXACT:
            return sign * round(ratio)
    return 1


def _work(sequence: PlannedSequence, row: int) -> float:
    """Multiplications of a product but for a factor that products over as many matrices share."""
    read, made = (side[sequence.token[row]] for side in (sequence.classes.inputs, sequence.classes.outputs))
    return math.sqrt(math.prod(max(1.0, float(size)) for size in (*read[:2], *made[:1])))


def _take(kind: Int64s, found: KernelAssignment, mine: Int64s, pair: tuple[int, int], times: int) -> None:
    """Give kernels of one kind that follow one another to both rows by turns, unless each has its share."""
    turn = [pair[0]] * max(times, 1) + [pair[1]] * max(-times, 1)
    for kernels in _stretches(found, kind, mine):
        wanted = len(kernels) * turn.count(pair[0]) / len(turn)
        if len(kernels) % len(turn) == 0 and np.count_nonzero(found.row[kernels] == pair[0]) != wanted:
            found.match(kernels, np.resize(turn, len(kernels)))
            found.core[kernels] = True


def _stretches(found: KernelAssignment, kind: Int64s, kernels: Int64s) -> Iterator[Int64s]:
    """Kernels of one step and kind that follow one another."""
    for _, group in groupby(kernels.tolist(), lambda kernel: (int(found.step[kernel]), int(kind[kernel]))):
        yield np.array(list(group), dtype=np.int64)


__all__ = ["take_equal_pieces_in_turn"]
