"""Planned and measured memory on one axis, and what makes them differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memplan.compare.result import ComparedMemory, Deviation, DeviationKind, DeviationWhat
from memplan.compare.timemap import TimeMap, time_map
from memplan.core.arrays import Int64s
from memplan.core.errors import InputError
from memplan.core.medians import weighted_median
from memplan.core.sentence import Sentence, Text
from memplan.graph.op_names import op_spellings
from memplan.holders import BlockJoin
from memplan.schema import Curve, Placement, Plan, Tier, step_starts
from memplan.traces.profile import Allocations, MemoryCurve
from memplan.traces.rank import RankProfile

_PREFERRED = ("PTA", "MindSpore", "PTA+GE", "MindSpore+GE", "GE", "APP")
_WHY = {
    "PTA": "the framework's allocator, which holds what the plan plans",
    "MindSpore": "the framework's allocator, which holds what the plan plans",
    "PTA+GE": "the allocators of framework and graph engine together",
    "MindSpore+GE": "the allocators of framework and graph engine together",
    "GE": "the graph engine's allocator",
    "APP": "the whole process, as the profile has no allocator's curve: it includes runtime, streams and HCCL",
}
_NEVER = np.iinfo(np.int64).max


def choose_component(rank: RankProfile, wanted: str | None) -> tuple[MemoryCurve, Int64s, str, str] | None:
    """
    The measured curve, its values, their quantity (`allocated` or `reserved`), and why it was chosen.

    `None` where the profile has no memory curve; raises `InputError` for a component it does not have.
    """
    have = list(rank.memory_components())
    if wanted is not None and wanted not in have:
        known = Sentence("it has {}", (", ".join(have),)) if have else Sentence("it was taken without memory")
        raise InputError("the profile has no memory component {!r}", wanted, remedy=known)
    order = (
        [wanted] if wanted is not None else [c for c in _PREFERRED if c in have] + sorted(set(have) - set(_PREFERRED))
    )
    for component in order:
        curve = rank.memory(component)
        if curve is None or not len(curve.time_ns):
            continue
        why = "asked for" if wanted is not None else _WHY.get(component, "the first with a curve")
        for quantity, values in (("allocated", curve.allocated), ("reserved", curve.reserved)):
            if values is not None and bool((values >= 0).any()):
                return curve, values, quantity, why
    return None


@dataclass(frozen=True, slots=True)
class Pairs:
    """Planned placements and the allocations that realise them; rows of `Allocations`, times on the profile's clock."""

    placements: tuple[Placement, ...]
    ops: Int64s
    size: Int64s
    allocation_ns: Int64s
    release_ns: Int64s


def pair_allocations(plan: Plan, allocations: Allocations, position: int, steps: int) -> Pairs:
    """
    Pair what each op allocates in HBM with the allocations of its name, by size.

    An op's allocations are those of step `position` of `steps` if there are as many in each as the plan has;
    otherwise none of them is paired.
    """
    planned: dict[int, list[Placement]] = defaultdict(list)
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    for placement in plan.placements:
        stays = tensors[placement.tensor].persistent and placement.end - placement.start == len(plan.ops)
        if placement.tier is Tier.HBM and placement.start < placement.end and placement.size > 0 and not stays:
            planned[placement.start].append(placement)
    named = {plan.ops[step].name: step for step in sorted(planned, reverse=True)}
    measured: dict[int, list[int]] = defaultdict(list)
    known: dict[str, int] = {}
    for row, name in enumerate(allocations.name):
        if name not in known:
            known[name] = next((named[spelling] for spelling in op_spellings(name) if spelling in named), -1)
        if known[name] >= 0 and allocations.allocation_ns[row] >= 0:
            measured[known[name]].append(row)
    placements: list[Placement] = []
    rows: list[int] = []
    for step, group in sorted(planned.items()):
        found = sorted(measured.get(step, ()), key=lambda row: int(allocations.allocation_ns[row]))
        if len(found) != len(group) * steps:
            continue
        chosen = found[position * len(group) : (position + 1) * len(group)]
        placements += sorted(group, key=lambda p: (p.size, p.end, p.tensor))
        rows += sorted(chosen, key=lambda row: (int(allocations.size[row]), _release(allocations, row), row))
    return _pairs(placements, rows, allocations)


