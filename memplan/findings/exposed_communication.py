"""Communication that no computing hides, and whose it is where several things run at once: what computing waits for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.intervals import (
    Intervals,
    interval_difference,
    interval_total,
    interval_union,
    intervals_within,
)
from memplan.findings.device_communication import DeviceCommunication
from memplan.findings.finding import threshold
from memplan.findings.rank_case import NOTHING, RankCase


@dataclass(frozen=True, slots=True)
class ExposedCommunication:
    """A communication with what no computing hides of it, and how much of that moved bytes (`None`: unknown); ns."""

    communication: DeviceCommunication
    exposed: Intervals
    exposed_ns: int
    transfer_ns: int | None

    @property
    def waiting_ns(self) -> int | None:
        """What it waited for others."""
        return None if self.transfer_ns is None else self.exposed_ns - self.transfer_ns

    @property
    def bubble_ns(self) -> int:
        """What of it is a pipeline's bubble: a send or receive waits for its peer, which works on another stage."""
        if self.is_bubble:
            return self.exposed_ns
        return (self.waiting_ns or 0) if self.communication.peer_to_peer else 0

    @property
    def is_bubble(self) -> bool:
        """Whether it is a send or receive that mostly waits: then all of it counts as a bubble."""
        if not self.communication.peer_to_peer or self.transfer_ns is None:
            return False
        return self.transfer_ns < threshold("bubble_share") * self.exposed_ns


def awaited_copies(case: RankCase) -> Intervals:
    """
    What computing waits for a copy although something communicates beside it: what ends last in a gap ends it.

    Without the copy computing would have gone on, and hidden the communication that goes on beside it. The vendor's
    sums call this exposed communication all the same, and so do the parts of a step.
    """
    if not len(case.copying[0]) or not len(case.communicating[0]):
        return NOTHING
    gap_start, gap_end = _gaps(case.computing)
    row = np.searchsorted(case.copying[1], gap_end, side="right") - 1
    known = row >= 0
    start, end = case.copying[0][np.maximum(row, 0)], case.copying[1][np.maximum(row, 0)]
    ends = np.sort(np.array([one.end_ns for one in case.communications], dtype=np.int64))
    place = np.searchsorted(ends, gap_end, side="right") - 1
    other = np.where(place >= 0, ends[np.maximum(place, 0)], gap_start)
    last = known & (end > gap_start) & (end > other)
    return np.maximum(start, gap_start)[last], end[last]


def exposed_communications(case: RankCase) -> list[ExposedCommunication]:
    """
    The communications of a rank with what of each is exposed.

    Where several run at once those that end before computing goes on take the time: that is what it waited for, and
    one that goes on beside it is as hidden as it will ever be. Of several alike the first takes it.
    Bytes move last: a collective first waits until all are there. So of a communication that is partly hidden the
    transfer is what lies at its end.
    """
    ran = sorted(case.communications, key=lambda one: one.start_ns)
    start = np.array([one.start_ns for one in ran], dtype=np.int64)
    end = np.array([one.end_ns for one in ran], dtype=np.int64)
    free = _gaps(case.computing)
    own = _awaited(start, end, free)
    theirs = interval_union(own[0][own[1] > own[0]], own[1][own[1] > own[0]], keep_touching=True)
    free = interval_difference(free, theirs)
    # Whatever began earlier covers all from the start of this one to the latest of their ends.
    edge = np.iinfo(np.int64).min
    low = np.maximum(start, np.append(edge, np.maximum.accumulate(end)[:-1])) if len(ran) else start
    first = np.searchsorted(free[1], low, side="right")
    last = np.where(end > low, np.searchsorted(free[0], end, side="left"), first)
    rows = zip(ran, low.tolist(), first.tolist(), last.tolist(), own[0].tolist(), own[1].tolist(), strict=True)
    return [_exposed(one, free, begin, slice(near, far), (a, b)) for one, begin, near, far, a, b in rows]


def _gaps(busy: Intervals) -> Intervals:
    """All time but `busy`, which is disjoint and in order."""
    edge = np.iinfo(np.int64)
    return np.append(edge.min, busy[1]), np.append(busy[0], edge.max)


def _awaited(start: Int64s, end: Int64s, free: Intervals) -> Intervals:
    """
    For each communication, in order of start, what it takes of the interval of `free` in which it ends.

    Those that end in the same one take turns by their start; nothing where it ends while something computes.
    """
    gap = np.searchsorted(free[0], end, side="left") - 1
    inside = (gap >= 0) & (end <= free[1][np.maximum(gap, 0)])
    begin = np.maximum(start, free[0][np.maximum(gap, 0)])
    rows = np.flatnonzero(inside)
    order = rows[np.argsort(gap[rows], kind="stable")]
    if len(order):
        # The latest end so far of those of the same gap: gaps follow each other, so the ends of one before are earlier.
        latest = np.append(np.iinfo(np.int64).min, np.maximum.accumulate(end[order])[:-1])
        begin[order] = np.maximum(begin[order], latest)
    return np.where(inside, np.minimum(begin, end), end), end


def _exposed(
    one: DeviceCommunication, free: Intervals, begin: int, near: slice, own: tuple[int, int]
) -> ExposedCommunication:
    """What of `one` from `begin` on lies in the intervals `near` of those that are left, and `own`, what it ends in."""
    starts, ends = free[0][near].copy(), free[1][near].copy()
    if len(starts):
        starts[0], ends[-1] = max(int(starts[0]), begin), min(int(ends[-1]), one.end_ns)
    if own[1] > own[0]:
        starts, ends = np.append(starts, own[0]), np.append(ends, own[1])
    if not len(starts):
        return ExposedCommunication(one, NOTHING, 0, None if one.transfer_ns is None else 0)
    length = interval_total(starts, ends)
    transfer: int | None = None
    if one.transfer_ns is not None:
        moves = one.end_ns - one.transfer_ns
        inside = moves > starts[0]
        transfer = interval_total(*intervals_within((starts, ends), moves, one.end_ns)) if inside else length
    return ExposedCommunication(one, (starts, ends), length, transfer)
