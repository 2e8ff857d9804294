"""How much a search may do, by counted work or by the clock, and how it can end."""

from __future__ import annotations

from dataclasses import dataclass
from time import process_time

from memplan.core.progress import SEARCHING_OFFSETS, Progress, silent

INFEASIBLE, FOUND, GAVE_UP = 0, 1, 2
"""How an exact search ends: proven that there is no answer, with one, or at its limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    When to stop looking for something better.

    `work` counts elementary steps of the compiled searches (about a nanosecond or two each); with it alone the answer
    is the same on every machine. By default it grows with the problem, up to a few seconds. `time_s`, CPU seconds, is
    for those who prefer a clock and may not repeat.
    """

    work: int | None = None
    time_s: float | None = None


def default_work(buffers: int) -> int:
    """Work for a problem of so many buffers when no limit is given."""
    return max(min(200_000_000 + 200_000 * buffers, 1_000_000_000), 2_500 * buffers)


class Budget:
    """What is left of `Limits`, or of a part of a larger budget."""

    def __init__(self, limits: Limits, parent: Budget | None = None, progress: Progress = silent) -> None:
        self._limits = limits
        self._parent = parent
        self._progress = progress
        self._end = None if limits.time_s is None else process_time() + limits.time_s
        self.used = 0

    def spend(self, work: int) -> None:
        """Count `work` steps and report them, which is where a caller may stop the search."""
        self.used += work
        if self._parent is not None:
            self._parent.spend(work)
        elif self._limits.work is not None:
            self._progress(min(self.used, self._limits.work), self._limits.work, SEARCHING_OFFSETS)
        elif self._end is not None and self._limits.time_s is not None:
            whole = int(self._limits.time_s * 1000)
            gone = whole - int((self._end - process_time()) * 1000)
            self._progress(min(max(gone, 0), whole), whole, f"{SEARCHING_OFFSETS} (CPU ms)")

    @property
    def left(self) -> int:
        """Steps left, 0 once the time is over."""
        if self._end is not None and process_time() >= self._end:
            return 0
        left = max((2**62 if self._limits.work is None else self._limits.work) - self.used, 0)
        return left if self._parent is None else min(left, self._parent.left)

    @property
    def slice(self) -> int:
        """Most steps to take before looking at the clock, and at whether to stop, again: about a second."""
        return 400_000_000

    def part(self, work: int) -> Budget:
        """A budget of its own of at most `work` steps, charged to this one as well."""
        return Budget(Limits(work), self)
