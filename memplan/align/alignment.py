"""
`align`: planned ops and measured kernels matched without names.

Both sides become tokens (`classes`), the plan's in the order of the run (`planned`); a pair model over both sequences
(`pairs`) finds for each kernel the op that runs it and how surely; where it can't know better, because a run has
another order than the plan, rules of their own do (`rematch`); kernels that no plan has are named as what they are
(`kernel_scopes`), and what is given as probability is what runs of known truth showed (`probabilities`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy, assignment_of
from memplan.align.classes.likelihood import likelihoods
from memplan.align.classes.tokens import kernel_tokens, token_classes
from memplan.align.classes.update_units import update_units, ways_run
from memplan.align.classes.weight_pieces import pieces_of_ops, pieces_of_updates, weights_of_biases
from memplan.align.kernel_scopes import KernelScopes, kernel_scopes
from memplan.align.pairs.merged_steps import with_steps_parted
from memplan.align.pairs.pair_alignment import align_pairs, how_likely
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.branch_order import branches_as_run
from memplan.align.planned.planned_sequence import PlannedSequence, planned_sequence
from memplan.align.planned.run_order import ops_as_run, planned_updates
from memplan.align.planned.token_ratio import plan_of_as_many_tokens, tokens_of_run
from memplan.align.probabilities.match_features import MatchFeatures, match_features
from memplan.align.probabilities.told_apart import leave_out_copies, scopes_as_stated, state_chances
from memplan.align.rematch.passes import rematch
from memplan.core.arrays import Bools, Floats, Int64s
from memplan.core.distinct import distinct
from memplan.models.steps.options import is_served
from memplan.schema import Plan
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.profile import Kernels


@dataclass(frozen=True, slots=True)
class OpMatches:
    """
    Pairs of a planned op and a measured kernel, ascending by kernel: rows of equal length.

    `kernel` is a row of the kernel table; an op has several where several ran it or the run has several steps, a
    kernel several where it runs fused ops. `probability` is that the kernel runs this op, calibrated: of
    pairs given with p a share of p is right. It is likelier of the same phase, micro-batch, layer and part:
    `KernelScopes.probability`. `how[i]` numbers `memplan.align.HOW`. None is less likely than not.
    """

    op: Int64s
    kernel: Int64s
    probability: Floats
    how: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.op)

    def first_ops(self) -> dict[int, int]:
        """The first op of each kernel that has one."""
        return dict(zip(self.kernel[::-1].tolist(), self.op[::-1].tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Alignment:
    """
    A plan's step beside what one rank ran.

    `scopes` says of every kernel what of the model it is, of those in no plan what they are. `step` counts, per
    kernel, the repetitions of the plan; `missed` are planned ops that no kernel of step `missed_step` ran.

    `unsure` are pairs that are no better than even odds (without shapes more is asked for): the likeliest ops of
    kernels that are not told apart, whose `probability` is the model's, for it holds over many runs but not in one.
    Such ops may have run or not. `tokens` are those that most products of the plan have, and those that they have in
    the run, `None` where these are as many.
    """

    matches: OpMatches
    unsure: OpMatches
    scopes: KernelScopes
    step: Int64s
    missed: Int64s
    missed_step: Int64s
    tokens: tuple[int, int] | None

    def op_of_kernel(self) -> Int64s:
        """For each kernel the (first) planned op, -1 where there is none or it is not told."""
        found = np.full(len(self.step), -1, dtype=np.int64)
        found[self.matches.kernel[::-1]] = self.matches.op[::-1]
        return found

    def likeliest(self) -> OpMatches:
        """All pairs, also those that are not sure enough to be stated: for who has more to tell them by."""
        sides = self.matches, self.unsure
        op, kernel, probability, how = (
            np.concatenate([getattr(side, name) for side in sides]) for name in ("op", "kernel", "probability", "how")
        )
        order = np.argsort(kernel, kind="stable")
        return OpMatches(op[order], kernel[order], probability[order], how[order])


def align(plan: Plan, kernels: Kernels) -> Alignment:
    """
    Match the ops of `plan` with `kernels`, which are in order of start and may hold several steps or begin inside one.

    Read are families of types, operand sizes, dtypes and order; names count where both sides have them.
    """
    reading = read_run(plan, kernels)
    likely, of_place = (each[reading.owner] for each in state_chances(reading.settled, reading.features))
    found = reading.settled.of_each(reading.owner)
    if is_served(reading.whole.plan):
        leave_out_copies(reading.whole, found, of_place, reading.features.sight)
    return reading.alignment(found, likely, of_place)


@dataclass(frozen=True, slots=True)
class RunReading:
    """
    A run as it was read, before anything is said of how sure that is.

    What `settled` and `features` say is of the kernels of `both`, where those of one update may count as one.
    `owner` is the place among them of each kernel of `whole`; `missed` are planned ops that no kernel of step
    `missed_step` ran. `tokens` as in `Alignment`.
    """

    both: PlanAndRun
    whole: PlanAndRun
    owner: Int64s
    settled: KernelAssignment
    features: MatchFeatures
    missed: Int64s
    missed_step: Int64s
    tokens: tuple[int, int] | None

    def alignment(self, found: KernelAssignment, likely: Floats, of_place: Floats) -> Alignment:
        """
        What of `found`, with what is stated of every kernel and its scope, can be told apart.

        `likely` is the probability of what can't, `of_place` that of the phase, micro-batch and layer.
        """
        untold = np.isnan(found.chance)
        scopes = scopes_as_stated(kernel_scopes(self.whole, found), untold, of_place)
        return Alignment(
            _matches(self.whole.sequence, found, ~untold, found.chance),
            _matches(self.whole.sequence, found, untold, likely),
            scopes,
            found.step,
            self.missed,
            self.missed_step,
            self.tokens,
        )


def read_run(plan: Plan, kernels: Kernels) -> RunReading:
    """What each of `kernels` runs of `plan`."""
    kernels = replace(kernels, type=dictionary_encoded(kernels.type), name=dictionary_encoded(kernels.name))
    found, kernel_class = kernel_tokens(kernels)
    tokens = tokens_of_run(plan, found, kernel_class)
    plan = plan_of_as_many_tokens(plan, tokens)
    updates = planned_updates(plan)
    ways = pieces_of_updates(plan, updates)
    every = {piece for several in ways.values() for way in several for piece in way}
    op_names, kernel_names = _shared_names(plan, kernels)
    units = update_units(found, kernel_class, every, kernel_names >= 0)
    classes = token_classes(units.classes)
    pieces = ways_run(ways, units.seen, weights_of_biases(plan, updates)) if units.seen else {}
    times = np.bincount(units.owner, kernels.duration_ns, len(units.kept)).astype(np.float32)
    names_kept, cut = kernel_names[units.kept], pieces_of_ops(plan)

    def in_order(ops: Sequence[int]) -> PlanAndRun:
        sequence = planned_sequence(plan, ops, pieces, cut)
        ratios = likelihoods(sequence.classes, sequence.rules, classes)
        row_names = op_names[sequence.op]
        return PlanAndRun(plan, sequence, row_names, ratios, classes, units.kernel_class, names_kept, times)

    ops = ops_as_run(plan, classes, units.kernel_class, times, pieces, cut)
    both = in_order(branches_as_run(plan, ops, lambda ops: how_likely(in_order(ops))))
    settled = assignment_of(both, with_steps_parted(align_pairs(both), len(both.sequence)))
    rematch(both, settled)
    missed, missed_step = _missed(both.sequence, settled)
    features = match_features(both, settled, len(missed))
    whole = replace(
        both,
        kernel_class=kernel_class,
        kernel_names=kernel_names,
        times=kernels.duration_ns.astype(np.float32),
    )
    return RunReading(both, whole, units.owner, settled, features, missed, missed_step, _usual(tokens))


def tokens_planned_and_run(plan: Plan, kernels: Kernels) -> tuple[int, int] | None:
    """`Alignment.tokens` of kernels that names match with a plan, or nothing does."""
    found, kernel_class = kernel_tokens(kernels)
    return _usual(tokens_of_run(plan, found, kernel_class))


def _usual(tokens: Mapping[int, int]) -> tuple[int, int] | None:
    return [*tokens.items()][-1] if tokens else None


def _shared_names(plan: Plan, kernels: Kernels) -> tuple[Int64s, Int64s]:
    """
    Of every planned op and of every kernel the number of its name, -1 where kernels, or ops, have none of that name.

    Behind the last op stands -1, for what is none.
    """
    names = dictionary_encoded(kernels.name)
    stems = [name.rpartition("/")[0] for name in names.values]  # <op>/<device kernel>
    index = {name: number for number, name in enumerate(dict.fromkeys([*names.values, *filter(None, stems)]))}
    of_op = np.array([*(index.get(op.name, -1) for op in plan.ops), -1], dtype=np.int64)
    shared = np.zeros(len(index) + 1, dtype=np.bool_)
    shared[of_op] = True
    shared[-1] = False
    numbers = np.array([index[name] for name in names.values], dtype=np.int64)
    other = np.array([index.get(stem, -1) for stem in stems], dtype=np.int64)
    numbers = np.where(shared[numbers], numbers, np.where(shared[other], other, -1))
    return of_op, numbers[names.codes] if len(names.codes) else np.zeros(0, dtype=np.int64)


def _matches(sequence: PlannedSequence, found: KernelAssignment, some: Bools, chance: Floats) -> OpMatches:
    """Pairs of planned ops and kernels, of `some` of these; kernels of fused ops have one for each."""
    matched = np.flatnonzero((found.row >= 0) & some)
    count = found.last[matched] - found.first[matched] + 1
    kernel = np.repeat(matched, count)
    begins = np.cumsum(count) - count
    row = np.repeat(found.first[matched], count) + np.arange(len(kernel)) - np.repeat(begins, count)
    op = sequence.op[row]
    planned = op >= 0
    op, kernel = op[planned], kernel[planned]
    return OpMatches(op, kernel, chance[kernel], found.how[kernel])


def _missed(sequence: PlannedSequence, found: KernelAssignment) -> tuple[Int64s, Int64s]:
    """Planned ops that no kernel ran, between the first and the last place of each step."""
    rows = len(sequence)
    steps, step = distinct(found.step)
    seen = np.zeros((len(steps), rows + 1), dtype=np.int32)
    matched = found.row >= 0
    np.add.at(seen, (step[matched], found.first[matched]), 1)
    np.add.at(seen, (step[matched], found.last[matched] + 1), -1)
    done = np.cumsum(seen, axis=1)[:, :rows] > 0
    low, high = np.full(len(steps), rows), np.full(len(steps), -1)
    np.minimum.at(low, step, found.place)
    np.maximum.at(high, step, found.place)
    span = (np.arange(rows) >= low[:, None]) & (np.arange(rows) <= high[:, None])
    where, row = np.nonzero(~done & span & (sequence.op >= 0))
    return sequence.op[row], steps[where]


__all__ = ["HOW", "Alignment", "MatchedBy", "OpMatches", "align"]
