"""
One simulated schedule: ops in order on the compute stream, each link a queue served in order beside it.

A storage that leaves occupies HBM until its last byte is out; one that returns occupies HBM from the moment its
transfer may start. An op starts when the ops before it are done, its operands are back, and what must have left for
its outputs to fit has left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.hardware import HostTier, Link
from memplan.placement.residency import Gap, Residency, Storage, live_bytes, stays


@dataclass(frozen=True, slots=True)
class Move:
    """One transfer: out of HBM (`out`) or back into it, with the gap it serves; `tier` is which of several it is to."""

    gap: Gap
    out: bool
    start_ns: int
    end_ns: int
    tier: int = 0


@dataclass(frozen=True, slots=True)
class StepSchedule:
    """Start of every step, how long it waited for transfers, the transfers, and who is in HBM over which steps."""

    start_ns: NDArray[np.int64]
    stalled_ns: NDArray[np.int64]
    makespan_ns: int
    moves: tuple[Move, ...]
    residencies: tuple[Residency, ...]


@dataclass(frozen=True, slots=True)
class GapColumns:
    """`gaps` as columns, with the time that each one's transfers take on their links."""

    gaps: tuple[Gap, ...]
    size: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    leaves: NDArray[np.int64]
    returns: NDArray[np.int64]
    out_ns: NDArray[np.int64]
    in_ns: NDArray[np.int64]
    lane: NDArray[np.int64]


