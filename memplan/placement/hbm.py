"""HBM addresses for what is resident when: the fixed part at the bottom, the rest packed above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.progress import Progress, silent
from memplan.placement.offsets import Buffer, Pool, Problem, assign
from memplan.placement.offsets.spill import CappedPacking, Spill
from memplan.placement.offsets.work_limit import Limits, default_work
from memplan.placement.residency import Residency, Storage, live_bytes

_QUICK_BUFFERS, _FEW_STACKINGS = 2000, 20_000
"""With more buffers, where fitting is all that matters, only greedy orders are tried; with more yet, one stacking."""
_QUICK_SHARE = 8
"""Where fitting is all that matters and moves can be chosen anew, a placement gets this part of the usual work."""


@dataclass(frozen=True, slots=True)
class HbmLayout:
    """
    An offset for each residency, the highest address used, and a proven bound on it for these residencies.

    Where less would have been enough, `kept` are offsets below that which all but the residencies `spilled` could have.
    """

    offsets: tuple[int, ...]
    peak: int
    peak_step: int | None
    fixed: int
    lower_bound: int
    lower_bound_method: str
    method: str
    kept: tuple[int, ...] = ()
    spilled: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Columns:
    """Residencies as columns."""

    size: Int64s
    start: Int64s
    end: Int64s

    @classmethod
    def of(cls, storages: Sequence[Storage], residencies: Sequence[Residency]) -> _Columns:
        count = len(residencies)
        return cls(
            np.fromiter((storages[r.storage].size for r in residencies), np.int64, count),
            np.fromiter((r.start for r in residencies), np.int64, count),
            np.fromiter((r.end for r in residencies), np.int64, count),
        )


def lay_out(
    storages: Sequence[Storage],
    residencies: Sequence[Residency],
    steps: int,
    *,
    alignment: int,
    enough: int | None = None,
    quick: bool = False,
    progress: Progress = silent,
) -> HbmLayout:
    """
    Addresses for `residencies`; those that last all `steps` are stacked from 0, which costs no other anything.

    A persistent storage that is there at both ends of the schedule ends at the address at which it begins, or the
    schedule could not be run again. Where the peak need be no lower than `enough` bytes, the search ends there;
    with `quick` only greedy orders are tried for that.
    """
    fixed = 0
    moving = []
    given = np.full(len(residencies), -1, np.int64)
    for index, residency in enumerate(residencies):
        if residency.start == 0 and residency.end == steps:
            given[index] = fixed
            fixed += storages[residency.storage].size
        else:
            moving.append(index)
    columns = _Columns.of(storages, residencies)
    live = live_bytes(storages, residencies, steps)
    peak_step = int(live.argmax()) if steps else None
    max_live = int(live.max()) if steps else fixed
    if not moving:
        offsets = tuple(given.tolist())
        return HbmLayout(offsets, fixed, peak_step, fixed, max_live, "sum of what is always live", "stacked")
    spill: Spill | None = None
    packing: CappedPacking | None = None
    best: HbmLayout | None = None
    for pins in _stackings(storages, residencies, moving, steps):
        stacked = given.copy()
        for index, offset in pins.items():
            stacked[index] = fixed + offset
        if enough is not None:
            tried = CappedPacking(columns.size, columns.start, columns.end, stacked, enough, alignment)
            found = tried.greedy(spill)
            if spill is None or found.lost < spill.lost:
                spill, packing = found, tried
            if not found.lost or len(moving) > _FEW_STACKINGS:
                break
            if quick or len(moving) > _QUICK_BUFFERS:
                continue
        layout = _searched(columns, moving, stacked, fixed, max_live, enough, alignment, progress)
        layout = replace(layout, peak_step=peak_step)
        best = layout if best is None or layout.peak < best.peak else best
        if enough is not None and best.peak <= enough:
            return best
    if spill is not None and packing is not None:
        spill = packing.again(spill)
    if spill is not None and (best is None or not spill.lost):
        offsets = tuple(spill.offsets.tolist())
        peak = int((spill.offsets + columns.size)[columns.start < columns.end].max(initial=0))
        best = HbmLayout(offsets, peak, peak_step, fixed, max_live, "max live", spill.method)
    if best is None:
        raise ValueError("no stacking was tried")
    if spill is None or not spill.lost:
        return best
    return replace(best, kept=tuple(spill.offsets.tolist()), spilled=frozenset(np.flatnonzero(spill.out).tolist()))


def _searched(
    columns: _Columns,
    moving: Sequence[int],
    given: Int64s,
    fixed: int,
    max_live: int,
    enough: int | None,
    alignment: int,
    progress: Progress,
) -> HbmLayout:
    """The `moving` residencies packed above `fixed` by all that the solver has."""
    sizes, starts, ends = columns.size.tolist(), columns.start.tolist(), columns.end.tolist()
    pins = given - fixed
    problem = Problem(
        buffers=tuple(
            Buffer(
                id=index,
                size=sizes[index],
                intervals=((starts[index], ends[index]),),
                alignment=alignment,
                pin=(0, int(pins[index])) if given[index] >= 0 else None,
            )
            for index in moving
        ),
        pools=(Pool(id=0, name="HBM", capacity=None if enough is None else max(enough - fixed, 1)),),
    )
    if enough is not None:
        problem = replace(problem, objective=("capacity_overflow",))
    limits = None if enough is None else Limits(work=default_work(len(moving)) // _QUICK_SHARE)
    assignment = assign(problem, limits=limits, explained=False, progress=progress)
    offsets = given.copy()
    for index in moving:
        offsets[index] = fixed + assignment.placed[index][1]
    (pool,) = assignment.pools
    # Stacking is our choice: what is proven with it holds for no other.
    stacked = any(buffer.pin is not None for buffer in problem.buffers)
    return HbmLayout(
        offsets=tuple(offsets.tolist()),
        peak=fixed + pool.peak,
        peak_step=None,
        fixed=fixed,
        lower_bound=max_live if stacked else fixed + pool.lower_bound,
        lower_bound_method="max live" if stacked else pool.lower_bound_method,
        method=assignment.method,
    )


def lay_out_again(
    storages: Sequence[Storage],
    residencies: Sequence[Residency],
    steps: int,
    before: Sequence[Residency],
    offsets: Sequence[int],
    *,
    alignment: int,
    enough: int,
) -> HbmLayout | None:
    """
    Addresses for `residencies` below `enough` bytes where those that were there `before`, or longer, keep `offsets`.

    `None` where a storage can't end at the address at which it begins. Those left out are `spilled`.
    """
    known: dict[int, list[tuple[int, int, int]]] = {}
    for residency, offset in zip(before, offsets, strict=True):
        if offset + storages[residency.storage].size <= enough:
            known.setdefault(residency.storage, []).append((residency.start, residency.end, offset))
    columns = _Columns.of(storages, residencies)
    given = np.full(len(residencies), -1, np.int64)
    ends: dict[int, list[int]] = {}
    for index, residency in enumerate(residencies):
        for start, end, offset in known.get(residency.storage, ()):
            if start <= residency.start and residency.end <= end:
                given[index] = offset
        if storages[residency.storage].persistent and (residency.start == 0 or residency.end == steps):
            ends.setdefault(residency.storage, []).append(index)
    at_ends = np.zeros(len(residencies), dtype=bool)
    at_ends[[index for both in ends.values() for index in both]] = True
    for storage, both in ends.items():
        if len(both) == 1 or (given[both[0]] >= 0 and given[both[0]] == given[both[1]]):
            continue
        if storage not in known:
            return None
        # It stays longer at one end than before: what lies in its way finds another place.
        given[both] = offset = known[storage][0][2]
        size = columns.size[both[0]]
        for index in both:
            together = (columns.start < columns.end[index]) & (columns.end > columns.start[index]) & (given >= 0)
            together &= (given < offset + size) & (given + columns.size > offset)
            together[both] = False
            if (together & at_ends).any():
                return None
            given[together] = -1
    packing = CappedPacking(columns.size, columns.start, columns.end, given, enough, alignment)
    found = packing.again(packing.greedy())
    live = live_bytes(storages, residencies, steps)
    layout = HbmLayout(
        tuple(found.offsets.tolist()),
        int((found.offsets + columns.size)[columns.start < columns.end].max(initial=0)),
        int(live.argmax()),
        0,
        int(live.max()),
        "max live",
        f"{found.method}, beside what was placed before",
    )
    if not found.lost:
        return layout
    return replace(layout, kept=layout.offsets, spilled=frozenset(np.flatnonzero(found.out).tolist()))


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
