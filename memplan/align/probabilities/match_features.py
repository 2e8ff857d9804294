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
from memplan.align.classes.likelihood import pair_model
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.align.probabilities.time_evidence import time_evidence
from memplan.core.arrays import Bools, Float32s, Floats, Int32s, Int64s
from memplan.core.distinct import distinct, first_rows

WAYS = (*(way.value for way in HOW), "written", "unplanned", "beside")
"""How kernels are matched; a part of an op written out, of no op, of what frameworks run beside a plan are apart."""
_NEAR = 12
"""Rows to either side in which another op may be the right one."""
_LEAST_RATIO, _MOST = 1e-6, 12.0
"""The least ratio that is told from smaller ones, and the limit of logarithms of them."""
_LEAST_CHANCE = 1e-4
"""The least probability whose odds are told from smaller ones."""
_BESIDE, _BESIDE_KERNELS = 4, 12
"""Rows, and kernels, to either side that are right beside one."""
_NONE, _NO_OP = -2, -3
"""Scopes of kernels that are in no plan, and of rows that are no op."""


SIGHTS = SHAPES, TIMES, NEITHER = "shapes", "times", "neither"
"""What tells the kernels of a run apart beside their types and order."""
_BLIND, _AGREES = 0.5, 0.8
"""Share of kernels without shapes from which a run has none, and from which correlation on its times agree."""


def sight_of(blind: Float32s, run_agrees: Float32s) -> str:
    """Which of `SIGHTS` a run is of, by those two features of its kernels."""
    if not len(blind) or blind.mean() < _BLIND:
        return SHAPES
    return TIMES if run_agrees.max() >= _AGREES else NEITHER


@dataclass(frozen=True, slots=True)
class _RanRows:
    """
    For each kernel the number of its step, and for each step whether any kernel runs each row.

    `spans` is for each row how many steps begin before it and end behind it, as those that a profile cuts don't.
    """

    step: Int64s
    ran: Bools
    spans: Int64s


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

    What clumps of errors show: `vacant` is by how much the ratio is above that of the best op near that nothing runs,
    `gap` how many ops right beside the row nothing runs. `like_doubt`, `near_doubt` and `block_doubt` are what the
    model gave away on average among kernels of this class on ops of this class, among those right beside this one, and
    in this layer of this way. `parts` is the share of the run's kernels that are parts of ops, `per_op` the logarithm
    of how many kernels an op has.

    What times say of kernels without shapes (`time_evidence`): `off_time` and `like_off_time` are by what logarithm of
    a factor the kernel and its like are off, `family_agrees` and `run_agrees` how far times of the family of ops and of
    the whole run have the order of planned ones.
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
    vacant: Float32s
    gap: Float32s
    like_doubt: Float32s
    near_doubt: Float32s
    block_doubt: Float32s
    parts: Float32s
    per_op: Float32s
    off_time: Float32s
    like_off_time: Float32s
    family_agrees: Float32s
    run_agrees: Float32s

    @property
    def sight(self) -> str:
        """Which of `SIGHTS` the run is of."""
        return sight_of(self.blind, self.run_agrees)

    @staticmethod
    def names() -> tuple[str, ...]:
        """What `rows` has, in order: the probability given as log-odds, all features, and each way as a flag."""
        plain = (column.name for column in fields(MatchFeatures) if column.name != "way")
        return "chance", *plain, *(f"way.{name}" for name in WAYS)

    def rows(self, chance: Floats) -> Float32s:
        """A row a kernel that was given `chance`, as `names` says."""
        odds = np.clip(chance, _LEAST_CHANCE, 1.0 - _LEAST_CHANCE)
        plain = [getattr(self, column.name) for column in fields(self) if column.name != "way"]
        found = np.empty((len(chance), 1 + len(plain) + len(WAYS)), dtype=np.float32)
        found[:, 0] = np.log(odds / (1.0 - odds))
        for place, column in enumerate(plain, 1):
            found[:, place] = column
        found[:, 1 + len(plain) :] = self.way[:, None] == np.arange(len(WAYS))
        return found

    def part(self, some: slice | Int64s) -> MatchFeatures:
        """Those kernels alone."""
        return MatchFeatures(*(getattr(self, column.name)[some] for column in fields(self)))


