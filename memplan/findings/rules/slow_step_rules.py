"""Ranks that are slow at everything they compute, but in some steps only: heat, another process, a clock unseen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memplan.core.arrays import Bools, Floats
from memplan.core.sentence import Sentence
from memplan.core.units import format_change, format_duration
from memplan.findings.finding import Confidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import signatures
from memplan.findings.rules.rank_rules import (
    slow_step_places,
    slow_steps,
    stage_peers,
    steps_longer,
    taking_turns,
    waiting_peers,
)
from memplan.findings.step_pace import step_pace


def slow_step_findings(job: JobCase) -> Iterator[Finding]:
    """
    A finding for the one rank of a stage that is slow in some steps; those that take turns have unlike work.

    One that is slow all the time is told before, and so is one whose clock drops.
    """
    for peers in stage_peers(job):
        found = [item for rank in peers if (item := _slow_steps(job, rank, peers)) is not None]
        if len(found) == 1:
            yield _finding(job, peers, *found[0])


def _slow_steps(job: JobCase, rank: int, peers: list[int]) -> tuple[int, Bools, Floats, Floats] | None:
    """The rank, in which steps it is slow, how much longer it takes in each, and what its peers take; or `None`."""
    facts = job.ranks[rank]
    if len(facts.steps) < 2 or facts.claims.spread_ns:
        return None
    slow, longer, usual = slow_steps(job, rank, peers)
    if not slow.any() or slow.all() or not facts.worth(int(longer[slow].sum())) or taking_turns(job, rank, peers):
        return None
    # A few kernels that take far longer are no slow rank; what is, is so at most of what it runs.
    at_most = _slower_at_most(facts)
    if at_most is None or len(at_most) != len(slow):
        return None
    slow &= at_most >= threshold("late_share") * longer / np.maximum(usual, 1)
    return (rank, slow, longer, usual) if slow.any() and facts.worth(int(longer[slow].sum())) else None


def _slower_at_most(facts: RankFacts) -> Floats | None:
    """
    By step, by which share most of its kernels, by time, take longer than in the rank's fastest step.

    A clock slows what computes and not what waits for memory, so that most in number may be as fast as ever. `None`
    where no kernels are known.
    """
    case = facts.case
    if case.kernels is None or not len(case.computing_rows) or not case.windows:
        return None
    rows = case.computing_rows
    _, kind = signatures(case.kernels, rows)
    length = case.kernels.duration_ns[rows].astype(np.float64)
    return step_pace(kind, length, case.begun_at(case.kernels.start_ns[rows]), len(case.windows)).by_time


def _finding(job: JobCase, peers: list[int], rank: int, slow: Bools, longer: Floats, usual: Floats) -> Finding:
    facts, gain = job.ranks[rank], int(longer[slow].sum())
    return Finding(
        kind="rank.slow",
        title=Sentence(
            "Rank {} computes {} longer than its peers in {} of {} [step|steps] ({} there)",
            (
                str(rank),
                format_duration(gain),
                str(int(slow.sum())),
                str(len(slow)),
                format_change(float(gain / usual[slow].sum())),
            ),
        ),
        rank=rank,
        cost_ns=facts.claims.take_spread(gain),
        cost_bytes=None,
        bound="the median of the other ranks of its pipeline stage",
        formula="computing time - median of the peers' computing time, in steps in which most of its kernels are slow",
        confidence=Confidence.MEASURED,
        waits_ns=waiting_peers(job, rank, list(job.ranks), gain, gain),
        places=(Place((rank, *(other for other in peers if other != rank))), *slow_step_places(facts, slow)),
        evidence=steps_longer(facts, slow, longer),
    )
