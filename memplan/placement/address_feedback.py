"""
Moves and addresses together: what finds no address takes room from the choice of moves, until all has one.

Bytes that fit at every step may still not pack. What a packing leaves out counts as bytes lost at its steps, and the
moves are chosen anew, near the last choice; then half-way back as long as that still packs. Where that costs much, the
same is tried with a part of the room free at all steps. What another planner's rule would have moved is taken where it
packs and is faster than all that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.core.progress import Progress, silent
from memplan.placement.hbm import HbmLayout, lay_out, lay_out_again
from memplan.placement.host import HostMoves, choose_moves, rule_moves
from memplan.placement.move_problem import MoveProblem
from memplan.placement.residency import live_bytes
from memplan.placement.schedule import StepSchedule, run_schedule

_PACKINGS, _GROWTH, _LARGE_GROWTH = 12, 1.25, 2.0
"""How often moves are chosen anew where addresses didn't fit, and by how much more each time counts what found none."""
_CLOSER, _WORTH = 3, 1.01
"""How often it is tried to lose less, once all has an address, as long as addresses cost more than so many times."""
_SPARE, _DEAR = (0.02, 0.06, 0.12), 1.02
"""Parts of the room that are left free everywhere, where addresses cost more than so many times without."""
_LARGE = 20_000
"""With more residencies, what was placed before is placed anew only where it has to be, and the first fit is taken."""


@dataclass(frozen=True, slots=True)
class AddressedMoves:
    """A choice of moves with its schedule and addresses; `lost` are bytes of each step that it was to leave free."""

    chosen: HostMoves
    schedule: StepSchedule
    layout: HbmLayout
    lost: Int64s


def addressed_moves(
    problem: MoveProblem, capacity: int, alignment: int, first: HostMoves | None = None, progress: Progress = silent
) -> AddressedMoves:
    """
    The fastest choice of moves found whose addresses end below `capacity`, else the one that exceeds it least.

    `first` is the choice to begin with, where it is known.
    """
    feedback = _Feedback(problem, capacity, alignment, first, progress)
    tried = [feedback.tried(None, np.zeros(problem.steps, dtype=np.int64))]
    growth = _LARGE_GROWTH if feedback.is_large(tried[0]) else _GROWTH
    for turn in range(_PACKINGS if tried[0].chosen.bound is not None else 0):
        last = tried[-1]
        if last.layout.peak <= capacity:
            break
        lost = last.lost + (feedback.spilled(last) * growth**turn).astype(np.int64)
        tried.append(feedback.tried(last, lost))
    large = feedback.is_large(tried[0])
    if len(tried) > 1 and tried[-1].layout.peak <= capacity and not large:
        tried += feedback.closer(tried[-2], tried[-1])
    if len(tried) > 1 and tried[0].chosen.bound is not None and not large:
        tried += feedback.sparing(tried)
    if tried[0].chosen.bound is not None:
        tried += feedback.ruled(tried)
    best = min(tried, key=feedback.rank)
    # The bound of a choice that leaves room free holds for less room only.
    return replace(best, chosen=replace(best.chosen, bound=tried[0].chosen.bound))


class _Feedback:
    def __init__(
        self, problem: MoveProblem, capacity: int, alignment: int, first: HostMoves | None, progress: Progress
    ) -> None:
        self.problem, self.capacity, self.alignment, self.progress = problem, capacity, alignment, progress
        self.first = first

    def rank(self, item: AddressedMoves) -> tuple[int, int]:
        """What is better comes first: bytes over the capacity, then the step time."""
        return max(item.layout.peak, self.capacity), item.schedule.makespan_ns

    def is_large(self, item: AddressedMoves) -> bool:
        return len(item.schedule.residencies) > _LARGE

    def tried(self, near: AddressedMoves | None, lost: Int64s) -> AddressedMoves:
        """Moves chosen with `lost` bytes less at each step, near those of `near`."""
        self.progress(0, 1, "choosing moves")
        moved: Bools | None = None if near is None else near.chosen.moved
        bound = None if near is None else near.chosen.bound
        problem = replace(self.problem, live=self.problem.live + lost)
        known = self.first if near is None and not lost.any() else None
        if known is None:
            known = choose_moves(problem, self.capacity, bound, moved)
        return self.placed(known, near, lost)

    def placed(self, chosen: HostMoves, near: AddressedMoves | None, lost: Int64s) -> AddressedMoves:
        """`chosen` with its schedule and addresses, close to those of `near` where there are many."""
        problem = self.problem
        schedule = run_schedule(
            problem.storages, problem.durations, chosen.gaps, self.capacity,
            out_link=problem.out_link, in_link=problem.in_link, lost=lost,
        )  # fmt: skip
        layout: HbmLayout | None = None
        if near is not None and self.is_large(near):
            layout = lay_out_again(
                problem.storages, schedule.residencies, problem.steps, near.schedule.residencies, near.layout.kept,
                alignment=self.alignment, enough=self.capacity,
            )  # fmt: skip
        if layout is None:
            layout = lay_out(
                problem.storages, schedule.residencies, problem.steps, alignment=self.alignment,
                enough=self.capacity if chosen.gaps else None, progress=self.progress,
            )  # fmt: skip
        return AddressedMoves(chosen, schedule, layout, lost)

    def spilled(self, item: AddressedMoves) -> Int64s:
        """Bytes at each step that found no address."""
        left_out = [item.schedule.residencies[index] for index in item.layout.spilled]
        return live_bytes(self.problem.storages, left_out, self.problem.steps)

    def closer(self, unfit: AddressedMoves, fit: AddressedMoves) -> list[AddressedMoves]:
        """Choices between one that doesn't pack and one that does, ever nearer to where packing begins to fail."""
        found = []
        for _ in range(_CLOSER):
            if fit.schedule.makespan_ns < unfit.schedule.makespan_ns * _WORTH:
                break
            middle = self.tried(unfit, (unfit.lost + fit.lost) // 2)
            found.append(middle)
            if middle.layout.peak <= self.capacity:
                fit = middle
            else:
                unfit = middle
        return found

    def sparing(self, tried: Sequence[AddressedMoves]) -> list[AddressedMoves]:
        """Choices with some room free at all steps, the least first, until one packs or none is faster than `tried`."""
        found: list[AddressedMoves] = []
        best = min(tried, key=self.rank)
        for part in _SPARE:
            if best.layout.peak <= self.capacity and best.schedule.makespan_ns < tried[0].schedule.makespan_ns * _DEAR:
                break
            lost = np.full(self.problem.steps, int(self.capacity * part), dtype=np.int64)
            for _ in range(2):
                item = self.tried(None, lost)
                if self.rank(item)[1] >= self.rank(best)[1] and best.layout.peak <= self.capacity:
                    return found
                found.append(item)
                best = min(best, item, key=self.rank)
                if item.chosen.bound is None or item.layout.peak <= self.capacity:
                    return found
                lost = item.lost + self.spilled(item)
        return found

    def ruled(self, tried: Sequence[AddressedMoves]) -> list[AddressedMoves]:
        """What rules alone would move where that packs and is faster than the best of `tried`, the fastest first."""
        best = min(tried, key=self.rank)
        bound = tried[0].chosen.bound
        for chosen in rule_moves(self.problem, self.capacity, bound):
            if best.layout.peak <= self.capacity and chosen.makespan_ns >= best.schedule.makespan_ns:
                break
            item = self.placed(chosen, None, np.zeros(self.problem.steps, dtype=np.int64))
            if item.layout.peak <= self.capacity:
                return [item]
        return []
