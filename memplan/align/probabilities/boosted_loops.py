"""The sum over trees of what each says of a match."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Float32s, Floats
from memplan.core.jit import jit_numpy_division

_SIDE_BY_SIDE = 64
"""Rows that go down a tree at a time: each waits for its own answers, so that many are looked up at once."""


@jit_numpy_division
def summed_trees(
    rows: Float32s, feature: NDArray[np.uint32], least: Float32s, leaf: Floats, depth: int, total: Floats
) -> None:
    """
    Add to `total` what every tree says of each row.

    Node `k` of a tree goes on to `2 k + 2` where the row's `feature[k]` is at least `least[k]`, else to `2 k + 1`;
    after `depth` of them stands a `leaf`.
    """
    nodes = feature.shape[1]
    some = np.zeros((rows.shape[1], _SIDE_BY_SIDE), dtype=np.float32)
    node = np.zeros(_SIDE_BY_SIDE, dtype=np.uint32)
    for begin in range(0, rows.shape[0], _SIDE_BY_SIDE):
        count = min(_SIDE_BY_SIDE, rows.shape[0] - begin)
        for at in range(count):
            for column in range(rows.shape[1]):
                some[column, at] = rows[begin + at, column]
        for tree in range(feature.shape[0]):
            node[:] = 0
            for _ in range(depth):
                for at in range(_SIDE_BY_SIDE):
                    here = node[at]
                    node[at] = 2 * here + (2 if some[feature[tree, here], at] >= least[tree, here] else 1)
            for at in range(count):
                total[begin + at] += leaf[tree, node[at] - nodes]


__all__ = ["summed_trees"]