def match_features(both: PlanAndRun, found: KernelAssignment, missed: int) -> MatchFeatures:
    """The features of every kernel of an assignment that leaves `missed` planned ops without one."""
    sequence, ratios, kernels, kernel_class = both.sequence, both.ratios, both.kernels, both.kernel_class
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
    ran_rows = _ran_rows(found, rows)
    best = _best_near(sequence, fit, kernel_class, found, ran_rows)
    other, free_row = (np.log(np.maximum(each, _LEAST_RATIO)) for each in best)
    # Kernels of a class by what they are taken for, ops of a class by what runs them.
    of_kind = np.bincount(kernel_class, minlength=kinds)[kernel_class]
    _, pair = distinct(token * kinds + kernel_class)
    in_pair = np.bincount(pair)
    runs, run = distinct(np.where(matched, place, -1))
    first = first_rows(run, len(runs))
    ran = np.bincount(token[first], minlength=len(sequence.classes) + 1)
    there = np.bincount(sequence.token, ran_rows.spans * (sequence.op >= 0), len(ran))
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
        kernels.among(known.movers),
        kernels.among(known.heavy),
    )
    ops = len(distinct(place[planned])[0])
    doubt = 1.0 - found.chance
    _, block = distinct(found.step * (sequence.block.max() + 1) + sequence.block[row])
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
        np.full(len(row), np.mean(doubt) if len(row) else 0.0),
        *(flag[kernel_class] for flag in kind_flags),
        sequence.classes.main[sequence.token[row]] == known.number("optimizer"),
        np.log(of_kind),
        np.clip(own - free_row, -_MOST, _MOST),
        _vacant_beside(sequence, ran_rows, row),
        _mean_of(doubt, pair),
        _mean_beside(doubt),
        _mean_of(doubt, block),
        np.full(len(row), np.mean(matched & ~found.core) if len(row) else 0.0),
        np.full(len(row), np.log(max(1, len(row)) / max(1, ops))),
        *time_evidence(both, found),
    )
    return MatchFeatures(way.astype(np.int8), *(column.astype(np.float32) for column in columns))


def _ran_rows(found: KernelAssignment, rows: int) -> _RanRows:
    """Which rows some kernel runs in each step."""
    steps, step = distinct(found.step)
    ends = np.zeros((max(1, len(steps)), rows + 1), dtype=np.int32)
    matched = found.row >= 0
    np.add.at(ends, (step[matched], found.first[matched]), 1)
    np.add.at(ends, (step[matched], found.last[matched] + 1), -1)
    low, high = np.full(len(ends), rows), np.full(len(ends), -1)
    np.minimum.at(low, step, found.place)
    np.maximum.at(high, step, found.place)
    begun = np.bincount(low, minlength=rows + 1) - np.bincount(high + 1, minlength=rows + 1)
    return _RanRows(step.astype(np.int64), np.cumsum(ends, axis=1)[:, :rows] > 0, np.cumsum(begun)[:rows])


def _best_near(
    sequence: PlannedSequence, fit: Float32s, kernel_class: Int32s, found: KernelAssignment, ran: _RanRows
) -> tuple[Float32s, Float32s]:
    """The best ratio among rows near of another scope than a kernel's own, and among those that nothing runs."""
    from memplan.align.probabilities.near_loops import best_near

    matched = found.row >= 0
    at, scope = np.where(matched, found.row, found.place), np.where(matched, sequence.scope[found.row], _NONE)
    there = np.where(sequence.op >= 0, sequence.scope, _NO_OP)
    other, free = np.zeros(len(at), dtype=np.float32), np.zeros(len(at), dtype=np.float32)
    best_near(at, scope, kernel_class, fit, sequence.token, there, ran.step, ran.ran, _NEAR, _NO_OP, other, free)
    return other, free


def _vacant_beside(sequence: PlannedSequence, ran: _RanRows, row: Int64s) -> Int64s:
    """How many ops within `_BESIDE` rows of `row` nothing runs in a kernel's step."""
    vacant = np.cumsum(np.pad(~ran.ran & (sequence.op >= 0), ((0, 0), (1, 0))), axis=1, dtype=np.int32)
    high, low = np.minimum(row + _BESIDE + 1, len(sequence)), np.maximum(row - _BESIDE, 0)
    count: Int64s = vacant[ran.step, high] - vacant[ran.step, low]
    return count


def _mean_of(value: Floats, group: Int64s) -> Floats:
    """The mean of its group, for each."""
    mean: Floats = (np.bincount(group, value) / np.maximum(np.bincount(group), 1))[group]
    return mean


def _mean_beside(value: Floats) -> Floats:
    """The mean of those up to `_BESIDE_KERNELS` before and behind each."""
    total = np.concatenate(([0.0], np.cumsum(value)))
    at = np.arange(len(value))
    low, high = np.maximum(at - _BESIDE_KERNELS, 0), np.minimum(at + _BESIDE_KERNELS + 1, len(value))
    mean: Floats = (total[high] - total[low]) / np.maximum(high - low, 1)
    return mean
