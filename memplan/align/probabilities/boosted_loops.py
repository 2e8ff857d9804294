"""The sum over trees of what each says of a match."""

from __future__ import annotations

from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.core.jit import jit_numpy_division


@jit_numpy_division
def summed_trees(rows: Float32s, feature: Int64s, least: Float32s, leaf: Floats, depth: int, total: Floats) -> None:
    """
    Add to `total` what every tree says of each row.

    Node `k` of a tree goes on to `2 k + 2` where the row's `feature[k]` is at least `least[k]`, else to `2 k + 1`;
    after `depth` of them stands a `leaf`.
    """
    nodes = feature.shape[1]
    for row in range(rows.shape[0]):
        for tree in range(feature.shape[0]):
            node = 0
            for _ in range(depth):
                node = 2 * node + (2 if rows[row, feature[tree, node]] >= least[tree, node] else 1)
            total[row] += leaf[tree, node - nodes]


__all__ = ["summed_trees"]
