"""
Rules that choose host moves by an order of preference alone: those of other planners, and of the linear program.

They are what the choice is measured against, and candidates of it: whatever a rule finds is never better than what is
chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Bools, Int64s
from memplan.placement.move_problem import MoveProblem


def kept_first(
    problem: MoveProblem,
    capacity: int,
    share: NDArray[np.float64],
    *,
    step_start: NDArray[np.float64] | None = None,
    slack: float = 0.0,
) -> Bools:
    """
    Units to move when those with the least `share` stay in HBM first, larger ones first among equals.

    With `step_start` (ns, the end appended) the time that transfers take is counted as time in HBM, and `slack` is the
    share of the room that stays free.
    """
    from memplan.placement.move_kernels import keep_in_order

    columns = problem.columns
    order = np.lexsort((_bytes_time(problem), share.round(6)))
    pointer, by_unit = problem.gaps_of_units()
    low, high = columns.start, columns.end
    if step_start is not None:
        low, high = _free_windows(problem, step_start)
    load = _load(problem, low, high, np.ones(problem.units, dtype=bool)) - int(capacity * (1 - slack))
    load[load > 0] = -(2**61)
    kept = np.zeros(problem.units, dtype=bool)
    keep_in_order(order, pointer, low[by_unit], high[by_unit], columns.size[by_unit], load, kept)
    moved = ~kept
    left = _load(problem, columns.start, columns.end, moved) - capacity
    rest = order[::-1][kept[order[::-1]]].copy()
    return np.logical_or(moved, _relieved(problem, rest, left))


def rounded(
    problem: MoveProblem, capacity: int, share: NDArray[np.float64], threshold: float, slack: float = 0.0
) -> Bools:
    """Units to move: those with more than `threshold` of `share`, and the next ones as long as too much is in HBM."""
    moved = share > threshold
    order = np.lexsort((-_bytes_time(problem), -share.round(6)))
    order = order[~moved[order]]
    columns = problem.columns
    load = _load(problem, columns.start, columns.end, moved)
    return np.logical_or(moved, _relieved(problem, order, load - int(capacity * (1 - slack))))


def left_first(problem: MoveProblem, capacity: int, order: Int64s) -> Bools:
    """Units to move when the first of `order` that frees bytes where too many are leaves first."""
    return _relieved(problem, order, problem.live - capacity)


def _relieved(problem: MoveProblem, order: Int64s, load: Int64s) -> Bools:
    """The units of `order` that leave, one after the other, where `load` is above 0."""
    from memplan.placement.move_kernels import leave_in_order

    pointer, by_unit = problem.gaps_of_units()
    columns = problem.columns
    moved = np.zeros(problem.units, dtype=bool)
    low, high, size = columns.start[by_unit], columns.end[by_unit], columns.size[by_unit]
    leave_in_order(order, pointer, low, high, size, load, moved)
    return moved


def _load(problem: MoveProblem, low: Int64s, high: Int64s, moved: Bools) -> Int64s:
    """Bytes in HBM at each step with the `moved` units absent over `[low, high)` of their gaps."""
    columns = problem.columns
    chosen = moved[problem.unit] & (low < high)
    change = np.zeros(problem.steps + 1, dtype=np.int64)
    np.subtract.at(change, low[chosen], columns.size[chosen])
    np.add.at(change, high[chosen], columns.size[chosen])
    return (problem.live + np.cumsum(change)[: problem.steps]).astype(np.int64)


def _free_windows(problem: MoveProblem, step_start: NDArray[np.float64]) -> tuple[Int64s, Int64s]:
    """Steps of each gap at which its bytes are neither there nor under way."""
    columns = problem.columns
    gone = step_start[columns.start] + np.where(problem.changed, columns.out_ns, 0)
    low = np.searchsorted(step_start, gone, side="left")
    come = step_start[columns.end] - np.where(columns.returns >= 0, columns.in_ns, 0)
    high = np.searchsorted(step_start, come, side="right") - 1
    high = np.where(columns.returns >= 0, high, columns.end)
    return np.maximum(low, columns.start).astype(np.int64), np.minimum(high, columns.end).astype(np.int64)


def _bytes_time(problem: MoveProblem) -> NDArray[np.float64]:
    """Bytes of a unit times the time it could be away."""
    elapsed = np.concatenate(([0], np.cumsum(problem.durations)))
    columns = problem.columns
    idle = (elapsed[columns.end] - elapsed[columns.start]).astype(np.float64)
    total = np.zeros(problem.units)
    np.add.at(total, problem.unit, columns.size * idle)
    return total


def _unit_size(problem: MoveProblem) -> Int64s:
    size = np.zeros(problem.units, dtype=np.int64)
    np.maximum.at(size, problem.unit, problem.columns.size)
    return size


def _unit_length(problem: MoveProblem) -> Int64s:
    length = np.zeros(problem.units, dtype=np.int64)
    np.add.at(length, problem.unit, problem.columns.end - problem.columns.start)
    return length


def _size_times_gap(problem: MoveProblem, capacity: int) -> Bools:
    """MindSpore's rule (memory_offload_strategy.cc): what has the least bytes times steps of gap stays in HBM first."""
    return kept_first(problem, capacity, _ranked(_unit_size(problem) * _unit_length(problem).astype(float)))


