"""The blocks of a rank joined to a plan's tensors, and who of them holds the peak of the compared step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.compare.aligned_ops import AlignedStep
from memplan.compare.result import ComparedMemory
from memplan.core.progress import Progress
from memplan.holders import BlockJoin, PeakHolders, join_blocks, peak_holders
from memplan.schema import Plan
from memplan.traces.profile import Allocations
from memplan.traces.rank import RankProfile


@dataclass(frozen=True, slots=True)
class RankBlocks:
    """Blocks with their join, and the repetition of the plan (`BlockJoin.step`) that is the compared step."""

    allocations: Allocations
    join: BlockJoin
    repetition: int
    aligned: AlignedStep | None


def joined_blocks(plan: Plan, rank: RankProfile, aligned: AlignedStep | None, progress: Progress) -> RankBlocks | None:
    """The join of the rank's blocks, `None` where it lists none or none of them is of the plan."""
    allocations = rank.allocations(progress)
    if allocations is None or not len(allocations):
        return None
    alignment = aligned.alignment if aligned is not None else None
    join = join_blocks(plan, allocations, rank.kernels(progress), alignment)
    steps = join.step[join.tensor >= 0]
    if not len(steps):
        return None
    if aligned is not None and len(aligned.rows):
        repetition = int(np.bincount(aligned.alignment.step[aligned.rows]).argmax())
    else:
        repetition = int(np.bincount(steps).argmax())
    return RankBlocks(allocations, join, repetition, aligned)


def holders_of(
    plan: Plan, rank: RankProfile, blocks: RankBlocks | None, memory: ComparedMemory | None, steps: int
) -> PeakHolders | None:
    """Who holds the peak of the compared step; `None` where the compared curve is no allocator's own count."""
    if blocks is None or memory is None:
        return None
    curve = rank.memory(memory.component)
    if curve is None or curve.allocated is None or memory.quantity != "allocated":
        return None
    within = None
    if steps > 1:
        asked, join = blocks.allocations.allocation_ns, blocks.join
        mine = (join.step == blocks.repetition) & (join.tensor >= 0) & (asked >= 0)
        later = (join.step > blocks.repetition) & (join.tensor >= 0) & (asked >= 0)
        if mine.any():
            end = int(asked[later].min()) if later.any() else int(curve.time_ns[-1]) + 1
            within = int(asked[mine].min()), max(end, int(asked[mine].max()) + 1)
    scopes = blocks.aligned.alignment.scopes if blocks.aligned is not None else None
    return peak_holders(plan, blocks.allocations, blocks.join, curve.time_ns, curve.allocated, scopes, within)
