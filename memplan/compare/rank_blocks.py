"""The blocks of a rank joined to a plan's tensors, and who of them holds the peak of the compared step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.compare.aligned_ops import AlignedStep
from memplan.core.progress import Progress
from memplan.holders import JOINED_BY, BlockJoin, JoinedBy, PeakHolders, join_blocks, peak_holders
from memplan.schema import Plan
from memplan.traces.profile import Allocations
from memplan.traces.rank import RankProfile

_ENOUGH = 0.4
"""Share of the bytes that a plan makes in a step which order and size alone have to find."""


@dataclass(frozen=True, slots=True)
class RankBlocks:
    """Blocks with their join, and the repetition of the plan (`BlockJoin.step`) that is the compared step."""

    allocations: Allocations
    join: BlockJoin
    repetition: int
    aligned: AlignedStep | None


def joined_blocks(
    plan: Plan, rank: RankProfile, aligned: AlignedStep | None, component: str | None, progress: Progress
) -> RankBlocks | None:
    """
    The join of the rank's blocks that `component` counts; `None` where it lists none or they are not of the plan.

    Order and size alone tell only where they find most of what the plan makes.
    """
    allocations = blocks_of(rank.allocations(progress), component)
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
    if bool((join.how[join.tensor >= 0] == JOINED_BY.index(JoinedBy.ORDER)).any()):
        mine = set(join.tensor[(join.step == repetition) & (join.tensor >= 0)].tolist())
        made = [item for item in join.held if not item.stands]
        if sum(item.nbytes for item in made if item.tensor.index in mine) < _ENOUGH * sum(item.nbytes for item in made):
            return None
    return RankBlocks(allocations, join, repetition, aligned)


def blocks_of(allocations: Allocations | None, component: str | None) -> Allocations | None:
    """The blocks that one memory curve counts; all of them where the profile doesn't tell which."""
    if allocations is None or not allocations.component or component not in allocations.component:
        return allocations
    rows = np.flatnonzero([name == component for name in allocations.component])
    return Allocations(
        [allocations.name[row] for row in rows.tolist()],
        allocations.size[rows],
        allocations.allocation_ns[rows],
        allocations.release_ns[rows],
        address=None if allocations.address is None else allocations.address[rows],
    )


def holders_of(plan: Plan, rank: RankProfile, blocks: RankBlocks, component: str, steps: int) -> PeakHolders | None:
    """Who holds the peak of the compared step as the allocator of `component` counts; `None` where it counts none."""
    curve = rank.memory(component)
    if curve is None or curve.allocated is None:
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
