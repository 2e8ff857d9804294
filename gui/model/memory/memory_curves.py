"""Memory over time, planned and measured, as step functions on the profile's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.sentence import Sentence, Text
from memplan.gui.model.amount_names import MEMORY_COLUMNS, memory_name, memory_text
from memplan.gui.model.document import Document
from memplan.gui.model.memory.memory_map import MemoryMap, unused_bytes
from memplan.gui.model.memory.process_stack import ProcessStack, process_stack
from memplan.gui.model.memory.step_curve import StepCurve
from memplan.schema import Tier, memory_curve, step_starts

if TYPE_CHECKING:
    from memplan.compare import Comparison, TimeMap
    from memplan.schema import Plan
    from memplan.traces.rank import RankProfile


@dataclass(frozen=True, slots=True)
class TierCurves:
    """
    What the curve view shows.

    `layers` splits the planned curve by kind of tensor, largest at the bottom; `capacity` is what the plan may use.
    `unused` are the planned bytes that lie idle below the highest address in use (fragmentation). `difference` is
    planned minus measured, signed, where both are compared. `process` takes apart what the run's whole process holds.
    """

    planned: StepCurve | None = None
    layers: Mapping[str, StepCurve] = field(default_factory=dict)
    measured: tuple[StepCurve, ...] = ()
    capacity: int | None = None
    unused: StepCurve | None = None
    difference: StepCurve | None = None
    process: ProcessStack | None = None

    @property
    def highest(self) -> int:
        """The largest value of any curve; at least 1."""
        curves = [*self.measured, *([self.planned] if self.planned is not None else [])]
        return max([1, *(int(curve.values.max()) for curve in curves if len(curve.values))])


def _mapped(title: Text, plan: Plan, axis: TimeMap, tier: Tier, kinds: tuple[str, ...] | None) -> StepCurve:
    curve = memory_curve(plan, tier, kinds=kinds)
    return StepCurve(title, axis.to_profile(curve.time_ns), _until_its_end(curve.values))


def _until_its_end(values: Int64s) -> Int64s:
    """A copy that says nothing from its last point on: a plan ends there, and what stands in memory stays."""
    told = np.array(values, dtype=np.int64)
    told[-1:] = -1
    return told


def planned_curves(plan: Plan, axis: TimeMap, tier: Tier) -> tuple[StepCurve, dict[str, StepCurve]]:
    """The planned curve of `tier`, whole and by kind, each on the profile's clock."""
    whole = _mapped(Sentence("planned"), plan, axis, tier, None)
    kinds = sorted({tensor.kind for tensor in plan.tensors})
    layers = {kind: _mapped(kind, plan, axis, tier, (kind,)) for kind in kinds}
    # What stays for the whole plan lies at the bottom, so that the moving part is seen as such.
    floor = {kind: int(curve.values[:-1].min()) if len(curve.values) > 1 else 0 for kind, curve in layers.items()}
    order = sorted(layers, key=lambda kind: (-floor[kind], kind))
    return whole, {kind: layers[kind] for kind in order if (layers[kind].values > 0).any()}


def measured_curves(rank: RankProfile) -> tuple[StepCurve, ...]:
    """Every memory column that `rank` has, one curve each, named `component column`; allocated ones first."""
    found = []
    for column in MEMORY_COLUMNS:
        for component in rank.memory_components():
            curve = rank.memory(component)
            values = getattr(curve, column) if curve is not None else None
            if curve is not None and values is not None and len(values) and (values > 0).any():
                title = memory_text(memory_name(component, column))
                found.append(StepCurve(title, curve.time_ns, np.ascontiguousarray(values)))
    return tuple(found)


def compared_curve(comparison: Comparison) -> StepCurve | None:
    """
    The measured curve that the plan is compared with, moved to the device's clock.

    The allocator runs on the host, ahead of the device; moved, each value stands at the op it belongs to.
    """
    memory = comparison.memory
    if memory is None or not len(memory.axis_ns):
        return None
    time_ns = comparison.time_map.to_profile(memory.axis_ns)
    title = Sentence("measured ({})", (memory_text(memory_name(memory.component, memory.quantity)),))
    return StepCurve(title, time_ns, _until_its_end(memory.measured))


def difference_curve(comparison: Comparison) -> StepCurve | None:
    """
    Planned minus measured bytes on the profile's clock, `None` without a measured curve.

    At the plan's end it goes to 0: what the run still holds then is no difference from the plan.
    """
    memory = comparison.memory
    if memory is None or not len(memory.axis_ns):
        return None
    time_ns = comparison.time_map.to_profile(memory.axis_ns)
    values = np.array(memory.planned - memory.measured, dtype=np.int64)
    values[-1] = 0
    return StepCurve(Sentence("planned − measured"), time_ns, values, signed=True)


def memory_curves(document: Document, tier: Tier = Tier.HBM, mapped: MemoryMap | None = None) -> TierCurves:
    """
    Planned and measured curves together; whichever is missing stays empty. Profiles know HBM only.

    `mapped` is the tier's memory map, where the plan gives addresses.
    """
    measured: tuple[StepCurve, ...] = ()
    difference: StepCurve | None = None
    process: ProcessStack | None = None
    if document.rank is not None and tier is Tier.HBM:
        measured = measured_curves(document.rank)
        compared = compared_curve(document.comparison) if document.comparison is not None else None
        if compared is not None:
            measured = (compared, *measured)
        difference = difference_curve(document.comparison) if document.comparison is not None else None
        process = process_stack(document.rank)
    plan = document.plan
    if plan is None:
        return TierCurves(measured=measured, process=process)
    planned, layers = planned_curves(plan, document.axis, tier)
    use = plan.tier(tier)
    unused = None
    if mapped is not None and len(mapped):
        time_ns = document.axis.to_profile(step_starts(plan))
        unused = StepCurve(Sentence("fragmentation"), time_ns, unused_bytes(mapped))
    return TierCurves(planned, layers, measured, use.capacity if use is not None else None, unused, difference, process)
