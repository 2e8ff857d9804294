"""Deviations that were measured, and the ones that are expected of other kernels for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from memplan.cost.deviations.prior import Columns, Prior, SharedTraits
from memplan.cost.deviations.traits import Trait
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.measured_kernels import calibration_choice
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

    `least_shapes` are as many distinct kernels of a type and data type as speak for others of these.
    """

    members: tuple[Member, ...] = ()
    traits: tuple[Trait, ...] = ()
    kept: Mapping[str, float] = field(default_factory=dict)
    least_shapes: int = 1

    def covers(self, trait: Trait) -> bool:
        """Whether enough kernels of its type and data type were measured, and such of about its time or longer ones."""
        if not self.kept.get(op_class(trait.type).kind):
            return False
        sizes = [known.size for known in self.traits if known.speaks_for(trait)]
        if len(sizes) < self.least_shapes:
            return False
        least = min(sizes) - math.log(calibration_choice("reach_below"))
        return least <= trait.size <= max(sizes) + math.log(calibration_choice("reach_above"))

    def times_ns(self, traits: Sequence[Trait]) -> Array:
        """Nanoseconds that each kernel, all of them covered, is expected to take."""
        asked = [self._in_place(trait) for trait in traits]
        columns = Columns.of(asked)
        shared = SharedTraits(columns, Columns.of(self.traits))
        told = sum(each.share * (shared.covariance(each.prior) @ np.array(each.weights)) for each in self.members)
        kept = np.array([self.kept[op_class(trait.type).kind] for trait in asked])
        return np.asarray(np.exp(columns.size + columns.reads + kept * told))

    def _in_place(self, trait: Trait) -> Trait:
        """`trait` in such a place as kernels of its type and like size had on average, where nobody knows its own."""
        own = [known for known in self.traits if known.speaks_for(trait) and known.hot is not None]
        if not own:
            # Those measured were, in an older version's file, told as if each had run alone.
            return replace(trait, hot=0.0, order=0.0, pushed=0.0)
        if trait.hot is not None and trait.pushed is not None:
            return trait
        near = np.array([math.exp(-abs(known.size - trait.size)) for known in own])
        near = near / near.sum()
        pushed = float(near @ np.array([known.pushed or 0.0 for known in own]))
        if trait.hot is not None:
            return replace(trait, pushed=pushed)
        return replace(
            trait,
            hot=float(near @ np.array([known.hot or 0.0 for known in own])),
            order=float(near @ np.array([known.order for known in own])),
            pushed=pushed,
        )
