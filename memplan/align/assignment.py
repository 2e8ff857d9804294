"""Which row of a plan each kernel has, while an alignment is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from memplan.align.pairs.pair_result import PairResult
from memplan.align.plan_and_run import PlanAndRun
from memplan.core.arrays import Floats, Int64s


class MatchedBy(str, Enum):
    """
    How a kernel was matched.

    By its `name`; in order, as the `kernel` that runs the op or a `part` before or after it, or as one that runs
    several ops, `fused`; out of order by what it reads and makes, `dataflow`; as a forward op that the way back runs
    `again`.
    """

    NAME = "name"
    KERNEL = "kernel"
    PART = "part"
    FUSED = "fused"
    DATAFLOW = "dataflow"
    AGAIN = "again"


HOW = tuple(MatchedBy)
"""Ways by number."""


@dataclass(frozen=True, slots=True)
class KernelAssignment:
    """
    One row a kernel: `row` of the planned sequence or -1, the `step` (repetition of the plan) it belongs to, `place`,
    the row that is current there whatever the kernel is.

    `chance` is the probability of `row`, or of being in no plan where it is -1, `scope_chance` that of what `row` is of
    the model: its phase, micro-batch, layer and part, or no planned op's; `how` numbers `HOW`. Where a kernel
    runs several ops, `first` to `last` are their rows. The arrays are changed in place until the alignment is done.
    """

    row: Int64s
    step: Int64s
    place: Int64s
    chance: Floats
    scope_chance: Floats
    how: NDArray[np.int8]
    first: Int64s
    last: Int64s
    core: NDArray[np.bool_]

    def match(self, kernels: int | Int64s, rows: int | Int64s) -> None:
        """Change in place which row each of `kernels` runs, and that alone; -1 for none."""
        self.row[kernels] = self.first[kernels] = self.last[kernels] = rows

    def of_each(self, owner: Int64s) -> KernelAssignment:
        """That of every kernel, of which some count as one here: `owner` is the place of each."""
        return KernelAssignment(*(getattr(self, column.name)[owner] for column in fields(self)))


def assignment_of(both: PlanAndRun, pairs: PairResult) -> KernelAssignment:
    """What the pair model found, with rows that count on over steps taken apart."""
    rows = len(both.sequence)
    matched = pairs.row >= 0
    step = pairs.place // rows
    place = pairs.place % rows
    row = np.where(matched, pairs.row % rows, -1)
    core = matched & _main_kernels(both, row, step)
    how = np.where(core, HOW.index(MatchedBy.KERNEL), HOW.index(MatchedBy.PART))
    how = np.where(core & (pairs.first < pairs.last), HOW.index(MatchedBy.FUSED), how)
    named = (both.kernel_names >= 0) & matched
    named[named] = both.row_names[row[named]] == both.kernel_names[named]
    how = np.where(named, HOW.index(MatchedBy.NAME), how)
    return KernelAssignment(
        row,
        step,
        place,
        np.where(matched, pairs.chance, pairs.alone),
        pairs.of_scope,
        how.astype(np.int8),
        np.where(matched, pairs.first % rows, -1),
        np.where(matched, pairs.last % rows, -1),
        core,
    )


def each_step(step: Int64s) -> Iterator[Int64s]:
    """The kernels of one step after the other, ascending."""
    order = np.argsort(step, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(step[order])) + 1)


def _main_kernels(both: PlanAndRun, row: Int64s, step: Int64s) -> NDArray[np.bool_]:
    """
    Kernels that run their op, not parts of it: the best of each op, and others where several may run it.

    An op that is written out in parts has none.
    """
    sequence, ratios, kernel_class = both.sequence, both.ratios, both.kernel_class
    main = np.zeros(len(row), dtype=np.bool_)
    matched = np.flatnonzero(row >= 0)
    token, kind = sequence.token[row[matched]], kernel_class[matched]
    core, part, again = ratios.core[token, kind], ratios.behind[token, kind], ratios.again[token, kind]
    able = core >= part
    run = step[matched] * len(sequence) + row[matched]
    order = np.lexsort((-core, run))
    best = np.zeros(len(matched), dtype=np.bool_)
    if len(matched):
        best[order[np.concatenate(([True], np.diff(run[order]) != 0))]] = True
    main[matched] = able & (best | (again >= part))
    return main
