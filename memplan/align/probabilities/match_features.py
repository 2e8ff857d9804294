"""
What is known of every match beside the probability that a model gives it: numbers that tell how far to trust that.

Matches of one kind share one fate: where kernels of a class are taken for the wrong op, they are so in every layer. What
tells is how regular a kind is (in every layer alike, or here and there), whether another op near fits as well,
and how well the run as a whole fits the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.likelihood import Likelihoods, pair_model
from memplan.align.op_families import family_table
from memplan.align.planned_sequence import PlannedSequence
from memplan.align.tokens import TokenClasses
from memplan.core.arrays import Bools, Floats, Int32s, Int64s

WAYS = (*(way.value for way in HOW), "written", "unplanned", "beside")
"""How kernels are matched; a part of an op written out, of no op, of what frameworks run beside a plan are apart."""
_NEAR = 12
"""Rows to either side in which another op may be the right one."""
_LEAST, _MOST = -12.0, 12.0
"""Limits of logarithms."""
_PIECE = 1 << 16
"""Kernels looked at in one go."""
_NONE, _NO_OP = -2, -3
"""Scopes of kernels that are in no plan, and of rows that are no op."""


@dataclass(frozen=True, slots=True)
class MatchFeatures:
    """
    One column a feature, one row a kernel; `way` numbers `WAYS`.

    `own` is the logarithm of the ratio that speaks for the op, `margin` by how much it is above that of the best row of
    another scope near. `alike` is the share of kernels of this class that are taken for ops of this class, `spread` the
    share of these ops that have one, `uneven` by how much the count of them on this op is off the usual one. `twice`
    is how many kernels beside this run the op, `left` the share of ops of this class that nothing runs. `beside` is
    how many of both neighbours have the same scope. `missed` and `unplanned` are shares of the run, `doubt` what the
    model gave away on average; `blind`, `scalar`, `mover` and `heavy` are 1 for such kernels, `updates` for those among
    the updates; `many` is the logarithm of the count of kernels of this class.
    """

    way: NDArray[np.int8]
    own: Floats
    margin: Floats
    alike: Floats
    spread: Floats
    uneven: Floats
    twice: Floats
    left: Floats
    beside: Floats
    missed: Floats
    unplanned: Floats
    doubt: Floats
    blind: Floats
    scalar: Floats
    mover: Floats
    heavy: Floats
    updates: Floats
    many: Floats

    def of_each(self, owner: Int64s) -> MatchFeatures:
        """Those of every kernel, of which some count as one here: `owner` is the place of each."""
        return MatchFeatures(*(getattr(self, column.name)[owner] for column in fields(self)))


def match_features(
    sequence: PlannedSequence,
    ratios: Likelihoods,
    kernels: TokenClasses,
    kernel_class: Int32s,
    found: KernelAssignment,
    missed: int,
) -> MatchFeatures:
    """The features of every kernel of an assignment that leaves `missed` planned ops without one."""
    known = family_table()
    matched = found.row >= 0
    row = np.where(matched, found.row, found.place)
    kinds = len(kernels)
    token = np.where(matched, sequence.token[row], len(sequence.classes)).astype(np.int64)
    planned = matched & (sequence.scope[row] >= 0)
    place: Int64s = found.step * len(sequence) + row
    fit = np.maximum(ratios.core, ratios.behind)
    own = np.where(matched, fit[sequence.token[row], kernel_class], 1.0 / pair_model()["prices"]["unplanned"])
    # Kernels of a class by what they are taken for, and ops of a class by what runs them.
    like = token * kinds + kernel_class
    _, pair, in_pair = np.unique(like, return_inverse=True, return_counts=True)
    of_kind = np.bincount(kernel_class, minlength=kinds)
    on_row = np.where(matched, place, -1)
    _, first, runs = np.unique(on_row, return_index=True, return_inverse=True)
    run_rows = np.bincount(token[first], minlength=len(sequence.classes) + 1)
    both = runs * np.int64(kinds) + kernel_class
    _, begin, here, count = np.unique(both, return_index=True, return_inverse=True, return_counts=True)
    rows_with = np.bincount(pair[begin], minlength=len(in_pair))
    usual = in_pair[pair] / rows_with[pair]
    mains = np.bincount(runs, found.core & matched, len(first))
    steps = max(1, len(np.unique(found.step)))
    rows_of = np.bincount(sequence.token[sequence.op >= 0], minlength=len(sequence.classes) + 1) * steps
    some = int(planned.any()) and len(np.unique(place[planned]))
    scope = np.where(planned, sequence.scope[row] * np.int64(2) + 0, _NONE) + np.where(
        planned, found.step * np.int64(4 * len(sequence)), 0
    )
    same = np.concatenate(([False], scope[1:] == scope[:-1], [False]))
    part = matched & (found.how == HOW.index(MatchedBy.PART))
    way = np.select(
        [~matched, ~planned, part & ~(mains > 0)[runs]],
        [WAYS.index(name) for name in ("unplanned", "beside", "written")],
        found.how,
    )
    flags = [
        ~kernels.known,
        kernels.scalar,
        np.isin(kernels.main, list(known.movers)),
        np.isin(kernels.main, list(known.heavy)),
    ]
    updates = np.isin(sequence.classes.main[sequence.token[row]], [known.number("optimizer")])
    everywhere = np.ones(len(row))
    log_own = np.log(np.maximum(own, 1e-6))
    return MatchFeatures(
        way.astype(np.int8),
        np.clip(log_own, _LEAST, _MOST),
        np.clip(log_own - np.log(np.maximum(_best_other(sequence, fit, kernel_class, found), 1e-6)), _LEAST, _MOST),
        in_pair[pair] / of_kind[kernel_class],
        np.where(matched, rows_with[pair] / np.maximum(run_rows[token], 1), 1.0),
        np.where(matched, np.abs(count[here] - usual), 0.0),
        np.where(matched, mains[runs] - found.core, 0.0),
        np.where(matched, 1.0 - np.minimum(run_rows[token] / np.maximum(rows_of[token], 1), 1.0), 0.0),
        same[1:].astype(np.float64) + same[:-1],
        everywhere * (missed / max(1, some + missed)),
        everywhere * float(np.mean(~matched)),
        everywhere * float(np.mean(1.0 - found.chance)),
        *(flag[kernel_class].astype(np.float64) for flag in flags),
        updates.astype(np.float64),
        np.log(of_kind[kernel_class]),
    )


def _best_other(sequence: PlannedSequence, fit: NDArray[np.float32], kernel_class: Int32s, found: KernelAssignment) -> Floats:
    """The best ratio among rows near of another scope than a kernel's own."""
    rows, classes = len(sequence), fit.shape[1]
    flat = np.ascontiguousarray(fit).ravel()
    begins = sequence.token.astype(np.int64) * classes
    matched = found.row >= 0
    at, scope = np.where(matched, found.row, found.place), np.where(matched, sequence.scope[found.row], _NONE)
    there = np.where(sequence.op >= 0, sequence.scope, _NO_OP)
    best = np.zeros(len(at))
    for begin in range(0, len(at), _PIECE):
        some = slice(begin, begin + _PIECE)
        for away in range(-_NEAR, _NEAR + 1):
            other = np.clip(at[some] + away, 0, rows - 1)
            known = there[other]
            able: Bools = (known != scope[some]) & (known != _NO_OP)
            best[some] = np.maximum(best[some], np.where(able, flat[begins[other] + kernel_class[some]], 0.0))
    return best
