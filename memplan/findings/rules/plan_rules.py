"""Deviations from a plan, in the model's words: parts that take longer than planned, work that no plan has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.core.medians import weighted_median
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_change, format_duration, format_share
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import recurring_of_rank
from memplan.graph.op_names import op_family
from memplan.traces.profile import Kernels

if TYPE_CHECKING:
    from memplan.findings.planned_kernels import PlannedKernels
    from memplan.schema import PlannedOp

_MOST = 8


def plan_findings(job: JobCase) -> Iterator[Finding]:
    """Findings of every rank that the plan is of."""
    for rank, planned in job.planned.items():
        facts = job.ranks[rank]
        kernels = facts.case.kernels
        if kernels is not None:
            yield from _unplanned(job, facts, kernels, planned)
            yield from _slower(job, facts, kernels, planned, recurring_of_rank(job, rank, kernels))


def _unplanned(job: JobCase, facts: RankFacts, kernels: Kernels, planned: PlannedKernels) -> Iterator[Finding]:
    """
    Kernels that no plan has.

    Where it is known what they are, a run as planned would do without them, and they cost what they take. Of others it
    may be the plan that lacks them. Those of types that the plan has are most likely more of what it plans, as further
    micro-batches are, and cost nothing; those of other types cost what they take, which is assumed.
    """
    free = facts.claims.unclaimed(planned.unplanned())
    length = kernels.duration_ns[facts.case.computing_rows]
    names = [planned.what(kernel) for kernel in free.tolist()]
    types = [kernels.type[int(row)] for row in facts.case.computing_rows[free].tolist()]
    planned_types = {op_family(op.type) for op in planned.plan.ops}
    known = np.array([bool(name) for name in names], dtype=bool)
    others = np.array([op_family(name) not in planned_types for name in types], dtype=bool)
    dear = free[known | others]
    mine = dear if len(dear) else free
    total = int(length[mine].sum())
    if not facts.worth(total):
        return
    sums: Counter[Text] = Counter()
    for kernel, name, type_name in zip(free.tolist(), names, types, strict=True):
        sums[name or f"{type_name}, unknown"] += int(length[kernel])
    largest = sums.most_common(_MOST)
    sure = 2 * int(length[free[known]].sum()) >= total
    yield Finding(
        kind="plan.unplanned",
        title=Sentence(
            "{} [kernel|kernels] that the plan doesn't have: {} ({}); most of it {}",
            (f"{len(mine):,}", format_duration(total), format_share(total / facts.length_ns), largest[0][0]),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(dear, total) if len(dear) else None,
        cost_bytes=None,
        bound="the plan, which does without them",
        formula="time of computing kernels that no planned op runs, where it is known what they are or no planned op is"
        " of their type",
        confidence=Confidence.DERIVED if sure or not len(dear) else Confidence.ASSUMED,
        places=_worst(job, facts.case.rank, mine, length.astype(np.float64)),
        evidence=tuple(Evidence(name, time, "ns") for name, time in largest),
    )


def _slower(
    job: JobCase, facts: RankFacts, kernels: Kernels, planned: PlannedKernels, length: Floats
) -> Iterator[Finding]:
    """
    A finding for each part of the model that takes longer than most ops of the plan that the same thing bounds.

    Where most of them are slower it is what bounds them that is, not the part. `length` is what kernels take again and
    again; of a part that is slow for one kernel, run once, chance is told apart by nothing but what it costs.
    """
    reach = _reached(length, planned)
    free = facts.claims.unclaimed(np.flatnonzero(planned.op >= 0).astype(np.int64))
    free = free[length[free] > threshold("planned_spread") * reach[free]]
    by_part: dict[tuple[str, str], list[int]] = {}
    for kernel in free.tolist():
        op = planned.plan.ops[int(planned.op[kernel])]
        by_part.setdefault((op.part or op.type, op.phase or ""), []).append(kernel)
    excess = length - reach
    runs = np.bincount(planned.op[planned.op >= 0], minlength=len(planned.plan.ops))
    costs = {part: float(excess[rows].sum()) for part, rows in by_part.items()}
    for part in sorted(costs, key=lambda key: -costs[key]):
        cost = facts.claims.beyond_spread(int(costs[part]))
        if not facts.worth(cost):
            if cost < int(costs[part]):
                # Its rank or its clock makes it slow: no other rule counts these kernels again.
                facts.claims.take_kernels(np.array(by_part[part], dtype=np.int64), 0)
            continue
        once = max((int(excess[kernel]) for kernel in by_part[part] if runs[planned.op[kernel]] == 1), default=0)
        if not facts.worth(cost - once) and cost < threshold("irregular_share") * facts.length_ns:
            continue
        yield _slow_part(job, facts, kernels, planned, part, np.array(by_part[part], dtype=np.int64), excess, cost)


def _reached(length: Floats, planned: PlannedKernels) -> Floats:
    """
    What each kernel would take at what most of the planned time with its bound reaches; NaN of unplanned ones.

    Long kernels stream from memory where many short ones live in caches: those that take the time tell what it reaches.
    """
    bounds = np.array([str(op.bound.value) for op in planned.plan.ops] or [""])
    of_kernel = np.where(planned.op >= 0, bounds[np.maximum(planned.op, 0)], "")
    found = planned.planned_ns.copy()
    for bound in np.unique(of_kernel[planned.op >= 0]).tolist():
        mine = of_kernel == bound
        ratio = weighted_median(length[mine] / np.maximum(planned.planned_ns[mine], 1.0), planned.planned_ns[mine])
        found[mine] *= max(ratio, 1.0)
    return found


def _slow_part(
    job: JobCase,
    facts: RankFacts,
    kernels: Kernels,
    planned: PlannedKernels,
    part: tuple[str, str],
    rows: Int64s,
    excess: Floats,
    cost: int,
) -> Finding:
    length = kernels.duration_ns[facts.case.computing_rows]
    took, expected = int(length[rows].sum()), float((length[rows] - excess[rows]).sum())
    ops = [planned.plan.ops[int(planned.op[kernel])] for kernel in rows.tolist()]
    layers = _layers(ops, excess[rows])
    name = ", ".join(text for text in part if text)
    return Finding(
        kind="plan.slower",
        title=Sentence(
            "{} takes {} longer than planned ({}){}",
            (name, format_duration(cost), format_change(took / max(expected, 1.0) - 1), layers),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(rows, cost),
        cost_bytes=None,
        bound="the plan, at what most ops that the same thing bounds reach",
        formula=Sentence(
            "duration, up to the second longest of the same op, - planned x median (by time) of measured over planned"
            " of its bound, where more than {} longer",
            (f"{threshold('planned_spread') - 1:.0%}",),
        ),
        confidence=Confidence.DERIVED,
        places=_worst(job, facts.case.rank, rows, excess),
        evidence=(
            Evidence("kernels", len(rows), "count"), Evidence("they take", took, "ns"),
            Evidence("planned, at what most reach", int(expected), "ns"),
            Evidence("ops of it that the plan has", _planned_ops(planned, part), "count"),
        ),
    )  # fmt: skip


def _planned_ops(planned: PlannedKernels, part: tuple[str, str]) -> int:
    return sum((op.part or op.type, op.phase or "") == part for op in planned.plan.ops if op.launches)


def _layers(ops: Sequence[PlannedOp], excess: Floats) -> str:
    """The layers that most of an excess is in, where these are few of those that the part has."""
    sums: Counter[int] = Counter()
    for op, length in zip(ops, excess.tolist(), strict=True):
        if op.layer is not None:
            sums[op.layer] += int(length)
    most = [layer for layer, length in sums.most_common(3) if length >= 0.2 * sum(sums.values())]
    if not most:
        return ""
    return ", most in " + ", ".join(f"layers.{layer}" for layer in sorted(most))


def _worst(job: JobCase, rank: int, rows: Int64s, weight: Floats) -> tuple[Place, ...]:
    """Where those of computing kernels `rows` run that have most of `weight`, which all computing kernels have."""
    worst = rows[np.argsort(-weight[rows], kind="stable")[:_MOST]]
    return tuple(job.kernel_place(rank, kernel) for kernel in worst.tolist())
