"""What a diagnosis of a simulated job found of the fault that was planted in it, and how far off its cost is."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.findings import Finding
from memplan.schema import Plan
from memplan.simulator import ChosenFault, planted_memory, planted_ns


def faults_of(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that cost something, or are told by an engine; facts such as what makes the peak are no faults."""
    return [one for one in findings if one.cost_ns or one.cost_bytes or one.kind == "kv.preemption"]


def cost_of(plan: Plan, fault: ChosenFault, *, ranks: int, steps: int, seed: int) -> int:
    """What the fault costs the rank that it costs most: ns over all steps, or bytes."""
    planted = planted_memory if fault.fault.memory else planted_ns
    return planted(plan, fault, ranks=ranks, steps=steps, seed=seed)


def off_by(cost: int, fault: ChosenFault, named: Sequence[Finding]) -> float:
    """By which share of `cost` what `named` say is above or below; a rank has a fault itself or waits for who has."""
    if fault.fault.memory:
        told = max(one.cost_bytes or 0 for one in named)
    else:
        by_rank: dict[int | None, int] = {}
        for one in named:
            for rank, length in ((one.rank, one.cost_ns or 0), *one.waits_ns):
                by_rank[rank] = by_rank.get(rank, 0) + length
        told = max(by_rank.values())
    return (told - cost) / max(cost, 1)
