"""Ranks that take turns in having most to do: sequences of unlike lengths leave all others waiting in each step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memplan.core.arrays import Bools, Floats, Int64s
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_share
from memplan.findings.claims import TRANSFER, WAITING
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.rules.rank_rules import stage_peers
from memplan.findings.stall_waits import bare_transfers

_MOST, _FEWEST = 16, 3
"""Ranks that are named, and steps that tell what comes again."""


def turn_findings(job: JobCase) -> Iterator[Finding]:
    """
    A finding for the ranks of a stage of which another computes longest in each step.

    Spread evenly, the same work would take every rank the mean of all; so much less would every step take.
    """
    for peers in stage_peers(job):
        steps = [job.ranks[rank].steps for rank in peers]
        lengths = np.array([[step.computed_ns for step in own] for own in steps], dtype=np.int64)
        if lengths.shape[1] < 2:
            continue
        mean, slowest = lengths.mean(axis=0), lengths.max(axis=0)
        uneven = _uneven(slowest, mean)
        longest = lengths.argmax(axis=0)[uneven]
        # One that is always the longest is a slow rank.
        if len(set(longest.tolist())) < 2:
            continue
        # What one rank computes longer in all of them is said already.
        told = max(job.ranks[rank].claims.spread_ns for rank in peers)
        gain = max(int((slowest - mean)[uneven].sum()) - told, 0)
        # Whoever waits has nothing left to compute beside the transfers that come late.
        waits = {rank: min(gain, job.ranks[rank].claims.left(WAITING)) for rank in peers}
        bare = {
            rank: min(
                gain - waits[rank], sum(bare_transfers(job.ranks[rank].steps)), job.ranks[rank].claims.left(TRANSFER)
            )
            for rank in peers
        }
        lost = {rank: waits[rank] + bare[rank] for rank in peers}
        victim = max(peers, key=lambda rank: lost[rank])
        facts = job.ranks[victim]
        if not facts.worth(lost[victim]):
            continue
        yield Finding(
            kind="rank.uneven",
            title=Sentence(
                "Ranks take turns in having most to compute: rank {} waits {} ({}) for whichever has",
                (str(victim), format_duration(lost[victim]), format_share(lost[victim] / facts.length_ns)),
            ),
            rank=victim,
            cost_ns=_taken(facts, waits[victim], bare[victim]),
            cost_bytes=None,
            bound="work spread evenly over the ranks in every step",
            formula=Sentence(
                "computing of the slowest rank - the mean of all, summed over steps in which that is more than {} of"
                " the mean, or {} where it is in most; at most its waiting and transfers that this lays bare",
                (f"{threshold('slow_rank_share'):.0%}", f"{threshold('uneven_steps'):.0%}"),
            ),
            confidence=Confidence.DERIVED,
            waits_ns=tuple(
                (rank, _taken(job.ranks[rank], waits[rank], bare[rank]))
                for rank in peers
                if rank != victim and job.ranks[rank].worth(lost[rank])
            ),
            places=(Place(tuple(peers)),),
            evidence=(
                Evidence("steps", int(lengths.shape[1]), "count"),
                Evidence("of them uneven", int(uneven.sum()), "count"),
                *(
                    Evidence(Sentence("rank {} computes longest", (rank,)), int((longest == place).sum()), "count")
                    for place, rank in enumerate(peers[:_MOST])
                ),
            ),
        )
        # What they wait beyond that they would compute instead: the reason is told, and it is nobody's cost.
        instead = np.where(uneven & (lengths < mean), mean - lengths, 0).sum(axis=1).astype(np.int64)
        for rank, length in zip(peers, instead.tolist(), strict=True):
            job.ranks[rank].claims.excuse(WAITING, length)


def _uneven(slowest: Int64s, mean: Floats) -> Bools:
    """Steps in which the slowest rank has far more than the mean; more than kernels scatter, where most steps have."""
    often = slowest - mean > threshold("uneven_steps") * mean
    if len(often) >= _FEWEST and often.mean() > threshold("late_share"):
        return often
    return np.asarray(slowest - mean > threshold("slow_rank_share") * mean, dtype=bool)


def _taken(facts: RankFacts, waiting: int, moving: int) -> int:
    return facts.claims.take(WAITING, waiting) + facts.claims.take(TRANSFER, moving)
