"""Deviations that were measured, and the ones that are expected of other kernels for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from memplan.cost.deviations.prior import Columns, Prior, SharedTraits
from memplan.cost.deviations.traits import Trait
from memplan.cost.kernel import op_class
from memplan.cost.overlap import Array


@dataclass(frozen=True, slots=True)
class Member:
    """One of the priors, its share in what is expected, and the weight that each kernel's deviation has under it."""

    prior: Prior
    share: float
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Deviations:
    """
    Kernels measured, what each prior makes of them, and the share of its deviations that each kind keeps.

    `least_shapes` are as many distinct kernels of a type as speak for others of it.
    """

    members: tuple[Member, ...] = ()
    traits: tuple[Trait, ...] = ()
    kept: Mapping[str, float] = field(default_factory=dict)
    least_shapes: int = 1

    def covers(self, trait: Trait) -> bool:
        """Whether enough kernels of its type were measured, and from half to twice its time."""
        if not self.kept.get(op_class(trait.type).kind):
            return False
        sizes = [known.size for known in self.traits if known.type == trait.type]
        if len(sizes) < self.least_shapes:
            return False
        return min(sizes) - math.log(4) <= trait.size <= max(sizes) + math.log(4)

    def ratios(self, traits: Sequence[Trait]) -> Array:
        """Measured over modelled time that is expected of each kernel, 1 of those that are not covered."""
        found = np.ones(len(traits))
        covered = [index for index, trait in enumerate(traits) if self.covers(trait)]
        if covered:
            asked = [self._with_hot(traits[index]) for index in covered]
            shared = SharedTraits(Columns.of(asked), Columns.of(self.traits))
            told = sum(each.share * (shared.covariance(each.prior) @ np.array(each.weights)) for each in self.members)
            found[covered] = np.exp(told * np.array([self.kept[op_class(trait.type).kind] for trait in asked]))
        return found

    def _with_hot(self, trait: Trait) -> Trait:
        """`trait` with as much found in L2 as kernels of its type and like size did, where nobody knows."""
        if trait.hot is not None:
            return trait
        own = [known for known in self.traits if known.type == trait.type]
        near = np.array([math.exp(-abs(known.size - trait.size)) for known in own])
        return replace(trait, hot=float(near @ np.array([known.hot or 0.0 for known in own]) / near.sum()))
