"""
What kind of evidence a match has: sizes that fit nothing else near, order alone, or order of kernels without shapes.

A model gives probabilities of its own, but is wrong in other ways where sizes tell an op than where only order does:
each kind of evidence is calibrated by itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.likelihood import Likelihoods, pair_model
from memplan.align.planned_sequence import PlannedSequence
from memplan.align.tokens import TokenClasses
from memplan.core.arrays import Bools, Float32s, Int32s, Int64s

_NEAR = 12
"""Rows to either side in which another op may be the right one."""
_AS_WELL = 0.2
"""Share of the ratio of the op given from which another one fits as well."""
_HARDLY = 0.015
"""Share of planned ops that a run may miss which has all that is planned."""
_PIECE = 1 << 16
"""Kernels looked at in one go."""


def evidence(
    sequence: PlannedSequence,
    ratios: Likelihoods,
    kernels: TokenClasses,
    kernel_class: Int32s,
    found: KernelAssignment,
    missed: int,
) -> NDArray[np.str_]:
    """
    For each kernel the name of its curve in `calibration.json`: how it was matched, and what told it.

    `size`: no op near of another part of the model could be run by it as well. `order`: some could. `blind`: the
    profile has no shapes. `weak`: a part whose sizes are no reason to take it for one of its op. `.whole` follows where
    hardly any planned op is `missed`: a run that has all that is planned has little else that may be taken for it.
    """
    matched = found.row >= 0
    told = np.full(len(found.row), "size", dtype="<U16")
    told[_others_fit(sequence, ratios, kernel_class, found)] = "order"
    told[~kernels.known[kernel_class]] = "blind"
    part = matched & (found.how == HOW.index(MatchedBy.PART))
    way = np.array([way.value for way in HOW], dtype="<U16")[found.how]
    way[part & ~_with_main_kernel(sequence, found)] = "written"
    own = ratios.behind[sequence.token[found.row], kernel_class]
    told[part & (own < pair_model()["weak_part"]) & ~kernels.scalar[kernel_class]] = "weak"
    way[~matched] = "unplanned"
    # What is in the sequence but not in the plan.
    planned = matched.copy()
    planned[matched] = sequence.scope[found.row[matched]] >= 0
    way[matched & ~planned] = "beside"
    ran = len(np.unique((found.step * len(sequence) + found.row)[planned]))
    whole = ".whole" if missed <= _HARDLY * (ran + missed) else ""
    return np.char.add(np.char.add(np.char.add(way, "."), told), whole)


def _others_fit(sequence: PlannedSequence, ratios: Likelihoods, kernel_class: Int32s, found: KernelAssignment) -> Bools:
    """Kernels that a row near where they stand, of another scope than theirs, could run as well as their own."""
    rows = len(sequence)
    matched = found.row >= 0
    own = np.maximum(*_fit(ratios, sequence.token[found.row], kernel_class))
    # One in no plan is told by what could have run it.
    least = np.where(matched, own * _AS_WELL, 1.0 / pair_model()["prices"]["unplanned"])
    at, scope = np.where(matched, found.row, found.place), sequence.scope[found.row]
    fits = np.zeros(len(at), dtype=np.bool_)
    for begin in range(0, len(at), _PIECE):
        some = slice(begin, begin + _PIECE)
        for away in range(-_NEAR, _NEAR + 1):
            other = np.clip(at[some] + away, 0, rows - 1)
            there = np.maximum(*_fit(ratios, sequence.token[other], kernel_class[some])) >= least[some]
            fits[some] |= there & ((sequence.scope[other] != scope[some]) | ~matched[some]) & (sequence.op[other] >= 0)
    return fits


def _fit(ratios: Likelihoods, token: Int32s, kernel_class: Int32s) -> tuple[Float32s, Float32s]:
    return ratios.core[token, kernel_class], ratios.behind[token, kernel_class]


def _with_main_kernel(sequence: PlannedSequence, found: KernelAssignment) -> Bools:
    """Kernels whose op is run by one of its own, beside parts."""
    place: Int64s = found.step * len(sequence) + found.row
    mains = np.unique(place[found.core & (found.row >= 0)])
    return np.isin(place, mains)
