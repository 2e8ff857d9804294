"""Probabilities that mean what they say: those of the model, put right by what runs of known truth showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from memplan.align.probabilities.evidence import MatchEvidence
from memplan.core.arrays import Floats
from memplan.core.resources import table


def calibrated_chance(chance: Floats, told: MatchEvidence, claim: str) -> Floats:
    """
    The share of right ones among matches that the model gave `chance`.

    `claim` is what that is the probability of: of the `op`, or of its `scope`. `told` is the kind of evidence of each
    (`evidence`); where too few were seen of one, those with which it shares the first words are gone by. Between the
    points of the table (`calibration.json`) the line is straight.
    """
    curves: Mapping[str, Sequence[Sequence[float]]] = table("memplan.align", "calibration.json")[claim]
    found = np.clip(chance, 0.0, 1.0)
    for kind in np.flatnonzero(np.bincount(told.kind, minlength=len(told.names))).tolist():
        name = told.names[kind]
        while name not in curves and "." in name:
            name = name.rpartition(".")[0]
        if name in curves:
            raw, right = zip(*curves[name], strict=True)
            chosen = told.kind == kind
            found[chosen] = np.interp(found[chosen], raw, right)
    return found
