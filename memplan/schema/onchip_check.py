"""An independent check of what kernels keep on chip: addresses, room, alignment, and what shares them when."""

from __future__ import annotations

from itertools import combinations

from memplan.schema.plan import Plan
from memplan.schema.planned_tiling import OnChipBuffer, OnChipPlan, OnChipUse
from memplan.schema.tier import Tier

_ON_CHIP = frozenset({Tier.L0A, Tier.L0B, Tier.L0C, Tier.L1, Tier.UB})


def onchip_violations(plan: Plan) -> list[str]:
    """What makes the buffers of `plan`'s kernels impossible."""
    found = [
        f"kernel of op {op.index} is {op.kernel}, its tiling is of kernel {plan.tilings[op.tiling].kernel}"
        for op in plan.ops
        if op.tiling is not None and plan.tilings[op.tiling].kernel != op.kernel
    ]
    for row, layout in enumerate(plan.onchip):
        found += [f"on-chip layout {row}: {wrong}" for wrong in _of_layout(layout)]
    return found


def _of_layout(layout: OnChipPlan) -> list[str]:
    found: list[str] = []
    uses: dict[Tier, OnChipUse] = {}
    for use in layout.uses:
        if use.tier in uses or use.tier not in _ON_CHIP:
            found.append(f"{use.tier.value} is described twice or is not on chip")
        uses[use.tier] = use
    by_tier: dict[Tier, list[OnChipBuffer]] = {}
    for buffer in layout.buffers:
        by_tier.setdefault(buffer.tier, []).append(buffer)
    missing = 0
    for tier, buffers in by_tier.items():
        if tier not in uses:
            found.append(f"buffers lie in {tier.value}, of which nothing is said")
            continue
        use = uses[tier]
        found += _apart(buffers)
        found += [
            f"{buffer.name} is at {buffer.offset} of {tier.value}, no multiple of {use.alignment}"
            for buffer in buffers
            if buffer.offset % use.alignment
        ]
        top = max(buffer.offset + buffer.size for buffer in buffers)
        if top != use.peak:
            found.append(f"{tier.value} is used up to {top}, the plan says {use.peak}")
        if use.peak < use.lower_bound:
            found.append(f"the peak {use.peak} of {tier.value} is below its own lower bound {use.lower_bound}")
        if use.capacity is not None:
            missing = max(missing, top - use.capacity)
    if layout.fits and missing > 0:
        found.append(f"{missing} bytes are missing, yet it is said to fit")
    return found


def _apart(buffers: list[OnChipBuffer]) -> list[str]:
    """Buffers that share addresses though both hold data at a time, or are copies of one that follow each other."""
    found = []
    for one, other in combinations(buffers, 2):
        if one.offset >= other.offset + other.size or other.offset >= one.offset + one.size:
            continue
        alive = any(a < d and c < b for a, b in one.intervals for c, d in other.intervals)
        if alive or (one.of and one.of == other.of):
            found.append(f"{one.name} and {other.name} share bytes of {one.tier.value}")
    return found
