"""What every pass of an alignment reads: the rows of a plan, the kernels of a run, how far one is the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplan.align.classes.likelihood import Likelihoods
from memplan.align.classes.tokens import TokenClasses
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Float32s, Int32s, Int64s
from memplan.schema import Plan


@dataclass(frozen=True, slots=True)
class PlanAndRun:
    """
    Rows of `plan` beside the kernels of a run, which no pass changes: passes change an assignment of one to the other.

    `sequence` are the rows. Of kernels, in the order in which they ran, `kernel_class` numbers `kernels`, and `times`
    are what they took in nanoseconds. `ratios` say of a class of rows and one of kernels how much likelier the one runs
    the other than anything. `row_names` and `kernel_names` number names that both sides have, -1 for others.
    """

    plan: Plan
    sequence: PlannedSequence
    row_names: Int64s
    ratios: Likelihoods
    kernels: TokenClasses
    kernel_class: Int32s
    kernel_names: Int64s
    times: Float32s

    def of_kernels(self, which: Int64s) -> PlanAndRun:
        """Beside the same rows those kernels alone."""
        return replace(
            self,
            kernel_class=self.kernel_class[which],
            kernel_names=self.kernel_names[which],
            times=self.times[which],
        )
