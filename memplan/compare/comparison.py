"""A plan against what a profile measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from memplan.compare.compared_step import ComparedStep, compared_step
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
from memplan.compare.rank_blocks import RankBlocks, holders_of, joined_blocks
from memplan.compare.result import ComparedMemory, Comparison, Deviation, Summary, Tolerance
from memplan.compare.step_causes import step_causes
from memplan.compare.time_deviations import kernel_whats, time_deviations, unmatched_kernels, untold_kernels
from memplan.compare.unlike_plan import unlike_plan
from memplan.core.arrays import Bools, Int64s
from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.core.units import format_change, format_share
from memplan.schema import Curve, Plan, PlannedStep, Tier, memory_curve, planned_step
from memplan.traces.directory import Profile
from memplan.traces.process_memory import process_memory
from memplan.traces.profile import Allocations
from memplan.traces.rank import RankProfile

if TYPE_CHECKING:
    from memplan.holders import PeakHolders


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
    `InputError` for a rank, step or component that is not there, and for a profile with neither kernels nor
    blocks of memory.
    """
    tolerance = tolerance or Tolerance()
    measured_rank, simulated = _pick_rank(profile, rank)
    progress(0, 4, "reading kernels")
    of_step = compared_step(plan, measured_rank, step, progress)
    anchored = of_step.clock.anchored
    progress(2, 4, "comparing memory")
    # What is alive at once in HBM is what an allocator counts; the plan's own peak is the highest address.
    planned = memory_curve(plan, Tier.HBM)
    memory = _memory(of_step, planned, measured_rank, component, progress)
    progress(3, 4, "ranking deviations")
    found = [*memory.deviations, *(time_deviations(of_step) if anchored else ())]
    found.sort(key=lambda item: (-item.cost, item.start_ns, item.what, str(item.where)))
    whole = planned_step(plan, simulated=simulated)
    summary = _summary(of_step, planned, memory.curves, whole)
    # At steps of which the plan's file doesn't say what runs, any kernel may run.
    named = all(op.launches is not None for op in plan.ops)
    memory_alone = not len(of_step.everything) and memory.blocks is not None
    reasons = _reasons(summary, tolerance, named, memory_alone=memory_alone)
    if of_step.alignment is not None:
        reasons = [*unlike_plan(plan, of_step.alignment), *reasons]
    return Comparison(
        graph=plan.origin.graph,
        chip=plan.chip,
        rank=measured_rank.rank,
        step=of_step.number,
        simulated=simulated,
        time_map=of_step.clock,
        matches=of_step.matches,
        memory=memory.curves,
        deviations=tuple(found[:limit]),
        deviations_total=len(found),
        unmatched_ops=of_step.missing_ops(),
        unmatched_kernels=unmatched_kernels(of_step.ops, of_step.owner, of_step.aligned),
        untold_ops=of_step.untold_ops(),
        untold_kernels=untold_kernels(plan, of_step.ops, of_step.aligned),
        summary=summary,
        tolerance=tolerance,
        deviates=bool(reasons),
        reasons=tuple(reasons),
        notes=(*of_step.notes(), *memory.notes, *_left_out(plan, summary, named)),
        causes=step_causes(of_step, kernel_whats(of_step.ops, of_step.aligned), whole) if anchored else None,
        aligned=of_step.aligned,
        holders=memory.holders(of_step, measured_rank),
        process=process_memory(measured_rank.memory_curves(progress)),
        places=of_step.places() if anchored else None,
        times=of_step.times() if anchored else None,
        blocks=memory.blocks,
        steps=tuple(int(number) for number in of_step.steps.numbers),
        place=of_step.place,
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
        raise InputError("the profile has no rank {}", chosen, path=whole.path, remedy=Sentence("it has {}", (have,)))
    return whole.rank(chosen), whole.simulated


@dataclass(frozen=True, slots=True)
class _MemorySide:
    """Both memory curves, how they differ, and the rank's blocks joined to planned tensors, as far as there are any."""

    curves: ComparedMemory | None
    blocks: RankBlocks | None
    deviations: tuple[Deviation, ...]
    notes: tuple[str, ...]

    def holders(self, of_step: ComparedStep, rank: RankProfile) -> PeakHolders | None:
        """Who holds the measured peak, where blocks tell."""
        if self.blocks is None or self.curves is None or self.curves.quantity != "allocated":
            return None
        return holders_of(of_step.plan, rank, self.blocks, self.curves.component, len(of_step.steps.numbers))


def _memory(
    of_step: ComparedStep, expected: Curve, rank: RankProfile, component: str | None, progress: Progress
) -> _MemorySide:
    plan, device, ops = of_step.plan, of_step.clock, of_step.ops
    chosen = choose_component(rank, component)
    join = None
    if device.anchored or not len(of_step.everything):
        join = joined_blocks(plan, rank, of_step.aligned, None if chosen is None else chosen[0].component, progress)
    if chosen is None:
        return _MemorySide(None, join, (), ("the profile holds no memory curve",))
    curve, values, quantity, reason = chosen
    nothing = np.zeros(0, dtype=np.int64)
    allocations = rank.allocations() or Allocations((), nothing, nothing, nothing)
    pairs = pair_allocations(plan, allocations, of_step.place, len(of_step.steps.numbers))
    if not len(pairs.ops) and join is not None:
        pairs = pairs_of_join(plan, join.allocations, join.join, join.repetition)
    clock, paired = allocator_clock(plan, pairs, device)
    notes = []
    if not paired and device.anchored:
        notes.append("no allocation is known to be a planned tensor: the allocator's clock is taken to be the device's")
    end_ns = max(plan.makespan_ns, 1)
    if not device.anchored and len(ops):
        end_ns = max(end_ns, int(ops.end_ns.max() - ops.start_ns[0]))
    axis, planned, measured = align_memory(expected, curve, values, clock, end_ns)
    curves = ComparedMemory(axis, planned, measured, clock, curve.component, quantity, reason)
    found: list[Deviation] = []
    if device.anchored or paired:
        found = memory_deviations(plan, curves, pairs, paired and quantity == "allocated", int(expected.values.max()))
    return _MemorySide(curves, join, tuple(found), tuple(notes))


def _busy(start_ns: Int64s, end_ns: Int64s) -> int:
    """Nanoseconds in which at least one of them runs; rows in order of start."""
    if not len(start_ns):
        return 0
    reached = np.maximum.accumulate(end_ns)
    before = np.concatenate((start_ns[:1], reached[:-1]))
    return int(np.maximum(end_ns - np.maximum(start_ns, before), 0).sum())


def _summary(
    of_step: ComparedStep, expected: Curve, memory: ComparedMemory | None, step: PlannedStep | None
) -> Summary:
    plan, ops, matches, owner = of_step.plan, of_step.ops, of_step.matches, of_step.owner
    aligned_as = of_step.aligned
    launched = sorted((op.start_ns, op.start_ns + op.duration_ns) for op in plan.ops if op.launches)
    spans = np.array(launched, dtype=np.int64).reshape(-1, 2)
    # Ops planned without a kernel may turn up with one; they don't make up for others that are missing.
    counted = np.array([plan.ops[index].launches for index in matches.op.tolist()], dtype=bool)
    peak = int(np.argmax(expected.values))
    reached_ns = int(memory.axis_ns[int(np.argmax(memory.measured))]) if memory is not None else None
    # Of a plan that launches nothing no step is known: it takes no time.
    known = PlannedStep(0) if step is None and plan.timed else step
    return Summary(
        planned_peak=int(expected.values[peak]),
        planned_peak_op=op_at(plan, int(expected.time_ns[peak])),
        measured_peak=int(memory.measured.max()) if memory is not None else None,
        # Without anchors there is no telling which op a measured time belongs to.
        measured_peak_op=op_at(plan, reached_ns) if reached_ns is not None and len(matches) else None,
        planned_makespan_ns=None if known is None else known.ops_ns,
        planned_step_ns=None if known is None else known.span_ns,
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
        return [
            Sentence("no op of the plan is in the profile: it is of another model or stage, or its names were lost")
        ]
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
