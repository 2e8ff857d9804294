"""What the kernels of a plan keep on chip, those that take most of its time first."""

from __future__ import annotations

from memplan.core.units import format_share
from memplan.reports.report import Column, Quantity, ReportSection, ReportTable, section
from memplan.schema import OnChipPlan, Plan, PlannedTiling, Tier

_MOST = 10
_MEMORIES = (Tier.L0A, Tier.L0B, Tier.L0C, Tier.L1, Tier.UB)
_COLUMNS = (
    Column("kernel"),
    Column("ops", Quantity.COUNT),
    Column("time", Quantity.DURATION),
    Column("tile"),
    *(Column(tier.value, Quantity.BYTES) for tier in _MEMORIES),
    Column("from L2", Quantity.SHARE, 0),
)


def onchip_section(plan: Plan) -> ReportSection:
    """The tiles of distinct kernels, how full each memory of a core gets, and the share of their bytes from L2."""
    ops, time = [0] * len(plan.tilings), [0] * len(plan.tilings)
    for op in plan.ops:
        if op.tiling is not None:
            ops[op.tiling] += 1
            time[op.tiling] += op.duration_ns
    longest = sorted(range(len(plan.tilings)), key=lambda row: (-time[row], row))[:_MOST]
    rows = tuple(
        (
            plan.kernels[tiling.kernel].type,
            ops[row],
            time[row],
            _tile(tiling),
            *_peaks(None if tiling.onchip is None else plan.onchip[tiling.onchip]),
            tiling.l2_bytes / tiling.gm_bytes if tiling.gm_bytes else None,
        )
        for row in longest
        for tiling in (plan.tilings[row],)
    )
    title = f"On chip: {len(plan.tilings):,} distinct kernels, {len(plan.onchip):,} layouts of buffers"
    return section(title, ReportTable(_COLUMNS, rows, total=len(plan.tilings)), *_fullest(plan))


def _tile(tiling: PlannedTiling) -> str:
    sizes = [f"{size.name} {size.value}" for size in tiling.tile]
    return ", ".join(sizes) or (str(tiling.missing.sentence) if tiling.missing else "")


def _peaks(layout: OnChipPlan | None) -> tuple[int | None, ...]:
    peaks = {} if layout is None else {use.tier: use.peak for use in layout.uses}
    return tuple(peaks.get(tier) for tier in _MEMORIES)


def _fullest(plan: Plan) -> list[str]:
    """How full each memory gets by the kernel that fills it most, in one line."""
    most: dict[Tier, float] = {}
    for layout in plan.onchip:
        for use in layout.uses:
            if use.capacity:
                most[use.tier] = max(most.get(use.tier, 0.0), use.peak / use.capacity)
    told = ", ".join(f"{tier.value} {format_share(most[tier], 0)}" for tier in _MEMORIES if tier in most)
    return [f"at their fullest: {told}"] if told else []
