"""Which measured kernel belongs to which planned op."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from memplan.compare.measured import MeasuredOps
from memplan.compare.op_matches import Matches, matches_of
from memplan.core.arrays import Int64s
from memplan.core.ascending import rising
from memplan.graph.op_names import op_family, op_spellings
from memplan.schema import Plan

_ENOUGH_BY_TYPE = 0.5  # share of both sides that types must explain where no name does


def name_matches(plan: Plan, measured: MeasuredOps) -> Int64s:
    """For every kernel the planned op of its name, -1 where there is none; of ops that share a name, the first."""
    index: dict[str, int] = {}
    for op in reversed(plan.ops):
        index[op.name] = op.index
    known: dict[str, int] = {}
    found = np.empty(len(measured), dtype=np.int64)
    for row, name in enumerate(measured.name):
        position = known.get(name)
        if position is None:
            position = next((index[spelling] for spelling in op_spellings(name) if spelling in index), -1)
            known[name] = position
        found[row] = position
    return found


def own_name_matches(plan: Plan, measured: MeasuredOps) -> Int64s:
    """As `name_matches`, but only of ops that have their name for themselves: how often those occur tells the steps."""
    times = Counter(op.name for op in plan.ops)
    own = np.array([times[op.name] == 1 for op in plan.ops], dtype=bool)
    op = name_matches(plan, measured)
    found = op >= 0
    op[found] = np.where(own[op[found]], op[found], -1)
    return op


def match(plan: Plan, step: MeasuredOps) -> tuple[Matches, Int64s]:
    """
    Planned ops and the kernels of one step; also returns the planned op of each kernel, -1 where there is none.

    First by name: ops that share one take its kernels in order. Then, between two neighbours found by name, what is
    left is paired by type in order of time, for types that the profile has there as often as the plan or a whole
    multiple of it. Where no name matches, such pairs count only if they explain half of both sides.
    """
    op = _share_names(plan, name_matches(plan, step))
    by_name = op >= 0
    _by_type(plan, step, op)
    if not by_name.any():
        launched = sum(bool(planned.launches) for planned in plan.ops)
        explained = len(np.unique(op[op >= 0]))
        if explained < _ENOUGH_BY_TYPE * max(launched, 1) or (op >= 0).sum() < _ENOUGH_BY_TYPE * len(op):
            op[:] = -1
    return matches_of(op, by_name, step.start_ns, step.end_ns, step.duration_ns), op


def _share_names(plan: Plan, op: Int64s) -> Int64s:
    """Spread kernels of a name over all ops that have it: evenly if they divide, else one each and the rest last."""
    namesakes: dict[str, list[int]] = defaultdict(list)
    for planned in plan.ops:
        namesakes[planned.name].append(planned.index)
    for group in namesakes.values():
        if len(group) > 1:
            rows = np.flatnonzero(op == group[0])
            each, left = divmod(len(rows), len(group))
            order = np.arange(len(rows))
            share = order // each if each and not left else np.minimum(order, len(group) - 1)
            op[rows] = np.array(group, dtype=np.int64)[share]
    return op


def _by_type(plan: Plan, step: MeasuredOps, op: Int64s) -> None:
    """Add to `op` what type and order tell."""
    rows = np.flatnonzero(op >= 0)
    anchors, first = np.unique(op[rows], return_index=True)
    starts = step.start_ns[rows][first] if len(rows) else np.zeros(0, dtype=np.int64)
    kept = rising(starts)
    anchors, starts = anchors[kept], starts[kept]
    found = set(op[rows].tolist())
    planned: dict[tuple[int, str], list[int]] = defaultdict(list)
    for item in plan.ops:
        if item.launches and item.index not in found:
            planned[int(np.searchsorted(anchors, item.index)), op_family(item.type)].append(item.index)
    if not planned:
        return
    free = np.flatnonzero(op < 0)
    segments = np.searchsorted(starts, step.start_ns[free], side="right").tolist()
    measured: dict[tuple[int, str], list[int]] = defaultdict(list)
    for row, segment in zip(free.tolist(), segments, strict=True):
        measured[segment, op_family(step.type[row])].append(row)
    for key, indices in planned.items():
        candidates = measured.get(key, [])
        each, left = divmod(len(candidates), len(indices))
        if each and not left:
            op[candidates] = np.repeat(np.array(indices, dtype=np.int64), each)
