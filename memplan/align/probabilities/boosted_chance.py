"""
Probabilities that mean what they say: those of the model, put right by what runs of known truth showed.

Trees of few questions over the features of a match, each put right what those before it left (Friedman 2001, gradient
boosting with logistic loss; Chen and Guestrin 2016 for its second-order form). They are fitted by
`benchmarks/calibration_fit.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from memplan.align.probabilities.match_features import MatchFeatures
from memplan.core.arrays import Float32s, Floats
from memplan.core.resources import table
from memplan.core.workers import in_threads

_PIECE = 1 << 16
"""Matches looked at in one go."""


def boosted_chance(chance: Floats, features: MatchFeatures, claim: str) -> Floats:
    """
    What the trees say of matches like these that the model gave `chance`.

    `claim` is what that is the probability of: of the `op`, of its `scope`, or of the `place` of a kernel whose op is
    not told. Trees are surer than they may be of runs that they were not fitted to: `stated_chance` is what is said.
    """
    told = _told(claim)

    def piece(at: int) -> Floats:
        some = slice(at, at + _PIECE)
        return summed_chance(told, features.part(some).rows(chance[some]))

    return np.concatenate([*in_threads(piece, range(0, len(chance), _PIECE)), np.empty(0)])


def stated_chance(found: Floats, sight: str, claim: str) -> Floats:
    """What is stated where the trees of `claim` said `found`: one of few levels, NaN where that is too little."""
    return level_of(_told(claim), found, sight)


def level_of(told: Mapping[str, Any], found: Floats, sight: str) -> Floats:
    """
    The share of right ones among runs of which the trees of `told`, fitted to others, said `found`.

    Levels are as few as runs can tell apart; NaN where there is none. A run is of one of the kinds `SIGHTS`, which have
    levels of their own: without shapes one run is right where another is wrong, so that less of it is stated.
    """
    least, right = np.array(told["levels"][sight], dtype=np.float64).T
    level: Floats = right[np.searchsorted(least, found, side="right") - 1]
    return level


def summed_chance(told: Mapping[str, Any], rows: Float32s) -> Floats:
    """What the trees of `told` together say of `rows` of features, before any level."""
    from memplan.align.probabilities.boosted_loops import summed_trees

    number = {name: place for place, name in enumerate(MatchFeatures.names())}
    trees = told["trees"]
    asks = np.array([[number[name] for name in tree["asks"]] for tree in trees], dtype=np.uint32)
    least = np.array([tree["least"] for tree in trees], dtype=np.float32)
    says = np.array([tree["says"] for tree in trees], dtype=np.float64)
    total = np.full(len(rows), float(told["begin"]))
    summed_trees(rows, asks, least, says, int(np.log2(says.shape[1])), total)
    found: Floats = 1.0 / (1.0 + np.exp(-total))
    return found


def _told(claim: str) -> Mapping[str, Any]:
    of: Mapping[str, Any] = table("memplan.align", "calibration.json")[claim]
    return of
