"""
Probabilities that mean what they say: those of the model, put right by what runs of known truth showed.

Trees of few questions over the features of a match, each put right what those before it left (Friedman 2001, gradient
boosting with logistic loss; Chen and Guestrin 2016 for its second-order form). They are fitted by
`benchmarks/calibration_fit.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from memplan.align.probabilities.match_features import MatchFeatures
from memplan.core.arrays import Floats
from memplan.core.resources import table

_PIECE = 1 << 16
"""Matches looked at in one go."""


def boosted_chance(chance: Floats, features: MatchFeatures, claim: str) -> Floats:
    """
    The share of right ones among matches like these that the model gave `chance`.

    `claim` is what that is the probability of: of the `op`, or of its `scope`.
    """
    from memplan.align.probabilities.boosted_loops import summed_trees

    feature, least, leaf, begin = _trees(claim)
    depth = int(np.log2(leaf.shape[1]))
    total = np.full(len(chance), begin)
    for at in range(0, len(chance), _PIECE):
        some = slice(at, at + _PIECE)
        summed_trees(features.part(some).rows(chance[some]), feature, least, leaf, depth, total[some])
    found: Floats = 1.0 / (1.0 + np.exp(-total))
    return found


@cache
def _trees(claim: str) -> tuple[Any, Any, Any, float]:
    """Features, thresholds and leaves of all trees of a claim, and what they begin with."""
    told: Mapping[str, Any] = table("memplan.align", "calibration.json")
    number = {name: place for place, name in enumerate(MatchFeatures.names())}
    trees = told[claim]["trees"]
    return (
        np.array([[number[name] for name in tree["asks"]] for tree in trees], dtype=np.int64),
        np.array([tree["least"] for tree in trees], dtype=np.float32),
        np.array([tree["says"] for tree in trees], dtype=np.float64),
        float(told[claim]["begin"]),
    )
