"""What a planned step does from its first kernel to its last, told apart as the steps of a run are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.intervals import Intervals, interval_difference, interval_total, interval_union
from memplan.schema import Bound, Plan, PlannedOp


@dataclass(frozen=True, slots=True)
class PlannedParts:
    """
    Nanoseconds of computing, `overlapped_ns` of it beside collectives, and of collectives that nothing hides.

    A collective is what the link bounds, as in the report of a plan.
    """

    computing_ns: int
    overlapped_ns: int
    exposed_ns: int


def planned_parts(plan: Plan) -> PlannedParts:
    """The parts of the step of `plan`, which has times."""
    computing = _spans([op for op in plan.ops if op.launches and op.bound is not Bound.LINK])
    linked = _spans([op for op in plan.ops if op.launches and op.bound is Bound.LINK])
    exposed = interval_total(*interval_difference(linked, computing))
    return PlannedParts(interval_total(*computing), interval_total(*linked) - exposed, exposed)


def _spans(ops: list[PlannedOp]) -> Intervals:
    starts = np.array([op.start_ns for op in ops], dtype=np.int64)
    ends = starts + np.array([op.duration_ns for op in ops], dtype=np.int64)
    return interval_union(starts, ends, keep_touching=True)
