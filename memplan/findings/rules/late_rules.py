"""Ranks that come late to what all run together although they don't compute longer: the others wait for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from memplan.core.sentence import Sentence
from memplan.core.units import format_duration
from memplan.findings.claims import WAITING
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.meetings import Meeting
from memplan.findings.rules.rank_rules import computing_of

_MOST = 8


def late_findings(job: JobCase) -> Iterator[Finding]:
    """
    A finding for each rank that others wait for again and again, paid by the one that waits longest.

    Of a communication the last rank is charged with what it came later than the one before it: no more would be won if
    it came with that. Sends and receives wait for other work, which is a bubble.
    """
    late: dict[int, list[Meeting]] = {}
    shared = [one for one in job.meetings.all if not one.peer_to_peer]
    # What kernels of a full queue lie apart is nobody's lateness.
    least = max(job.meetings.residual_ns, threshold("queue_gap_ns"))
    for one in shared:
        if one.lag_ns > least:
            late.setdefault(one.last, []).append(one)
    totals = {rank: sum(one.lag_ns for one in mine) for rank, mine in late.items()}
    for rank in sorted(late, key=lambda number: -totals[number]):
        mine = late[rank]
        met = [one for one in shared if rank in one.place]
        others = max((totals[other] for other in totals if other != rank and _meet(met, other)), default=0)
        # Who is last by chance is last as often as any other.
        if len(mine) < threshold("late_share") * len(met) or totals[rank] < 2 * others:
            continue
        waits = _waits(mine, met, job, rank)
        yield from _late(job, rank, mine, met, waits)


def _meet(met: Sequence[Meeting], other: int) -> bool:
    return any(other in one.place for one in met)


def _waits(mine: Sequence[Meeting], met: Sequence[Meeting], job: JobCase, rank: int) -> dict[int, int]:
    """
    How much less each other rank would wait, ns: what it waits in all that it ran with `rank`, up to the lags.

    The one communication that waits need not be the one that is late: others queue up behind it.
    """
    waiting: dict[int, int] = {}
    for one in met:
        for other, place in one.place.items():
            ran = job.ranks[other].exposed[place]
            waiting[other] = waiting.get(other, 0) + (ran.exposed_ns if ran.waiting_ns is None else ran.waiting_ns)
    lags: dict[int, int] = {}
    for one in mine:
        for other in one.place:
            lags[other] = lags.get(other, 0) + one.lag_ns
    return {other: min(lag, waiting[other]) for other, lag in lags.items() if other != rank}


def _late(
    job: JobCase, rank: int, mine: Sequence[Meeting], met: Sequence[Meeting], waits: Mapping[int, int]
) -> Iterator[Finding]:
    victim = max(waits, key=lambda other: min(waits[other], job.ranks[other].claims.left(WAITING)))
    facts = job.ranks[victim]
    left = facts.claims.left(WAITING)
    if not facts.worth(min(waits[victim], left)) or waits[victim] < threshold("late_share") * left:
        return
    rest = [
        (other, job.ranks[other].claims.take(WAITING, length)) for other, length in waits.items() if other != victim
    ]
    yield Finding(
        kind="rank.late",
        title=Sentence(
            "Rank {} comes {} late to collectives: the others wait for it",
            (str(rank), format_duration(waits[victim])),
        ),
        rank=victim,
        cost_ns=facts.claims.take(WAITING, waits[victim]),
        cost_bytes=None,
        bound="all ranks entering at once",
        formula="waiting of the other rank, up to the sum over collectives of start of the last rank - start of the one"
        " before, clocks aligned by their ends",
        confidence=Confidence.DERIVED,
        waits_ns=tuple((other, length) for other, length in rest if length),
        places=(Place((rank,)), *(_place(job, rank, one) for one in sorted(mine, key=lambda one: -one.lag_ns)[:_MOST])),
        evidence=(
            Evidence("collectives that waited for it", len(mine), "count"),
            Evidence("collectives that it took part in", len(met), "count"),
            Evidence("residual of the clocks' alignment", job.meetings.residual_ns, "ns"),
            *_why(job, rank, [other for other in waits if other in job.ranks]),
        ),
    )


def _place(job: JobCase, rank: int, one: Meeting) -> Place:
    ran = job.ranks[rank].exposed[one.place[rank]].communication
    return Place((rank,), span_ns=(ran.start_ns, ran.end_ns), ops=(one.op,))


def _why(job: JobCase, rank: int, others: Sequence[int]) -> list[Evidence]:
    """Of which parts its steps have more than those of the ranks that wait for it."""
    own = _parts(job.ranks[rank])
    theirs = [_parts(job.ranks[other]) for other in others]
    more = {part: length - round(median(found.get(part, 0) for found in theirs)) for part, length in own.items()}
    largest = sorted((part for part in more if more[part] > 0), key=lambda part: -more[part])[:3]
    return [Evidence(Sentence("more than the others: {}", (Sentence(part),)), more[part], "ns") for part in largest]


def _parts(facts: RankFacts) -> dict[str, int]:
    found = {
        "computing": computing_of(facts),
        "copies": sum(step.copying_ns for step in facts.steps),
    }
    for step in facts.steps:
        for cause, length in step.idle_ns.items():
            found[f"idle {cause}"] = found.get(f"idle {cause}", 0) + length
    return found
