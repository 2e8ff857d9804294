"""
What makes a step longer or shorter than planned, in parts that add up to the difference.

Time is split on both sides into computing, communication that nothing computes beside, and idle; computing further by
families of ops, and kernels that no plan has. What several streams compute at once, and rounding, is the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.align.classes.op_families import families_of, family_table
from memplan.compare.aligned_ops import AlignedStep
from memplan.compare.compared_step import ComparedStep
from memplan.compare.measured import MeasuredOps
from memplan.compare.measured_families import families_measured
from memplan.core.arrays import Int64s
from memplan.core.intervals import interval_difference, interval_total, interval_union
from memplan.core.text_enum import TextEnum
from memplan.schema import Plan, PlannedOp, PlannedStep

_MOST = 3
"""Parts named beside a cause."""


class CauseKind(TextEnum):
    """Why a step takes another time than planned."""

    COMMUNICATION = "exposed communication and waiting"
    IDLE = "idle"
    """Nothing runs: the host is late, or it synchronises."""
    KERNELS = "kernels"
    UNPLANNED = "kernels that no plan has"
    MISSING = "planned kernels that did not run"
    UNTOLD = "kernels that are not told apart"
    """They run some of the ops beside them, or none of the plan."""
    REST = "computing at once on several streams"


@dataclass(frozen=True, slots=True)
class StepCause:
    """
    Nanoseconds `planned` and `measured` of one part of a step.

    `family` names the ops it is of, empty for all; `where` are those parts of the model that differ most, with by how
    much.
    """

    kind: CauseKind
    family: str
    planned: int
    measured: int
    where: tuple[tuple[str, int], ...] = ()

    @property
    def delta(self) -> int:
        """Measured less planned."""
        return self.measured - self.planned


@dataclass(frozen=True, slots=True)
class StepCauses:
    """
    A step `planned` and `measured` from first kernel to last, and the causes of the difference, largest first.

    `planned_computing` and `measured_computing` are those nanoseconds of them in which it computes.
    """

    planned: int
    measured: int
    planned_computing: int
    measured_computing: int
    causes: tuple[StepCause, ...]


def step_causes(of_step: ComparedStep, whats: Sequence[str], step: PlannedStep | None) -> StepCauses | None:
    """
    The causes for the kernels of a step; `whats[row]` is what a kernel without an op is.

    `step` is the planned step as the run can have it. `None` without one and for a step without kernels.
    """
    plan, ops = of_step.plan, of_step.ops
    launched = [op for op in plan.ops if op.launches]
    if step is None or not len(ops):
        return None
    apart = family_table().apart
    starts = np.array([op.start_ns for op in launched], dtype=np.int64)
    ends = starts + np.array([op.duration_ns for op in launched], dtype=np.int64)
    families = np.array([families_of(op.type)[0] for op in plan.ops], dtype=np.int64)
    measured_families = families_measured(ops)
    alone = np.isin(families, list(apart))
    planned = _split(starts, ends, alone[[op.index for op in launched]])
    measured = _split(ops.start_ns, ops.end_ns, np.isin(measured_families, list(apart)))
    sides = _Sides(plan, ops, of_step.owner, of_step.aligned, whats, families, measured_families)
    computing = sides.computing()
    causes = [
        StepCause(CauseKind.COMMUNICATION, "", planned[1] + step.waiting_ns, measured[1], sides.communication()),
        StepCause(CauseKind.IDLE, "", planned[2] + step.gaps_ns, measured[2]),
        *computing,
        StepCause(
            CauseKind.REST,
            "",
            step.running_ns,
            measured[0] - planned[0] - sum(cause.delta for cause in computing),
        ),
    ]
    causes = [cause for cause in causes if cause.delta or cause.measured]
    return StepCauses(
        planned=step.span_ns,
        measured=sum(measured),
        planned_computing=planned[0] + step.running_ns,
        measured_computing=measured[0],
        causes=tuple(sorted(causes, key=lambda cause: -abs(cause.delta))),
    )


def _split(starts: Int64s, ends: Int64s, apart: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Computing, communication alone, and idle between the first start and the last end."""
    computing = interval_union(starts[~apart], ends[~apart], keep_touching=True)
    communication = interval_union(starts[apart], ends[apart], keep_touching=True)
    busy, exposed = interval_total(*computing), interval_total(*interval_difference(communication, computing))
    return busy, exposed, int(ends.max() - starts.min()) - busy - exposed


