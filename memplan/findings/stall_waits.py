"""What other ranks wait for when the host of one stalls: their waiting is charged to what that host did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memplan.findings.claims import TRANSFER, WAITING
from memplan.findings.job_case import JobCase
from memplan.findings.step_breakdown import HOST_EVENT_CAUSES, StepBreakdown

_MOST_STALLED = 8

StallWaits = Mapping[tuple[int, str, str], Mapping[int, int]]
"""
By rank, cause of its idle time (as in `IDLE_CAUSES`), and part of a step (`WAITING`, `TRANSFER`): how long each other
rank waits for that, and how much of its transfers that lays bare, ns.
"""


def waits_for_stalls(job: JobCase) -> StallWaits:
    """
    The waiting of ranks in each step and the next, as far as the rank that idled longest beyond them explains it.

    Nor is there computing left beside transfers that come late with it: what of them is exposed beyond the step in
    which least is, goes with the waiting. Together they are no longer than the stall.

    A host that stalls at the start of a step leaves its device idle before the first kernel: that is still the step
    before, while the others wait in this one. Ranks that never run anything together don't wait for each other. What a
    rank idles for as long as those that wait is no reason for their waiting.
    """
    met = {frozenset(one.place) for one in job.meetings.all if not one.peer_to_peer}
    peers = {rank: set().union(*(group for group in met if rank in group)) - {rank} for rank in job.ranks}
    steps: dict[int, dict[int, StepBreakdown]] = {}
    for rank, facts in job.ranks.items():
        for step in facts.steps:
            if step.step is not None:
                steps.setdefault(step.step, {})[rank] = step
    # Of a thousand ranks only those that idle most can be the reason.
    idlest = {number: _idlest(beside) for number, beside in steps.items()}
    found: dict[tuple[int, str, str], dict[int, int]] = {}
    for rank in job.ranks:
        own = {number: beside[rank] for number, beside in steps.items() if rank in beside}
        waiting = {number: step.waiting_ns or 0 for number, step in own.items()}
        bare = dict(zip(own, bare_transfers(list(own.values())), strict=True))
        stalls = {}
        for number in waiting:
            late = {other: steps[number][other] for other in idlest[number] if other in peers[rank]}
            stalls[number] = _worst(late, steps[number][rank])
        for later in (0, 1):
            for number, stall in stalls.items():
                for part, rest in ((WAITING, waiting), (TRANSFER, bare)):
                    waited = min(rest.get(number + later, 0), stall.left_ns)
                    if waited <= 0:
                        continue
                    rest[number + later] -= waited
                    stall.left_ns -= waited
                    for cause, length in stall.more_ns.items():
                        mine = found.setdefault((stall.rank, cause, part), {})
                        mine[rank] = mine.get(rank, 0) + waited * length // sum(stall.more_ns.values())
    return found


def bare_transfers(steps: Sequence[StepBreakdown]) -> list[int]:
    """What of the transfers of each step is exposed beyond the step in which least is: late ranks lay them bare, ns."""
    least = min((step.transfer_ns or 0 for step in steps), default=0)
    return [(step.transfer_ns or 0) - least for step in steps]


def _idlest(beside: Mapping[int, StepBreakdown]) -> list[int]:
    return sorted(beside, key=lambda rank: -beside[rank].idle_total_ns)[:_MOST_STALLED]


@dataclass(slots=True)
class _Stall:
    """The rank that idled longest beyond another in a step, by cause, and what of that nobody's waiting is yet for."""

    rank: int
    more_ns: Mapping[str, int]
    left_ns: int


def _worst(beside: Mapping[int, StepBreakdown], own: StepBreakdown) -> _Stall:
    late = {rank: step.idle_total_ns - own.idle_total_ns for rank, step in beside.items()}
    worst = max(late, key=lambda rank: late[rank], default=-1)
    more = _more_idle(beside[worst], own) if worst in beside else {}
    return _Stall(worst, more, max(min(late.get(worst, 0), sum(more.values())), 0))


def _more_idle(of: StepBreakdown, than: StepBreakdown) -> dict[str, int]:
    """By what its host is seen to do, how much longer one rank was idle in a step than another."""
    more = {cause: of.idle_ns.get(cause, 0) - than.idle_ns.get(cause, 0) for cause in HOST_EVENT_CAUSES}
    return {cause: length for cause, length in more.items() if length > 0}


def claimed_waits(job: JobCase, waits: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    """Claim `waits` of the ranks for which they are worth it, as far as nothing else explains their waiting."""
    worth = [(rank, length) for rank, length in sorted(waits.items()) if job.ranks[rank].worth(length)]
    found = [(rank, job.ranks[rank].claims.take(WAITING, length)) for rank, length in worth]
    return tuple((rank, length) for rank, length in found if length)


def claimed_stall(job: JobCase, stalled: int, cause: str, waits: StallWaits) -> tuple[tuple[int, int], ...]:
    """
    Claim what others wait for rank `stalled` when its host does `cause`, and what of their transfers that lays bare.

    It is worth it where a rank's waits for that cause are, on whichever rank: hosts may stall one after another.
    """
    together: dict[int, int] = {}
    for (_, other, _), mine in waits.items():
        if other == cause:
            for rank, length in mine.items():
                together[rank] = together.get(rank, 0) + length
    found: dict[int, int] = {}
    for part in (WAITING, TRANSFER):
        for rank, length in sorted(waits.get((stalled, cause, part), {}).items()):
            if job.ranks[rank].worth(together[rank]):
                found[rank] = found.get(rank, 0) + job.ranks[rank].claims.take(part, length)
    return tuple((rank, length) for rank, length in found.items() if length)
