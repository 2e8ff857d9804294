"""The largest value that fits, and where a condition begins to hold, found by halving."""

from __future__ import annotations

from collections.abc import Callable


def largest_fitting(fits: Callable[[int], bool], most: int, *, doubling: bool = False) -> int:
    """
    The largest value from 1 to `most` that `fits`, given that every smaller one does too; 0 if not even 1 does.

    With `doubling` it starts small and doubles: fewer trials where the answer is far below `most` or trials of large
    values are dear.
    """
    if most < 1 or not fits(1):
        return 0
    low, high = 1, most
    if doubling:
        step = 2
        while step <= most and fits(step):
            low, step = step, 2 * step
        high = min(step - 1, most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def crossing(beyond: Callable[[float], bool], low: float, high: float, *, within: float) -> float:
    """
    The value from `low` to `high` from which on all are `beyond`, no more than `within` too small.

    `low` where every value is, about `high` where none is.
    """
    while high - low > within:
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return low
