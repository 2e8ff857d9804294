"""The planned memory map as columns: every placement a rectangle of time x address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.intervals import interval_total, interval_union
from memplan.gui.model.memory.rectangles import MapRectangles
from memplan.schema import Tier, plan_peak, step_starts

if TYPE_CHECKING:
    from memplan.compare import TimeMap
    from memplan.schema import Plan, PlannedOp, PlannedTensor


@dataclass(frozen=True, slots=True)
class MemoryMap(MapRectangles):
    """
    MapRectangles of one tier of a plan.

    `placement[i]` is the rectangle's row in `plan.placements`; `unplaced` says how many placements of the tier have no
    address (they are in the curve, not in the map). `tensors` are the plan's by index.
    """

    plan: Plan
    tier: Tier
    placement: Int64s
    unplaced: int
    tensors: Mapping[int, PlannedTensor] = field(repr=False)


def tiers_with_addresses(plan: Plan) -> tuple[Tier, ...]:
    """Tiers the map can show, HBM first."""
    found = {placement.tier for placement in plan.placements if placement.offset is not None}
    return tuple(sorted(found, key=lambda tier: (tier is not Tier.HBM, list(Tier).index(tier))))


def memory_map(plan: Plan, axis: TimeMap, tier: Tier = Tier.HBM) -> MemoryMap:
    """The map of `tier`, its steps put on the profile's clock by `axis`."""
    steps = axis.to_profile(step_starts(plan))
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    placed = {item.tensor for item in plan.placements if item.tier is tier and item.offset is not None}
    kinds = tuple(sorted({tensors[index].kind for index in placed}))
    code = {kind: index for index, kind in enumerate(kinds)}
    rows, unplaced = [], 0
    for row, placement in enumerate(plan.placements):
        if placement.tier is not tier:
            continue
        if placement.offset is None:
            unplaced += 1
            continue
        kind = code[tensors[placement.tensor].kind]
        rows.append((row, placement.start, placement.end, placement.offset, placement.offset + placement.size, kind))
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 6)
    return MemoryMap(
        plan=plan,
        tier=tier,
        start_ns=steps[table[:, 1]],
        end_ns=steps[table[:, 2]],
        low=np.ascontiguousarray(table[:, 3]),
        high=np.ascontiguousarray(table[:, 4]),
        placement=np.ascontiguousarray(table[:, 0]),
        kind=table[:, 5].astype(np.int32),
        kinds=kinds,
        top=int(table[:, 4].max()) if len(table) else 0,
        unplaced=unplaced,
        tensors=tensors,
    )


@dataclass(frozen=True, slots=True)
class Occupant:
    """What one rectangle is: its tensor, the op that makes it, the op that last uses it."""

    tensor: PlannedTensor
    producer: PlannedOp | None
    last_use: PlannedOp | None
    tier: Tier
    offset: int
    size: int
    start_ns: int
    end_ns: int


def occupant(mapped: MemoryMap, rectangle: int) -> Occupant:
    """Everything the plan knows of rectangle `rectangle`; times on the profile's clock."""
    plan = mapped.plan
    placement = plan.placements[int(mapped.placement[rectangle])]
    tensor = mapped.tensors[placement.tensor]
    return Occupant(
        tensor=tensor,
        producer=plan.ops[tensor.producer] if tensor.producer is not None else None,
        last_use=plan.ops[tensor.uses[-1]] if tensor.uses and tensor.uses[-1] < len(plan.ops) else None,
        tier=placement.tier,
        offset=int(mapped.low[rectangle]),
        size=placement.size,
        start_ns=int(mapped.start_ns[rectangle]),
        end_ns=int(mapped.end_ns[rectangle]),
    )


@dataclass(frozen=True, slots=True)
class PeakPart:
    """Bytes of one kind alive at the peak, and its largest tensors as `(rectangle, bytes)`."""

    kind: str
    nbytes: int
    count: int
    largest: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Peak:
    """
    Why memory is highest where it is: step, time, bytes alive, and who holds them, largest kind first.

    `address_peak` is the highest address in use over the whole plan; `holes` is what lies unused below it at the peak
    step (fragmentation, and the room the placement keeps for later).
    """

    step: int
    time_ns: int
    op: PlannedOp | None
    alive: int
    address_peak: int
    holes: int
    parts: tuple[PeakPart, ...]


def explain_peak(mapped: MemoryMap, axis: TimeMap, *, largest: int = 5) -> Peak | None:
    """Who holds memory at the step where most bytes are placed, or `None` for an empty map."""
    found = plan_peak(mapped.plan, mapped.tier) if len(mapped) else None
    if found is None:
        return None
    rectangle = {int(placement): row for row, placement in enumerate(mapped.placement)}
    parts = []
    for share in found.shares:
        places = [row for row in share.placements if row in rectangle]
        top = tuple((rectangle[row], mapped.plan.placements[row].size) for row in places[:largest])
        parts.append(PeakPart(share.kind, share.nbytes, share.count, top))
    rows = np.array(
        [rectangle[row] for share in found.shares for row in share.placements if row in rectangle], np.int64
    )
    used = interval_total(*interval_union(mapped.low[rows], mapped.high[rows]))
    return Peak(
        step=found.step,
        time_ns=int(axis.to_profile(step_starts(mapped.plan)[found.step : found.step + 1])[0]),
        op=mapped.plan.ops[found.step],
        alive=found.nbytes,
        address_peak=mapped.top,
        holes=mapped.top - used,
        parts=tuple(parts),
    )


def unused_bytes(mapped: MemoryMap) -> Int64s:
    """
    For every step of the plan the bytes below its highest address in use that nothing occupies: its fragmentation.

    One value a step and a last 0 for the end, as `memory_curve` has them.
    """
    steps = len(mapped.plan.ops)
    placements = [mapped.plan.placements[int(row)] for row in mapped.placement]
    order = sorted(range(len(placements)), key=lambda i: placements[i].start)
    used = np.zeros(steps + 1, dtype=np.int64)
    for item in placements:
        used[item.start] += item.size
        used[item.end] -= item.size
    used = np.cumsum(used)
    unused = np.zeros(steps + 1, dtype=np.int64)
    highest: list[tuple[int, int]] = []
    following = 0
    for step in range(steps):
        while following < len(order) and placements[order[following]].start <= step:
            heappush(highest, (-int(mapped.high[order[following]]), placements[order[following]].end))
            following += 1
        while highest and highest[0][1] <= step:
            heappop(highest)
        unused[step] = max(-highest[0][0] - int(used[step]), 0) if highest else 0
    return unused