def _prefetch_benefit(problem: MoveProblem, capacity: int) -> Bools:
    """
    XLA's memory space assignment: what is used most often for its bytes stays, as long as it fits.

    Benefit of the faster memory by the time that a copy would take beyond what the gap hides.
    """
    elapsed = np.concatenate(([0], np.cumsum(problem.durations)))
    columns = problem.columns
    idle = elapsed[columns.end] - elapsed[columns.start]
    copy = np.where(columns.returns >= 0, columns.in_ns, 0) + np.where(problem.changed, columns.out_ns, 0)
    exposed = np.zeros(problem.units)
    np.add.at(exposed, problem.unit, np.maximum(copy - idle, 0))
    return left_first(
        problem, capacity, np.lexsort((-_unit_length(problem), exposed / np.maximum(_unit_size(problem), 1)))
    )


def _biggest(problem: MoveProblem, capacity: int) -> Bools:
    return left_first(problem, capacity, np.lexsort((-_unit_length(problem), -_unit_size(problem))))


def _longest(problem: MoveProblem, capacity: int) -> Bools:
    return left_first(problem, capacity, np.lexsort((-_unit_size(problem), -_unit_length(problem))))


def _ranked(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place of each value in ascending order, as a share of all."""
    place = np.empty(len(values))
    place[np.argsort(values, kind="stable")] = np.arange(len(values)) / max(len(values), 1)
    return place


def _evenly_streamed(problem: MoveProblem, capacity: int) -> Bools:
    """Every k-th of the large weights that nothing writes comes from the host at its use, with the largest such k."""
    clean = np.zeros(problem.units, dtype=bool)
    clean[problem.unit[(problem.before < 0) & problem.current]] = True
    size = _unit_size(problem)
    first = np.full(problem.units, problem.steps, dtype=np.int64)
    opens = problem.before < 0
    first[problem.unit[opens]] = problem.columns.returns[opens]
    stream = np.flatnonzero(clean & (size >= 2**20))
    stream = stream[np.argsort(first[stream], kind="stable")]
    low, high = 1, len(stream)
    best = np.zeros(problem.units, dtype=bool)
    while low <= high:
        count = (low + high) // 2
        moved = np.zeros(problem.units, dtype=bool)
        moved[stream[(np.arange(count) * len(stream)) // count]] = True
        load = _load(problem, problem.columns.start, problem.columns.end, moved)
        if int(load.max()) <= capacity * _STREAM_ROOM:
            best, high = moved, count - 1
        else:
            low = count + 1
    return best


def _least_recently_used(problem: MoveProblem, capacity: int) -> Bools:
    """On demand: when a step lacks room, what was used longest ago leaves and comes back at its next use."""
    columns = problem.columns
    of_unit: dict[int, list[int]] = {}
    for gap, unit in enumerate(problem.unit.tolist()):
        of_unit.setdefault(unit, []).append(gap)
    order = np.argsort(columns.start, kind="stable").tolist()
    starts, ends, sizes = columns.start.tolist(), columns.end.tolist(), columns.size.tolist()
    idle: list[tuple[int, int]] = []
    moved = np.zeros(problem.units, dtype=bool)
    change = [0] * (problem.steps + 1)
    at = away = 0
    for step, over in enumerate((problem.live - capacity).tolist()):
        away += change[step]
        while at < len(order) and starts[order[at]] <= step:
            heappush(idle, (starts[order[at]], order[at]))
            at += 1
        while over > away and idle:
            _, gap = heappop(idle)
            unit = int(problem.unit[gap])
            if ends[gap] <= step or moved[unit]:
                continue
            moved[unit] = True
            for index in of_unit[unit]:
                if starts[index] <= step < ends[index]:
                    away += sizes[index]
                elif starts[index] > step:
                    change[starts[index]] += sizes[index]
                if ends[index] > step:
                    change[ends[index]] -= sizes[index]
    return moved


_STREAM_ROOM = 0.985
"""Share of the room that streamed weights may fill; the rest is for those under way."""

MOVE_RULES: Mapping[str, Callable[[MoveProblem, int], Bools]] = {
    "size times gap": _size_times_gap,
    "prefetch benefit": _prefetch_benefit,
    "least recently used": _least_recently_used,
    "biggest first": _biggest,
    "longest gap first": _longest,
    "evenly streamed weights": _evenly_streamed,
}
"""Rules by name."""
