"""Pipeline stages beside each other: one that has more to do makes all others wait in every micro-batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean, median

from memplan.core.sentence import Sentence
from memplan.core.units import format_change, format_duration, format_share
from memplan.findings.claims import BUBBLE
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.rules.rank_rules import computing_of


def stage_findings(job: JobCase) -> Iterator[Finding]:
    """
    A finding where a stage computes longer than stages do on average, paid by the rank that waits most for it.

    In a pipeline of p stages and m micro-batches, one forward and one backward in turns, a step takes as long as one
    micro-batch through all stages and the slowest stage's work for the other m - 1. Even stages, which together do the
    same, would spare (slowest - mean) x (m - 1) / m of it (Narayanan et al., arXiv 2104.04473, section 2.2).
    """
    stages: dict[int, list[int]] = {}
    for rank, facts in job.ranks.items():
        stage = facts.case.profile.groups.stage_of(rank)
        if stage is not None and facts.steps:
            stages.setdefault(stage, []).append(rank)
    times = {stage: round(median(computing_of(job.ranks[rank]) for rank in ranks)) for stage, ranks in stages.items()}
    # Of stages that were not profiled nothing is known: the slowest may be among them.
    if len(times) < 2 or set(times) != set(range(max(times) + 1)):
        return
    slowest, mean = max(times, key=lambda stage: times[stage]), fmean(times.values())
    ends = [rank for stage in (0, max(times)) for rank in stages[stage]]
    batches = max(1.0, median(_exchanges(job.ranks[rank]) for rank in ends) - 1)
    gain = round((times[slowest] - mean) * (batches - 1) / batches)
    if times[slowest] - mean < threshold("uneven_stages") * mean:
        return
    waits = {
        rank: min(gain, job.ranks[rank].claims.left(BUBBLE))
        for stage, ranks in stages.items()
        if stage != slowest
        for rank in ranks
    }
    victim = max(waits, key=lambda rank: waits[rank])
    facts = job.ranks[victim]
    if not facts.worth(waits[victim]):
        return
    yield Finding(
        kind="pipeline.uneven",
        title=Sentence(
            "Pipeline stage {} computes {} longer than stages do on average ({}): sends and receives of the others wait"
            " {} ({}) for it",
            (
                str(slowest),
                format_duration(times[slowest] - mean),
                format_change(times[slowest] / mean - 1),
                format_duration(waits[victim]),
                format_share(waits[victim] / facts.length_ns),
            ),
        ),
        rank=victim,
        cost_ns=facts.claims.take(BUBBLE, waits.pop(victim)),
        cost_bytes=None,
        bound="stages that all compute for their mean",
        formula="(slowest stage - mean) x (m - 1) / m of m micro-batches; at most what sends and receives wait",
        confidence=Confidence.DERIVED,
        waits_ns=_taken(job, waits),
        places=(Place(tuple(stages[slowest])),),
        evidence=(
            *(Evidence(Sentence("stage {} computes", (stage,)), times[stage], "ns") for stage in sorted(times)),
            Evidence("micro-batches, by the exchanges of the first and last stage", round(batches), "count"),
        ),
    )


def _exchanges(facts: RankFacts) -> float:
    """Sends and receives of a rank in a step: of an end stage one more than micro-batches where they go together."""
    return sum(one.communication.peer_to_peer for one in facts.exposed) / len(facts.steps)


def _taken(job: JobCase, waits: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    found = [
        (rank, job.ranks[rank].claims.take(BUBBLE, length))
        for rank, length in sorted(waits.items())
        if job.ranks[rank].worth(length)
    ]
    return tuple((rank, length) for rank, length in found if length)
