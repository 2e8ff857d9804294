"""Compiled loops that score choices of host moves and search for better ones: microseconds each in a small graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from memplan.core.jit import jit
from memplan.placement.move_kernels import needed_copies
from memplan.placement.schedule_kernels import run_queues

_ENDLESS = 2**62
"""No limit, of bytes or ns."""


class ChoiceColumns(NamedTuple):
    """What a choice of units is scored by, as the loops take it; see `MoveProblem`."""

    durations: Any  # int64[steps] ns
    live: Any  # int64[steps]: bytes in HBM with nothing moved
    unit: Any  # int64[gaps]: which unit moves it
    storage: Any  # int64[gaps], ascending; within a storage by start
    before: Any  # int64[gaps]: step before the gap, -1: it begins the schedule
    changed: Any  # bool[gaps]
    current: Any  # bool[gaps]
    kept: Any  # bool[gaps]: of a storage that exists between two runs
    size: Any  # int64[gaps]
    start: Any
    end: Any
    returns: Any
    out_ns: Any
    in_ns: Any
    lane: Any  # int64[gaps]: the link; choices are scored with one
    by_leave: Any  # gaps by step before them and step that needs them back
    by_start: Any  # gaps by start
    by_return: Any  # gaps by step that needs them back
    pointer: Any  # int64[units + 1]: where the gaps of each unit begin in `by_unit`
    by_unit: Any  # gaps by unit


@jit
def score(columns: Any, moved: Any, capacity: int, host_bytes: int) -> tuple[int, int, int, int]:
    """
    Bytes over the host's size and over `capacity`, the step time in ns, and the bytes over the links with the units of
    `moved` (bool[units]) moved; fewer of the first comes before all else.
    """
    return score_within(columns, moved, capacity, host_bytes, _ENDLESS, _ENDLESS)


@jit
def score_within(
    columns: Any, moved: Any, capacity: int, host_bytes: int, most_over: int, limit_ns: int
) -> tuple[int, int, int, int]:
    """The `score`, or some other that is worse as well where over `most_over` bytes are too many or `limit_ns` pass."""
    steps, gaps = columns.durations.size, columns.unit.size
    chosen = np.empty(gaps, np.bool_)
    change = np.zeros(steps + 1, np.int64)
    for gap in range(gaps):
        chosen[gap] = moved[columns.unit[gap]]
        if chosen[gap]:
            change[columns.start[gap]] -= columns.size[gap]
            change[columns.end[gap]] += columns.size[gap]
    live = np.empty(steps, np.int64)
    away = most = 0
    for step in range(steps):
        away += change[step]
        live[step] = columns.live[step] + away
        most = max(most, live[step])
    over = max(most - capacity, 0)
    if over > most_over:
        return 0, over, 0, 0
    copied = np.empty(gaps, np.int64)
    needed_copies(chosen, columns.storage, columns.before, columns.changed, columns.current, copied)
    traffic = 0
    out, clean, back = np.empty(gaps, np.int64), np.empty(gaps, np.int64), np.empty(gaps, np.int64)
    outs = cleans = backs = 0
    for gap in columns.by_leave:
        if chosen[gap] and copied[gap] >= 0:
            traffic += columns.size[gap]
            out[outs] = gap
            outs += 1
    for gap in columns.by_start:
        if chosen[gap] and copied[gap] < 0:
            clean[cleans] = gap
            cleans += 1
    for gap in columns.by_return:
        if chosen[gap] and columns.returns[gap] >= 0:
            traffic += columns.size[gap]
            back[backs] = gap
            backs += 1
    makespan, _ = run_queues(
        columns.durations, live, capacity, columns.size, columns.start, copied, columns.returns,
        columns.out_ns, columns.in_ns, columns.lane, out[:outs], clean[:cleans], back[:backs],
        np.empty(steps, np.int64), np.empty(steps, np.int64), np.empty(steps, np.int64),
        np.empty(gaps, np.int64), np.empty(gaps, np.int64), np.empty(gaps, np.int64), np.empty(gaps, np.int64),
        limit_ns,
    )  # fmt: skip
    over_host = 0
    if host_bytes >= 0:
        over_host = max(host_peak(columns, chosen) - host_bytes, 0)
    return over_host, over, makespan, traffic


@jit
def host_peak(columns: Any, chosen: Any) -> int:
    """The most bytes that the host keeps at a step: of each storage from its first `chosen` gap to its last."""
    steps, gaps = columns.durations.size, columns.unit.size
    change = np.zeros(steps + 1, np.int64)
    gap = 0
    while gap < gaps:
        number, first, last = columns.storage[gap], -1, 0
        while gap < gaps and columns.storage[gap] == number:
            if chosen[gap]:
                first = columns.start[gap] if first < 0 else first
                last = max(last, columns.end[gap])
            gap += 1
        if first >= 0:
            # What exists between two runs keeps its place on the host.
            if columns.kept[gap - 1]:
                first, last = 0, steps
            change[first] += columns.size[gap - 1]
            change[last] -= columns.size[gap - 1]
    most = now = 0
    for step in range(steps):
        now += change[step]
        most = max(most, now)
    return most


@jit
def search(
    columns: Any,
    moved: Any,  # bool[units], changed: the choice to begin with, then the best found
    capacity: int,
    host_bytes: int,
    goal: int,
    patience: int,
    drawn: Any,  # float64[tries, 3]: what is tried, 0 to 1
) -> tuple[int, int, int, int]:
    """
    Improve `moved` by keeping, moving and exchanging single units, one draw after the other, until the step takes no
    longer than `goal` or the last `patience` draws found nothing better; the score of what was found.
    """
    units = moved.size
    best = score(columns, moved, capacity, host_bytes)
    # Units that move come first, then those that stay and have bytes.
    order, aways, count = np.empty(units, np.int64), 0, 0
    for unit in range(units):
        if moved[unit]:
            order[count] = unit
            count += 1
    aways = count
    for unit in range(units):
        has_bytes = False
        for at in range(columns.pointer[unit], columns.pointer[unit + 1]):
            has_bytes |= columns.size[columns.by_unit[at]] > 0
        if not moved[unit] and has_bytes:
            order[count] = unit
            count += 1
    since = 0
    for number in range(drawn.shape[0]):
        if since >= patience or best[2] <= goal:
            break
        since += 1
        kind = int(drawn[number, 0] * 3)
        back = out = -1
        if kind != 1 and aways:
            back = int(drawn[number, 1] * aways)
            moved[order[back]] = False
        if kind != 0 and count > aways:
            out = aways + int(drawn[number, 2] * (count - aways))
            moved[order[out]] = True
        # What is worse need not be run to its end; less over the host's size comes before all else.
        least, limit = (_ENDLESS, _ENDLESS) if best[0] else (best[1], _ENDLESS if best[1] else best[2])
        found = score_within(columns, moved, capacity, host_bytes, least, limit)
        if found < best:
            best, since = found, 0
            if back >= 0 and out >= 0:
                order[back], order[out] = order[out], order[back]
            elif back >= 0:
                aways -= 1
                order[back], order[aways] = order[aways], order[back]
            elif out >= 0:
                order[out], order[aways] = order[aways], order[out]
                aways += 1
        else:
            if back >= 0:
                moved[order[back]] = True
            if out >= 0:
                moved[order[out]] = False
    return best
