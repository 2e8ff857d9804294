"""When a simulated machine starts and ends every op and transfer of a plan."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.export.behaviour import Behaviour, Chance
from memplan.schema import Plan, Tier

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Execution:
    """
    One run of the plan's ops, in nanoseconds from the step's start; rows are `plan.ops` and `plan.transfers`.

    `issue_ns` is when the host begins to issue an op and `issued_ns` when it is done with it.
    """

    start_ns: Int64s
    end_ns: Int64s
    issue_ns: Int64s
    issued_ns: Int64s
    transfer_start_ns: Int64s
    transfer_end_ns: Int64s

    @property
    def makespan_ns(self) -> int:
        """When the last op or transfer ends."""
        ends = (self.end_ns, self.issued_ns, self.transfer_end_ns)
        return max((int(times.max()) for times in ends if len(times)), default=0)


def durations(plan: Plan, behaviour: Behaviour, chance: Chance) -> tuple[Int64s, Int64s]:
    """Simulated durations of ops and transfers in nanoseconds; whole where the behaviour is exact."""
    count = len(plan.ops)
    planned = np.array([op.duration_ns for op in plan.ops], dtype=np.int64)
    scale = np.array([1.0 / behaviour.efficiency(op.bound) for op in plan.ops], dtype=np.float64)
    scale *= 1.0 + behaviour.jitter * chance.spread(count)
    slow = chance.uniform(count) < behaviour.slow_share
    extra = 1.5 + (behaviour.slow_factor - 1.5) * chance.uniform(count)
    scale[slow] *= extra[slow]
    for index, factor in behaviour.slow_ops:
        if 0 <= index < count:
            scale[index] *= factor
    moved = np.array([move.end_ns - move.start_ns for move in plan.transfers], dtype=np.int64)
    late = np.abs(chance.spread(len(moved)))
    return np.rint(planned * scale).astype(np.int64), np.rint(moved * (1.0 + behaviour.jitter * late)).astype(np.int64)


def execute(plan: Plan, behaviour: Behaviour, chance: Chance) -> Execution:
    """
    Run the plan once.

    What waited for something in the plan waits for it here: an op for the ops that had ended on any stream when it
    started, and for the transfers it needs; a transfer for the op it follows and the one before it on its link and
    direction. Idle time that the plan has beyond that stays. Without deviations the result is the plan.
    """
    op_ns, move_ns = durations(plan, behaviour, chance)
    count, moves = len(plan.ops), len(plan.transfers)
    gaps = np.rint(2.0 * behaviour.launch_gap_ns * chance.uniform(count)).astype(np.int64)
    calls = np.rint(behaviour.host_call_ns * (1.0 + 0.5 * chance.spread(count))).astype(np.int64)
    calls[[op.bound == "none" for op in plan.ops]] = 0
    host_end = np.cumsum(calls)
    start, end = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    move_start, move_end = np.zeros(moves, dtype=np.int64), np.zeros(moves, dtype=np.int64)

    needed: dict[int, list[int]] = defaultdict(list)
    for index, move in enumerate(plan.transfers):
        if move.before_step is not None:
            needed[move.before_step].append(index)
    # Ops come first at equal times: a transfer that follows an op may start when the op ends.
    order = sorted(
        [(op.start_ns, 0, op.index) for op in plan.ops]
        + [(move.start_ns, 1, index) for index, move in enumerate(plan.transfers)]
    )
    by_end = sorted(range(count), key=lambda i: (plan.ops[i].start_ns + plan.ops[i].duration_ns, i))
    run = [False] * count
    ended = 0
    last_planned = last_real = 0  # of all ops whose planned end has passed
    stream_real: dict[int, int] = {}
    link_last: dict[tuple[str, Tier, Tier], int] = {}
    for planned_ns, what, index in order:
        if what == 0:
            op = plan.ops[index]
            while ended < count and run[by_end[ended]]:
                other = plan.ops[by_end[ended]]
                if other.start_ns + other.duration_ns > planned_ns:
                    break
                last_planned = max(last_planned, other.start_ns + other.duration_ns)
                last_real = max(last_real, int(end[other.index]))
                ended += 1
            planned_ready, ready = last_planned, last_real
            for waited in needed.get(index, ()):
                if plan.transfers[waited].end_ns <= planned_ns:
                    planned_ready = max(planned_ready, plan.transfers[waited].end_ns)
                    ready = max(ready, int(move_end[waited]))
            ready = max(ready + planned_ns - planned_ready, stream_real.get(op.stream, 0))
            if op.bound != "none":
                ready = max(ready + int(gaps[index]), int(host_end[index]))
            start[index], end[index] = ready, ready + int(op_ns[index])
            stream_real[op.stream] = int(end[index])
            run[index] = True
        else:
            transfer = plan.transfers[index]
            lane = (transfer.link, transfer.source, transfer.target)
            planned_ready = ready = 0
            previous = link_last.get(lane)
            if previous is not None and plan.transfers[previous].end_ns <= planned_ns:
                planned_ready, ready = plan.transfers[previous].end_ns, int(move_end[previous])
            after = transfer.after_step
            if after is not None and 0 <= after < count:
                done = plan.ops[after].start_ns + plan.ops[after].duration_ns
                if done <= planned_ns:
                    planned_ready, ready = max(planned_ready, done), max(ready, int(end[after]))
            move_start[index] = ready + planned_ns - planned_ready
            move_end[index] = move_start[index] + int(move_ns[index])
            link_last[lane] = index
    issue, issued = (host_end - calls, host_end) if behaviour.host_runs_ahead else (start, end)
    return Execution(start, end, issue, issued, move_start, move_end)
