"""What the allocator of a simulated run does, event by event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from memplan.core.progress import Progress
from memplan.schema import Placement, Plan, PlannedTensor, Tier
from memplan.simulator.caching_allocator import CachingAllocator, occupied_bytes
from memplan.simulator.execution import Execution
from memplan.simulator.noise import Behaviour, Chance

NO_TENSOR = -1
"""The tensor of a block that no plan has."""


@dataclass(frozen=True, slots=True)
class SimulatedMemoryEvent:
    """State of the allocator after one allocation (`allocation` is its row) or release, in bytes at `time_ns`."""

    time_ns: int
    allocation: int
    release: bool
    allocated: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """
    `size` bytes for tensor `tensor`, -1 for what no plan has, made by op `op` of run `step`.

    `release_ns` is `None` if never freed.
    """

    step: int
    op: int
    tensor: int
    size: int
    allocation_ns: int
    release_ns: int | None


@dataclass(frozen=True, slots=True)
class MemoryLog:
    """
    Allocations and events of all runs, in order of time, in nanoseconds from the start of the first run.

    `before` bytes were allocated before it and stay: what lives in HBM over the whole graph.
    """

    allocations: tuple[Allocation, ...]
    events: tuple[SimulatedMemoryEvent, ...]
    before: int
    before_reserved: int


def record_memory(
    plan: Plan,
    runs: Sequence[tuple[int, Execution]],
    behaviour: Behaviour,
    chance: Chance,
    progress: Progress,
) -> MemoryLog:
    """
    Allocate and free the HBM placements of `plan` over `runs` of (start in nanoseconds, execution).

    A tensor is allocated when the op at which its placement starts is issued and freed when the last op before the
    placement's end has been: on the host's clock where the host runs ahead, as real allocators are.
    """
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    steps = len(plan.ops)
    staying: list[Placement] = []
    passing: list[Placement] = []
    for placement in plan.placements:
        if placement.tier is Tier.HBM and placement.size > 0:
            whole = placement.start == 0 and placement.end == steps and _there_before(tensors[placement.tensor])
            (staying if whole else passing).append(placement)
    passing = [placement for placement in passing if placement.start < placement.end]
    allocator = CachingAllocator(behaviour)

    def occupied(placement: Placement) -> int:
        return occupied_bytes(tensors[placement.tensor].nbytes, placement.size, behaviour)

    for placement in staying:
        allocator.allocate(occupied(placement))
    before, before_reserved = allocator.allocated, allocator.reserved

    leaked = frozenset(behaviour.leaked_tensors)
    allocations: list[Allocation] = []
    pending: list[tuple[int, int, int]] = []  # time, 0 = release and 1 = allocation, row
    for step, (origin, run) in enumerate(runs):
        late = chance.uniform(len(passing)) < behaviour.late_free_share
        by = np.floor(chance.uniform(len(passing)) * behaviour.late_free_steps).astype(np.int64) + 1
        for row, placement in enumerate(passing):
            made = origin + int(run.issue_ns[placement.start])
            end = min(placement.end + int(by[row]), steps) if late[row] else placement.end
            freed: int | None = origin + _release_ns(run, end, behaviour)
            if placement.tensor in leaked:
                freed = None
            pending.append((made, 1, len(allocations)))
            if freed is not None:
                pending.append((max(freed, made), 0 if freed > made else 2, len(allocations)))
            allocations.append(Allocation(step, placement.start, placement.tensor, occupied(placement), made, freed))
        for foreign in _foreign(passing, steps, behaviour, chance):
            size, begin, end = occupied(passing[foreign[0]]), foreign[1], foreign[2]
            made = origin + int(run.issue_ns[begin])
            freed = max(origin + _release_ns(run, end, behaviour), made)
            pending.append((made, 1, len(allocations)))
            pending.append((freed, 0 if freed > made else 2, len(allocations)))
            allocations.append(Allocation(step, begin, NO_TENSOR, size, made, freed))
    pending.sort()
    events: list[SimulatedMemoryEvent] = []
    blocks = {}
    for done, (time_ns, order, row) in enumerate(pending):
        if done % 65536 == 0:
            progress(done, len(pending), "memory events")
        if order == 1:
            blocks[row] = allocator.allocate(allocations[row].size)
        else:
            allocator.free(blocks.pop(row))
        events.append(SimulatedMemoryEvent(time_ns, row, order != 1, allocator.allocated, allocator.reserved))
    return MemoryLog(tuple(allocations), tuple(events), before, before_reserved)


def _there_before(tensor: PlannedTensor) -> bool:
    """Whether a tensor that lives throughout exists before the first op, as weights and gradient buffers do."""
    return tensor.persistent or tensor.producer is None or tensor.producer > tensor.start


def _foreign(
    passing: Sequence[Placement], steps: int, behaviour: Behaviour, chance: Chance
) -> Iterator[tuple[int, int, int]]:
    """Blocks that no plan has: the placement that each is as large as, and the steps `[begin, end)` of each."""
    if not behaviour.foreign_share or not passing:
        return
    drawn = [chance.uniform(steps) for _ in range(3)]
    for step, (happens, which, long) in enumerate(zip(*(column.tolist() for column in drawn), strict=True)):
        if happens < behaviour.foreign_share:
            lasts = 1 + int(long * behaviour.foreign_steps)
            yield int(which * len(passing)), step, min(step + lasts, steps)


def _release_ns(run: Execution, end: int, behaviour: Behaviour) -> int:
    """When what the ops before `end` used is released: as soon as the last of them has been issued."""
    if behaviour.host_runs_ahead:
        return int(run.issued_ns[end - 1])
    return int(run.issue_ns[end]) if end < len(run.issue_ns) else run.makespan_ns