def part_of(op: PlannedOp, kind: CauseKind) -> str:
    """The part of the model that `op` is, as a cause of `kind` names it beside itself (`StepCause.where`)."""
    if kind is CauseKind.COMMUNICATION:
        return op.part or op.name
    return ", ".join(text for text in (op.part or op.type, op.phase) if text)


class _Sides:
    """Planned and measured times of the ops of a step."""

    def __init__(
        self,
        plan: Plan,
        ops: MeasuredOps,
        owner: Int64s,
        aligned_as: AlignedStep | None,
        whats: Sequence[str],
        families: Int64s,
        measured_families: Int64s,
    ) -> None:
        self.plan, self.whats, self.ops, self.owner = plan, whats, ops, owner
        self.families, self.apart = families, np.isin(families, list(family_table().apart))
        computes = ~np.isin(measured_families, list(family_table().apart))
        untold = np.zeros(len(owner), dtype=np.bool_) if aligned_as is None else aligned_as.untold
        self.untold, self.unsure = untold & computes, frozenset() if aligned_as is None else aligned_as.unsure
        self.foreign = (owner < 0) & ~untold & computes
        self.took = np.zeros(len(plan.ops), dtype=np.int64)
        found = np.flatnonzero(owner >= 0)
        np.add.at(self.took, owner[found], ops.duration_ns[found])
        self.seen = {*owner[found].tolist(), *(() if aligned_as is None else aligned_as.inside)}

    def communication(self) -> tuple[tuple[str, int], ...]:
        """Collectives that took longest beyond their plan."""
        off: Counter[str] = Counter()
        for op in self.plan.ops:
            if self.apart[op.index] and op.index in self.seen:
                off[part_of(op, CauseKind.COMMUNICATION)] += int(self.took[op.index]) - op.duration_ns
        return _most(off)

    def computing(self) -> list[StepCause]:
        """Computing by families of ops, kernels in no plan, and ops that no kernel ran."""
        names = family_table().names
        planned: Counter[str] = Counter()
        measured: Counter[str] = Counter()
        parts: dict[str, Counter[str]] = defaultdict(Counter)
        missing: Counter[str] = Counter()
        untold: Counter[str] = Counter()
        for op in self.plan.ops:
            if not op.launches or self.apart[op.index]:
                continue
            part = part_of(op, CauseKind.KERNELS)
            if op.index not in self.seen:
                (untold if op.index in self.unsure else missing)[part] += op.duration_ns
                continue
            family, took = names[int(self.families[op.index])], int(self.took[op.index])
            planned[family] += op.duration_ns
            measured[family] += took
            parts[family][part] += took - op.duration_ns
        foreign: Counter[str] = Counter()
        for row in np.flatnonzero(self.foreign).tolist():
            foreign[self.whats[row] or self.ops.type[row]] += int(self.ops.duration_ns[row])
        return [
            *(
                StepCause(CauseKind.KERNELS, name.replace("_", " "), planned[name], measured[name], _most(parts[name]))
                for name in planned
            ),
            StepCause(CauseKind.UNPLANNED, "", 0, foreign.total(), _most(foreign)),
            StepCause(CauseKind.MISSING, "", missing.total(), 0, _most(missing)),
            StepCause(
                CauseKind.UNTOLD, "", untold.total(), int(self.ops.duration_ns[self.untold].sum()), _most(untold)
            ),
        ]


def _most(found: Counter[str]) -> tuple[tuple[str, int], ...]:
    ranked = sorted(found.items(), key=lambda entry: (-abs(entry[1]), entry[0]))
    return tuple(entry for entry in ranked[:_MOST] if entry[1])
