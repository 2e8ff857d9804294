"""Who holds a tier at the step where most bytes are placed in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memplan.schema.tier import Tier

if TYPE_CHECKING:
    from memplan.schema.plan import Plan


@dataclass(frozen=True, slots=True)
class PeakShare:
    """Bytes that tensors of one kind hold at the peak: indices into `plan.placements`, the largest first."""

    kind: str
    nbytes: int
    placements: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many placements they are."""
        return len(self.placements)


@dataclass(frozen=True, slots=True)
class PlanPeak:
    """The first step at which most bytes are placed, those bytes, and who holds them, the largest kind first."""

    step: int
    nbytes: int
    shares: tuple[PeakShare, ...]


def plan_peak(plan: Plan, tier: Tier = Tier.HBM) -> PlanPeak | None:
    """The peak of `tier`, `None` for a plan without steps or with nothing in that tier."""
    rows = [row for row, placement in enumerate(plan.placements) if placement.tier is tier]
    if not rows or not plan.ops:
        return None
    change = np.zeros(len(plan.ops) + 1, dtype=np.int64)
    for row in rows:
        placement = plan.placements[row]
        change[placement.start] += placement.size
        change[placement.end] -= placement.size
    alive = np.cumsum(change)[:-1]
    step = int(alive.argmax())
    kinds = {tensor.index: tensor.kind for tensor in plan.tensors}
    held: dict[str, list[int]] = {}
    for row in rows:
        placement = plan.placements[row]
        if placement.start <= step < placement.end:
            held.setdefault(kinds[placement.tensor], []).append(row)
    shares = [
        PeakShare(
            kind,
            sum(plan.placements[row].size for row in found),
            tuple(sorted(found, key=lambda row: -plan.placements[row].size)),
        )
        for kind, found in held.items()
    ]
    return PlanPeak(step, int(alive[step]), tuple(sorted(shares, key=lambda share: (-share.nbytes, share.kind))))
