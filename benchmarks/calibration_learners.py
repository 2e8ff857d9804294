"""Flexible learners that know how their constants would come out: what they tell of kernels from others measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.cost.deviations import Trait
from memplan.cost.deviations.prior import Columns
from memplan.cost.overlap import Array

_NEIGHBOURS = (1, 2, 3, 5)
_WIDTHS, _RIDGES = (1.0, 2.0, 4.0), (0.1, 0.5, 2.0)
_DEPTHS, _TREES, _RATE, _LEAST = (1, 2, 3), (10, 40), 0.15, 2
_UNLIKE = 2.0
"""How far kernels of another type, kind or bound are, in standard deviations of what is counted."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one learner with one set of constants tells: logarithms of measured over modelled time."""

    family: str
    ratios: Array


def learners(fitted: Sequence[Trait], ratios: Array, spent: Array, asked: Sequence[Trait]) -> Iterator[Told]:
    """
    What each learner tells of the kernels `asked` by those `fitted`, whose logarithms of measured over modelled time
    are `ratios` and which `spent` so many nanoseconds.

    Nearest neighbours, ridge regression with a Gaussian kernel, and boosted trees of least squares, each with several
    constants.
    """
    known, wanted = _features(fitted, asked)
    weights = np.sqrt(spent) / np.sqrt(spent).mean()
    squares = ((wanted[:, None, :] - known[None, :, :]) ** 2).sum(axis=2)
    order = np.argsort(squares, axis=1, kind="stable")
    for count in _NEIGHBOURS:
        nearest = order[:, :count]
        near = 1 / (0.1 + np.sqrt(np.take_along_axis(squares, nearest, axis=1)))
        yield Told("nearest", np.asarray((near * ratios[nearest]).sum(axis=1) / near.sum(axis=1)))
    own = ((known[:, None, :] - known[None, :, :]) ** 2).sum(axis=2)
    for width in _WIDTHS:
        shared, across = (np.exp(-0.5 * part / width**2) for part in (own, squares))
        for ridge in _RIDGES:
            told = np.linalg.solve(shared + np.diag(ridge / weights), ratios)
            yield Told("kernel ridge", np.asarray(across @ told))
    for depth in _DEPTHS:
        yield from _boosted(known, ratios, weights, wanted, depth)


def _features(fitted: Sequence[Trait], asked: Sequence[Trait]) -> tuple[Array, Array]:
    """What is counted in standard deviations, and a column for each type, kind and bound."""
    both = Columns.of([*fitted, *asked])
    counted = np.column_stack(
        [both.size, both.row, both.rows, both.read_row, both.filled, both.hot, both.writes, both.reads, both.pushes]
    )
    known = counted[: len(fitted)]
    counted = (counted - known.mean(axis=0)) / (known.std(axis=0) + 1e-6)
    names: list[Array] = []
    for group in (both.type, both.kind, both.bound):
        names += [np.where(group == name, _UNLIKE / np.sqrt(2), 0.0) for name in np.unique(group)]
    features = np.column_stack([counted, *names])
    return features[: len(fitted)], features[len(fitted) :]


def _boosted(known: Array, ratios: Array, weights: Array, wanted: Array, depth: int) -> Iterator[Told]:
    told, found = np.zeros(len(known)), np.zeros(len(wanted))
    for number in range(1, max(_TREES) + 1):
        here, there = np.zeros(len(known)), np.zeros(len(wanted))
        _grow(known, ratios - told, weights, wanted, depth, np.arange(len(known)), np.arange(len(wanted)), here, there)
        told, found = told + _RATE * here, found + _RATE * there
        if number in _TREES:
            yield Told("boosted trees", found)


def _grow(
    known: Array, left: Array, weights: Array, wanted: Array, depth: int,
    rows: NDArray[np.int64], asked: NDArray[np.int64], here: Array, there: Array,
) -> None:  # fmt: skip
    """Grow a tree on `rows` and fill in what it says of them and of those `asked`."""
    cut = _best_cut(known[rows], left[rows], weights[rows]) if depth and len(rows) >= 2 * _LEAST else None
    if cut is None:
        says = float(np.average(left[rows], weights=weights[rows]))
        here[rows], there[asked] = says, says
        return
    column, value = cut
    for side in (True, False):
        own, other = rows[(known[rows, column] <= value) == side], asked[(wanted[asked, column] <= value) == side]
        _grow(known, left, weights, wanted, depth - 1, own, other, here, there)


def _best_cut(features: Array, left: Array, weights: Array) -> tuple[int, float] | None:
    """The column and value that leave the least squares, `None` where nothing is to be told apart."""
    order = np.argsort(features, axis=0, kind="stable")
    values = np.take_along_axis(features, order, axis=0)
    weight = np.cumsum(weights[order], axis=0)
    total = np.cumsum((weights * left)[order], axis=0)
    low = total[:-1] ** 2 / weight[:-1]
    high = (total[-1] - total[:-1]) ** 2 / np.maximum(weight[-1] - weight[:-1], 1e-12)
    gain = np.where(np.diff(values, axis=0) > 1e-9, low + high, -np.inf)
    gain[: _LEAST - 1] = -np.inf
    gain[len(gain) - _LEAST + 1 :] = -np.inf
    row, column = np.unravel_index(int(np.argmax(gain)), gain.shape)
    if not np.isfinite(gain[row, column]):
        return None
    return int(column), float((values[row, column] + values[row + 1, column]) / 2)
