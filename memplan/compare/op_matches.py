"""Planned ops with the kernels of one step that ran them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s


@dataclass(frozen=True, slots=True)
class Matches:
    """
    Planned ops found in the step, ascending by op: rows of equal length.

    `start_ns` and `end_ns` are measured times of an op's first and last kernel, `duration_ns` the sum over its
    kernels, `by_name` whether it was found by name (else by type and order).
    """

    op: Int64s
    start_ns: Int64s
    end_ns: Int64s
    duration_ns: Int64s
    by_name: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.op)


def matches_of(
    op: Int64s, by_name: NDArray[np.bool_], start_ns: Int64s, end_ns: Int64s, duration_ns: Int64s
) -> Matches:
    """Kernels of a step gathered by their planned `op`, -1 where they have none."""
    rows = np.flatnonzero(op >= 0)
    rows = rows[np.argsort(op[rows], kind="stable")]
    ops, first = np.unique(op[rows], return_index=True)
    if not len(ops):
        nothing = np.zeros(0, dtype=np.int64)
        return Matches(nothing, nothing, nothing, nothing, np.zeros(0, dtype=bool))
    return Matches(
        ops,
        np.minimum.reduceat(start_ns[rows], first),
        np.maximum.reduceat(end_ns[rows], first),
        np.add.reduceat(duration_ns[rows], first),
        np.logical_or.reduceat(by_name[rows], first),
    )