def pairs_of_join(plan: Plan, allocations: Allocations, join: BlockJoin, repetition: int) -> Pairs:
    """Placements of HBM and the blocks that were joined to their tensors in one repetition of the plan."""
    rows = np.flatnonzero((join.tensor >= 0) & (join.step == repetition) & (allocations.allocation_ns >= 0))
    block = dict(zip(join.tensor[rows].tolist(), rows.tolist(), strict=True))
    placements = [
        placement
        for placement in plan.placements
        if placement.tier is Tier.HBM and placement.tensor in block and placement.start < placement.end
    ]
    return _pairs(placements, [block[placement.tensor] for placement in placements], allocations)


def _pairs(placements: Sequence[Placement], rows: Sequence[int], allocations: Allocations) -> Pairs:
    """Each placement with its row of `allocations`."""
    index = np.array(rows, dtype=np.int64)
    release = allocations.release_ns[index]
    return Pairs(
        tuple(placements),
        np.array([placement.start for placement in placements], dtype=np.int64),
        allocations.size[index],
        allocations.allocation_ns[index],
        np.where(release < 0, _NEVER, release),
    )


def _release(allocations: Allocations, row: int) -> int:
    released = int(allocations.release_ns[row])
    return released if released >= 0 else _NEVER


def allocator_clock(plan: Plan, pairs: Pairs, device: TimeMap) -> tuple[TimeMap, bool]:
    """
    The map from planned time to when the allocator acts, from the times of paired allocations and their releases.

    Hosts run ahead of the device, so this is not the device's map; which is returned where nothing is paired. What
    is released late does not bend the map: its release comes after that of others due later, and such anchors go.
    """
    if len(pairs.ops) < 2:
        return device, False
    starts = step_starts(plan)
    released = pairs.release_ns != _NEVER
    due = np.array([placement.end for placement in pairs.placements], dtype=np.int64)[released]
    mapped = time_map(
        starts[np.concatenate((pairs.ops, due))],
        np.concatenate((pairs.allocation_ns, pairs.release_ns[released])),
    )
    return (mapped, True) if len(mapped.plan_ns) >= 2 else (device, False)


def align_memory(
    expected: Curve, curve: MemoryCurve, values: Int64s, clock: TimeMap, end_ns: int
) -> tuple[Int64s, Int64s, Int64s]:
    """The axis in planned time over `[0, end_ns)`, and both curves on it."""
    mapped = clock.to_plan(curve.time_ns)
    inside = (mapped > 0) & (mapped < end_ns)
    axis = np.unique(np.concatenate((expected.time_ns, mapped[inside], np.array([0, end_ns], dtype=np.int64))))
    return axis, _at(expected.time_ns, expected.values, axis), _at(mapped, values, axis)


def _at(times: Int64s, values: Int64s, axis: Int64s) -> Int64s:
    """A step function on `axis`; before its first point it is what it is there."""
    rows = np.maximum(np.searchsorted(times, axis, side="right") - 1, 0)
    return values.take(rows)


