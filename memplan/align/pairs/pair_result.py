"""What an alignment says of every kernel: its row, how surely, and what is current there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Floats, Int64s

_OF_STEP = 0.05
"""Share of the kernels of the longest step below which a stretch between two others is no step."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """
    For every kernel: the likeliest row (-1: none) and its probability, that of being in no plan, the rows fused in it.

    `of_scope` is the probability of the scope of `row`, or that no planned op runs the kernel where `row` has none.

    `place` is the row that is current there, whatever the kernel is; rows count on over repeated steps.
    """

    row: Int64s
    chance: Floats
    alone: Floats
    of_scope: Floats
    first: Int64s
    last: Int64s
    place: Int64s

    def part(self, begin: int, end: int) -> PairResult:
        """Kernels `begin` to `end` alone."""
        return self._of([column[begin:end] for column in self._columns()])

    def taken(self, which: Int64s) -> PairResult:
        """Kernels `which` alone."""
        return self._of([column[which] for column in self._columns()])

    def moved(self, by: Int64s | int) -> PairResult:
        """The same so many rows further on."""
        return replace(
            self,
            row=np.where(self.row >= 0, self.row + by, -1),
            first=np.where(self.first >= 0, self.first + by, -1),
            last=np.where(self.last >= 0, self.last + by, -1),
            place=self.place + by,
        )

    @staticmethod
    def empty(kernels: int) -> PairResult:
        """Nothing matched yet."""
        nowhere = [np.full(kernels, -1, dtype=np.int64) for _ in range(4)]
        place = np.zeros(kernels, dtype=np.int64)
        chance, alone, of_scope = np.zeros(kernels), np.ones(kernels), np.ones(kernels)
        return PairResult(nowhere[0], chance, alone, of_scope, nowhere[1], nowhere[2], place)

    def put(self, which: Int64s, other: PairResult) -> None:
        """Replace kernels `which` by those of `other`."""
        for mine, theirs in zip(self._columns(), other._columns(), strict=True):
            mine[which] = theirs

    @staticmethod
    def joined(parts: Sequence[PairResult]) -> PairResult:
        """Pieces one after the other."""
        return PairResult(
            *(np.concatenate(columns) for columns in zip(*(part._columns() for part in parts), strict=True))
        )

    @staticmethod
    def _of(columns: Sequence[NDArray[Any]]) -> PairResult:
        return PairResult(*columns)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.row, self.chance, self.alone, self.of_scope, self.first, self.last, self.place


def counted_on(found: PairResult, rows: int) -> PairResult:
    """
    Rows that count on over steps: one begins where the alignment falls back by more than half of the plan.

    What stands between two steps is not one of its own: a few kernels there are of the one before or of the next.
    """
    turn = np.cumsum(np.diff(found.place, prepend=found.place[:1]) < -rows // 2)
    kernels = np.bincount(turn, minlength=1)
    between = kernels < _OF_STEP * kernels.max()
    between[[0, -1]] = False  # a profile may begin or end inside a step
    number = np.cumsum(~between) - 1
    return found.moved((number[turn] + (between[turn] & (found.place < rows // 2))) * rows)
