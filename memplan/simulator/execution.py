"""When a simulated machine starts and ends every op and transfer of a plan."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Int64s
from memplan.schema import Plan, Tier
from memplan.simulator.noise import Behaviour, Chance


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
    count = len(plan.ops)
    op_ns, move_ns = durations(plan, behaviour, chance)
    gaps = np.rint(2.0 * behaviour.launch_gap_ns * chance.uniform(count)).astype(np.int64)
    calls = np.rint(behaviour.host_call_ns * (1.0 + 0.5 * chance.spread(count))).astype(np.int64)
    calls[[not op.launches for op in plan.ops]] = 0
    issued = np.cumsum(calls)
    machine = _Machine(plan, op_ns, move_ns, gaps, issued)
    # Ops come first at equal times: a transfer that follows an op may start when the op ends.
    order = [(op.start_ns, 0, op.index) for op in plan.ops]
    order += [(move.start_ns, 1, index) for index, move in enumerate(plan.transfers)]
    for _, what, index in sorted(order):
        if what == 0:
            machine.run_op(index)
        else:
            machine.run_transfer(index)
    issue, issued = (issued - calls, issued) if behaviour.host_runs_ahead else (machine.start, machine.end)
    return Execution(machine.start, machine.end, issue, issued, machine.move_start, machine.move_end)


class _Machine:
    """Ops and transfers of a plan, started one by one in the order of their planned starts."""

    def __init__(self, plan: Plan, op_ns: Int64s, move_ns: Int64s, gaps: Int64s, issued: Int64s) -> None:
        self._plan = plan
        self._op_ns, self._move_ns, self._gaps, self._issued = op_ns, move_ns, gaps, issued
        self.start, self.end = np.zeros_like(op_ns), np.zeros_like(op_ns)
        self.move_start, self.move_end = np.zeros_like(move_ns), np.zeros_like(move_ns)
        self._needed: dict[int, list[int]] = defaultdict(list)
        for index, move in enumerate(plan.transfers):
            if move.before_step is not None:
                self._needed[move.before_step].append(index)
        self._planned_end = [op.start_ns + op.duration_ns for op in plan.ops]
        # Ops by planned end; of those before `_ended` the planned end has passed, and this is when they really ended.
        self._by_end = sorted(range(len(plan.ops)), key=lambda index: (self._planned_end[index], index))
        self._ended = 0
        self._last_planned = self._last_real = 0
        self._started = [False] * len(plan.ops)
        self._stream: dict[int, int] = {}
        self._lane: dict[tuple[str, Tier, Tier], int] = {}

    def _pass(self, planned_ns: int) -> None:
        """Take note of the ops that had ended by `planned_ns` in the plan."""
        while self._ended < len(self._by_end):
            other = self._by_end[self._ended]
            if not self._started[other] or self._planned_end[other] > planned_ns:
                break
            self._last_planned = self._planned_end[other]
            self._last_real = max(self._last_real, int(self.end[other]))
            self._ended += 1

    def run_op(self, index: int) -> None:
        """Start an op when all it waited for is done, its stream is free, and the host has issued it."""
        op = self._plan.ops[index]
        self._pass(op.start_ns)
        planned_ready, ready = self._last_planned, self._last_real
        for waited in self._needed.get(index, ()):
            planned_end = self._plan.transfers[waited].end_ns
            if planned_end <= op.start_ns:
                planned_ready = max(planned_ready, planned_end)
                ready = max(ready, int(self.move_end[waited]))
        ready = max(ready + op.start_ns - planned_ready, self._stream.get(op.stream, 0))
        if op.launches:
            ready = max(ready + int(self._gaps[index]), int(self._issued[index]))
        self.start[index], self.end[index] = ready, ready + int(self._op_ns[index])
        self._stream[op.stream] = int(self.end[index])
        self._started[index] = True

    def run_transfer(self, index: int) -> None:
        """Start a transfer when the op it follows is done and its link is free."""
        transfer = self._plan.transfers[index]
        lane = (transfer.link, transfer.source, transfer.target)
        planned_ready = ready = 0
        previous, after = self._lane.get(lane), transfer.after_step
        if previous is not None and self._plan.transfers[previous].end_ns <= transfer.start_ns:
            planned_ready, ready = self._plan.transfers[previous].end_ns, int(self.move_end[previous])
        if after is not None and self._planned_end[after] <= transfer.start_ns:
            planned_ready = max(planned_ready, self._planned_end[after])
            ready = max(ready, int(self.end[after]))
        self.move_start[index] = ready + transfer.start_ns - planned_ready
        self.move_end[index] = self.move_start[index] + int(self._move_ns[index])
        self._lane[lane] = index