def memory_deviations(
    plan: Plan, curves: ComparedMemory, pairs: Pairs, exact_clock: bool, planned_peak: int
) -> list[Deviation]:
    """
    What makes the measured curve differ: sizes, late and early frees, and whatever these leave unexplained.

    The level is the median difference over time of what is left; excesses and shortfalls are the stretches above and
    below it, and what is planned there is taken with the level. Differences under a thousandth of the planned peak are
    left out.
    """
    makespan = max(plan.makespan_ns, 1)
    axis, rest = curves.axis_ns, curves.measured - curves.planned
    if len(axis) < 2:
        return []
    peak_ns = int(axis[int(np.argmax(curves.measured))])
    peak = planned_peak or max(int(curves.measured.max()), 1)  # a plan may hold no tensors
    floor = max(peak // 1000, 1)
    found: list[Deviation] = []

    def add(
        what: DeviationWhat, where: Text, op: int | None, span: tuple[int, int], planned: int, measured: int
    ) -> None:
        delta, (start, end) = measured - planned, span
        at_peak = abs(delta) / peak if start <= peak_ns < end else 0.0
        area = abs(delta) * (end - start) / (peak * makespan)
        found.append(
            Deviation(DeviationKind.MEMORY, what, where, op, start, end, planned, measured, delta, max(at_peak, area))
        )

    explained = _explained(plan, curves.map, pairs, int(axis[-1])) if exact_clock else []
    change = np.zeros(len(axis), dtype=np.int64)
    for what, op, start, end, planned, measured in explained:
        left, right = np.searchsorted(axis, (start, end))
        change[left] += measured - planned
        if right < len(axis):
            change[right] -= measured - planned
        if abs(measured - planned) >= floor:
            add(what, plan.ops[op].name, op, (start, end), planned, measured)
    rest = rest - np.cumsum(change)
    widths = np.diff(axis)
    level = int(weighted_median(rest[:-1], widths)) if widths.any() else 0
    if abs(level) >= floor:
        kept, span = sum(_persistent(plan)), (int(axis[0]), int(axis[-1]))
        add(DeviationWhat.LEVEL, Sentence("the whole step"), None, span, kept, kept + level)
    for left, right, extreme in _stretches(rest[:-1] - level, floor):
        at = op_at(plan, int(axis[extreme]))
        what = DeviationWhat.EXCESS if rest[extreme] > level else DeviationWhat.SHORTFALL
        where = plan.ops[at].name if at is not None else Sentence("before the first op")
        planned = int(curves.planned[extreme])
        span = (int(axis[left]), int(axis[right]))
        add(what, where, at, span, planned + level, planned + int(rest[extreme]))
    return found


def _persistent(plan: Plan) -> Sequence[int]:
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    return [p.size for p in plan.placements if p.tier is Tier.HBM and tensors[p.tensor].persistent and p.start == 0]


def _explained(
    plan: Plan, clock: TimeMap, pairs: Pairs, end_ns: int
) -> list[tuple[DeviationWhat, int, int, int, int, int]]:
    """Differences of paired allocations: (what, op, start, end, planned bytes, measured bytes)."""
    starts = step_starts(plan)
    last = len(plan.ops)
    never = pairs.release_ns == _NEVER
    released = np.where(never, end_ns, clock.to_plan(np.where(never, 0, pairs.release_ns)))
    found = []
    for row, placement in enumerate(pairs.placements):
        begin, due = int(starts[placement.start]), int(starts[placement.end])
        freed = min(int(released[row]), end_ns)
        size = int(pairs.size[row])
        if size != placement.size:
            found.append((DeviationWhat.SIZE, placement.start, begin, due, placement.size, size))
        # A free belongs to the step it falls in: only whole steps count as late or early.
        if freed > due and placement.end < last and freed > int(starts[placement.end + 1]) - 1:
            found.append((DeviationWhat.HELD_TOO_LONG, placement.start, due, freed, 0, size))
        elif freed < due and freed <= int(starts[placement.end - 1]) and not never[row]:
            found.append((DeviationWhat.FREED_EARLY, placement.start, freed, due, size, 0))
    return found


def _stretches(values: Int64s, floor: int) -> list[tuple[int, int, int]]:
    """Runs of one sign of at least `floor`: first position, position after the last, and that of the extreme."""
    sign = np.where(values >= floor, 1, np.where(values <= -floor, -1, 0))
    if not len(sign):
        return []
    edges = np.concatenate(([0], np.flatnonzero(np.diff(sign)) + 1, [len(sign)]))
    runs = []
    for left, right in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if sign[left]:
            runs.append((left, right, left + int(np.argmax(np.abs(values[left:right])))))
    return runs


def op_at(plan: Plan, time_ns: int) -> int | None:
    """The op that runs, or ran last, at planned time `time_ns`; `None` before the first."""
    position = int(np.searchsorted(step_starts(plan), time_ns, side="right")) - 1
    return min(position, len(plan.ops) - 1) if position >= 0 and plan.ops else None
