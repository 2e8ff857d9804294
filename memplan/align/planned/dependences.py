"""Which rows of a plan need which: an op begins only when what makes its operands has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Int64s
from memplan.schema import Plan

MOST_SORTED = 20_000
"""Rows of a step up to which it is asked what needs what: a larger one is of no graph that a compiler sorted."""
NEIGHBOURS = 2
"""Kernels by which an op may stand before what it needs: a profile orders neighbours of two streams as it likes."""
_THROUGH = 4
"""How many ops in a row that nothing runs are looked through."""


@dataclass(frozen=True, slots=True)
class Dependences:
    """Pairs of rows of a planned sequence: `after[i]` reads what `before[i]` makes."""

    before: Int64s
    after: Int64s

    def repeated(self, turns: Int64s) -> Dependences:
        """Those of several steps, whose rows count on from each of `turns`."""
        before, after = ((turns[:, None] + side[None, :]).reshape(-1) for side in (self.before, self.after))
        return Dependences(before, after)

    def places(self, rows: int, kernels: int, ran: Sequence[tuple[Int64s, Int64s]]) -> tuple[Int64s, Int64s]:
        """
        Where among so many `kernels` the first and the last one of each of `rows` stand; `ran` are rows and kernels.

        Of a row that nothing runs, where it may begin at the earliest and must have been at the latest; -1 and the
        number of kernels where nothing tells.
        """
        first, last = np.full(rows, kernels), np.full(rows, -1)
        for row, kernel in ran:
            np.minimum.at(first, row, kernel)
            np.maximum.at(last, row, kernel)
        never = last < 0
        first[never], last[never] = -1, kernels
        after, before = never[self.after], never[self.before]
        for _ in range(_THROUGH):
            np.maximum.at(first, self.after[after], first[self.before[after]])
            np.minimum.at(last, self.before[before], last[self.after[before]])
        return first, last


def dependences(plan: Plan, sequence: PlannedSequence) -> Dependences:
    """
    The data dependences among rows, through ops that launch nothing.

    An op of several rows (an update in pieces) is left out, and so is one whose tensors aren't told.
    """
    count = np.bincount(sequence.op[sequence.op >= 0], minlength=len(plan.ops))
    row_of = np.full(len(plan.ops), -1, dtype=np.int64)
    rows = np.flatnonzero(sequence.op >= 0)
    row_of[sequence.op[rows]] = rows
    single = (count == 1).tolist()
    makers: dict[int, tuple[int, ...]] = {}
    pairs: set[tuple[int, int]] = set()
    for op in plan.ops:
        needed = tuple(dict.fromkeys(row for tensor in op.reads or () for row in makers.get(tensor, ())))
        row = int(row_of[op.index])
        if row >= 0 and single[op.index]:
            pairs.update((maker, row) for maker in needed)
            needed = (row,)
        for tensor in op.writes or ():
            makers[tensor] = needed
    columns = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return Dependences(columns[:, 0], columns[:, 1])


__all__ = ["MOST_SORTED", "NEIGHBOURS", "Dependences", "dependences"]
