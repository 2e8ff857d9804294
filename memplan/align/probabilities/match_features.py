"""
What is known of every match beside the probability that a model gives it: numbers that tell how far to trust that.

Matches of one kind share one fate: where kernels of a class are taken for the wrong op, they are so in every layer.
What tells is how regular a kind is (in every layer alike, or here and there), whether another op near fits as well, and
how well the run as a whole fits the plan.
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
from memplan.core.arrays import Bools, Float32s, Floats, Int32s, Int64s

WAYS = (*(way.value for way in HOW), "written", "unplanned", "beside")
"""How kernels are matched; a part of an op written out, of no op, of what frameworks run beside a plan are apart."""
_NEAR = 12
"""Rows to either side in which another op may be the right one."""
_LEAST_RATIO, _MOST = 1e-6, 12.0
"""The least ratio that is told from smaller ones, and the limit of logarithms of them."""
_LEAST_CHANCE = 1e-4
"""The least probability whose odds are told from smaller ones."""
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
    own: Float32s
    margin: Float32s
    alike: Float32s
    spread: Float32s
    uneven: Float32s
    twice: Float32s
    left: Float32s
    beside: Float32s
    missed: Float32s
    unplanned: Float32s
    doubt: Float32s
    blind: Float32s
    scalar: Float32s
    mover: Float32s
    heavy: Float32s
    updates: Float32s
    many: Float32s

    @staticmethod
    def names() -> tuple[str, ...]:
        """What `rows` has, in order: the probability given as log-odds, all features, and each way as a flag."""
        plain = (column.name for column in fields(MatchFeatures) if column.name != "way")
        return "chance", *plain, *(f"way.{name}" for name in WAYS)

    def rows(self, chance: Floats) -> Float32s:
        """A row a kernel that was given `chance`, as `names` says."""
        odds = np.clip(chance, _LEAST_CHANCE, 1.0 - _LEAST_CHANCE)
        plain = [getattr(self, column.name) for column in fields(self) if column.name != "way"]
        ways = [self.way == number for number in range(len(WAYS))]
        found: Float32s = np.stack([np.log(odds / (1.0 - odds)), *plain, *ways], axis=1).astype(np.float32)
        return found

    def part(self, some: slice) -> MatchFeatures:
        """Those kernels alone."""
        return MatchFeatures(*(getattr(self, column.name)[some] for column in fields(self)))


def match_features(
    sequence: PlannedSequence,
    ratios: Likelihoods,
    kernels: TokenClasses,
    kernel_class: Int32s,
    found: KernelAssignment,
    missed: int,
) -> MatchFeatures:
    """The features of every kernel of an assignment that leaves `missed` planned ops without one."""
    known, rows, kinds = family_table(), len(sequence), len(kernels)
    matched = found.row >= 0
    row = np.where(matched, found.row, found.place)
    planned = matched & (sequence.scope[row] >= 0)
    token = np.where(matched, sequence.token[row], len(sequence.classes)).astype(np.int64)
    place: Int64s = found.step * rows + row
    fit = np.maximum(ratios.core, ratios.behind)
    free = 1.0 / pair_model()["prices"]["unplanned"]
    own = np.where(matched, fit[sequence.token[row], kernel_class], free)
    own = np.log(np.maximum(own, _LEAST_RATIO))
    other = np.log(np.maximum(_best_other(sequence, fit, kernel_class, found), _LEAST_RATIO))
    # Kernels of a class by what they are taken for, ops of a class by what runs them.
    of_kind = np.bincount(kernel_class, minlength=kinds)[kernel_class]
    _, pair, in_pair = np.unique(token * kinds + kernel_class, return_inverse=True, return_counts=True)
    _, first, run = np.unique(np.where(matched, place, -1), return_index=True, return_inverse=True)
    ran = np.bincount(token[first], minlength=len(sequence.classes) + 1)
    there = np.bincount(sequence.token[sequence.op >= 0], minlength=len(ran)) * max(1, len(np.unique(found.step)))
    _, begin, here, count = np.unique(
        run * np.int64(kinds) + kernel_class, return_index=True, return_inverse=True, return_counts=True
    )
    rows_with = np.bincount(pair[begin], minlength=len(in_pair))[pair]
    mains = np.bincount(run, found.core & matched, len(first))[run]
    scope = np.where(planned, sequence.scope[row] + found.step * rows, _NONE)
    beside = np.zeros(len(row))
    beside[1:] += scope[1:] == scope[:-1]
    beside[:-1] += scope[1:] == scope[:-1]
    way = np.select(
        [~matched, ~planned, (found.how == HOW.index(MatchedBy.PART)) & (mains == 0)],
        [WAYS.index(name) for name in ("unplanned", "beside", "written")],
        found.how,
    )
    kind_flags = (
        ~kernels.known,
        kernels.scalar,
        np.isin(kernels.main, list(known.movers)),
        np.isin(kernels.main, list(known.heavy)),
    )
    ops = len(np.unique(place[planned]))
    columns = (
        np.clip(own, -_MOST, _MOST),
        np.clip(own - other, -_MOST, _MOST),
        in_pair[pair] / of_kind,
        np.where(matched, rows_with / np.maximum(ran[token], 1), 1.0),
        np.where(matched, np.abs(count[here] - in_pair[pair] / rows_with), 0.0),
        np.where(matched, mains - found.core, 0.0),
        np.where(matched, 1.0 - np.minimum(ran[token] / np.maximum(there[token], 1), 1.0), 0.0),
        beside,
        np.full(len(row), missed / max(1, ops + missed)),
        np.full(len(row), np.mean(~matched) if len(row) else 0.0),
        np.full(len(row), np.mean(1.0 - found.chance) if len(row) else 0.0),
        *(flag[kernel_class] for flag in kind_flags),
        sequence.classes.main[sequence.token[row]] == known.number("optimizer"),
        np.log(of_kind),
    )
    return MatchFeatures(way.astype(np.int8), *(column.astype(np.float32) for column in columns))


def _best_other(sequence: PlannedSequence, fit: Float32s, kernel_class: Int32s, found: KernelAssignment) -> Float32s:
    """The best ratio among rows near of another scope than a kernel's own."""
    rows, classes = len(sequence), fit.shape[1]
    flat = np.ascontiguousarray(fit).ravel()
    begins = sequence.token.astype(np.int64) * classes
    matched = found.row >= 0
    at, scope = np.where(matched, found.row, found.place), np.where(matched, sequence.scope[found.row], _NONE)
    there = np.where(sequence.op >= 0, sequence.scope, _NO_OP)
    best = np.zeros(len(at), dtype=np.float32)
    for begin in range(0, len(at), _PIECE):
        some = slice(begin, begin + _PIECE)
        for away in range(-_NEAR, _NEAR + 1):
            other = np.clip(at[some] + away, 0, rows - 1)
            known = there[other]
            able: Bools = (known != scope[some]) & (known != _NO_OP)
            best[some] = np.maximum(best[some], np.where(able, flat[begins[other] + kernel_class[some]], 0.0))
    return best
