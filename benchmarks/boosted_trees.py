"""
Gradient boosting of small trees with logistic loss: Friedman 2001; gains and leaves as in Chen and Guestrin 2016.

Written out because no dependency of memplan has it, and because what it makes is read as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.core.jit import jit

_BINS = 32
"""Values of a feature at which it may be asked about."""


@dataclass(frozen=True, slots=True)
class Boosting:
    """How trees are grown: how many, how deep, how much each adds, what speaks for leaves of zero, the least one."""

    trees: int = 100
    depth: int = 3
    rate: float = 0.15
    penalty: float = 20.0
    least_weight: float = 60.0


def boosted_trees(
    rows: Float32s, right: Floats, weight: Floats, names: Sequence[str], how: Boosting = Boosting()
) -> Mapping[str, Any]:
    """What `boosted_chance` reads, fitted to `rows` of features of which `right` are right."""
    edges = [_edges(rows[:, column]) for column in range(rows.shape[1])]
    binned = np.stack(
        [np.searchsorted(edge, rows[:, column], side="right") for column, edge in enumerate(edges)], axis=1
    ).astype(np.uint8, order="F")
    begin = float(np.log((weight * right).sum() / (weight * (1.0 - right)).sum()))
    total = np.full(len(right), begin)
    trees = []
    for _ in range(how.trees):
        chance = 1.0 / (1.0 + np.exp(-total))
        slope, curve = weight * (right - chance), weight * chance * (1.0 - chance)
        tree = _Tree(binned, edges, slope, curve, weight, how)
        total += tree.leaves[tree.leaf]
        trees.append(
            {
                "asks": [names[column] for column, _ in tree.asked],
                "least": [_plain(edges[column][at]) for column, at in tree.asked],
                "says": [round(float(value), 4) for value in tree.leaves],
            }
        )
    return {"begin": round(begin, 4), "trees": trees}


def _plain(value: float) -> float:
    """A threshold with as many digits as tell its float32 from others."""
    return float(np.format_float_positional(np.float32(value), unique=True))


def _edges(column: Float32s) -> Float32s:
    """Quantiles of a feature that differ."""
    found: Float32s = np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:], method="nearest"))
    return found.astype(np.float32)


class _Tree:
    """One tree: what each node asks (a column, and from which bin it goes right), leaves, the leaf of each row."""

    def __init__(
        self,
        binned: NDArray[np.uint8],
        edges: Sequence[Float32s],
        slope: Floats,
        curve: Floats,
        weight: Floats,
        how: Boosting,
    ) -> None:
        self.binned, self.edges, self.how = binned, edges, how
        self.asked: list[tuple[int, int]] = []
        node = np.zeros(len(binned), dtype=np.int64)
        every = np.arange(len(binned))
        for level in range(how.depth):
            asked = self._best(node, 1 << level, slope, curve, weight)
            self.asked += asked
            column, at = np.array([one for one, _ in asked]), np.array([one for _, one in asked])
            node = 2 * node + (binned[every, column[node]] > at[node])
        self.leaf: Int64s = node
        ends = 1 << how.depth
        self.leaves: Floats = how.rate * np.bincount(node, slope, ends) / (np.bincount(node, curve, ends) + how.penalty)

    def _best(self, node: Int64s, nodes: int, slope: Floats, curve: Floats, weight: Floats) -> list[tuple[int, int]]:
        """For each node what gains most."""
        penalty = self.how.penalty
        most, best = np.zeros(nodes), [(0, 0)] * nodes
        every = np.zeros((3, self.binned.shape[1], nodes, _BINS + 1))
        add_up(self.binned, node, np.stack((slope, curve, weight)), every)
        for column, edge in enumerate(self.edges):
            bins = len(edge) + 1
            if bins < 2:
                continue
            sums = [of[column, :, :bins] for of in every]
            left = [one.cumsum(axis=1)[:, :-1] for one in sums]
            right = [one.sum(axis=1, keepdims=True) - below for one, below in zip(sums, left, strict=True)]
            gain = left[0] ** 2 / (left[1] + penalty) + right[0] ** 2 / (right[1] + penalty)
            gain -= (left[0] + right[0]) ** 2 / (left[1] + right[1] + penalty)
            gain[np.minimum(left[2], right[2]) < self.how.least_weight] = -1.0
            for one in np.flatnonzero(gain.max(axis=1) > most).tolist():
                most[one], best[one] = gain[one].max(), (column, int(gain[one].argmax()))
        return best


@jit
def add_up(binned: NDArray[np.uint8], node: Int64s, values: Floats, found: Floats) -> None:
    """Add each of `values` of every row to `found[value, column, node of the row, bin of the row]`."""
    for column in range(binned.shape[1]):
        for row in range(len(node)):
            for value in range(len(values)):
                found[value, column, node[row], binned[row, column]] += values[value, row]