def transfer_ns(size: int, link: Link) -> int:
    """
    Time of one transfer of `size` bytes over `link`, its latency included, rounded up.

    Raises `InputError` for a link whose rate no source gives.
    """
    if link.bytes_per_second is None:
        raise InputError("the rate of link {} is not known", link.name, remedy="choose a chip that has it")
    return (link.latency_ns or 0) + -int(-size * 1e9 // link.bytes_per_second)


def gap_columns(
    gaps: Sequence[Gap],
    storages: Sequence[Storage],
    out_link: Link,
    in_link: Link,
    beside: HostTier | None = None,
    second: Collection[int] = (),
) -> GapColumns:
    """
    Columns of `gaps`; `leaves` is -1 where nothing is copied out, `returns` where nothing comes back.

    The storages of `second` move over the links of `beside`.
    """

    def column(values: Iterable[int]) -> NDArray[np.int64]:
        return np.fromiter(values, dtype=np.int64, count=len(gaps))

    lanes = [int(gap.storage in second) for gap in gaps]
    sizes = [storages[gap.storage].size for gap in gaps]
    links = [(out_link, in_link), (out_link, in_link) if beside is None else (beside.out_link, beside.in_link)]
    kinds = list(zip(sizes, lanes, strict=True))
    out_of = {kind: transfer_ns(kind[0], links[kind[1]][0]) for kind in set(kinds)}
    into = {kind: transfer_ns(kind[0], links[kind[1]][1]) for kind in set(kinds)}
    return GapColumns(
        tuple(gaps),
        column(sizes),
        column(gap.start for gap in gaps),
        column(gap.end for gap in gaps),
        column(gap.leaves_after if gap.dirty and gap.leaves_after is not None else -1 for gap in gaps),
        column(-1 if gap.returns_at is None else gap.returns_at for gap in gaps),
        column(out_of[kind] for kind in kinds),
        column(into[kind] for kind in kinds),
        column(lanes),
    )


@dataclass(frozen=True, slots=True)
class QueueTimes:
    """What became of every row of `GapColumns`, and of every step, in one run of the queues; times in ns."""

    makespan_ns: int
    step_start: NDArray[np.int64]
    stalled: NDArray[np.int64]
    out_start: NDArray[np.int64]
    in_start: NDArray[np.int64]
    gone: NDArray[np.int64]
    first: NDArray[np.int64]


def run_gaps(
    columns: GapColumns,
    durations_ns: NDArray[np.int64],
    live: NDArray[np.int64],
    capacity: int,
    chosen: NDArray[np.bool_],
    leaves: NDArray[np.int64],
) -> QueueTimes:
    """
    Run ops and links with the storages of the `chosen` rows absent during their gaps.

    `leaves` is the step after which each row is copied out, -1 where it needn't be; `live` is the bytes in HBM at each
    step then.
    """
    from memplan.placement.schedule_kernels import delay_returns, run_queues

    count, steps = len(columns.gaps), len(durations_ns)
    out = np.flatnonzero(chosen & (leaves >= 0))
    clean = np.flatnonzero(chosen & (leaves < 0))
    back = np.flatnonzero(chosen & (columns.returns >= 0))
    step_start, stalled, free_at = (np.zeros(steps, dtype=np.int64) for _ in range(3))
    out_start, in_start = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    gone, first = np.full(count, steps, dtype=np.int64), columns.end.copy()
    by_return = back[np.lexsort((back, columns.returns[back]))]
    makespan, last = run_queues(
        durations_ns,
        live,
        min(capacity, 2**62),
        columns.size,
        columns.start,
        leaves,
        columns.returns,
        columns.out_ns,
        columns.in_ns,
        columns.lane,
        out[np.lexsort((out, columns.returns[out], leaves[out]))],
        clean[np.lexsort((clean, columns.start[clean]))],
        by_return,
        step_start,
        stalled,
        free_at,
        out_start,
        in_start,
        gone,
        first,
        2**62,
    )
    delay_returns(last, columns.returns, columns.in_ns, columns.lane, by_return, step_start, free_at, in_start, first)
    return QueueTimes(int(makespan), step_start, stalled, out_start, in_start, gone, first)


def run_schedule(
    storages: Sequence[Storage],
    durations_ns: Sequence[int] | NDArray[np.int64],
    gaps: Sequence[Gap],
    capacity: int,
    *,
    out_link: Link,
    in_link: Link,
    lost: NDArray[np.int64] | None = None,
    beside: HostTier | None = None,
    second: Collection[int] = (),
) -> StepSchedule:
    """
    Run the schedule with the storages of `gaps` on the host during them, those of `second` on the tier `beside` it.

    Live bytes, transfers under way included, never exceed `capacity`, less the `lost` bytes of each step, unless the
    steps' own operands do.
    """
    steps = len(durations_ns)
    absent = [(gap.storage, gap.start, gap.end) for gap in gaps]
    live = live_bytes(storages, stays(storages, absent), steps)
    if lost is not None:
        live = live + lost
    durations = np.asarray(durations_ns, dtype=np.int64)
    if not gaps:
        starts = np.cumsum(durations) - durations
        spans = tuple(stays(storages, []))
        return StepSchedule(starts, np.zeros(steps, dtype=np.int64), int(durations.sum()), (), spans)
    columns = gap_columns(gaps, storages, out_link, in_link, beside, second)
    times = run_gaps(columns, durations, live, capacity, np.ones(len(gaps), dtype=bool), columns.leaves)
    moves = []
    away = []
    for index, gap in enumerate(gaps):
        tier = int(columns.lane[index])
        if columns.leaves[index] >= 0:
            begin = int(times.out_start[index])
            moves.append(Move(gap, True, begin, begin + int(columns.out_ns[index]), tier))
        if gap.returns_at is not None:
            begin = int(times.in_start[index])
            moves.append(Move(gap, False, begin, begin + int(columns.in_ns[index]), tier))
        away.append((gap.storage, max(int(times.gone[index]), gap.start), int(times.first[index])))
    residencies = tuple(stays(storages, away))
    return StepSchedule(times.step_start, times.stalled, times.makespan_ns, tuple(moves), residencies)


def run_in_turn(storages: Sequence[Storage], durations_ns: Sequence[int], planned: Sequence[Move]) -> StepSchedule:
    """
    The `planned` moves as hooks on saved tensors make them, with no op beside: out once saved, back once needed.

    What a step needs back comes in the order in which it was planned.
    """
    steps = len(durations_ns)
    out: dict[int, list[Move]] = {}
    back: dict[int, list[Move]] = {}
    for move in planned:
        at = move.gap.leaves_after if move.out else move.gap.returns_at
        if at is not None:
            (out if move.out else back).setdefault(at, []).append(move)
    clock, moves = 0, list[Move]()
    starts, stalled = np.zeros(steps, dtype=np.int64), np.zeros(steps, dtype=np.int64)

    def copied(due: Sequence[Move]) -> int:
        end = clock
        for move in due:
            moves.append(replace(move, start_ns=end, end_ns=end + move.end_ns - move.start_ns))
            end = moves[-1].end_ns
        return end

    for step, duration in enumerate(durations_ns):
        before = 0 if step == 0 else int(starts[step - 1]) + durations_ns[step - 1]
        clock = copied(back.get(step, ()))
        starts[step], stalled[step] = clock, clock - before
        clock = clock + duration
        clock = copied(out.get(step, ()))
    absent = {(move.gap.storage, move.gap.start, move.gap.end) for move in moves}
    return StepSchedule(starts, stalled, clock, tuple(moves), tuple(stays(storages, sorted(absent))))
