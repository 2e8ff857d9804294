"""What other ranks wait for when the host of one stalls: their waiting is charged to what that host did."""

from __future__ import annotations

from collections.abc import Mapping

from memplan.findings.claims import WAITING
from memplan.findings.job_case import JobCase
from memplan.findings.step_breakdown import StepBreakdown

_MOST_STALLED = 8

StallWaits = Mapping[tuple[int, str], Mapping[int, int]]
"""By rank and cause of its idle time (as in `IDLE_CAUSES`): how long each other rank waits for that, ns."""


def waits_for_stalls(job: JobCase) -> StallWaits:
    """
    The waiting of ranks in each step, as far as the rank that idled longest beyond them explains it.

    Ranks that never run anything together don't wait for each other. What a rank idles for as long as those that wait
    is no reason for their waiting.
    """
    met = {frozenset(one.place) for one in job.meetings.all if not one.peer_to_peer}
    steps: dict[int, dict[int, StepBreakdown]] = {}
    for rank, facts in job.ranks.items():
        for step in facts.steps:
            if step.step is not None:
                steps.setdefault(step.step, {})[rank] = step
    peers = {rank: set().union(*(group for group in met if rank in group)) - {rank} for rank in job.ranks}
    found: dict[tuple[int, str], dict[int, int]] = {}
    for beside in steps.values():
        # Of a thousand ranks only those that idle most can be the reason.
        idlest = sorted(beside, key=lambda rank: -beside[rank].idle_total_ns)[:_MOST_STALLED]
        for rank, own in beside.items():
            waiting = own.waiting_ns or 0
            more = {other: _more_idle(beside[other], own) for other in idlest if other in peers[rank]}
            late = {other: beside[other].idle_total_ns - own.idle_total_ns for other in more}
            worst = max(late, key=lambda other: late[other], default=rank)
            total = sum(more[worst].values()) if more else 0
            waited = min(waiting, total, late.get(worst, 0))
            if waited <= 0:
                continue
            for cause, length in more[worst].items():
                part = waited * length // total
                mine = found.setdefault((worst, cause), {})
                mine[rank] = mine.get(rank, 0) + part
    return found


def _more_idle(of: StepBreakdown, than: StepBreakdown) -> dict[str, int]:
    """By cause that the profile tells, how much longer one rank was idle in a step than another."""
    told = {cause: length for cause, length in of.idle_ns.items() if cause != "unexplained"}
    more = {cause: length - than.idle_ns.get(cause, 0) for cause, length in told.items()}
    return {cause: length for cause, length in more.items() if length > 0}


def claimed_waits(job: JobCase, waits: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    """Claim `waits` of the ranks that wait, as far as nothing else explains their waiting."""
    found = [(rank, job.ranks[rank].claims.take(WAITING, length)) for rank, length in sorted(waits.items())]
    return tuple((rank, length) for rank, length in found if length)
