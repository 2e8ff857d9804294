"""One step of a rank beside a plan: which kernel runs which op, and on which clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memplan.align import Alignment, ScopeTimes, scope_times
from memplan.compare.aligned_ops import AlignedStep, aligned, aligned_step, aligned_steps
from memplan.compare.kernel_places import KernelPlaces, kernel_places
from memplan.compare.matching import match, own_name_matches
from memplan.compare.measured import MeasuredOps, MeasuredSteps, choose_step, find_steps, measured_ops
from memplan.compare.op_matches import Matches
from memplan.compare.timemap import TimeMap, time_map
from memplan.core.arrays import Int64s
from memplan.core.errors import InputError
from memplan.core.progress import Progress
from memplan.core.units import format_duration
from memplan.schema import Plan
from memplan.traces.rank import RankProfile


@dataclass(frozen=True, slots=True)
class ComparedStep:
    """
    The step at `place` among the `steps` of a rank, beside a plan.

    `everything` is what ran on the rank, `ops` what of it is in the step: its `rows`. `owner` is the planned op of each
    of these, -1 where there is none. Where names don't tell, `alignment` does, and `aligned` is what it says of the
    step. `clock` turns planned times into those of the device.
    """

    plan: Plan
    everything: MeasuredOps
    steps: MeasuredSteps
    place: int
    rows: Int64s
    ops: MeasuredOps
    alignment: Alignment | None
    aligned: AlignedStep | None
    matches: Matches
    owner: Int64s
    clock: TimeMap

    @property
    def number(self) -> int | None:
        """What the profile calls the step; `None` where it numbers none."""
        return None if self.steps.inferred else int(self.steps.numbers[self.place])

    @property
    def unsure(self) -> frozenset[int]:
        """Ops that may have run in kernels that are not told apart."""
        return frozenset() if self.aligned is None else self.aligned.unsure

    def missing_ops(self) -> tuple[int, ...]:
        """Planned ops that launch a kernel of which none was found."""
        inside = frozenset[int]() if self.aligned is None else self.aligned.inside
        launched = [op.index for op in self.plan.ops if op.launches]
        missing = np.setdiff1d([op for op in launched if op not in inside and op not in self.unsure], self.matches.op)
        return tuple(missing.tolist())

    def untold_ops(self) -> tuple[int, ...]:
        """Those of the ops that launch a kernel of which it is not known whether they ran."""
        return tuple(op.index for op in self.plan.ops if op.launches and op.index in self.unsure)

    def times(self) -> ScopeTimes:
        """Planned and measured times by part and layer of the model."""
        if self.aligned is None:
            return scope_times(self.plan, self.owner, self.ops.duration_ns)
        scopes = self.aligned.alignment.scopes
        return scope_times(self.plan, self.owner, self.ops.duration_ns, scopes, self.aligned.rows)

    def places(self) -> KernelPlaces:
        """All kernels of the rank in the model's words."""
        return kernel_places(self.plan, len(self.everything), self.rows, self.owner, self.alignment)

    def notes(self) -> Iterator[str]:
        """What was assumed, and what kernels don't show."""
        if self.everything.source != "kernel table":
            yield f"kernels are those of the {self.everything.source}"
        if self.steps.inferred and len(self.steps.numbers) > 1:
            count = len(self.steps.numbers)
            yield f"the profile numbers no steps; {count} were told apart by their repeated ops"
        after = self.plan.makespan_ns - max((op.start_ns + op.duration_ns for op in self.plan.ops), default=0)
        if after > 0:
            yield f"transfers go on for {format_duration(after)} after the last planned op; kernels do not show them"
        if not len(self.everything):
            yield "the profile holds no kernels: memory alone is compared"
        elif not self.clock.anchored:
            yield "no op of the plan is in the profile: the two are laid side by side at their beginnings only"


def compared_step(plan: Plan, rank: RankProfile, step: int | None, progress: Progress) -> ComparedStep:
    """
    Step `step` of a rank, or that of median length, beside `plan`.

    Raises `InputError` for a step that is not there, and where there are neither kernels nor blocks.
    """
    everything = _ops_or_blocks(rank, progress)
    names = own_name_matches(plan, everything)
    alignment = aligned(plan, rank.kernels(progress), everything, names)
    steps = find_steps(everything, names) if alignment is None else aligned_steps(everything, alignment)
    place = choose_step(everything, steps, step) if len(everything) else 0
    rows = np.flatnonzero(steps.position == place)
    ops = everything.take(rows)
    progress(1, 4, "matching ops")
    found_by = None if alignment is None else aligned_step(plan, alignment, everything, rows)
    matches, owner = match(plan, ops) if found_by is None else (found_by.matches, found_by.owner)
    clock = _device_clock(plan, ops, matches)
    return ComparedStep(plan, everything, steps, place, rows, ops, alignment, found_by, matches, owner, clock)


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
