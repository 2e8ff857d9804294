"""Where a moment of the plan lies on the profile's clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.schema import Plan
from memplan.traces.profile import RankProfile, TrackKind

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """
    A piecewise linear map from plan time to profile time through the anchors `(plan_ns[i], profile_ns[i])`.

    Both anchor columns ascend. Before the first and after the last anchor one plan nanosecond is one profile
    nanosecond. `basis` says what the anchors rest on; views show it.
    """

    plan_ns: Int64s
    profile_ns: Int64s
    basis: str

    def to_profile(self, plan_ns: Int64s) -> Int64s:
        """Profile time of each plan time; exact at the anchors, whole nanoseconds everywhere."""
        return _along(plan_ns, self.plan_ns, self.profile_ns)

    def to_plan(self, profile_ns: Int64s) -> Int64s:
        """Plan time of each profile time."""
        return _along(profile_ns, self.profile_ns, self.plan_ns)


def _along(values: Int64s, source: Int64s, target: Int64s) -> Int64s:
    """Interpolate in differences from the nearest anchor below, so that no timestamp passes through float."""
    values = np.asarray(values, dtype=np.int64)
    left = np.clip(np.searchsorted(source, values, side="right") - 1, 0, len(source) - 1)
    right = np.minimum(left + 1, len(source) - 1)
    offset = values - source[left]
    run = source[right] - source[left]
    rise = target[right] - target[left]
    inside = (run > 0) & (offset > 0)
    scaled = np.rint(offset * (rise / np.where(run > 0, run, 1))).astype(np.int64)
    return np.asarray(target[left] + np.where(inside, scaled, offset), dtype=np.int64)


def shifted(profile_ns: int, basis: str) -> TimeAxis:
    """The axis that puts the plan's start at `profile_ns` and keeps its own pace."""
    return TimeAxis(np.zeros(1, dtype=np.int64), np.array([profile_ns], dtype=np.int64), basis)


def plan_only() -> TimeAxis:
    """The axis of a plan shown without a profile: the plan's own time."""
    return shifted(0, "plan time")


def at_first_kernel(plan: Plan, rank: RankProfile) -> TimeAxis:
    """The plan's first op that takes time on the first device kernel of `rank`, or on the profile's start without one."""
    kernels = rank.kernels()
    if kernels is not None and len(kernels):
        first, basis = int(kernels.start_ns[0]), "plan start put on the first device kernel"
    else:
        streams = [track for track in rank.tracks if track.kind is TrackKind.STREAM and track.count]
        starts = [int(rank.slices(track.id).start_ns[0]) for track in streams]
        if starts:
            first, basis = min(starts), "plan start put on the first device slice"
        else:
            first, basis = rank.span_ns[0], "plan start put on the profile's start"
    lead = next((op.start_ns for op in plan.ops if op.duration_ns > 0), 0)
    return shifted(first - lead, basis)
