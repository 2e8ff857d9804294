"""
Moves and addresses together: what finds no address takes room from the choice of moves, until all has one.

Bytes that fit at every step may still not pack. What a packing leaves out counts as bytes lost at its steps, and the
moves are chosen anew, near the last choice; then half-way back as long as that still packs. Where that costs much, the
same is tried with a part of the room free at all steps. What the linear program's answer rounds to and what another
planner's rule would have moved is taken, with a little more moved where that makes it pack, where it is faster.

Greedy orders pack while moves are chosen; the turn before the first that packs so is then packed with all that the
solver has, and so on back as long as that helps. What a known step time shows to be too slow is not packed at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.core.progress import CHOOSING_MOVES, Progress, silent
from memplan.placement.hbm import HbmLayout, lay_out, lay_out_again
from memplan.placement.host import HostMoves, candidate_moves, choose_moves
from memplan.placement.move_orders import MOVE_RULES
from memplan.placement.move_problem import MoveProblem
from memplan.placement.residency import live_bytes
from memplan.placement.schedule import StepSchedule, run_schedule
from memplan.placement.tier_shares import run_shared

_PACKINGS, _GROWTH, _LARGE_GROWTH = 12, 1.25, 2.0
"""How often moves are chosen anew where addresses didn't fit, and by how much more each time counts what found none."""
_CLOSER, _WORTH = 3, 1.01
"""How often it is tried to lose less, once all has an address, as long as addresses cost more than so many times."""
_ROUNDED, _UNLIKE, _REPAIRS = 4, 1.004, 4
"""
So many of the best roundings, each longer than the one before by such a factor, are given addresses; and how often at
most moves are added for those of one choice.
"""
_MANY_UNITS = 5_000
"""With more units only what rules move is given addresses besides, last of all: each packing takes long."""
_SPARE, _DEAR = (0.02, 0.06, 0.12), 1.02
"""Parts of the room that are left free everywhere, where addresses cost more than so many times without."""
_LARGE = 20_000
"""With more residencies, what was placed before is placed anew only where it has to be, and the first fit is taken."""


@dataclass(frozen=True, slots=True)
class AddressedMoves:
    """
    A choice of moves with its schedule and addresses; `lost` are bytes of each step that it was to leave free.

    `quick` says that the addresses are from greedy orders alone.
    """

    chosen: HostMoves
    schedule: StepSchedule
    layout: HbmLayout
    lost: Int64s
    quick: bool = False


