"""A plan against what a profile measured."""

from __future__ import annotations

from typing import cast

import numpy as np

from memplan.align import ScopeTimes, scope_times
from memplan.compare.aligned_ops import AlignedStep, aligned, aligned_step, aligned_steps
from memplan.compare.kernel_places import kernel_places
from memplan.compare.matching import match, own_name_matches
from memplan.compare.measured import MeasuredOps, choose_step, find_steps, measured_ops
from memplan.compare.measured_families import compute_times
from memplan.compare.memory import (
    align_memory,
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
    Summary,
    Tolerance,
)
from memplan.compare.step_causes import step_causes
from memplan.compare.time_deviations import kernel_whats, time_deviations, unmatched_kernels, untold_kernels
from memplan.compare.timemap import TimeMap, time_map
from memplan.core.arrays import Bools, Int64s
from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.core.units import format_change, format_duration, format_share
from memplan.schema import Plan, Tier, memory_curve
from memplan.traces.directory import Profile
from memplan.traces.process_memory import process_memory
from memplan.traces.profile import Allocations
from memplan.traces.rank import RankProfile


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
    everything = _ops_or_blocks(measured_rank, progress)
    names = own_name_matches(plan, everything)
    alignment = aligned(plan, measured_rank.kernels(progress), everything, names)
    steps = find_steps(everything, names) if alignment is None else aligned_steps(everything, alignment)
    position = choose_step(everything, steps, step) if len(everything) else 0
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
    unsure = found_by.unsure if found_by is not None else frozenset[int]()
    clock = _device_clock(plan, ops, matches)
    if not len(everything):
        notes.append("the profile holds no kernels: memory alone is compared")
    elif not clock.anchored:
        notes.append("no op of the plan is in the profile: the two are laid side by side at their beginnings only")
    progress(2, 4, "comparing memory")
    peak = _peak(plan)
    end_ns = max(plan.makespan_ns, 1)
    if not clock.anchored and len(ops):
        end_ns = max(end_ns, int(ops.end_ns.max() - ops.start_ns[0]))
    places = (position, len(steps.numbers))
    told = clock.anchored or not len(everything)
    curve = choose_component(measured_rank, component)
    named_curve = None if curve is None else curve[0].component
    join = joined_blocks(plan, measured_rank, found_by, named_curve, progress) if told else None
    memory, memory_found = _memory(plan, measured_rank, component, clock, places, join, end_ns, peak, notes)
    progress(3, 4, "ranking deviations")
    found = memory_found
    if clock.anchored:
        found = found + time_deviations(plan, ops, matches, owner, clock, found_by)
    found.sort(key=lambda item: (-item.cost, item.start_ns, item.what, str(item.where)))
    summary = _summary(plan, ops, matches, owner, memory, peak, found_by)
    # At steps of which the plan's file doesn't say what runs, any kernel may run.
    named = all(op.launches is not None for op in plan.ops)
    reasons = _reasons(summary, tolerance, named, memory_alone=not len(everything) and join is not None)
    notes += _left_out(plan, summary, named)
    launched = [op.index for op in plan.ops if op.launches]
    missing = np.setdiff1d([op for op in launched if op not in inside and op not in unsure], matches.op)
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
        unmatched_kernels=unmatched_kernels(ops, owner, found_by),
        untold_ops=tuple(op for op in launched if op in unsure),
        untold_kernels=untold_kernels(plan, ops, found_by),
        summary=summary,
        tolerance=tolerance,
        deviates=bool(reasons),
        reasons=tuple(reasons),
        notes=tuple(notes),
        causes=step_causes(plan, ops, owner, found_by, kernel_whats(ops, found_by)) if clock.anchored else None,
        aligned=found_by,
        holders=None
        if join is None or memory is None or memory.quantity != "allocated"
        else holders_of(plan, measured_rank, join, memory.component, len(steps.numbers)),
        process=process_memory(measured_rank.memory_curves(progress)),
        places=kernel_places(plan, len(everything), rows, owner, alignment) if clock.anchored else None,
        times=_times(plan, ops, owner, found_by) if clock.anchored else None,
        blocks=join,
        steps=tuple(int(number) for number in steps.numbers),
        place=position,
    )


