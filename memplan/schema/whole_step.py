"""The whole step that the ops of a plan are a part of: from its first kernel to its last, and what is around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplan.core.text_enum import TextEnum

if TYPE_CHECKING:
    from memplan.schema.plan import Plan


class StepPartName(TextEnum):
    """What the parts of a planned step are called."""

    OPS = "ops of the plan"
    RUNNING = "in a running model"
    """What the ops take more there than one after the other, or less."""
    GAPS = "gaps between kernels"
    WAITING = "waiting for other stages"
    """Of a training step, between this stage's own micro-batches."""
    ROUTING = "experts chosen unevenly"
    """
    Of a prefill or decode step, what the ops take more than in a plan: the rank with most rows is waited for.

    Or less than zero: of few tokens, which choose the same experts, fewer weights are read than by even ones.
    """
    OTHER_STAGES = "other pipeline stages"
    """Of a prefill or decode step, before this stage's kernels and after them."""
    LAUNCH = "launch of the step"
    HOST = "host of the engine"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """
    Nanoseconds of a planned step.

    `ops_ns` is from the start of the first op that launches a kernel to the end of the last, `running_ns` (less than
    zero: saved), `gaps_ns` and `waiting_ns` are what a run has beyond that between its first kernel and its last.
    `around_ns` is before and after them: the launch, the engine's host, other stages, moves that outlast the ops.
    """

    ops_ns: int
    running_ns: int = 0
    gaps_ns: int = 0
    waiting_ns: int = 0
    around_ns: int = 0

    @property
    def span_ns(self) -> int:
        """From the first kernel to the last: what a measured step is held against."""
        return self.ops_ns + self.running_ns + self.gaps_ns + self.waiting_ns


def planned_step(plan: Plan, *, simulated: bool = False) -> PlannedStep | None:
    """
    The step of `plan`; `None` where the plan has no times or launches nothing.

    As a `simulated` run has it, it is the plan's ops alone: no host is late in such a run, no other stage waited for.
    """
    spans = [(op.start_ns, op.start_ns + op.duration_ns) for op in plan.ops if op.launches]
    if not plan.timed or not spans:
        return None
    ops = max(end for _, end in spans) - min(start for start, _ in spans)
    if simulated:
        return PlannedStep(ops)
    parts = {part.name: part.duration_ns for part in plan.step_parts}
    running, gaps, stages, routing = (
        parts.get(name.value, 0)
        for name in (StepPartName.RUNNING, StepPartName.GAPS, StepPartName.WAITING, StepPartName.ROUTING)
    )
    # Nobody waits less than not at all: what uneven experts save is that of kernels.
    running, waiting = running + min(0, routing), stages + max(0, routing)
    return PlannedStep(ops, running, gaps, waiting, plan.step_ns - ops - running - gaps - waiting)
