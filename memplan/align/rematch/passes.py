"""Every rule by which what a pair model says is put right, in the order in which they build on one another."""

from __future__ import annotations

from collections.abc import Callable

from memplan.align.assignment import KernelAssignment
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.rematch.equal_halves import take_halves
from memplan.align.rematch.equal_ops import take_equal_ops_in_turn
from memplan.align.rematch.equal_pieces import take_equal_pieces_in_turn
from memplan.align.rematch.given_back import give_back_positions
from memplan.align.rematch.inner_ops import inner_kernels, take_inner_ops
from memplan.align.rematch.left_over import take_left_over
from memplan.align.rematch.long_stretches import take_long_stretches
from memplan.align.rematch.op_recipes import take_recipes
from memplan.align.rematch.partial_sums import take_partial_sums
from memplan.align.rematch.ready_ops import take_ready_ops
from memplan.align.rematch.summed_norms import take_summed_norms
from memplan.align.rematch.told_by_times import take_told_by_times
from memplan.align.rematch.turned_operands import take_turned_operands
from memplan.align.rematch.turned_results import take_turned_results
from memplan.align.rematch.twin_parts import take_twin_parts
from memplan.align.rematch.updates_in_turn import take_updates_in_turn


def _take_inner_and_recipes(both: PlanAndRun, found: KernelAssignment) -> None:
    """Ops inside others, and recipes of the rest: what is inside is told before recipes change it."""
    inside = inner_kernels(both, found)
    take_recipes(both, inside, found)
    take_inner_ops(both, inside, found)


_PASSES: tuple[Callable[[PlanAndRun, KernelAssignment], None], ...] = (
    take_left_over,
    take_equal_ops_in_turn,
    take_equal_pieces_in_turn,
    take_halves,
    take_ready_ops,
    take_long_stretches,
    take_told_by_times,
    take_updates_in_turn,
    take_turned_operands,
    take_turned_results,
    take_twin_parts,
    take_summed_norms,
    take_partial_sums,
    _take_inner_and_recipes,
    give_back_positions,
)


def rematch(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where a rule knows better than the pair model."""
    for change in _PASSES:
        change(both, found)
