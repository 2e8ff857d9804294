"""How alike the deviations of two kernels are taken to be before any was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.resources import table
from memplan.cost.deviations.traits import Trait
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.measured_kernels import calibration_choice
from memplan.cost.overlap import Array

_MIDDLE_NS = 20_000.0
"""The size at which variances are told: longer kernels are predicted the better, shorter ones the worse."""


@dataclass(frozen=True, slots=True)
class Prior:
    """
    Variances of log ratios of measured to modelled time that kernels share by what they have in common.

    Those of one bound, kind, rule and bound, or type; of one type with like sizes and rows (`shape`), or with like
    dimensions (`extents`); of one kind and bound that fill L2 alike and find as much there (`memory`). `writes` is how
    far results that push others out of L2 may take longer than modelled, as a share of what the model has for that,
    `pushes` how far reads that do so may, for each kind of kernels on its own and as a share of what HBM's rate gives,
    `reads` how far off it may have what kernels gain and lose by those before them. Lengths are how far logarithms may
    differ, `hot_length` how far the shares found in L2 may. `noise` is what each kernel goes its own way, Student's
    with `tails` degrees of freedom, `falloff` the power of the time by which deviations get smaller.
    """

    bound: float = 0.0
    kind: float = 0.0
    rule: float = 0.0
    type: float = 0.0
    shape: float = 0.0
    extents: float = 0.0
    memory: float = 0.0
    writes: float = 0.0
    reads: float = 0.0
    pushes: float = 0.0
    noise: float = 0.0
    tails: float = 1.0
    falloff: float = 0.0
    size_length: float = 1.0
    row_length: float = 1.0
    extent_length: float = 1.0
    hot_length: float = 1.0
    filled_length: float = 1.0


def spread_priors() -> list[Prior]:
    """
    Priors spread evenly over the ranges of `calibration.json`, in logarithms: none was picked for what it gives.

    They are the points of a lattice of as many points as there are priors, a prime number (Korobov 1959).
    """
    ranges = table("memplan.cost", "calibration.json")["prior_ranges"]["value"]
    count = int(calibration_choice("priors"))
    return [
        Prior(
            **{
                name: low * (high / low) ** (((point * (row + 1) + row**2) % count + 0.5) / count)
                for row, (name, (low, high)) in enumerate(ranges.items())
            },
        )
        for point in range(count)
    ]


@dataclass(frozen=True, slots=True)
class Columns:
    """Traits as columns with a row each; `writes`, `reads` and `pushes` are what variances of these names go with."""

    type: NDArray[np.str_]
    rule: NDArray[np.str_]
    kind: NDArray[np.str_]
    bound: NDArray[np.str_]
    size: Array
    row: Array
    rows: Array
    read_row: Array
    filled: Array
    hot: Array
    writes: Array
    reads: Array
    pushes: Array

    @staticmethod
    def of(traits: Sequence[Trait]) -> Columns:
        """The columns of `traits`."""
        classes = [op_class(trait.type) for trait in traits]
        hot = np.array([trait.hot or 0.0 for trait in traits])
        return Columns(
            np.array([trait.type for trait in traits]),
            np.array([item.rule for item in classes]),
            np.array([item.kind for item in classes]),
            np.array([trait.bound for trait in traits]),
            np.array([trait.size for trait in traits]),
            np.array([trait.row for trait in traits]),
            np.array([trait.rows for trait in traits]),
            np.array([trait.read_row for trait in traits]),
            np.array([trait.filled for trait in traits]),
            hot,
            np.array([trait.through for trait in traits]) * (1 - hot),
            np.array([trait.order for trait in traits]),
            np.array([trait.pushed or 0.0 for trait in traits]) * (1 - hot),
        )

    def scale(self, prior: Prior) -> Array:
        """By how much deviations of kernels as long as each are larger than those of middling ones."""
        return np.asarray(np.exp(-prior.falloff * (self.size - math.log(_MIDDLE_NS))))


class SharedTraits:
    """What each of `one` and each of `other` have in common, for priors to weigh."""

    def __init__(self, one: Columns, other: Columns) -> None:
        self._one, self._other = one, other
        self._type, self._kind = self._alike("type"), self._alike("kind")
        self._bound, self._rule = self._alike("bound"), self._alike("rule")
        self._size, self._row, self._hot = self._apart("size"), self._apart("row"), self._apart("hot")
        self._filled = self._apart("filled")
        self._extents = self._row + self._apart("rows") + self._apart("read_row")
        self._bound_of_rule, self._bound_of_kind = self._rule * self._bound, self._kind * self._bound
        self._writes, self._reads = self._together("writes"), self._together("reads")
        self._pushes = self._kind * self._together("pushes")

    def covariance(self, prior: Prior) -> Array:
        """Covariances of the deviations under `prior`, a row for each of `one`."""
        near_size = _near(self._size, prior.size_length)
        by_size = prior.bound * self._bound + prior.kind * self._kind + prior.rule * self._bound_of_rule
        by_type = prior.shape * near_size * _near(self._row, prior.row_length)
        by_type = by_type + prior.extents * _near(self._extents, prior.extent_length) + prior.type
        memory = _near(self._hot, prior.hot_length) * _near(self._filled, prior.filled_length)
        shared = near_size * by_size + self._type * by_type + prior.memory * self._bound_of_kind * memory
        shared = shared * np.multiply.outer(self._one.scale(prior), self._other.scale(prior))
        shared = shared + prior.writes * self._writes + prior.pushes * self._pushes
        return np.asarray(shared + prior.reads * self._reads)

    def _alike(self, name: str) -> Array:
        return np.asarray(np.equal.outer(getattr(self._one, name), getattr(self._other, name)), dtype=np.float64)

    def _together(self, name: str) -> Array:
        return np.asarray(np.multiply.outer(getattr(self._one, name), getattr(self._other, name)))

    def _apart(self, name: str) -> Array:
        """Squares of differences."""
        return np.asarray(np.subtract.outer(getattr(self._one, name), getattr(self._other, name)) ** 2)


def _near(squares: Array, length: float) -> Array:
    return np.asarray(np.exp(-0.5 * squares / length**2))
