"""Where the time of a step went: disjoint parts that add up to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.core.intervals import (
    Intervals,
    interval_difference,
    interval_intersection,
    interval_total,
    interval_union,
    intervals_within,
)
from memplan.findings.exposed_communication import ExposedCommunication, awaited_copies
from memplan.findings.finding import threshold
from memplan.findings.rank_case import CALLS, NOTHING, RankCase, StepWindow
from memplan.traces.profile import StepTimes

IDLE_CAUSES = (
    "garbage", "compile", "capture", "dataloader", "checkpoint", "allocate", "stalled", "synchronise", "between",
    "host", "dispatch", "unexplained",
)  # fmt: skip
"""Why a device is idle, in the order in which gaps are explained: what is more particular goes first."""
HOST_EVENT_CAUSES = IDLE_CAUSES[:6]
"""Those that an event of the host tells by its name."""


@dataclass(frozen=True, slots=True)
class StepBreakdown:
    """
    A step in ns: computing with nothing beside it, computing that hides communication, communication that nothing
    hides (split into transfer and waiting), waiting of sends and receives for other pipeline stages (bubble), copies
    that nothing hides, and idle time by cause. The parts add up to `length_ns`.

    `transfer_ns` and `waiting_ns` are `None` where the profile doesn't tell them apart; then `exposed_ns` alone counts.
    """

    step: int | None
    start_ns: int | None
    length_ns: int
    computing_ns: int
    overlapped_ns: int
    exposed_ns: int
    transfer_ns: int | None
    waiting_ns: int | None
    bubble_ns: int
    copying_ns: int
    idle_ns: Mapping[str, int]

    @property
    def computed_ns(self) -> int:
        """All that it computes, whatever runs beside it."""
        return self.computing_ns + self.overlapped_ns

    @property
    def idle_total_ns(self) -> int:
        """Idle time of all causes."""
        return sum(self.idle_ns.values())


def idle_by_cause(case: RankCase) -> dict[str, Intervals]:
    """The idle time of a rank by cause: disjoint, together `case.idle`."""
    rest = case.idle
    found: dict[str, Intervals] = {}
    for cause in HOST_EVENT_CAUSES:
        part = interval_intersection(rest, case.host.get(cause, NOTHING))
        found[cause] = part
        rest = interval_difference(rest, part)
    # Between steps a host may well do something else for long: there its silence doesn't tell that it stands still.
    between = _between_steps(case.windows)
    found["between"] = interval_intersection(rest, between)
    found["stalled"], rest = _without_calls(case, interval_difference(rest, between))
    found["synchronise"], rest = _after_synchronising(case, rest)
    found |= _by_launch(case, rest)
    return found


def _without_calls(case: RankCase, rest: Intervals) -> tuple[Intervals, Intervals]:
    """Long gaps in which the host called next to nothing of the runtime: its process stood still."""
    calls = case.host.get(CALLS, NOTHING)
    start, end = rest
    long = np.flatnonzero(end - start >= threshold("stalled_ns"))
    if not len(calls[0]) or not len(long):
        return NOTHING, rest
    most = threshold("stalled_share")
    still = [row for row in long.tolist() if _called_ns(calls, int(start[row]), int(end[row])) <= most]
    part = (start[still], end[still])
    return part, interval_difference(rest, part)


def _called_ns(calls: Intervals, start: int, end: int) -> float:
    """Share of a gap that lies under calls of the runtime."""
    near = slice(*np.searchsorted(calls[1], [start, end]).tolist())
    around = (calls[0][near.start : near.stop + 1], calls[1][near.start : near.stop + 1])
    return interval_total(*intervals_within(around, start, end)) / (end - start)


def _between_steps(windows: Sequence[StepWindow]) -> Intervals:
    starts = np.array([window.busy_until_ns for window in windows], dtype=np.int64)
    ends = np.array([window.end_ns for window in windows], dtype=np.int64)
    return interval_union(starts, ends)


def _after_synchronising(case: RankCase, rest: Intervals) -> tuple[Intervals, Intervals]:
    """
    Gaps within steps that follow a call that waited for the device: the queue had run empty when it came back.

    The gap belongs to the call where that began before computing stopped and came back soon after, or later: what
    communicates meanwhile divides a gap and doesn't make it another one's. Where what stopped was launched after the
    call had come back the queue had been filled again, and it is the host that was late for the next kernel.
    """
    calls = case.host.get("synchronise", NOTHING)
    if not len(calls[0]):
        return NOTHING, rest
    start, end = rest
    stopped = _last_before(case.computing[1], start)
    place = np.searchsorted(calls[0], stopped, side="left") - 1
    inside = place >= 0
    ended = calls[1][np.maximum(place, 0)]
    tail = int(threshold("sync_tail_ns"))
    waited = inside & (ended >= stopped - tail) & (ended <= np.maximum(start + tail, end))
    waited &= ~_launched_since(case, stopped, ended)
    part = (start[waited], end[waited])
    return part, interval_difference(rest, part)


def _launched_since(case: RankCase, stopped: Int64s, since: Int64s) -> Bools:
    """Whether the kernel that ends at each of `stopped` was launched later than `since`, where the profile tells."""
    if case.kernels is None or not (case.launch_ns >= 0).any():
        return np.zeros(len(stopped), dtype=bool)
    begins = case.kernels.start_ns[case.computing_rows]
    row = np.searchsorted(begins, stopped, side="left") - 1
    return np.asarray((row >= 0) & (case.launch_ns[np.maximum(row, 0)] > since), dtype=bool)


def _last_before(ends: Int64s, times: Int64s) -> Int64s:
    """The last of `ends` that is no later, for each of `times`; the time itself where there is none."""
    if not len(ends):
        return times
    place = np.searchsorted(ends, times, side="right") - 1
    return np.where(place >= 0, ends[np.maximum(place, 0)], times)


def laid_bare(case: RankCase) -> dict[str, Intervals]:
    """
    By cause as of idle time, communication that runs alone while the host has not yet launched the next kernel.

    Without it the device would idle for just as long. Until a call that waits for the device returns it may have waited
    for the communication; what follows it is the call's.
    """
    stops, begins = case.computing[1][:-1], case.computing[0][1:]
    if not len(stops) or not len(case.launch_ns) or case.kernels is None:
        return {}
    place = np.searchsorted(case.kernels.start_ns[case.computing_rows], begins, side="left")
    until = np.clip(case.launch_ns[np.minimum(place, len(case.launch_ns) - 1)], stops, begins)
    calls = case.host.get("synchronise", NOTHING)
    last = np.searchsorted(calls[0], stops, side="left") - 1
    back = calls[1][np.maximum(last, 0)] if len(calls[0]) else stops
    waited = (last >= 0) & (back >= stops - int(threshold("sync_tail_ns"))) & ~_launched_since(case, stops, back)
    alone = interval_difference(interval_difference(case.communicating, case.computing), awaited_copies(case))

    def during(chosen: Bools, since: Int64s) -> Intervals:
        return interval_intersection(alone, interval_union(since[chosen], until[chosen], keep_touching=True))

    found = {"synchronise": during(waited, np.maximum(back, stops))}
    rest = during(~waited, stops)
    for cause in HOST_EVENT_CAUSES:
        found[cause] = interval_intersection(rest, case.host.get(cause, NOTHING))
        rest = interval_difference(rest, found[cause])
    return found | {"host": rest}


def _by_launch(case: RankCase, rest: Intervals) -> dict[str, Intervals]:
    """
    What is left of the gaps by when the kernel after each was launched.

    Until then the host was late; from then on the launch was under way, or other streams were waited for. Without
    arrows from the host, gaps before kernels that wait longer than they run are taken as the host's where many do.
    """
    start, end = rest
    if case.kernels is None or not len(start):
        return {"host": NOTHING, "dispatch": NOTHING, "unexplained": rest}
    begins = case.kernels.start_ns[case.computing_rows]
    place = np.searchsorted(begins, end, side="left")
    known = place < len(begins)
    place = np.minimum(place, max(len(begins) - 1, 0))
    launch = np.where(known, case.launch_ns[place], -1)
    if (case.launch_ns >= 0).any():
        middle = np.clip(launch, start, end)
        told = launch >= 0
        return {
            "host": interval_union(start[told], middle[told]),
            "dispatch": interval_union(middle[told], end[told], keep_touching=True),
            "unexplained": (start[~told], end[~told]),
        }
    if waits_for_host(case) >= threshold("host_bound_kernels"):
        return {"host": rest, "dispatch": NOTHING, "unexplained": NOTHING}
    return {"host": NOTHING, "dispatch": NOTHING, "unexplained": rest}


def waits_for_host(case: RankCase) -> float:
    """Share of the computing kernels that waited for longer than they ran."""
    if case.kernels is None or not len(case.computing_rows):
        return 0.0
    wait, run = case.kernels.wait_ns[case.computing_rows], case.kernels.duration_ns[case.computing_rows]
    return float((wait > run).mean())


def breakdown(case: RankCase, exposed: Sequence[ExposedCommunication]) -> list[StepBreakdown]:
    """
    The steps of a rank, each taken apart; by the vendor's own sums where there are no kernels.

    `exposed` are its communications in order of start.
    """
    if not case.windows:
        return [_of_sums(step, exposed) for step in case.steps]
    idle = idle_by_cause(case)
    both = interval_intersection(case.computing, case.communicating)
    covered = interval_union(*_joined(case.computing, case.communicating))
    copies = interval_difference(case.copying, covered)
    found = []
    starts = np.array([one.communication.start_ns for one in exposed], dtype=np.int64)
    reach = np.maximum.accumulate(np.array([one.communication.end_ns for one in exposed], dtype=np.int64))
    for window in case.windows:
        inside = (window.start_ns, window.end_ns)
        first, last = np.searchsorted(reach, inside[0], side="right"), np.searchsorted(starts, inside[1], side="left")
        inner = [(one, _exposed_within(one, inside)) for one in exposed[int(first) : int(last)]]
        bubble = sum(one.bubble_ns * length // one.exposed_ns for one, length in inner if one.exposed_ns)
        alone = sum(length for _, length in inner) - bubble
        known = [(one, length) for one, length in inner if not one.is_bubble and length]
        transfer = _moving(known) if all(one.transfer_ns is not None for one, _ in known) else None
        overlapped = _length(both, inside)
        found.append(
            StepBreakdown(
                step=window.number,
                start_ns=window.start_ns,
                length_ns=window.end_ns - window.start_ns,
                computing_ns=_length(case.computing, inside) - overlapped,
                overlapped_ns=overlapped,
                exposed_ns=alone,
                transfer_ns=transfer,
                waiting_ns=None if transfer is None else alone - transfer,
                bubble_ns=bubble,
                copying_ns=_length(copies, inside),
                idle_ns={cause: _length(part, inside) for cause, part in idle.items()},
            )
        )
    return found


def _exposed_within(one: ExposedCommunication, inside: tuple[int, int]) -> int:
    whole = inside[0] <= one.communication.start_ns and one.communication.end_ns <= inside[1]
    return one.exposed_ns if whole else _length(one.exposed, inside)


def _moving(known: Sequence[tuple[ExposedCommunication, int]]) -> int:
    """Time in which bytes moved; of one that reaches over a step's end, in proportion."""
    return sum((one.transfer_ns or 0) * length // one.exposed_ns for one, length in known if one.exposed_ns)


def _of_sums(step: StepTimes, exposed: Sequence[ExposedCommunication]) -> StepBreakdown:
    own = [one for one in exposed if one.communication.told is not None and one.communication.told.step == step.step]
    computing, overlapped, uncovered = (
        part or 0 for part in (step.computing_ns, step.overlapped_ns, step.communication_not_overlapped_ns)
    )
    bubble = min(sum(one.bubble_ns for one in own), uncovered)
    alone = uncovered - bubble
    known = [one.transfer_ns for one in own if not one.is_bubble]
    moved = min(sum(one or 0 for one in known), alone) if known and None not in known else None
    return StepBreakdown(
        step=step.step,
        start_ns=None,
        length_ns=step.length_ns or 0,
        computing_ns=max(computing - overlapped, 0),
        overlapped_ns=min(overlapped, computing),
        exposed_ns=alone,
        transfer_ns=moved,
        waiting_ns=None if moved is None else alone - moved,
        bubble_ns=bubble,
        copying_ns=0,
        idle_ns={"unexplained": step.free_ns or 0},
    )


def _length(parts: Intervals, inside: tuple[int, int]) -> int:
    return interval_total(*intervals_within(parts, *inside))


def _joined(one: Intervals, other: Intervals) -> tuple[Int64s, Int64s]:
    return np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
