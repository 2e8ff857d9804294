"""Ranks that take turns in having most to do: sequences of unlike lengths leave all others waiting in each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_share
from memplan.findings.claims import WAITING
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase
from memplan.findings.rules.rank_rules import stage_peers
from memplan.findings.stall_waits import claimed_waits

_MOST = 16


def turn_findings(job: JobCase) -> Iterator[Finding]:
    """
    A finding for the ranks of a stage of which another computes longest in each step.

    Spread evenly, the same work would take every rank the mean of all; so much less would every step take.
    """
    for peers in stage_peers(job):
        steps = [job.ranks[rank].steps for rank in peers]
        lengths = np.array([[step.computing_ns + step.overlapped_ns for step in own] for own in steps], dtype=np.int64)
        if lengths.shape[1] < 2:
            continue
        mean, slowest = lengths.mean(axis=0), lengths.max(axis=0)
        uneven = slowest - mean > threshold("slow_rank_share") * mean
        longest = lengths.argmax(axis=0)[uneven]
        # One that is always the longest is a slow rank.
        if len(set(longest.tolist())) < 2:
            continue
        # What one rank computes longer in all of them is said already.
        told = max(job.ranks[rank].claims.spread_ns for rank in peers)
        gain = max(int((slowest - mean)[uneven].sum()) - told, 0)
        waits = {rank: min(gain, job.ranks[rank].claims.left(WAITING)) for rank in peers}
        victim = max(waits, key=lambda rank: waits[rank])
        facts = job.ranks[victim]
        if not facts.worth(waits[victim]):
            continue
        instead = np.where(uneven & (lengths < mean), mean - lengths, 0).sum(axis=1).astype(np.int64)
        yield Finding(
            kind="rank.uneven",
            title=Sentence(
                "Ranks take turns in having most to compute: rank {} waits {} ({}) for whichever has",
                (str(victim), format_duration(waits[victim]), format_share(waits[victim] / facts.length_ns)),
            ),
            rank=victim,
            cost_ns=facts.claims.take(WAITING, waits.pop(victim)),
            cost_bytes=None,
            bound="work spread evenly over the ranks in every step",
            formula="computing of the slowest rank - the mean of all, summed over steps in which that is more than"
            f" {threshold('slow_rank_share'):.0%} of the mean; at most its waiting",
            confidence=Confidence.DERIVED,
            waits_ns=_claimed(job, waits, dict(zip(peers, instead.tolist(), strict=True))),
            places=(Place(tuple(peers)),),
            evidence=(
                Evidence("steps", int(lengths.shape[1]), "count"),
                Evidence("of them uneven", int(uneven.sum()), "count"),
                *(
                    Evidence(f"rank {rank} computes longest", int((longest == place).sum()), "count")
                    for place, rank in enumerate(peers[:_MOST])
                ),
            ),
        )


def _claimed(job: JobCase, waits: Mapping[int, int], instead: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    """Waits of the others; what ranks wait beyond them they would compute `instead`, which is nobody's cost."""
    found = claimed_waits(job, waits)
    for rank, length in instead.items():
        job.ranks[rank].claims.excuse(WAITING, length)
    return found
