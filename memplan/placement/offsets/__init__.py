"""Offset assignment: problem, solver, validator."""

from memplan.placement.offsets.problem import Assignment, Buffer, Pool, PoolResult, Problem

__all__ = ["Assignment", "Buffer", "Pool", "PoolResult", "Problem"]
