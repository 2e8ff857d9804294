"""Families of the ops that a rank measured, and what of their time is computing."""

from __future__ import annotations

import numpy as np

from memplan.align.classes.op_families import UNKNOWN_FAMILY, families_of, family_table
from memplan.compare.measured import MeasuredOps
from memplan.core.arrays import Int64s


def families_measured(ops: MeasuredOps) -> Int64s:
    """The main family of every op, by its type or, where that tells none, by its name."""
    known: dict[str, int] = {}
    found = np.zeros(len(ops), dtype=np.int64)
    for row, (type_, name) in enumerate(zip(ops.type, ops.name, strict=True)):
        if type_ not in known:
            known[type_] = families_of(type_)[0]
        # Of most kernels the type tells, and there are few types; names may be as many as kernels.
        found[row] = known[type_] if known[type_] != UNKNOWN_FAMILY else families_of(type_, name)[0]
    return found


def compute_times(ops: MeasuredOps) -> Int64s:
    """The time of every op in nanoseconds, 0 of those that exchange data beside others and may wait for other ranks."""
    found: Int64s = np.where(np.isin(families_measured(ops), list(family_table().apart)), 0, ops.duration_ns)
    return found
