"""
Steps that were taken for one: where nearly all that ran, ran as many times over, one time behind the other.

A graph mode may begin a step with an op that stands at the end of the plan, such as the count of steps, from which the
way back to the first op looks like one inside the step.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from memplan.align.pairs.pair_result import PairResult
from memplan.core.arrays import Int64s

_FEWEST = 8
"""Ops from which something is told."""
_SHARE = 0.8
"""The share of the ops that must have run as many times, and of those that must stand on their side of a cut."""


def with_steps_parted(found: PairResult, rows: int) -> PairResult:
    """`found`, with rows and places that count on over steps of so many `rows`, where one step held several."""
    step = found.place // rows
    more = (parted_steps(np.where(found.row >= 0, found.row % rows, -1), step) - step) * rows
    return found.moved(more)


def parted_steps(row: Int64s, step: Int64s) -> Int64s:
    """The `step` of each kernel, which ascends, counted anew where one step holds several; `row` is -1 for none."""
    edges = np.concatenate(([0], np.flatnonzero(np.diff(step)) + 1, [len(step)]))
    sizes = np.diff(edges)
    often = np.flatnonzero(sizes > np.median(sizes)) if len(sizes) > 2 else np.arange(len(sizes))
    cuts = [
        begin + cut
        for begin, end in ((edges[one], edges[one + 1]) for one in often.tolist())
        for cut in _cuts(row[begin:end])
    ]
    return step + np.searchsorted(cuts, np.arange(len(step)), side="right") if cuts else step


def _cuts(row: Int64s) -> Iterator[int]:
    """The first kernels of the further steps that one step holds."""
    visits = np.flatnonzero(row >= 0)
    visits = visits[np.concatenate(([True], np.diff(row[visits]) != 0))] if len(visits) else visits
    counts = np.bincount(row[visits])
    ran = np.flatnonzero(counts)
    if len(ran) < _FEWEST:
        return
    times = int(np.median(counts[ran]))
    often = counts == times
    if times == 1 or np.count_nonzero(often) < _SHARE * len(ran):
        return
    chosen = visits[often[row[visits]]]
    turns = chosen[np.argsort(row[chosen], kind="stable")].reshape(-1, times)
    found = []
    for before, after in pairwise(turns.T):
        ends, begins = np.sort(before) + 1, np.sort(after)
        wrong = len(ends) - np.searchsorted(ends, ends, side="right") + np.searchsorted(begins, ends)
        if wrong.min() > (1.0 - _SHARE) * len(turns):
            return
        found.append(int(ends[np.argmin(wrong)]))
    yield from found


__all__ = ["parted_steps", "with_steps_parted"]
