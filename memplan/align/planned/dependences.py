"""Which rows of a plan need which: an op begins only when what makes its operands has ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Int64s
from memplan.schema import Plan


@dataclass(frozen=True, slots=True)
class Dependences:
    """Pairs of rows of a planned sequence: `after[i]` reads what `before[i]` makes."""

    before: Int64s
    after: Int64s


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


__all__ = ["Dependences", "dependences"]
