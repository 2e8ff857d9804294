"""What a planned step does from its first kernel to its last, told apart as the steps of a run are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.intervals import Intervals, interval_difference, interval_total, interval_union

if TYPE_CHECKING:
    from memplan.schema import Plan, PlannedOp, PlannedStep


@dataclass(frozen=True, slots=True)
class PlannedParts:
    """
    Nanoseconds of computing, `overlapped_ns` of it beside collectives, of collectives that nothing hides, of waiting
    for other pipeline stages, and of nothing.

    A collective is what the link bounds, as in the report of a plan.
    """

    computing_ns: int
    overlapped_ns: int
    exposed_ns: int
    waiting_ns: int
    idle_ns: int


def planned_parts(plan: Plan, step: PlannedStep) -> PlannedParts:
    """The parts of `step`, of which the ops of `plan` are those that compute and exchange; they add up to its span."""
    from memplan.schema import Bound  # a window starts without the plan's classes

    computing = _spans([op for op in plan.ops if op.launches and op.bound is not Bound.LINK])
    linked = _spans([op for op in plan.ops if op.launches and op.bound is Bound.LINK])
    exposed = interval_total(*interval_difference(linked, computing))
    # What a running model saves of computing may be more than what nothing runs beside.
    works = max(interval_total(*computing) + step.running_ns, 0)
    hiding = min(interval_total(*linked) - exposed, works)
    return PlannedParts(works, hiding, exposed, step.waiting_ns, step.span_ns - works - exposed - step.waiting_ns)


def _spans(ops: list[PlannedOp]) -> Intervals:
    starts = np.array([op.start_ns for op in ops], dtype=np.int64)
    ends = starts + np.array([op.duration_ns for op in ops], dtype=np.int64)
    return interval_union(starts, ends, keep_touching=True)
