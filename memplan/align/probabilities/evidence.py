"""
What kind of evidence a match has: sizes that fit nothing else near, order alone, or order of kernels without shapes.

A model gives probabilities of its own, but is wrong in other ways where sizes tell an op than where only order does:
each kind of evidence is calibrated by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.likelihood import Likelihoods, pair_model
from memplan.align.planned_sequence import PlannedSequence
from memplan.align.tokens import TokenClasses
from memplan.core.arrays import Bools, Int32s, Int64s

_NEAR = 12
"""Rows to either side in which another op may be the right one."""
_AS_WELL = 0.2
"""Share of the ratio of the op given from which another one fits as well."""
_HARDLY = 0.015
"""Share of planned ops that a run may miss which has all that is planned."""
_NONE, _NO_OP = -2, -3
"""Scopes of kernels that are in no plan, and of rows that are no op."""
_PIECE = 1 << 16
"""Kernels looked at in one go."""
_WAYS = (*(way.value for way in HOW), "written", "unplanned", "beside")
_TOLD = ("size", "order", "blind", "weak")


@dataclass(frozen=True, slots=True)
class MatchEvidence:
    """The kind of evidence of each kernel as a number into `names`, those of curves in `calibration.json`."""

    kind: NDArray[np.int8]
    names: tuple[str, ...]

    def of_each(self, owner: Int64s) -> MatchEvidence:
        """That of every kernel, of which some count as one here: `owner` is the place of each."""
        return replace(self, kind=self.kind[owner])


def evidence(
    sequence: PlannedSequence,
    ratios: Likelihoods,
    kernels: TokenClasses,
    kernel_class: Int32s,
    found: KernelAssignment,
    missed: int,
) -> MatchEvidence:
    """
    How each kernel was matched, and what told it.

    `size`: no op near of another part of the model could be run by it as well. `order`: some could. `blind`: the
    profile has no shapes. `weak`: a part whose sizes are no reason to take it for one of its op. `.whole` follows where
    hardly any planned op is `missed`: a run that has all that is planned has little else that may be taken for it.
    """
    matched = found.row >= 0
    part = matched & (found.how == HOW.index(MatchedBy.PART))
    own = ratios.behind[sequence.token[found.row], kernel_class]
    weak = part & (own < pair_model()["weak_part"]) & ~kernels.scalar[kernel_class]
    blind = ~kernels.known[kernel_class]
    others = _others_fit(sequence, ratios, kernel_class, found)
    told = np.select([weak, blind, others], [_TOLD.index(name) for name in ("weak", "blind", "order")], 0)
    # What is in the sequence but not in the plan.
    planned = matched.copy()
    planned[matched] = sequence.scope[found.row[matched]] >= 0
    place: Int64s = found.step * len(sequence) + found.row
    ran, row = np.unique(place, return_inverse=True)
    mains = np.bincount(row, found.core & matched, len(ran)) > 0
    way = np.select(
        [~matched, ~planned, part & ~mains[row]],
        [_WAYS.index(name) for name in ("unplanned", "beside", "written")],
        found.how,
    )
    some = int(planned.any()) and len(np.unique(place[planned]))
    whole = ".whole" if missed <= _HARDLY * (some + missed) else ""
    names = tuple(f"{name}.{what}{whole}" for name in _WAYS for what in _TOLD)
    return MatchEvidence((way * len(_TOLD) + told).astype(np.int8), names)


def _others_fit(sequence: PlannedSequence, ratios: Likelihoods, kernel_class: Int32s, found: KernelAssignment) -> Bools:
    """Kernels that a row near where they stand, of another scope than theirs, could run as well as their own."""
    rows, classes = len(sequence), ratios.core.shape[1]
    matched = found.row >= 0
    fit = np.maximum(ratios.core, ratios.behind).ravel()
    before = sequence.token.astype(np.int64) * classes
    own = fit[before[found.row] + kernel_class]
    # One in no plan is told by what could have run it.
    least = np.where(matched, own * _AS_WELL, 1.0 / pair_model()["prices"]["unplanned"])
    at, scope = np.where(matched, found.row, found.place), np.where(matched, sequence.scope[found.row], _NONE)
    there = np.where(sequence.op >= 0, sequence.scope, _NO_OP)
    fits = np.zeros(len(at), dtype=np.bool_)
    for begin in range(0, len(at), _PIECE):
        some = slice(begin, begin + _PIECE)
        for away in range(-_NEAR, _NEAR + 1):
            other = np.clip(at[some] + away, 0, rows - 1)
            known = there[other]
            able = fit[before[other] + kernel_class[some]] >= least[some]
            fits[some] |= able & (known != scope[some]) & (known != _NO_OP)
    return fits
