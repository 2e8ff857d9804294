"""From planned time to measured time and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.ascending import rising


@dataclass(frozen=True, slots=True)
class TimeMap:
    """
    A piecewise-linear, strictly rising map between planned and measured nanoseconds.

    It goes through the anchors `(plan_ns[i], profile_ns[i])`, both strictly ascending, and beyond them keeps their
    pace (one nanosecond a nanosecond). `anchored` is false where nothing of the plan was found in the profile, so
    that only the beginnings were laid upon each other.
    """

    plan_ns: Int64s
    profile_ns: Int64s
    anchored: bool

    @overload
    def to_profile(self, time_ns: int) -> int: ...
    @overload
    def to_profile(self, time_ns: Int64s) -> Int64s: ...
    def to_profile(self, time_ns: int | Int64s) -> int | Int64s:
        """Measured time of planned time."""
        return _along(self.plan_ns, self.profile_ns, time_ns)

    @overload
    def to_plan(self, time_ns: int) -> int: ...
    @overload
    def to_plan(self, time_ns: Int64s) -> Int64s: ...
    def to_plan(self, time_ns: int | Int64s) -> int | Int64s:
        """Planned time of measured time."""
        return _along(self.profile_ns, self.plan_ns, time_ns)


def time_map(plan_ns: Int64s, profile_ns: Int64s, *, anchored: bool = True) -> TimeMap:
    """A map through anchors in any order; those that would turn it back are left out, the fewest possible."""
    order = np.lexsort((profile_ns, plan_ns))
    plan_ns, profile_ns = plan_ns[order], profile_ns[order]
    first = np.concatenate(([True], np.diff(plan_ns) > 0)) if len(plan_ns) else np.zeros(0, dtype=bool)
    plan_ns, profile_ns = plan_ns[first], profile_ns[first]
    kept = rising(profile_ns)
    return TimeMap(plan_ns[kept], profile_ns[kept], anchored)


def _along(source: Int64s, target: Int64s, time_ns: int | Int64s) -> int | Int64s:
    times = np.atleast_1d(np.asarray(time_ns, dtype=np.int64))
    if len(source) == 0:
        mapped = times.copy()
    else:
        left = np.clip(np.searchsorted(source, times, side="right") - 1, 0, max(len(source) - 2, 0))
        right = np.minimum(left + 1, len(source) - 1)
        # Only differences go through floating point: they are far below 2**53 where timestamps are not.
        width = np.maximum(source[right] - source[left], 1)
        into = np.clip(times - source[left], 0, width)
        inside = np.rint(into * ((target[right] - target[left]) / width)).astype(np.int64)
        mapped = target[left] + inside
        below, above = times < source[0], times >= source[-1]
        mapped[below] = target[0] + (times[below] - source[0])
        mapped[above] = target[-1] + (times[above] - source[-1])
    return mapped if isinstance(time_ns, np.ndarray) else int(mapped[0])
