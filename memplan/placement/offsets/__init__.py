"""Offset assignment: problem, solver, validator."""

from memplan.placement.offsets.problem import Assignment, Buffer, Infeasibility, Pool, PoolResult, Problem
from memplan.placement.offsets.solve import assign
from memplan.placement.offsets.validate import Violation, validate
from memplan.placement.offsets.work_limit import Limits

__all__ = [
    "Assignment",
    "Buffer",
    "Infeasibility",
    "Limits",
    "Pool",
    "PoolResult",
    "Problem",
    "Violation",
    "assign",
    "validate",
]
