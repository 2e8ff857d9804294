"""HBM addresses for what is resident when: the fixed part at the bottom, the rest packed above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from memplan.core.progress import Progress, silent
from memplan.placement.offsets import Buffer, Limits, Pool, Problem, assign
from memplan.placement.offsets.spill import least_spill
from memplan.placement.residency import Residency, Storage, live_bytes

_QUICK_BUFFERS, _QUICK_WORK = 2000, 50_000_000
"""With more buffers than that, where fitting is all that matters only greedy orders are tried."""


@dataclass(frozen=True, slots=True)
class HbmLayout:
    """
    An offset for each residency, the highest address used, and a proven bound on it for these residencies.

    `spilled` are residencies without which the others fit in what would have been enough, where that was asked for.
    """

    offsets: tuple[int, ...]
    peak: int
    peak_step: int | None
    fixed: int
    lower_bound: int
    lower_bound_method: str
    method: str
    spilled: frozenset[int] = frozenset()


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
    room = None if enough is None else max(enough - fixed, 1)
    limits = Limits(_QUICK_WORK) if enough is not None and len(moving) > _QUICK_BUFFERS else None
    packings = []
    for pins in _stackings(storages, residencies, moving, steps):
        problem = Problem(
            buffers=tuple(
                Buffer(
                    id=index,
                    size=storages[residencies[index].storage].size,
                    intervals=((residencies[index].start, residencies[index].end),),
                    alignment=alignment,
                    pin=(0, pins[index]) if index in pins else None,
                )
                for index in moving
            ),
            pools=(Pool(id=0, name="HBM", capacity=room),),
        )
        if room is not None:
            problem = replace(problem, objective=("capacity_overflow",))
        packings.append((assign(problem, limits=limits, explained=False, progress=progress), problem, pins))
        if packings[-1][0].within_capacity:
            break
    best, problem, pins = min(packings, key=lambda packing: packing[0].pools[0].peak)
    for index in moving:
        offsets[index] = fixed + best.placed[index][1]
    (pool,) = best.pools
    return HbmLayout(
        offsets=tuple(offsets),
        peak=fixed + pool.peak,
        peak_step=peak_step,
        fixed=fixed,
        # Stacking is our choice: what is proven with it holds for no other.
        lower_bound=max_live if pins else fixed + pool.lower_bound,
        lower_bound_method="max live" if pins else pool.lower_bound_method,
        method=best.method,
        spilled=frozenset() if best.within_capacity else least_spill(problem),
    )


def _stackings(
    storages: Sequence[Storage], residencies: Sequence[Residency], moving: Sequence[int], steps: int
) -> Iterator[dict[int, int]]:
    """
    Offsets of the persistent storages that are in HBM at both ends of the schedule and leave it in between, by the
    residencies that they begin and end with: stacked from the bottom in several orders.

    They are all there when the schedule begins, so that stacking them costs nothing then; what is on top of each other
    and away at the same time leaves one hole for all else.
    """
    first = {residencies[i].storage: i for i in moving if residencies[i].start == 0}
    both = [
        (first[residencies[i].storage], i)
        for i in moving
        if residencies[i].end == steps
        and storages[residencies[i].storage].persistent
        and residencies[i].storage in first
    ]
    keys: tuple[Callable[[int, int], int], ...] = (
        lambda leaves, returns: returns - leaves,
        lambda leaves, _: -leaves,
        lambda _, returns: returns,
    )
    seen = set()
    for key in keys:
        order = tuple(sorted(both, key=lambda pair: (key(residencies[pair[0]].end, residencies[pair[1]].start), pair)))
        if order in seen:
            continue
        seen.add(order)
        pins, top = {}, 0
        for begin, end in order:
            pins[begin] = pins[end] = top
            top += storages[residencies[begin].storage].size
        yield pins