def _ops_or_blocks(rank: RankProfile, progress: Progress) -> MeasuredOps:
    """What ran; nothing for a profile of memory alone. Raises `InputError` where there are no blocks either."""
    try:
        return measured_ops(rank, progress)
    except InputError:
        blocks = rank.allocations(progress)
        if blocks is None or not len(blocks):
            raise
    nothing = np.zeros(0, dtype=np.int64)
    return MeasuredOps(nothing, nothing, nothing, (), (), "kernel table")


def _pick_rank(profile: Profile | RankProfile, rank: int | None) -> tuple[RankProfile, bool]:
    if getattr(profile, "ranks", None) is None:
        return cast("RankProfile", profile), False
    whole = cast("Profile", profile)
    if not whole.ranks:
        raise InputError("the profile holds no rank", path=whole.path)
    chosen = whole.ranks[0] if rank is None else rank
    if chosen not in whole.ranks:
        have = ", ".join(map(str, list(whole.ranks)[:10]))
        raise InputError("the profile has no rank {}", chosen, path=whole.path, remedy=Sentence("it has {}", (have,)))
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
    axis, planned, measured = align_memory(plan, curve, values, clock, end_ns)
    curves = ComparedMemory(axis, planned, measured, clock, curve.component, quantity, reason)
    if not device.anchored and not paired:
        return curves, []
    return curves, memory_deviations(plan, curves, pairs, paired and quantity == "allocated", peak)


def _times(plan: Plan, ops: MeasuredOps, owner: Int64s, aligned_as: AlignedStep | None) -> ScopeTimes:
    if aligned_as is None:
        return scope_times(plan, owner, ops.duration_ns)
    return scope_times(plan, owner, ops.duration_ns, aligned_as.alignment.scopes, aligned_as.rows)


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
    aligned_as: AlignedStep | None,
) -> Summary:
    launched = sorted((op.start_ns, op.start_ns + op.duration_ns) for op in plan.ops if op.launches)
    spans = np.array(launched, dtype=np.int64).reshape(-1, 2)
    # Ops planned without a kernel may turn up with one; they don't make up for others that are missing.
    counted = np.array([plan.ops[index].launches for index in matches.op.tolist()], dtype=bool)
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
        matched_ops=int(counted.sum()) + (0 if aligned_as is None else len(aligned_as.inside)),
        matched_by_name=int((counted & matches.by_name).sum()),
        measured_kernels=len(ops),
        measured_coverage=_share_planned(ops.duration_ns, owner),
        compute_coverage=_share_planned(compute_times(ops), owner),
        whole=plan.timed or any(tensor.persistent for tensor in plan.tensors),
        untold_ops=0 if aligned_as is None else sum(plan.ops[op].launches is not False for op in aligned_as.unsure),
        untold_share=0.0 if aligned_as is None else _share_of(compute_times(ops), aligned_as.untold),
    )


def _share_planned(duration_ns: Int64s, owner: Int64s) -> float:
    """The share of the time of kernels that planned ops account for; of no time, whether there are any."""
    total = int(duration_ns.sum())
    return _share_of(duration_ns, owner >= 0) if total else float(bool((owner >= 0).any()))


def _share_of(duration_ns: Int64s, some: Bools) -> float:
    return int(duration_ns[some].sum()) / (int(duration_ns.sum()) or 1)


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


def _reasons(summary: Summary, tolerance: Tolerance, named: bool, *, memory_alone: bool) -> list[Sentence]:
    """Why the profile deviates: each figure beyond its tolerance, in words."""
    if not summary.matched_ops and not memory_alone:
        return [Sentence("no op of the plan is in the profile: it is of another model, or its names were lost")]
    reasons = []
    if summary.coverage < tolerance.coverage and not memory_alone:
        reasons.append(Sentence("only {} of the planned ops are in the profile", (format_share(summary.coverage),)))
    if named and summary.told_coverage < tolerance.coverage and not memory_alone:
        share = format_share(summary.told_coverage)
        reasons.append(Sentence("only {} of the measured compute time is of planned ops", (share,)))
    for text, change, allowed in (
        ("the peak is {} off the plan, more than {}", summary.peak_change, tolerance.memory),
        (
            "the makespan is {} off the plan, more than {}",
            None if memory_alone else summary.makespan_change,
            tolerance.time,
        ),
    ):
        if change is not None and abs(change) > allowed:
            reasons.append(Sentence(text, (format_change(change), format_share(allowed, 0))))
    return reasons
