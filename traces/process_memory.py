"""
What a process holds on a device beside what its framework allocated: the gap between the two, item by item.

The device's own sampler tells the whole process and its modules (HCCL, RUNTIME, SLOG, ...), the framework tells its
allocators; both are read at one moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.resources import table
from memplan.core.text_enum import TextEnum
from memplan.traces.profile import MemoryCurve


class ProcessPart(TextEnum):
    """What a part of a process's memory is."""

    ALLOCATED = "allocated"
    """In use by the framework's tensors."""
    CACHED = "reserved, not allocated"
    """Taken from the device by an allocator, in no tensor: its cache and what fragments."""
    ALLOCATOR = "allocator"
    """What a further allocator, such as the graph engine's, holds."""
    MODULE = "module"
    """What a module of CANN took from the device itself."""
    REST = "not itemised"
    """What nothing in the profile names: the device context, loaded kernels, captured graphs."""


@dataclass(frozen=True, slots=True)
class ProcessItem:
    """One part of what a process holds: `nbytes` of component `name`, and what that is in words, empty if unknown."""

    part: ProcessPart
    name: str
    nbytes: int
    words: str = ""


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """
    What a process held at `time_ns`, in bytes; `items` add up to `held`.

    `allocated` and `reserved` are those of the framework's allocator `component`. `held` is that of the whole process.
    A negative rest says that modules and allocators overlap in a way that the profile doesn't tell.
    """

    time_ns: int
    held: int
    component: str
    allocated: int
    reserved: int
    items: tuple[ProcessItem, ...]

    @property
    def gap(self) -> int:
        """Bytes of the process beyond what the framework's allocator reserved."""
        return self.held - self.reserved

    @property
    def rest(self) -> int:
        """Bytes that no component of the profile names."""
        return sum(item.nbytes for item in self.items if item.part is ProcessPart.REST)


def process_memory(curves: Mapping[str, MemoryCurve], at_ns: int | None = None) -> ProcessMemory | None:
    """
    The items of the process at the sample nearest to `at_ns`, by default to the peak of the framework's allocator.

    `None` where the profile lacks the process or an allocator. Components of other devices are left out.
    """
    roles = _roles()
    process = next((curves[name] for name in roles["process"] if name in curves), None)
    allocators = [name for name in roles["allocators"] if name in curves and _values(curves[name]) is not None]
    total = None if process is None else _values(process)
    if process is None or total is None or not allocators:
        return None
    main = curves[allocators[0]]
    sampled = np.flatnonzero(total > 0)
    if not len(sampled):
        return None
    # Before the allocator's first event there is no telling what it had reserved.
    beside = sampled[process.time_ns[sampled] >= main.time_ns[0]]
    sampled = beside if len(beside) else sampled
    moment = at_ns
    if moment is None:
        used = main.allocated if main.allocated is not None else _values(main)
        moment = 0 if used is None else int(main.time_ns[int(np.argmax(used))])
    sample = int(sampled[int(np.argmin(np.abs(process.time_ns[sampled] - moment)))])
    time_ns, held = int(process.time_ns[sample]), int(total[sample])
    reserved = _at(main.time_ns, _values(main), time_ns)
    allocated = reserved if main.allocated is None else _at(main.time_ns, main.allocated, time_ns)
    words = roles["words"]
    items = [
        ProcessItem(ProcessPart.ALLOCATED, allocators[0], allocated, words.get(allocators[0], "")),
        ProcessItem(ProcessPart.CACHED, allocators[0], reserved - allocated, words.get(allocators[0], "")),
    ]
    for name in allocators[1:]:
        size = _at(curves[name].time_ns, _values(curves[name]), time_ns)
        if size > 0:
            items.append(ProcessItem(ProcessPart.ALLOCATOR, name, size, words.get(name, "")))
    apart = {*roles["process"], *roles["allocators"], *roles["sums"], *roles["host"]}
    modules = {
        name: size
        for name, curve in curves.items()
        if name not in apart and curve.component == name and (size := _at(curve.time_ns, _values(curve), time_ns)) > 0
    }
    modules = _without_allocators(modules, sum(item.nbytes for item in items), reserved, held)
    for name, size in sorted(modules.items(), key=lambda entry: -entry[1]):
        items.append(ProcessItem(ProcessPart.MODULE, name, size, words.get(name, "")))
    rest = held - sum(item.nbytes for item in items)
    items.append(ProcessItem(ProcessPart.REST, "", rest))
    return ProcessMemory(time_ns, held, allocators[0], allocated, reserved, tuple(items))


def _roles() -> Mapping[str, Any]:
    return table("memplan.traces", "memory_components.json")


def _values(curve: MemoryCurve) -> Int64s | None:
    return curve.reserved if curve.reserved is not None else curve.allocated


def _at(times: Int64s, values: Int64s | None, time_ns: int) -> int:
    """A step function at a moment, its first value before it begins; 0 without any value."""
    if values is None:
        return 0
    known = np.flatnonzero(values >= 0)
    if not len(known):
        return 0
    place = int(np.searchsorted(times[known], time_ns, side="right")) - 1
    return int(values[known[max(place, 0)]])


def _without_allocators(modules: Mapping[str, int], allocators: int, reserved: int, held: int) -> dict[str, int]:
    """
    Modules without the segments of the allocators that one of them may count as its own.

    The driver books a segment on the module that asked for it, in some versions the framework's on the runtime. Where
    all together would exceed the process, the smallest module that can hold the allocator's is taken to include it.
    """
    found = dict(modules)
    if allocators + sum(found.values()) <= held:
        return found
    able = sorted((size, name) for name, size in found.items() if size >= reserved)
    if able:
        size, name = able[0]
        found[name] = size - reserved
    return {name: size for name, size in found.items() if size > 0}