def addressed_moves(
    problem: MoveProblem,
    capacity: int,
    alignment: int,
    first: HostMoves | None = None,
    least_ns: int | None = None,
    *,
    quick: bool = False,
    progress: Progress = silent,
) -> AddressedMoves:
    """
    The fastest choice of moves found whose addresses end below `capacity`, else the one that exceeds it least.

    `first` is the choice to begin with, where it is known. What takes `least_ns` or longer is of no use: no more is
    tried once moves alone take that long. With `quick` the first that fits is taken.
    """
    feedback = _Feedback(problem, capacity, alignment, first, progress)
    tried = [feedback.tried(None, np.zeros(problem.steps, dtype=np.int64), quick=True)]
    if tried[0].chosen.bound is None:
        return feedback.packed(tried[0]) if tried[0].chosen.gaps and tried[0].layout.peak > capacity else tried[0]
    large = feedback.is_large(tried[0])
    growth = _LARGE_GROWTH if large else _GROWTH
    for turn in range(_PACKINGS):
        last = tried[-1]
        if last.layout.peak <= capacity or feedback.is_slow(last, least_ns):
            break
        tried.append(feedback.tried(last, feedback.more_lost(last, growth**turn), quick=True))
    if quick and tried[-1].layout.peak <= capacity:
        return replace(tried[-1], chosen=replace(tried[-1].chosen, bound=tried[0].chosen.bound))
    many = problem.units > _MANY_UNITS
    repaired = [] if many else feedback.repaired(tried, least_ns)
    dear = not repaired or repaired[-1].schedule.makespan_ns >= tried[0].schedule.makespan_ns * _DEAR
    if dear and not large:
        tried = feedback.packed_earlier(tried, least_ns)
        if len(tried) > 1 and tried[-1].layout.peak <= capacity:
            tried += feedback.closer(tried[-2], tried[-1])
        if len(tried) > 1:
            tried += feedback.sparing([*tried, *repaired], least_ns)
    tried += feedback.ruled(tried, least_ns) if many else repaired
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

    def is_slow(self, item: AddressedMoves, least_ns: int | None) -> bool:
        return least_ns is not None and item.schedule.makespan_ns >= least_ns

    def tried(self, near: AddressedMoves | None, lost: Int64s, quick: bool = False) -> AddressedMoves:
        """Moves chosen with `lost` bytes less at each step, near those of `near`."""
        return self.placed(self.chosen(near, lost), near, lost, quick)

    def chosen(self, near: AddressedMoves | None, lost: Int64s, searched: bool = True) -> HostMoves:
        self.progress(0, self.problem.steps, CHOOSING_MOVES)
        if self.first is not None and near is None and not lost.any():
            return self.first
        moved: Bools | None = None if near is None else near.chosen.moved
        bound = None if near is None else near.chosen.bound
        problem = replace(self.problem, live=self.problem.live + lost)
        return choose_moves(problem, self.capacity, bound, moved, searched=searched)

    def placed(
        self, chosen: HostMoves, near: AddressedMoves | None, lost: Int64s, quick: bool = False
    ) -> AddressedMoves:
        """`chosen` with its schedule and addresses, close to those of `near` where there are many."""
        schedule = self.scheduled(chosen, lost)
        layout: HbmLayout | None = None
        if quick and near is not None and near.quick and schedule.residencies == near.schedule.residencies:
            layout = near.layout  # the same buffers: greedy orders place them no other way
        elif near is not None and self.is_large(near):
            layout = lay_out_again(
                self.problem.storages, schedule.residencies, self.problem.steps, near.schedule.residencies,
                near.layout.kept, alignment=self.alignment, enough=self.capacity,
            )  # fmt: skip
        return AddressedMoves(chosen, schedule, layout or self.layout_of(chosen, schedule, quick), lost, quick)

    def scheduled(self, chosen: HostMoves, lost: Int64s) -> StepSchedule:
        problem = self.problem
        if len(problem.tiers) > 1:
            return run_shared(problem, chosen.gaps, self.capacity, lost)
        return run_schedule(
            problem.storages, problem.durations, chosen.gaps, self.capacity,
            out_link=problem.out_link, in_link=problem.in_link, lost=lost,
        )  # fmt: skip

    def layout_of(self, chosen: HostMoves, schedule: StepSchedule, quick: bool = False) -> HbmLayout:
        return lay_out(
            self.problem.storages, schedule.residencies, self.problem.steps, alignment=self.alignment,
            enough=self.capacity if chosen.gaps else None, quick=quick, progress=self.progress,
        )  # fmt: skip

    def packed(self, item: AddressedMoves) -> AddressedMoves:
        """`item` with addresses from all that the solver has, not greedy orders alone."""
        return replace(item, layout=self.layout_of(item.chosen, item.schedule), quick=False)

    def packed_earlier(self, tried: Sequence[AddressedMoves], least_ns: int | None) -> list[AddressedMoves]:
        """
        `tried` up to the first of the last turns that packs, where more is done for it than greedy orders.

        Every turn leaves more room, so that it is tried from the last turn backwards until one doesn't pack.
        """
        found = list(tried)
        while len(found) > 1 or found[-1].layout.peak > self.capacity:
            at = len(found) - 1 if found[-1].layout.peak > self.capacity else len(found) - 2
            if self.is_slow(found[at], least_ns):
                break
            packed = self.packed(found[at])
            if packed.layout.peak > self.capacity:
                found[at] = min(found[at], packed, key=self.rank)
                break
            found = [*found[:at], packed]
        return found

    def more_lost(self, item: AddressedMoves, times: float = 1.0) -> Int64s:
        """What `item` lost and, so many `times`, the bytes at each step that found no address."""
        left_out = [item.schedule.residencies[index] for index in item.layout.spilled]
        spilled = live_bytes(self.problem.storages, left_out, self.problem.steps)
        return (item.lost + (spilled * times).astype(np.int64)).astype(np.int64)

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

    def sparing(self, tried: Sequence[AddressedMoves], least_ns: int | None) -> list[AddressedMoves]:
        """Choices with some room free at all steps, the least first, until one packs or none is faster than `tried`."""
        found: list[AddressedMoves] = []
        best = min(tried, key=self.rank)
        for part in _SPARE:
            if best.layout.peak <= self.capacity and best.schedule.makespan_ns < tried[0].schedule.makespan_ns * _DEAR:
                break
            lost = np.full(self.problem.steps, int(self.capacity * part), dtype=np.int64)
            for _ in range(2):
                chosen = self.chosen(None, lost)
                schedule = self.scheduled(chosen, lost)
                limit = best.schedule.makespan_ns if best.layout.peak <= self.capacity else least_ns
                if limit is not None and schedule.makespan_ns >= limit:
                    return found
                item = AddressedMoves(chosen, schedule, self.layout_of(chosen, schedule), lost)
                found.append(item)
                best = min(best, item, key=self.rank)
                if item.chosen.bound is None or item.layout.peak <= self.capacity:
                    return found
                lost = self.more_lost(item)
        return found

    def repaired(self, tried: Sequence[AddressedMoves], least_ns: int | None) -> list[AddressedMoves]:
        """
        What the linear program's answer rounds to and what rules by themselves would move, the fastest first, each with
        as little moved besides as its addresses ask for; no more than what packs and is faster than the best of
        `tried`.

        A search would give up for speed what makes them pack.
        """
        best = min(tried, key=self.rank)
        limit = best.schedule.makespan_ns if best.layout.peak <= self.capacity else least_ns
        left, last = _ROUNDED, 0.0
        found = []
        for chosen in candidate_moves(self.problem, self.capacity, tried[0].chosen.bound):
            if limit is not None and chosen.makespan_ns >= limit:
                break
            if chosen.rule not in MOVE_RULES:
                if not left or chosen.makespan_ns < last * _UNLIKE:
                    continue
                left, last = left - 1, chosen.makespan_ns
            item = self.placed(chosen, None, np.zeros(self.problem.steps, dtype=np.int64), quick=True)
            if item.layout.peak > self.capacity and chosen.rule in MOVE_RULES:
                item = self.packed(item)
            for turn in range(_REPAIRS):
                if item.layout.peak <= self.capacity or self.is_slow(item, limit):
                    break
                lost = self.more_lost(item, _GROWTH**turn)
                item = self.placed(self.chosen(item, lost, searched=False), item, lost, quick=True)
            if item.layout.peak <= self.capacity and not self.is_slow(item, limit):
                limit = item.schedule.makespan_ns
                found.append(item)
        return found

    def ruled(self, tried: Sequence[AddressedMoves], least_ns: int | None) -> list[AddressedMoves]:
        """The fastest of what rules move, or moves near that, which packs and is faster than the best of `tried`."""
        best = min(tried, key=self.rank)
        limit = best.schedule.makespan_ns if best.layout.peak <= self.capacity else least_ns
        bound = tried[0].chosen.bound
        for chosen in (replace(moves, bound=bound) for moves in candidate_moves(self.problem, self.capacity, None)):
            if limit is not None and chosen.makespan_ns >= limit:
                break
            item = self.placed(chosen, None, np.zeros(self.problem.steps, dtype=np.int64))
            for turn in range(_PACKINGS):
                if item.layout.peak <= self.capacity or self.is_slow(item, limit):
                    break
                item = self.tried(item, self.more_lost(item, _GROWTH**turn), quick=True)
            if item.layout.peak <= self.capacity and not self.is_slow(item, limit):
                return [item]
        return []
