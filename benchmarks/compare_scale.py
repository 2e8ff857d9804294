"""
How long a comparison takes with a million kernels: `python -m benchmarks.compare_scale` from the project's root.

Two profiles of a million kernels in memory, with a memory curve and allocations: a plan of 10,000 ops run 100 times
and one of 200,000 ops run 5 times. Prints user CPU seconds and peak memory; writes nothing.
"""

from __future__ import annotations

import resource
import time

import numpy as np

from memplan.compare import compare
from memplan.schema import Plan
from memplan.traces.profile import Allocations, MemoryCurve
from memplan.traces.rank import RankProfile
from tests.compare.doubles import kernels, made_rank
from tests.small_plans import layered_plan

EPOCH = 1_767_225_600 * 10**9


def profile_of(plan: Plan, steps: int) -> RankProfile:
    """Runs of `plan` one after another, every kernel up to a third longer than planned."""
    count = len(plan.ops)
    stretch = np.random.Generator(np.random.PCG64(1)).uniform(1.0, 1.33, count * steps)
    durations = (np.array([op.duration_ns for op in plan.ops] * steps) * stretch).astype(np.int64)
    ends = EPOCH + np.cumsum(durations + 300)
    starts = ends - durations
    rows = [
        (op.name, op.type, start, took)
        for op, start, took in zip(plan.ops * steps, starts.tolist(), durations.tolist(), strict=True)
    ]
    table = kernels(rows, np.repeat(np.arange(steps), count).tolist())
    forward = np.flatnonzero(np.arange(count * steps) % count < count // 2)
    mirror = (forward // count) * count + count - 1 - forward % count
    size = np.full(len(forward), 65536, dtype=np.int64)
    names = [rows[row][0] for row in forward.tolist()]
    blocks = Allocations(names, size, starts[forward], ends[mirror])
    times = np.concatenate((starts[forward], ends[mirror]))
    order = np.argsort(times, kind="stable")
    held = np.cumsum(np.concatenate((size, -size))[order]) + count // 2 * 65536
    curve = MemoryCurve("PTA", "NPU:0", times[order], held, held, None)
    return made_rank(table, {"PTA": curve}, blocks)


def main() -> None:
    """Print one line a case."""
    for ops, steps in ((10_000, 100), (200_000, 5)):
        plan = layered_plan(ops // 2, op_ns=3000, size=65536)
        rank = profile_of(plan, steps)
        begin = time.process_time()
        result = compare(plan, rank)
        took = time.process_time() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{ops:>9,} ops x {steps:>3} steps: {took:6.2f} s, {result.summary.matched_ops:,} ops matched, "
            f"{len(result.deviations)} deviations listed, peak {peak:,.0f} MiB with the profile itself"
        )


if __name__ == "__main__":
    main()
