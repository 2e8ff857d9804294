"""Memory over time, planned and measured, as step functions on the profile's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memplan.gui.model.time_axis import TimeAxis
from memplan.schema import Plan, Tier, memory_curve
from memplan.traces.profile import RankProfile

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepCurve:
    """A named step function: `values[i]` bytes hold from `time_ns[i]` until `time_ns[i + 1]`."""

    name: str
    time_ns: Int64s
    values: Int64s

    def at(self, time_ns: int) -> int | None:
        """Bytes at `time_ns`, `None` before the first point and where the file leaves them out (-1)."""
        position = int(np.searchsorted(self.time_ns, time_ns, side="right")) - 1
        return int(self.values[position]) if position >= 0 and self.values[position] >= 0 else None

    @property
    def peak(self) -> tuple[int, int]:
        """Time and bytes of the first highest point."""
        position = int(self.values.argmax())
        return int(self.time_ns[position]), int(self.values[position])


@dataclass(frozen=True, slots=True)
class MemoryCurves:
    """
    What the curve view shows.

    `layers` splits the planned curve by kind of tensor, largest at the bottom; `capacity` is what the plan may use.
    """

    planned: StepCurve | None = None
    layers: Mapping[str, StepCurve] = field(default_factory=dict)
    measured: tuple[StepCurve, ...] = ()
    capacity: int | None = None

    @property
    def highest(self) -> int:
        """The largest value of any curve; at least 1."""
        curves = [*self.measured, *([self.planned] if self.planned is not None else [])]
        return max([1, *(int(curve.values.max()) for curve in curves if len(curve.values))])


def _mapped(name: str, plan: Plan, axis: TimeAxis, tier: Tier, kinds: tuple[str, ...] | None) -> StepCurve:
    curve = memory_curve(plan, tier, kinds=kinds)
    return StepCurve(name, axis.to_profile(curve.time_ns), np.ascontiguousarray(curve.values, dtype=np.int64))


def planned_curves(plan: Plan, axis: TimeAxis, tier: Tier) -> tuple[StepCurve, dict[str, StepCurve]]:
    """The planned curve of `tier`, whole and by kind, each on the profile's clock."""
    whole = _mapped("planned", plan, axis, tier, None)
    kinds = sorted({tensor.kind for tensor in plan.tensors})
    layers = {kind: _mapped(kind, plan, axis, tier, (kind,)) for kind in kinds}
    # What stays for the whole plan lies at the bottom, so that the moving part is seen as such.
    order = sorted(layers, key=lambda kind: (-int(layers[kind].values.min(initial=0)), kind))
    return whole, {kind: layers[kind] for kind in order if layers[kind].values.any()}


def measured_curves(rank: RankProfile) -> tuple[StepCurve, ...]:
    """Every memory column that `rank` has, one curve each, named `component column`."""
    found = []
    for component in rank.memory_components():
        curve = rank.memory(component)
        if curve is None:
            continue
        for column in ("allocated", "reserved", "active"):
            values = getattr(curve, column)
            if values is not None and len(values) and (values > 0).any():
                found.append(StepCurve(f"{component} {column}", curve.time_ns, np.ascontiguousarray(values)))
    return tuple(found)


def memory_curves(plan: Plan | None, rank: RankProfile | None, axis: TimeAxis, tier: Tier = Tier.HBM) -> MemoryCurves:
    """Planned and measured curves together; whichever is missing stays empty."""
    measured = measured_curves(rank) if rank is not None else ()
    if plan is None:
        return MemoryCurves(measured=measured)
    planned, layers = planned_curves(plan, axis, tier)
    use = plan.tier(tier)
    return MemoryCurves(planned, layers, measured, use.capacity if use is not None else None)
