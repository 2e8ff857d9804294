"""From the process down to the tensors: what a process holds on its device over time, as areas on each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.sentence import Sentence, Text, joined
from memplan.core.units import format_bytes
from memplan.gui.model.memory.step_curve import StepCurve
from memplan.traces.process_memory import ProcessItem, ProcessMemory, ProcessPart, process_memory
from memplan.traces.profile import MemoryCurve

if TYPE_CHECKING:
    from memplan.traces.rank import RankProfile

_NAMED = 3
"""Items that the sentence names."""


@dataclass(frozen=True, slots=True)
class ProcessStack:
    """
    `layers` from the bottom: bytes of the framework's tensors, what its allocator keeps beyond them, further
    allocators, modules of CANN, and what nothing names, each the part of `parts`. They add up to `process`; `told` says
    it in a sentence.
    """

    layers: tuple[StepCurve, ...]
    parts: tuple[ProcessPart, ...]
    process: StepCurve
    told: Text


def process_stack(rank: RankProfile) -> ProcessStack | None:
    """What the process of `rank` holds; `None` where the profile lacks the process or an allocator."""
    curves = {name: curve for name in rank.memory_components() if (curve := rank.memory(name)) is not None}
    found = process_memory(curves)
    if found is None:
        return None
    process = next(curve for name in ("APP", "HAL") if (curve := curves.get(name)) is not None)
    total = _held(process)
    main = curves[found.component]
    grid = np.unique(np.concatenate([process.time_ns, main.time_ns]))
    grid = grid[(grid >= max(process.time_ns[0], main.time_ns[0])) & (grid <= process.time_ns[-1])]
    if not len(grid):
        grid = process.time_ns[-1:]
    whole = _along(process.time_ns, total, grid)
    reserved = _along(main.time_ns, _held(main), grid)
    used = reserved if main.allocated is None else np.minimum(_along(main.time_ns, main.allocated, grid), reserved)
    layers: list[StepCurve] = []
    parts: list[ProcessPart] = []
    left = whole.copy()
    for item in found.items:
        if item.part is ProcessPart.REST:
            continue
        values = _values_of(item, curves, found, grid, used, reserved)
        values = np.clip(values, 0, np.maximum(left, 0))
        if not values.any():
            continue
        left = left - values
        layers.append(StepCurve(_title(item), grid, values))
        parts.append(item.part)
    layers.append(StepCurve(Sentence("not itemised"), grid, np.maximum(left, 0)))
    parts.append(ProcessPart.REST)
    return ProcessStack(tuple(layers), tuple(parts), StepCurve(Sentence("the whole process"), grid, whole), told(found))


def _values_of(
    item: ProcessItem,
    curves: dict[str, MemoryCurve],
    found: ProcessMemory,
    grid: Int64s,
    used: Int64s,
    reserved: Int64s,
) -> Int64s:
    if item.part is ProcessPart.ALLOCATED:
        return used
    if item.part is ProcessPart.CACHED:
        return reserved - used
    values = _along(curves[item.name].time_ns, _held(curves[item.name]), grid)
    at = int(np.clip(np.searchsorted(grid, found.time_ns, side="right") - 1, 0, len(grid) - 1))
    # A module that books the allocator's segments as its own is counted without them, as it is at the peak.
    return values - reserved if item.nbytes < values[at] and int(values[at]) - item.nbytes >= found.reserved else values


def _held(curve: MemoryCurve) -> Int64s:
    values = curve.reserved if curve.reserved is not None else curve.allocated
    return np.zeros(len(curve.time_ns), dtype=np.int64) if values is None else values


def _along(times: Int64s, values: Int64s, grid: Int64s) -> Int64s:
    """A step function at the moments of `grid`, its first value before it begins; what is left out holds on."""
    known = np.flatnonzero(values >= 0)
    if not len(known):
        return np.zeros(len(grid), dtype=np.int64)
    place = np.searchsorted(times[known], grid, side="right") - 1
    held: Int64s = values[known[np.maximum(place, 0)]].astype(np.int64)
    return held


def _title(item: ProcessItem) -> Text:
    if item.part is ProcessPart.ALLOCATED:
        return Sentence("{} in tensors", (item.name,))
    if item.part is ProcessPart.CACHED:
        return Sentence("{} reserved beyond them", (item.name,))
    return item.name


def told(found: ProcessMemory) -> Text:
    """How much of the process lies outside of the framework's allocator at its peak, and what the most of that is."""
    inner = (ProcessPart.ALLOCATED, ProcessPart.CACHED)
    items = sorted((item for item in found.items if item.part not in inner and item.nbytes > 0), key=_by_size)
    named = [
        Sentence("{} {}", (item.name or Sentence("not itemised"), format_bytes(item.nbytes))) for item in items[:_NAMED]
    ]
    values = (format_bytes(found.gap), format_bytes(found.held), found.component)
    whole = Sentence("{} of the process's {} lie outside of {}", values)
    return Sentence("{}: {}", (whole, joined(tuple(named), "{}, {}"))) if named else whole


def _by_size(item: ProcessItem) -> int:
    return -item.nbytes
