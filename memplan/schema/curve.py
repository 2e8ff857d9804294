"""Memory over time as a plan sees it: a step function for each tier, split by kind of tensor when asked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memplan.schema.tier import Tier

if TYPE_CHECKING:
    from memplan.schema.plan import Plan


@dataclass(frozen=True, slots=True)
class Curve:
    """A step function: `values[i]` holds from `time_ns[i]` until `time_ns[i + 1]`."""

    time_ns: NDArray[np.int64]
    values: NDArray[np.int64]

    def at(self, time_ns: int) -> int:
        """The value at `time_ns`; 0 before the first point."""
        position = int(np.searchsorted(self.time_ns, time_ns, side="right")) - 1
        return int(self.values[position]) if position >= 0 else 0


def step_starts(plan: Plan) -> NDArray[np.int64]:
    """Start of every step in nanoseconds, with the end of the last one appended: `len(ops) + 1` values."""
    starts = np.fromiter((op.start_ns for op in plan.ops), dtype=np.int64, count=len(plan.ops))
    return np.append(starts, np.int64(plan.makespan_ns))


def memory_curve(
    plan: Plan, tier: Tier = Tier.HBM, *, kinds: Collection[str] | None = None, persistent: bool = True
) -> Curve:
    """
    Bytes placed in `tier` over time, one point per step and one at the end.

    `kinds` keeps only tensors of those kinds; `persistent=False` leaves out what lives over the whole graph.
    """
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    change = np.zeros(len(plan.ops) + 1, dtype=np.int64)
    for placement in plan.placements:
        tensor = tensors[placement.tensor]
        if placement.tier is not tier or (kinds is not None and tensor.kind not in kinds):
            continue
        if tensor.persistent and not persistent:
            continue
        change[placement.start] += placement.size
        change[placement.end] -= placement.size
    return Curve(time_ns=step_starts(plan), values=np.cumsum(change))
