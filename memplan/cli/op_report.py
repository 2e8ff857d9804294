"""How `memplan op` reports: headline, pipes, traffic, buffers, curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memplan.cli.console import YES, print_json, print_table
from memplan.core.errors import InputError
from memplan.core.units import format_bytes, format_duration

if TYPE_CHECKING:
    from memplan.cost.machine import Machine
    from memplan.cost.kernel_time import KernelCost
    from memplan.placement.onchip import OnChipPlan

LARGEST = 1 << 30
"""Largest value of a dimension."""
_SWEPT = 40


def headline(what: str, cost: KernelCost, core: Machine, bounds: Mapping[str, Any]) -> None:
    """Time, bound, rates and pipes of a kernel."""
    seconds = cost.duration_ns * 1e-9
    least = bounds["time_ns"]
    print(f"{what} on {core.name}: {format_duration(cost.duration_ns)}, bound by {cost.bound}")
    print(
        f"{cost.flops / seconds / 1e12:,.1f} TFLOP/s, {cost.hbm_bytes / seconds / 1e9:,.0f} GB/s of HBM; "
        f"{least / cost.duration_ns:.0%} of the roofline ({format_duration(least)})"
    )
    print_table(
        "Pipes, mean over cores",
        ["pipe", "time", "share"],
        [(name, format_duration(round(time)), f"{time / cost.duration_ns:.0%}") for name, time in cost.pipes.items()],
        right=(1, 2),
    )


def print_traffic(cost: KernelCost, bounds: Mapping[str, Any]) -> None:
    """Bytes by level beside their bounds."""
    rows = []
    for level, size, bound in (
        ("GM to and from cores", cost.gm_bytes, bounds["gm_bytes"]),
        ("of it HBM", cost.hbm_bytes, bounds["hbm_bytes"]),
        ("of it L2", max(cost.gm_bytes - cost.hbm_bytes, 0), None),
    ):
        gap = None if bound is None or not bound else f"{size / bound - 1:.1%}"
        rows.append((level, format_bytes(size), None if bound is None else format_bytes(bound), gap))
    print_table("Traffic", ["level", "bytes", "lower bound", "gap"], rows, right=(1, 2, 3))
    print(f"bounds: {bounds['method']}")


def print_buffers(buffers: OnChipPlan) -> None:
    """The picture of the on-chip buffers."""
    from memplan.placement.onchip import picture

    print("\nBuffers" + ("" if buffers.fits else f": {format_bytes(buffers.shortfall)} too many"))
    print(picture(buffers))
    if buffers.reuse_cost:
        print(f"{buffers.reuse_cost} pairs of buffers share addresses across pipes and need a synchronisation")
    print()


def print_sources(core: Machine, cost: KernelCost) -> None:
    """What the figures rest on."""
    for source in core.sources:
        print(f"rests on: {source.value} ({source.note})" if source.note else f"rests on: {source.value}")
    if cost.assumed:
        print(f"note: {cost.assumed}")


def document(
    cost: KernelCost, core: Machine, bounds: Mapping[str, Any], buffers: OnChipPlan, details: Mapping[str, Any]
) -> dict[str, Any]:
    """All of it for `--json`."""
    return {
        "chip": core.name,
        "time_ns": cost.duration_ns,
        "bound": cost.bound,
        "flops": cost.flops,
        "gm_bytes": cost.gm_bytes,
        "hbm_bytes": cost.hbm_bytes,
        "pipes_ns": {name: round(time) for name, time in cost.pipes.items()},
        "bounds": dict(bounds),
        **details,
        "buffers": [
            {"name": b.name, "tier": b.tier.value, "offset": b.offset, "size": b.size, "slots": b.intervals}
            for b in buffers.buffers
        ],
        "memories": [
            {"tier": u.tier.value, "capacity": u.capacity, "peak": u.peak, "lower_bound": u.lower_bound}
            for u in buffers.uses
        ],
        "fits": buffers.fits,
        "rests_on": [{"value": source.value, "note": source.note} for source in core.sources],
    }


def sweep(text: str, axes: Sequence[str], cost_at: Callable[[str, int], KernelCost], as_json: bool) -> int:
    """The curve of `cost_at(axis, value)` over the range that `text` gives."""
    axis, values = _range(text, axes)
    points = [(value, cost_at(axis, value)) for value in values]
    if as_json:
        print_json([{axis: value, "time_ns": c.duration_ns, "bound": c.bound, "flops": c.flops} for value, c in points])
        return YES
    rates = [cost.flops / cost.duration_ns for _, cost in points]
    top = max(rates) or 1.0
    print_table(
        f"Curve over {axis}",
        [axis, "time", "TFLOP/s", "bound", ""],
        [
            (value, format_duration(cost.duration_ns), f"{rate / 1e3:,.1f}", cost.bound, "#" * round(50 * rate / top))
            for (value, cost), rate in zip(points, rates, strict=True)
        ],
        right=(0, 1, 2),
    )
    return YES


def _range(text: str, axes: Sequence[str]) -> tuple[str, list[int]]:
    """The axis and values of `m=16:8192` (doubling) or `m=16,48,100`."""
    axis, _, span = text.partition("=")
    axis = axis.strip().replace("-", "_")
    remedy = f"write it as {axes[0]}=16:8192 or {axes[0]}=16,48,100; axes are {', '.join(axes)}"
    try:
        if ":" in span:
            low, high = (int(part) for part in span.split(":"))
            values = [low << step for step in range(_SWEPT) if low << step <= high] if low > 0 else []
        else:
            values = [int(part) for part in span.split(",")]
    except ValueError:
        raise InputError(f"--sweep {text!r:.60} is not a range", remedy=remedy) from None
    if axis not in axes or not values or len(values) > _SWEPT or not all(1 <= value <= LARGEST for value in values):
        raise InputError(f"--sweep {text!r:.60} is not a range", remedy=remedy)
    return axis, values
