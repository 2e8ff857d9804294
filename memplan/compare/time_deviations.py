"""What of a step takes another time than planned: ops, waits before them, kernels and ops that one side lacks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from memplan.compare.aligned_ops import AlignedStep
from memplan.compare.compared_step import ComparedStep
from memplan.compare.measured import MeasuredOps
from memplan.compare.result import Deviation, DeviationKind, DeviationWhat, UnmatchedKernels
from memplan.core.arrays import Int64s
from memplan.core.sentence import Sentence, Text
from memplan.schema import Plan

_LIKELIEST = 3
"""Parts of the model named beside kernels that are not told apart."""
_NOTABLE_WAIT = 0.01  # of the planned makespan: a longer wait is listed by itself


def time_deviations(of_step: ComparedStep) -> list[Deviation]:
    """Ops that took longer or shorter, waits before them, kernels without an op and ops without a kernel."""
    plan, ops, matches, owner = of_step.plan, of_step.ops, of_step.matches, of_step.owner
    clock, aligned_as = of_step.clock, of_step.aligned
    found: list[Deviation] = []
    measured_ns = int(ops.end_ns.max() - ops.start_ns.min()) if len(ops) else 0
    makespan = max(plan.makespan_ns if plan.timed else measured_ns, 1)

    def add(
        what: DeviationWhat, op: int | None, where: Text, span: tuple[int, int], planned: int | None, took: int | None
    ) -> None:
        delta = (took or 0) - (planned or 0)
        if delta:
            cost = abs(delta) / makespan
            found.append(Deviation(DeviationKind.TIME, what, where, op, *span, planned, took, delta, cost))

    def add_unplanned() -> list[Deviation]:
        for kernels, first_ns, last_ns in _groups(ops, owner, aligned_as):
            span = (clock.to_plan(first_ns), clock.to_plan(last_ns))
            add(DeviationWhat.NOT_IN_PLAN, None, kernels.name, span, None, kernels.total_ns)
        if aligned_as is not None and aligned_as.untold.any():
            took = int(ops.duration_ns[aligned_as.untold].sum())
            planned = sum(plan.ops[op].duration_ns for op in aligned_as.unsure) if plan.timed else None
            kernels_told = Sentence("{} [kernel|kernels] together", (str(int(aligned_as.untold.sum())),))
            add(DeviationWhat.NOT_TOLD_APART, None, kernels_told, (0, makespan), planned, took)
        return found

    if not plan.timed:
        return add_unplanned()
    waits = _waits(ops.start_ns, ops.end_ns)
    # Ops without a kernel have no wait that a profile could show; what they wait for, the next kernel waits for.
    launched = sorted((op.start_ns, op.index) for op in plan.ops if op.launches)
    order = np.array([index for _, index in launched], dtype=np.int64)
    starts = np.array([start for start, _ in launched], dtype=np.int64)
    ends = starts + np.array([plan.ops[index].duration_ns for _, index in launched], dtype=np.int64)
    planned_waits = np.zeros(len(plan.ops), dtype=np.int64)
    planned_waits[order] = _waits(starts, ends)
    rows = np.flatnonzero(owner >= 0)
    _, first = np.unique(owner[rows], return_index=True)
    measured_waits = waits[rows[first]]
    short: list[tuple[int, int]] = []
    for row, index in enumerate(matches.op.tolist()):
        op = plan.ops[index]
        span = (op.start_ns, op.start_ns + op.duration_ns)
        planned_ns = op.duration_ns + (aligned_as.joined.get(index, 0) if aligned_as is not None else 0)
        add(DeviationWhat.DURATION, index, op.name, span, planned_ns, int(matches.duration_ns[row]))
        before = (int(planned_waits[index]), int(measured_waits[row]))
        if abs(before[1] - before[0]) >= _NOTABLE_WAIT * makespan:
            add(DeviationWhat.WAIT, index, op.name, (op.start_ns - before[0], op.start_ns), *before)
        elif before[0] != before[1]:
            short.append(before)
    # Thousands of gaps of a microsecond are one finding, not thousands.
    gaps = Sentence("{} short [wait|waits] together", (str(len(short)),))
    add(
        DeviationWhat.WAITS,
        None,
        gaps,
        (0, plan.makespan_ns),
        sum(wait for wait, _ in short),
        sum(wait for _, wait in short),
    )
    matched = {*matches.op.tolist(), *((*aligned_as.inside, *aligned_as.unsure) if aligned_as is not None else ())}
    for op in plan.ops:
        if op.launches and op.index not in matched:
            span = (op.start_ns, op.start_ns + op.duration_ns)
            add(DeviationWhat.NOT_IN_PROFILE, op.index, op.name, span, op.duration_ns, None)
    return add_unplanned()


def _waits(start_ns: Int64s, end_ns: Int64s) -> Int64s:
    """How long each, in order of start, begins after everything before it has ended; the first waits for nothing."""
    if not len(start_ns):
        return start_ns
    reached = np.maximum.accumulate(end_ns)
    waits: Int64s = np.maximum(start_ns - np.concatenate((start_ns[:1], reached[:-1])), 0)
    return waits


def kernel_whats(ops: MeasuredOps, aligned_as: AlignedStep | None) -> Sequence[str]:
    """What each kernel that no plan has is, empty where that is not known."""
    if aligned_as is None:
        return [""] * len(ops)
    return [aligned_as.alignment.scopes.named(row) for row in aligned_as.rows.tolist()]


def _groups(ops: MeasuredOps, owner: Int64s, aligned_as: AlignedStep | None) -> list[tuple[UnmatchedKernels, int, int]]:
    """
    Kernels without an op by what they are, if that is known, or name, and by type; with the start of the first and the
    end of the last.
    """
    whats = kernel_whats(ops, aligned_as)
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    free = owner < 0 if aligned_as is None else (owner < 0) & ~aligned_as.untold
    for row in np.flatnonzero(free).tolist():
        rows[whats[row] or ops.name[row], ops.type[row]].append(row)
    groups = []
    for (name, kind), found in rows.items():
        total = int(ops.duration_ns[found].sum())
        end = int(ops.end_ns[found].max())
        groups.append((UnmatchedKernels(name, kind, len(found), total), int(ops.start_ns[found[0]]), end))
    return groups


def unmatched_kernels(ops: MeasuredOps, owner: Int64s, aligned_as: AlignedStep | None) -> tuple[UnmatchedKernels, ...]:
    return _longest(kernels for kernels, _, _ in _groups(ops, owner, aligned_as))


def untold_kernels(plan: Plan, ops: MeasuredOps, aligned_as: AlignedStep | None) -> tuple[UnmatchedKernels, ...]:
    """Kernels that are not told apart by type, named by the parts of the model that they are likeliest of."""
    if aligned_as is None:
        return ()
    op_of = aligned_as.alignment.unsure.first_ops()
    rows: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(aligned_as.untold).tolist():
        rows[ops.type[row]].append(row)
    found = []
    for kind, mine in rows.items():
        likeliest = Counter(
            plan.ops[op_of[kernel]].part or plan.ops[op_of[kernel]].type
            for kernel in aligned_as.rows[mine].tolist()
            if kernel in op_of
        )
        parts = ", ".join(name for name, _ in likeliest.most_common(_LIKELIEST))
        found.append(UnmatchedKernels(parts, kind, len(mine), int(ops.duration_ns[mine].sum())))
    return _longest(found)


def _longest(groups: Iterable[UnmatchedKernels]) -> tuple[UnmatchedKernels, ...]:
    return tuple(sorted(groups, key=lambda kernels: (-kernels.total_ns, kernels.name, kernels.type)))
