"""
`align`: planned ops and measured kernels matched without names.

Both sides become tokens (`tokens`); a pair model over both sequences (`pair_alignment`) finds for each kernel the op
that runs it and how surely; what it leaves over on both sides, because a run has another order than the plan, is
matched by what it reads and makes (`left_over`); kernels that no plan has are named as what they are
(`kernel_scopes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy, assignment_of
from memplan.align.blind.updates_in_turn import take_updates_in_turn
from memplan.align.branch_order import branches_as_run
from memplan.align.kernel_scopes import KernelScopes, kernel_scopes, served
from memplan.align.likelihood import Likelihoods, likelihoods
from memplan.align.pair_alignment import align_pairs, how_likely
from memplan.align.planned_sequence import PlannedSequence, planned_sequence
from memplan.align.probabilities.match_features import match_features
from memplan.align.probabilities.told_apart import leave_out_copies, scopes_as_stated, state_chances
from memplan.align.rematch.equal_halves import take_halves
from memplan.align.rematch.equal_ops import take_equal_ops_in_turn
from memplan.align.rematch.equal_pieces import take_equal_pieces_in_turn
from memplan.align.rematch.given_back import give_back_positions
from memplan.align.rematch.inner_ops import inner_kernels, take_inner_ops
from memplan.align.rematch.left_over import LeftOver
from memplan.align.rematch.long_stretches import take_long_stretches
from memplan.align.rematch.merged_steps import with_steps_parted
from memplan.align.rematch.op_recipes import take_recipes
from memplan.align.rematch.partial_sums import take_partial_sums
from memplan.align.rematch.ready_ops import take_ready_ops
from memplan.align.rematch.summed_norms import take_summed_norms
from memplan.align.rematch.told_by_times import take_told_by_times
from memplan.align.rematch.turned_operands import take_turned_operands
from memplan.align.rematch.turned_results import take_turned_results
from memplan.align.rematch.twin_parts import take_twin_parts
from memplan.align.run_order import ops_as_run, planned_updates
from memplan.align.token_ratio import plan_of_as_many_tokens
from memplan.align.tokens import kernel_tokens, token_classes
from memplan.align.update_units import update_units, ways_run
from memplan.align.weight_pieces import pieces_of_ops, pieces_of_updates
from memplan.core.arrays import Bools, Floats, Int64s
from memplan.core.distinct import distinct
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
    Such ops may have run or not.
    """

    matches: OpMatches
    unsure: OpMatches
    scopes: KernelScopes
    step: Int64s
    missed: Int64s
    missed_step: Int64s

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
    kernels = replace(kernels, type=dictionary_encoded(kernels.type), name=dictionary_encoded(kernels.name))
    found, kernel_class = kernel_tokens(kernels)
    plan = plan_of_as_many_tokens(plan, found, kernel_class)
    updates = planned_updates(plan)
    ways = pieces_of_updates(plan, updates)
    every = {piece for several in ways.values() for way in several for piece in way}
    op_names, kernel_names = _shared_names(plan, kernels)
    units = update_units(found, kernel_class, every, kernel_names >= 0)
    classes = token_classes(units.classes)
    pieces = ways_run(ways, units.seen) if units.seen else {}
    times = np.bincount(units.owner, kernels.duration_ns, len(units.kept)).astype(np.float32)
    names_kept, cut = kernel_names[units.kept], pieces_of_ops(plan)

    def in_order(ops: Sequence[int]) -> tuple[PlannedSequence, Likelihoods, Int64s]:
        sequence = planned_sequence(plan, ops, pieces, cut)
        return sequence, likelihoods(sequence.classes, sequence.rules, classes), op_names[sequence.op]

    def likely(ops: Sequence[int]) -> float:
        return how_likely(*in_order(ops), classes, units.kernel_class, names_kept)

    ops = branches_as_run(plan, ops_as_run(plan, classes, units.kernel_class, times, pieces, cut), likely)
    sequence, ratios, row_names = in_order(ops)
    pairs = align_pairs(sequence, ratios, classes, row_names, units.kernel_class, names_kept, times)
    pairs = with_steps_parted(pairs, len(sequence))
    named = (names_kept >= 0) & (pairs.row >= 0)
    named[named] = row_names[pairs.row[named] % len(sequence)] == names_kept[named]
    settled = assignment_of(sequence, ratios, units.kernel_class, pairs, named)
    LeftOver(sequence, ratios, classes, units.kernel_class, settled).run()
    take_equal_ops_in_turn(sequence, units.kernel_class, settled)
    take_equal_pieces_in_turn(sequence, ratios, classes, units.kernel_class, settled)
    take_halves(sequence, units.kernel_class, settled)
    take_ready_ops(plan, sequence, ratios, classes, units.kernel_class, settled)
    take_long_stretches(sequence, classes, units.kernel_class, settled)
    take_told_by_times(sequence, classes, units.kernel_class, times, settled)
    take_updates_in_turn(sequence, classes, units.kernel_class, times, settled)
    take_turned_operands(sequence, classes, units.kernel_class, settled)
    take_turned_results(sequence, classes, units.kernel_class, settled)
    take_twin_parts(sequence, ratios, classes, units.kernel_class, settled)
    take_summed_norms(sequence, classes, units.kernel_class, settled)
    take_partial_sums(sequence, ratios, classes, units.kernel_class, settled)
    inside = inner_kernels(sequence, ratios, units.kernel_class, settled)
    take_recipes(sequence, ratios, classes, units.kernel_class, inside, settled)
    take_inner_ops(sequence, ratios, units.kernel_class, settled, inside)
    give_back_positions(sequence, classes, units.kernel_class, settled)
    missed, missed_step = _missed(sequence, settled)
    features = match_features(sequence, ratios, classes, units.kernel_class, times, settled, len(missed))
    trusted, of_place = (each[units.owner] for each in state_chances(settled, features))
    settled = settled.of_each(units.owner)
    if served(plan):
        leave_out_copies(sequence, classes, kernel_class, settled, of_place, features.sight)
    untold = np.isnan(settled.chance)
    matches = _matches(sequence, settled, ~untold, settled.chance)
    unsure = _matches(sequence, settled, untold, trusted)
    return Alignment(
        matches,
        unsure,
        scopes_as_stated(kernel_scopes(plan, sequence, classes, kernel_class, settled), untold, of_place),
        settled.step,
        missed,
        missed_step,
    )


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
