"""
Least step time where what moves is large: tensors cross a link whole, and stay whole in HBM until their copy has left.

A linear program lets a little of every tensor move, byte by byte. Of tensors that take a few percent of the room each,
as the KV cache of a layer, a whole number moves, and what comes back has its room before its first byte arrives. How
many the room then holds at once (the window) bounds how far the links run ahead of each other: a transfer back begins
once all before it but a window less one have left. Every size that the largest of them can have is looked at, and every
number of moved tensors that leaves room enough; what takes least bounds all choices.

What comes back is in HBM while an op uses it, so that the others have to free what is lacking then without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.placement.move_problem import MoveProblem
from memplan.placement.residency import live_bytes, stays

_LEAST_PART = 200
"""What is smaller than such a part of the room is moved as if it could be parted."""
_MOST_SIZES = 12
"""So many of the largest sizes bound a group of units from below, one after the other."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """Units that are on the host at both ends of the schedule where they move, the smallest first; times in ns."""

    size: Int64s
    into: Int64s
    out: Int64s
    in_use: Int64s
    first: Int64s
    last: Int64s

    def of_at_least(self, size: int, copied: bool = False) -> _Whole:
        """Those of `size` bytes and more; where `copied`, only what is copied out."""
        chosen = (self.size >= size) & ((self.out > 0) | (not copied))
        return self._of(chosen)

    def of_at_most(self, size: int) -> _Whole:
        """Those of `size` bytes and less."""
        return self._of(self.size <= size)

    def _of(self, chosen: Bools) -> _Whole:
        columns = (self.size, self.into, self.out, self.in_use, self.first, self.last)
        return _Whole(*(column[chosen] for column in columns))


def large_bound(problem: MoveProblem, capacity: int, *, anew: bool = False) -> int:
    """
    Ns that every choice of moves takes with at most `capacity` bytes in HBM, 0 where nothing follows.

    With `anew`, what does not exist between two runs may be made anew instead: of its bytes nothing is taken for given.
    """
    kept = np.array([storage.persistent for storage in problem.storages], dtype=bool)
    lasting = [storage for storage in problem.storages if storage.persistent]
    present = live_bytes(lasting, stays(lasting, ()), problem.steps) if anew else problem.live
    chosen = kept[problem.storage] if anew else np.ones(len(problem.unit), dtype=bool)
    away = problem.live - problem.live_without(chosen)
    columns = problem.columns
    returning = int(columns.size[chosen & (columns.returns >= 0)].sum())
    rate = (problem.in_link.bytes_per_second or 0.0) / 1e9
    every = _whole_units(problem)
    groups = [
        whole.of_at_least(size)
        for whole in (every.of_at_least(max(capacity // _LEAST_PART, 1), copied) for copied in (False, True))
        for size in np.unique(whole.size)[::-1][:_MOST_SIZES].tolist()
    ]
    return max((_least_of_all(group, capacity, present, away, returning, rate) for group in groups), default=0)


def least_moved(problem: MoveProblem, capacity: int) -> int:
    """
    Bytes that come back at least, whatever is chosen, with at most `capacity` in HBM.

    At the step that needs a tensor back all others that moved have freed what is lacking there, so that no choice moves
    less than that and the tensor itself; of what needs no more than so much, there has to be so much.
    """
    lacking = int(problem.live.max(initial=0)) - capacity
    back = np.flatnonzero(problem.columns.returns >= 0)
    if lacking <= 0 or not len(back):
        return 0
    size = problem.columns.size[back]
    with_it = problem.live[problem.columns.returns[back]] - capacity + size
    order = np.argsort(with_it, kind="stable")
    least = np.maximum(with_it[order], lacking)
    enough = np.flatnonzero(np.cumsum(size[order]) >= least)
    return int(least[enough[0]]) if len(enough) else lacking


def _whole_units(problem: MoveProblem) -> _Whole:
    """What exists between two runs and is used in one stretch of steps: kept all the time, or here around those."""
    columns, elapsed = problem.columns, np.concatenate(([0], np.cumsum(problem.durations)))
    rows = []
    for gap in np.flatnonzero((problem.before < 0) & (columns.returns >= 0)).tolist():
        closing = gap + 1
        inside = closing < len(problem.storage) and problem.storage[closing] == problem.storage[gap]
        if inside and columns.returns[closing] >= 0:
            continue
        first = int(columns.returns[gap])
        last = int(problem.before[closing]) if inside else problem.steps - 1
        out = int(columns.out_ns[closing]) if inside and problem.changed[closing] else 0
        rows.append(
            (int(columns.size[gap]), int(columns.in_ns[gap]), out, int(elapsed[last + 1] - elapsed[first]), first, last)
        )
    table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 6)
    return _Whole(*table.T)


def _least_of_all(group: _Whole, capacity: int, present: Int64s, away: Int64s, returning: int, rate: float) -> int:
    """
    The least over the sizes that the largest moved unit of `group` can have, and over none of them moving.

    Of the bytes `present` at each step moves can take `away` so many, and bring back `returning` in all; `rate` is
    bytes back per ns.
    """
    others = returning - int(group.size.sum())
    least = 2**62
    if (lacking := int(present.max()) - capacity) <= others:
        least = max(int(lacking / rate), 0) if rate else 0
    sizes = np.unique(group.size)
    # Sizes near each other are one case: the largest is no smaller than the least of them.
    for part in np.array_split(sizes, min(len(sizes), _MOST_SIZES)):
        largest = (group.size >= part[0]) & (group.size <= part[-1])
        kept = group.size > part[-1]
        change = np.zeros(len(present) + 1, dtype=np.int64)
        np.add.at(change, group.first[kept], -group.size[kept])
        np.subtract.at(change, group.last[kept] + 1, -group.size[kept])
        freed = away - int(group.size[kept].sum()) - np.cumsum(change)[:-1]
        with_it = int((present[group.first[largest]] + group.size[largest]).min()) - capacity
        fastest = _least_ns(group.of_at_most(int(part[-1])), capacity, present, freed, others, rate)
        least = min(least, max(fastest, int(with_it / rate) if rate else 0))
    return least if least < 2**62 else 0


def _least_ns(group: _Whole, capacity: int, present: Int64s, away: Int64s, other: int, rate: float) -> int:
    """The least that any number from 1 of moved units of `group` takes, `other` bytes at most beside them."""
    count = len(group.size)
    moved = np.arange(1, count + 1)
    total, into = np.concatenate(([0], np.cumsum(group.size))), np.cumsum(group.into)
    change = np.zeros(len(present) + 1, dtype=np.int64)
    np.add.at(change, group.first, group.size)
    np.subtract.at(change, group.last + 1, group.size)
    # Bytes that are there in any case, at the step that has fewest; those of the group come on top.
    others = max(int((present - away - np.cumsum(change)[:-1]).min()), 0)
    window = (capacity - others - total[count - moved]) // int(group.size[0])
    # What the group doesn't free others do; of its own one is back when it is used.
    freed = total[count] - total[count - moved + 1]
    lacking = np.maximum(int(present[group.first].min()) - freed - capacity, 0)
    carried = into + (np.floor(lacking / rate).astype(np.int64) if rate else 0)
    least = np.maximum(carried, _chain_ns(group, moved, window))[(window >= 1) & (lacking <= other)]
    return int(least.min(initial=2**62))


def _chain_ns(group: _Whole, moved: Int64s, window: Int64s) -> Int64s:
    """
    When the last of so many `moved` units has left again, with at most `window` of them in HBM at the same time.

    Each comes back, is used and leaves; the next one's transfer begins once the link is free and so many have left that
    it has room. The longest path to the end goes over links alone, or over as many whole windows as there are.
    """
    into, in_use, out = int(group.into.min()), int(group.in_use.min()), int(group.out.min())
    once, rest = into + in_use + out, np.maximum(moved - 1, 0)
    windows = rest // np.maximum(window, 1)
    longest = np.maximum(
        once + rest * max(into, out), (windows + 1) * once + (rest - windows * window) * max(into, out)
    )
    return np.where(moved > 0, longest, 0)
