"""A plan against what a profile measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import numpy as np

from memplan.align import ScopeTimes, scope_times
from memplan.compare.aligned_ops import AlignedStep, aligned, aligned_step, aligned_steps
from memplan.compare.kernel_places import kernel_places
from memplan.compare.matching import match, own_name_matches
from memplan.compare.measured import MeasuredOps, choose_step, find_steps, measured_ops
from memplan.compare.memory import (
    align,
    allocator_clock,
    choose_component,
    memory_deviations,
    op_at,
    pair_allocations,
    pairs_of_join,
)
from memplan.compare.op_matches import Matches
from memplan.compare.rank_blocks import RankBlocks, holders_of, joined_blocks
from memplan.compare.result import (
    ComparedMemory,
    Comparison,
    Deviation,
    DeviationKind,
    DeviationWhat,
    Summary,
    Tolerance,
    UnmatchedKernels,
)
from memplan.compare.step_causes import step_causes
from memplan.compare.timemap import TimeMap, time_map
from memplan.core.arrays import Int64s
from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_change, format_duration, format_share
from memplan.schema import Plan, Tier, memory_curve
from memplan.traces.directory import Profile
from memplan.traces.process_memory import process_memory
from memplan.traces.profile import Allocations
from memplan.traces.rank import RankProfile

_NOTABLE_WAIT = 0.01  # of the planned makespan: a longer wait is listed by itself


def compare(
    plan: Plan,
    profile: Profile | RankProfile,
    *,
    rank: int | None = None,
    step: int | None = None,
    component: str | None = None,
    tolerance: Tolerance | None = None,
    limit: int = 10,
    progress: Progress = silent,
) -> Comparison:
    """
    Compare `plan` with one step of one rank: the first rank and the step of median length unless told.

    `component` is the measured memory curve to use (default: the framework's allocator), `limit` how many deviations
    to return. A profile of another model gives a comparison in which nothing matches and which deviates. Raises
    `InputError` for a rank, step or component that is not there, and for a profile without kernels.
    """
    tolerance = tolerance or Tolerance()
    measured_rank, simulated = _pick_rank(profile, rank)
    progress(0, 4, "reading kernels")
    everything = measured_ops(measured_rank, progress)
    names = own_name_matches(plan, everything)
    alignment = aligned(plan, measured_rank.kernels(progress), everything, names)
    steps = find_steps(everything, names) if alignment is None else aligned_steps(everything, alignment)
    position = choose_step(everything, steps, step)
    rows = np.flatnonzero(steps.position == position)
    ops = everything.take(rows)
    notes = [f"kernels are those of the {everything.source}"] if everything.source != "kernel table" else []
    if steps.inferred and len(steps.numbers) > 1:
        notes.append(f"the profile numbers no steps; {len(steps.numbers)} were told apart by their repeated ops")

    after = plan.makespan_ns - max((op.start_ns + op.duration_ns for op in plan.ops), default=0)
    if after > 0:
        notes.append(
            f"transfers go on for {format_duration(after)} after the last planned op; kernels do not show them"
        )

    progress(1, 4, "matching ops")
    found_by = None if alignment is None else aligned_step(plan, alignment, everything, rows)
    matches, owner = match(plan, ops) if found_by is None else (found_by.matches, found_by.owner)
    inside = found_by.inside if found_by is not None else frozenset[int]()
    clock = _device_clock(plan, ops, matches)
    if not clock.anchored:
        notes.append("no op of the plan is in the profile: the two are laid side by side at their beginnings only")
    progress(2, 4, "comparing memory")
    peak = _peak(plan)
    end_ns = max(plan.makespan_ns, 1)
    if not clock.anchored and len(ops):
        end_ns = max(end_ns, int(ops.end_ns.max() - ops.start_ns[0]))
    places = (position, len(steps.numbers))
    join = joined_blocks(plan, measured_rank, found_by, progress) if clock.anchored else None
    memory, memory_found = _memory(plan, measured_rank, component, clock, places, join, end_ns, peak, notes)
    progress(3, 4, "ranking deviations")
    found = memory_found
    if clock.anchored:
        found = found + _time_deviations(plan, ops, matches, owner, clock, found_by)
    found.sort(key=lambda item: (-item.cost, item.start_ns, item.what, str(item.where)))
    summary = _summary(plan, ops, matches, owner, memory, peak, len(inside))
    # At steps of which the plan's file doesn't say what runs, any kernel may run.
    named = all(op.launches is not None for op in plan.ops)
    reasons = _reasons(summary, tolerance, named)
    notes += _left_out(plan, summary, named)
    missing = np.setdiff1d([op.index for op in plan.ops if op.launches and op.index not in inside], matches.op)
    return Comparison(
        graph=plan.origin.graph,
        chip=plan.chip,
        rank=measured_rank.rank,
        step=None if steps.inferred else int(steps.numbers[position]),
        simulated=simulated,
        time_map=clock,
        matches=matches,
        memory=memory,
        deviations=tuple(found[:limit]),
        deviations_total=len(found),
        unmatched_ops=tuple(missing.tolist()),
        unmatched_kernels=_unmatched(ops, owner, found_by),
        summary=summary,
        tolerance=tolerance,
        deviates=bool(reasons),
        reasons=tuple(reasons),
        notes=tuple(notes),
        causes=step_causes(plan, ops, owner, inside, _whats(ops, found_by)) if clock.anchored else None,
        aligned=found_by,
        holders=None
        if join is None or memory is None
        else holders_of(plan, measured_rank, join, memory, len(steps.numbers)),
        process=process_memory(measured_rank.memory_curves(progress)),
        places=kernel_places(plan, len(everything), rows, owner, alignment) if clock.anchored else None,
        times=_times(plan, ops, owner, found_by) if clock.anchored else None,
    )


def _pick_rank(profile: Profile | RankProfile, rank: int | None) -> tuple[RankProfile, bool]:
    if getattr(profile, "ranks", None) is None:
        return cast("RankProfile", profile), False
    whole = cast("Profile", profile)
    if not whole.ranks:
        raise InputError("the profile holds no rank", path=whole.path)
    chosen = whole.ranks[0] if rank is None else rank
    if chosen not in whole.ranks:
        have = ", ".join(map(str, list(whole.ranks)[:10]))
        raise InputError(f"the profile has no rank {chosen}", path=whole.path, remedy=f"it has {have}")
    return whole.rank(chosen), whole.simulated


def _peak(plan: Plan) -> int:
    """Most bytes alive at once in HBM, which is what an allocator counts (the plan's peak is the highest address)."""
    return int(memory_curve(plan, Tier.HBM).values.max(initial=0))


def _device_clock(plan: Plan, ops: MeasuredOps, matches: Matches) -> TimeMap:
    """Anchored at the start of every matched op and at the end of the last."""
    if not len(matches):
        origin = ops.start_ns[:1] if len(ops) else np.zeros(1, dtype=np.int64)
        return time_map(np.zeros(1, dtype=np.int64), origin, anchored=False)
    planned = np.array([plan.ops[index].start_ns for index in matches.op.tolist()], dtype=np.int64)
    last = plan.ops[int(matches.op[-1])]
    return time_map(
        np.append(planned, last.start_ns + last.duration_ns), np.append(matches.start_ns, matches.end_ns[-1])
    )


def _memory(
    plan: Plan,
    rank: RankProfile,
    component: str | None,
    device: TimeMap,
    places: tuple[int, int],
    join: RankBlocks | None,
    end_ns: int,
    peak: int,
    notes: list[str],
) -> tuple[ComparedMemory | None, list[Deviation]]:
    chosen = choose_component(rank, component)
    if chosen is None:
        notes.append("the profile holds no memory curve")
        return None, []
    curve, values, quantity, reason = chosen
    nothing = np.zeros(0, dtype=np.int64)
    allocations = rank.allocations() or Allocations((), nothing, nothing, nothing)
    pairs = pair_allocations(plan, allocations, *places)
    if not len(pairs.ops) and join is not None:
        pairs = pairs_of_join(plan, join.allocations, join.join, join.repetition)
    clock, paired = allocator_clock(plan, pairs, device)
    if not paired and device.anchored:
        notes.append("no allocation is known to be a planned tensor: the allocator's clock is taken to be the device's")
    axis, planned, measured = align(plan, curve, values, clock, end_ns)
    curves = ComparedMemory(axis, planned, measured, clock, curve.component, quantity, reason)
    if not device.anchored:
        return curves, []
    return curves, memory_deviations(plan, curves, pairs, paired and quantity == "allocated", peak)


def _time_deviations(
    plan: Plan, ops: MeasuredOps, matches: Matches, owner: Int64s, clock: TimeMap, aligned_as: AlignedStep | None
) -> list[Deviation]:
    """Ops that took longer or shorter, waits before them, kernels without an op and ops without a kernel."""
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
    gaps = Sentence("{} short waits together", (str(len(short)),))
    add(
        DeviationWhat.WAITS,
        None,
        gaps,
        (0, plan.makespan_ns),
        sum(wait for wait, _ in short),
        sum(wait for _, wait in short),
    )
    matched = {*matches.op.tolist(), *(aligned_as.inside if aligned_as is not None else ())}
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


def _times(plan: Plan, ops: MeasuredOps, owner: Int64s, aligned_as: AlignedStep | None) -> ScopeTimes:
    if aligned_as is None:
        return scope_times(plan, owner, ops.duration_ns)
    return scope_times(plan, owner, ops.duration_ns, aligned_as.alignment.scopes, aligned_as.rows)


def _whats(ops: MeasuredOps, aligned_as: AlignedStep | None) -> Sequence[str]:
    """What each kernel that no plan has is, empty where that is not known."""
    if aligned_as is None:
        return [""] * len(ops)
    return [aligned_as.alignment.scopes.named(row) for row in aligned_as.rows.tolist()]


def _groups(ops: MeasuredOps, owner: Int64s, aligned_as: AlignedStep | None) -> list[tuple[UnmatchedKernels, int, int]]:
    """
    Kernels without an op by what they are, if that is known, or name, and by type; with the start of the first and the
    end of the last.
    """
    whats = _whats(ops, aligned_as)
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in np.flatnonzero(owner < 0).tolist():
        rows[whats[row] or ops.name[row], ops.type[row]].append(row)
    groups = []
    for (name, kind), found in rows.items():
        total = int(ops.duration_ns[found].sum())
        end = int(ops.end_ns[found].max())
        groups.append((UnmatchedKernels(name, kind, len(found), total), int(ops.start_ns[found[0]]), end))
    return groups


def _unmatched(ops: MeasuredOps, owner: Int64s, aligned_as: AlignedStep | None) -> tuple[UnmatchedKernels, ...]:
    groups = [kernels for kernels, _, _ in _groups(ops, owner, aligned_as)]
    return tuple(sorted(groups, key=lambda kernels: (-kernels.total_ns, kernels.name, kernels.type)))


def _busy(start_ns: Int64s, end_ns: Int64s) -> int:
    """Nanoseconds in which at least one of them runs; rows in order of start."""
    if not len(start_ns):
        return 0
    reached = np.maximum.accumulate(end_ns)
    before = np.concatenate((start_ns[:1], reached[:-1]))
    return int(np.maximum(end_ns - np.maximum(start_ns, before), 0).sum())


def _summary(
    plan: Plan,
    ops: MeasuredOps,
    matches: Matches,
    owner: Int64s,
    memory: ComparedMemory | None,
    peak: int,
    inside: int,
) -> Summary:
    launched = sorted((op.start_ns, op.start_ns + op.duration_ns) for op in plan.ops if op.launches)
    spans = np.array(launched, dtype=np.int64).reshape(-1, 2)
    # Ops planned without a kernel may turn up with one; they don't make up for others that are missing.
    counted = np.array([plan.ops[index].launches for index in matches.op.tolist()], dtype=bool)
    total = int(ops.duration_ns.sum())
    curve = memory_curve(plan, Tier.HBM)
    peak_ns = int(curve.time_ns[int(np.argmax(curve.values))])
    reached_ns = int(memory.axis_ns[int(np.argmax(memory.measured))]) if memory is not None else None
    return Summary(
        planned_peak=peak,
        planned_peak_op=op_at(plan, peak_ns),
        measured_peak=int(memory.measured.max()) if memory is not None else None,
        # Without anchors there is no telling which op a measured time belongs to.
        measured_peak_op=op_at(plan, reached_ns) if reached_ns is not None and len(matches) else None,
        planned_makespan_ns=(int(spans[:, 1].max() - spans[0, 0]) if len(spans) else 0) if plan.timed else None,
        measured_makespan_ns=int(ops.end_ns.max() - ops.start_ns.min()) if len(ops) else 0,
        planned_busy_ns=_busy(spans[:, 0], spans[:, 1]) if plan.timed else None,
        measured_busy_ns=_busy(ops.start_ns, ops.end_ns),
        planned_ops=len(launched),
        matched_ops=int(counted.sum()) + inside,
        matched_by_name=int((counted & matches.by_name).sum()),
        measured_kernels=len(ops),
        measured_coverage=int(ops.duration_ns[owner >= 0].sum()) / total if total else float(len(matches) > 0),
        whole=plan.timed or any(tensor.persistent for tensor in plan.tensors),
    )


def _left_out(plan: Plan, summary: Summary, named: bool) -> list[str]:
    """What the verdict does not rest on, because the plan says nothing of it."""
    return [
        text
        for missing, text in (
            (not plan.timed, "the plan has no times: durations and waits are not compared"),
            (not summary.whole, "the plan leaves out what is allocated elsewhere: its peak is no part of the verdict"),
            (not named, "the plan does not name what runs at every step: kernels without an op may be planned ones"),
        )
        if missing
    ]


def _reasons(summary: Summary, tolerance: Tolerance, named: bool) -> list[Sentence]:
    """Why the profile deviates: each figure beyond its tolerance, in words."""
    if not summary.matched_ops:
        return [Sentence("no op of the plan is in the profile: it is of another model, or its names were lost")]
    reasons = []
    if summary.coverage < tolerance.coverage:
        reasons.append(Sentence("only {} of the planned ops are in the profile", (format_share(summary.coverage),)))
    if named and summary.measured_coverage < tolerance.coverage:
        share = format_share(summary.measured_coverage)
        reasons.append(Sentence("only {} of the measured kernel time is of planned ops", (share,)))
    for text, change, allowed in (
        ("the peak is {} off the plan, more than {}", summary.peak_change, tolerance.memory),
        ("the makespan is {} off the plan, more than {}", summary.makespan_change, tolerance.time),
    ):
        if change is not None and abs(change) > allowed:
            reasons.append(Sentence(text, (format_change(change), format_share(allowed, 0))))
    return reasons
