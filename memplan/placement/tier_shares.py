"""
Which of two tiers each moved tensor goes to, where the host's own memory and pooled memory are both given.

A tensor keeps its place on one of them from its first move to its last. Links work side by side, so that the tensors
are shared out in the order of their moves by what each link carries, as far as there is room; a few shares are tried,
all on one tier among them, and the simulated schedule says which is fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Int64s
from memplan.hardware import HostTier
from memplan.placement.move_problem import MoveProblem
from memplan.placement.residency import Gap, Storage
from memplan.placement.schedule import StepSchedule, run_schedule

_TILTS = (1.0, 0.8, 1.25, 0.5, 2.0)
"""Parts of a fair share that the first tier gets in turn."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A storage that moves: its bytes, the steps in which a tier keeps them, its gaps, and when it first moves."""

    storage: int
    size: int
    start: int
    end: int
    first: int


def run_shared(problem: MoveProblem, gaps: Sequence[Gap], capacity: int, lost: Int64s | None = None) -> StepSchedule:
    """
    The fastest schedule found of `gaps` over the tiers of `problem`.

    What neither tier has room for stays in HBM, so that more than `capacity` may be there.
    """
    near, far = problem.tiers
    kept = _kept(problem.storages, gaps, problem.steps)
    tried: dict[tuple[frozenset[int], frozenset[int]], StepSchedule] = {}
    for fair in (*(_fair(near, far, kept, problem.steps) * tilt for tilt in _TILTS), 1.0, 0.0):
        second, left = shares = _shared(kept, near, far, problem.steps, min(fair, 1.0))
        if shares not in tried:
            tried[shares] = run_schedule(
                problem.storages, problem.durations, [gap for gap in gaps if gap.storage not in left], capacity,
                out_link=near.out_link, in_link=near.in_link, lost=lost, beside=far, second=second,
            )  # fmt: skip

    def rank(shares: tuple[frozenset[int], frozenset[int]]) -> tuple[int, int]:
        return sum(problem.storages[index].size for index in shares[1]), tried[shares].makespan_ns

    return tried[min(tried, key=rank)]


def _kept(storages: Sequence[Storage], gaps: Sequence[Gap], steps: int) -> list[_Kept]:
    """What moves, in the order in which it does."""
    spans: dict[int, tuple[int, int]] = {}
    for gap in gaps:
        start, end = spans.get(gap.storage, (steps, 0))
        spans[gap.storage] = min(start, gap.start), max(end, gap.end)
    moves: dict[int, int] = {}
    for gap in gaps:
        when = gap.returns_at if gap.leaves_after is None else gap.leaves_after
        moves[gap.storage] = min(moves.get(gap.storage, steps), steps if when is None else when)
    found = [
        _Kept(index, storages[index].size, *((0, steps) if storages[index].persistent else span), moves[index])
        for index, span in spans.items()
    ]
    return sorted(found, key=lambda item: (item.first, item.storage))


def _fair(near: HostTier, far: HostTier, kept: Sequence[_Kept], steps: int) -> float:
    """The part of the bytes that the first tier is to get: what its links carry of all, as far as both have room."""
    rates = [min(tier.out_link.bytes_per_second or 0.0, tier.in_link.bytes_per_second or 0.0) for tier in (near, far)]
    part = rates[0] / max(sum(rates), 1e-9)
    change = np.zeros(steps + 1, dtype=np.int64)
    for item in kept:
        change[item.start] += item.size
        change[item.end] -= item.size
    most = max(int(np.cumsum(change).max(initial=0)), 1)
    if far.capacity is not None:
        part = max(part, 1 - far.capacity / most)
    return part if near.capacity is None else min(part, near.capacity / most)


def _shared(
    kept: Sequence[_Kept], near: HostTier, far: HostTier, steps: int, part: float
) -> tuple[frozenset[int], frozenset[int]]:
    """Storages of the second tier, and those that neither has room for, where the first is to get `part` of all."""
    room = [None if tier.capacity is None else np.full(steps, tier.capacity, dtype=np.int64) for tier in (near, far)]
    given, parts = [0, 0], (part, 1 - part)
    second, left = set(), set()
    for item in kept:
        # Whom the item leaves least over its part comes first.
        order = sorted((0, 1), key=lambda tier: (given[tier] + item.size) / max(parts[tier], 1e-9))
        for tier in order:
            free = room[tier]
            if free is None or int(free[item.start : item.end].min(initial=2**62)) >= item.size:
                break
        else:
            left.add(item.storage)
            continue
        if free is not None:
            free[item.start : item.end] -= item.size
        given[tier] += item.size
        if tier:
            second.add(item.storage)
    return frozenset(second), frozenset(left)
