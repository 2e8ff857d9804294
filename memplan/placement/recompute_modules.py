"""How many of a program's modules to recompute so that a step fits, where a framework can recompute whole ones only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Step = TypeVar("Step")


def fewest_recomputed(
    modules: Sequence[str],
    read: Callable[[Sequence[str]], Step],
    peak: Callable[[Step], int],
    capacity: int | None,
) -> tuple[tuple[str, ...], Step]:
    """
    The fewest of `modules`, from the first on, with which a step peaks at `capacity` bytes or less, and that step.

    What the first modules keep waits longest for the backward pass. `read` gives the step in which some are
    recomputed, `peak` its bytes at the fullest moment, which are taken to fall with every further module. Where not
    even all of them are enough, it is as many as bring the peak lowest: all, or none where that is no better.
    """
    whole = read(())
    if capacity is None or not modules or peak(whole) <= capacity:
        return (), whole
    every = read(modules)
    if peak(every) > capacity:
        return (tuple(modules), every) if peak(every) < peak(whole) else ((), whole)
    low, high, best = 1, len(modules) - 1, (tuple(modules), every)
    while low <= high:
        middle = (low + high) // 2
        found = read(modules[:middle])
        if peak(found) <= capacity:
            best, high = (tuple(modules[:middle]), found), middle - 1
        else:
            low = middle + 1
    return best
