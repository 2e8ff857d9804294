"""Probabilities that mean what they say: those of the model, put right by what simulated runs showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from memplan.align.assignment import HOW, MatchedBy
from memplan.core.arrays import Floats
from memplan.core.resources import table


def calibrated_chance(
    chance: Floats, how: NDArray[np.int8], matched: NDArray[np.bool_], weak: NDArray[np.bool_], claim: str
) -> Floats:
    """
    The share of right ones among matches that the model gave `chance`.

    `claim` is what that is the probability of: of the `op`, or of its `scope`. `how` numbers `HOW` where `matched`; the
    others are kernels said to be in no plan. `weak` marks
    parts whose sizes say little of their op. Between the points of the table (`calibration.json`) the line is straight.
    """
    curves: Mapping[str, Sequence[Sequence[float]]] = table("memplan.align", "calibration.json")[claim]
    found = np.clip(chance, 0.0, 1.0)
    for name, chosen in curve_members(how, matched, weak).items():
        points = curves.get(name)
        if points:
            raw, right = zip(*points, strict=True)
            found[chosen] = np.interp(found[chosen], raw, right)
    return found


def curve_members(
    how: NDArray[np.int8], matched: NDArray[np.bool_], weak: NDArray[np.bool_]
) -> Mapping[str, NDArray[np.bool_]]:
    """Which kernels each curve is for, by its name in the table."""
    part = matched & (how == HOW.index(MatchedBy.PART))
    groups = {way.value: matched & (how == number) & ~(part & weak) for number, way in enumerate(HOW)}
    return {**groups, "weak_part": part & weak, "unplanned": ~matched}
