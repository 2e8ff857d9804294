"""HBM addresses for what is resident when: the fixed part at the bottom, the rest packed above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memplan.core.progress import Progress, silent
from memplan.placement.offsets import Buffer, Pool, Problem, assign
from memplan.placement.residency import Residency, Storage, live_bytes


@dataclass(frozen=True, slots=True)
class HbmLayout:
    """An offset for each residency, the highest address used, and a proven bound on it for these residencies."""

    offsets: tuple[int, ...]
    peak: int
    peak_step: int | None
    fixed: int
    lower_bound: int
    lower_bound_method: str
    method: str


def lay_out(
    storages: Sequence[Storage],
    residencies: Sequence[Residency],
    steps: int,
    *,
    alignment: int,
    enough: int | None = None,
    progress: Progress = silent,
) -> HbmLayout:
    """
    Addresses for `residencies`; those that last all `steps` are stacked from 0, which costs no other anything.

    A persistent storage that is there at both ends of the schedule ends at the address at which it begins, or the
    schedule could not be run again. Where the peak need be no lower than `enough` bytes, the search ends there.
    """
    offsets = [0] * len(residencies)
    fixed = 0
    moving = []
    for index, residency in enumerate(residencies):
        if residency.start == 0 and residency.end == steps:
            offsets[index] = fixed
            fixed += storages[residency.storage].size
        else:
            moving.append(index)
    live = live_bytes(storages, residencies, steps)
    peak_step = int(live.argmax()) if steps else None
    max_live = int(live.max()) if steps else fixed
    if not moving:
        return HbmLayout(tuple(offsets), fixed, peak_step, fixed, max_live, "sum of what is always live", "stacked")
    owner = _same_address(storages, residencies, moving, steps)
    intervals: dict[int, list[tuple[int, int]]] = {}
    for index in sorted(moving, key=lambda index: residencies[index].start):
        intervals.setdefault(owner.get(index, index), []).append((residencies[index].start, residencies[index].end))
    problem = Problem(
        buffers=tuple(
            Buffer(
                id=index,
                size=storages[residencies[index].storage].size,
                intervals=tuple(intervals[index]),
                alignment=alignment,
            )
            for index in moving
            if index in intervals
        ),
        pools=(Pool(id=0, name="HBM", capacity=None if enough is None else max(enough - fixed, 1)),),
    )
    if enough is not None:
        problem = replace(problem, objective=("capacity_overflow",))
    assignment = assign(problem, progress=progress)
    for index in moving:
        offsets[index] = fixed + assignment.placed[owner.get(index, index)][1]
    (pool,) = assignment.pools
    return HbmLayout(
        offsets=tuple(offsets),
        peak=fixed + pool.peak,
        peak_step=peak_step,
        fixed=fixed,
        lower_bound=fixed + pool.lower_bound,
        lower_bound_method=pool.lower_bound_method,
        method=assignment.method,
    )


def _same_address(
    storages: Sequence[Storage], residencies: Sequence[Residency], moving: Sequence[int], steps: int
) -> dict[int, int]:
    """The residency that a persistent storage begins with, by the one that it ends with."""
    first = {residencies[i].storage: i for i in moving if residencies[i].start == 0}
    return {
        index: first[residency.storage]
        for index in moving
        for residency in (residencies[index],)
        if residency.end == steps and storages[residency.storage].persistent and residency.storage in first
    }
