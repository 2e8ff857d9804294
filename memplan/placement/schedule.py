"""
One simulated schedule: ops in order on the compute stream, each link a queue served in order beside it.

A storage that leaves occupies HBM until its last byte is out; one that returns occupies HBM from the moment its
transfer may start. An op starts when the ops before it are done, its operands are back, and what must have left for
its outputs to fit has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.hardware import Link
from memplan.placement.host import transfer_ns
from memplan.placement.residency import Gap, Residency, Storage, live_bytes


@dataclass(frozen=True, slots=True)
class Move:
    """One transfer: out of HBM (`out`) or back into it, with the gap it serves."""

    gap: Gap
    out: bool
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class StepSchedule:
    """Start of every step, how long it waited for transfers, the transfers, and who is in HBM over which steps."""

    start_ns: NDArray[np.int64]
    stalled_ns: NDArray[np.int64]
    makespan_ns: int
    moves: tuple[Move, ...]
    residencies: tuple[Residency, ...]


def prefetch_steps(
    gaps: Sequence[Gap],
    storages: Sequence[Storage],
    step_start_ns: NDArray[np.int64],
    live: NDArray[np.int64],
    capacity: int,
    in_link: Link,
) -> tuple[list[int], NDArray[np.int64]]:
    """
    For each gap the step at whose start its transfer back may begin, as late as hides it and room allows.

    Gaps that need no transfer back get -1. Also returns `live` with the room that early returns take.
    """
    room = live.copy()
    first = [-1] * len(gaps)
    link_free = int(step_start_ns[-1])
    for index in sorted(range(len(gaps)), key=lambda i: (-(gaps[i].returns_at or 0), i)):
        gap = gaps[index]
        if gap.returns_at is None:
            continue
        size = storages[gap.storage].size
        wanted = min(int(step_start_ns[gap.returns_at]), link_free) - transfer_ns(size, in_link)
        step = min(max(int(np.searchsorted(step_start_ns, wanted, side="right")) - 1, gap.start), gap.returns_at)
        blocked = np.flatnonzero(room[step : gap.returns_at] + size > capacity)
        if len(blocked):
            step += int(blocked[-1]) + 1
        room[step : gap.returns_at] += size
        first[index] = step
        link_free = max(wanted, 0)
    return first, room


def run_schedule(
    storages: Sequence[Storage],
    durations_ns: Sequence[int],
    gaps: Sequence[Gap],
    capacity: int,
    *,
    out_link: Link,
    in_link: Link,
) -> StepSchedule:
    """
    Run the schedule with the storages of `gaps` on the host during them.

    Live bytes, transfers under way included, never exceed `capacity` unless the steps' own operands do.
    """
    steps = len(durations_ns)
    unstalled = np.concatenate(([0], np.cumsum(np.asarray(durations_ns, dtype=np.int64)))).astype(np.int64)
    absent = [(gap.storage, gap.start, gap.end) for gap in gaps]
    live = live_bytes(storages, _complement(storages, absent), steps)
    first, live = prefetch_steps(gaps, storages, unstalled, live, capacity, in_link)
    leaving: dict[int, list[int]] = {}
    returning: dict[int, list[int]] = {}
    needing: dict[int, list[int]] = {}
    for index, gap in enumerate(gaps):
        if gap.leaves_after is not None and gap.dirty:
            leaving.setdefault(gap.leaves_after, []).append(index)
        if gap.returns_at is not None:
            returning.setdefault(first[index], []).append(index)
            needing.setdefault(gap.returns_at, []).append(index)

    start = np.zeros(steps, dtype=np.int64)
    stalled = np.zeros(steps, dtype=np.int64)
    moves: list[Move] = []
    pending: deque[tuple[int, int, int]] = deque()  # transfers out under way: end, gap, bytes
    gone_at: dict[int, int] = {}  # first step at which the gap's bytes are out of HBM
    out_ns: dict[int, int] = {}
    back_ns: dict[int, int] = {}
    clock = out_free = in_free = 0
    for step in range(steps):
        ready = clock
        while pending and (pending[0][0] <= ready or int(live[step]) + _bytes(pending) > capacity):
            end, index, _ = pending.popleft()
            ready = max(ready, end)
            gone_at[index] = step
        # Transfers back are queued in the order of need; each starts when this step may start and the link is free.
        for index in sorted(returning.get(step, ()), key=lambda i: (gaps[i].returns_at or 0, i)):
            begin = max(ready, in_free, out_ns.get(index, 0))
            in_free = begin + transfer_ns(storages[gaps[index].storage].size, in_link)
            back_ns[index] = in_free
            moves.append(Move(gaps[index], out=False, start_ns=begin, end_ns=in_free))
        ready = max([ready, *(back_ns[index] for index in needing.get(step, ()))])
        stalled[step] = ready - clock
        start[step] = ready
        clock = ready + int(durations_ns[step])
        for index in leaving.get(step, ()):
            begin = max(clock, out_free)
            size = storages[gaps[index].storage].size
            out_free = out_ns[index] = begin + transfer_ns(size, out_link)
            pending.append((out_free, index, size))
            moves.append(Move(gaps[index], out=True, start_ns=begin, end_ns=out_free))
    makespan = max([clock, *(move.end_ns for move in moves)])
    spans = []
    for index, gap in enumerate(gaps):
        left = gone_at.get(index, steps) if gap.dirty and gap.leaves_after is not None else gap.start
        back = first[index] if gap.returns_at is not None else gap.end
        spans.append((gap.storage, max(left, gap.start), back))
    return StepSchedule(start, stalled, makespan, tuple(moves), tuple(_complement(storages, spans)))


def _bytes(pending: deque[tuple[int, int, int]]) -> int:
    return sum(size for _, _, size in pending)


def _complement(storages: Sequence[Storage], absent: Sequence[tuple[int, int, int]]) -> list[Residency]:
    """Residencies left when each `(storage, start, end)` of `absent` is cut out of its storage's lifetime."""
    holes: dict[int, list[tuple[int, int]]] = {}
    for index, start, end in absent:
        if start < end:
            holes.setdefault(index, []).append((start, end))
    result = []
    for index, storage in enumerate(storages):
        at = storage.start
        for start, end in sorted(holes.get(index, ())):
            if start > at:
                result.append(Residency(index, at, start))
            at = max(at, end)
        if at < storage.end:
            result.append(Residency(index, at, storage.end))
    return result
