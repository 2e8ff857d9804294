"""How many of a program's modules to recompute so that a step fits, where a framework can recompute whole ones only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    recomputed, `peak` its bytes at the fullest moment. Where all together are not enough, half of them, a quarter and
    so on are asked as well, since what is made anew at once may be more than it saves; where none of these is, it is
    as many as bring the peak lowest.
    """
    found = {0: read(())}
    peaks = {0: peak(found[0])}
    if capacity is None or not modules or peaks[0] <= capacity:
        return (), found[0]

    def fits(count: int) -> bool:
        if count not in found:
            found[count] = read(modules[:count])
            peaks[count] = peak(found[count])
        return peaks[count] <= capacity

    few = next((count for count in (len(modules), *_halves(len(modules))) if fits(count)), None)
    if few is None:
        few = min(peaks, key=lambda count: (peaks[count], count))
        return tuple(modules[:few]), found[few]
    low, high = 1, few - 1
    while low <= high:
        middle = (low + high) // 2
        if fits(middle):
            few, high = middle, middle - 1
        else:
            low = middle + 1
    return tuple(modules[:few]), found[few]


def _halves(count: int) -> Iterator[int]:
    """Half of `count`, half of that, down to 1."""
    while count > 1:
        count //= 2
        yield count
