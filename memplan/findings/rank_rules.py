"""Ranks beside each other: who is slow among equals, which link is slow, who comes late, how far clocks are apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np

from memplan.core.sentence import Sentence
from memplan.core.units import format_change, format_duration, format_rate, format_share
from memplan.findings.claims import COMPUTING, TRANSFER, WAITING
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import column_codes
from memplan.traces.link_totals import LinkTotal, link_totals
from memplan.traces.summaries import slower_links


def rank_findings(job: JobCase) -> Iterator[Finding]:
    """Findings that need several ranks; nothing where there is only one."""
    if len(job.ranks) > 1:
        yield from _slow_links(job)
        yield from _slow_ranks(job)
        yield from _late_ranks(job)


def stage_peers(job: JobCase) -> list[list[int]]:
    """Ranks with the same work: those of one pipeline stage; ranks of unknown stage that meet others are no peers."""
    found: dict[int | None, list[int]] = {}
    for rank, facts in job.ranks.items():
        stage = facts.case.profile.groups.stage_of(rank)
        if stage is None and any(one.communication.peer_to_peer for one in facts.exposed):
            continue
        found.setdefault(stage, []).append(rank)
    return [ranks for ranks in found.values() if len(ranks) > 1]


def _computing(facts: RankFacts) -> int:
    return sum(step.computing_ns + step.overlapped_ns for step in facts.steps)


def _slow_ranks(job: JobCase) -> Iterator[Finding]:
    for peers in stage_peers(job):
        times = {rank: _computing(job.ranks[rank]) for rank in peers}
        for rank in peers:
            usual = median(time for other, time in times.items() if other != rank)
            excess = times[rank] - usual
            facts = job.ranks[rank]
            if usual <= 0 or excess < threshold("slow_rank_share") * usual or not facts.worth(int(excess)):
                continue
            experts = _expert_excess(job, rank, peers)
            uneven = experts >= excess / 2
            yield Finding(
                kind="rank.experts" if uneven else "rank.slow",
                title=Sentence(
                    "Rank {} computes {} longer for its experts than its peers ({}): the others wait for it"
                    if uneven
                    else "Rank {} computes {} longer than its peers ({}): the others wait for it",
                    (str(rank), format_duration(excess), format_change(excess / usual)),
                ),
                rank=rank,
                cost_ns=facts.claims.take(COMPUTING, int(excess)),
                cost_bytes=None,
                bound="the median of the other ranks of its pipeline stage",
                formula="computing time - median of the peers' computing time",
                confidence=Confidence.MEASURED,
                waits_ns=_waiting_peers(job, rank, peers, int(excess)),
                places=(Place((rank, *(other for other in peers if other != rank))),),
                evidence=tuple(
                    Evidence(f"rank {other} computes", time, "ns") for other, time in list(times.items())[:16]
                ),
            )


def _waiting_peers(job: JobCase, rank: int, peers: Sequence[int], excess: int) -> tuple[tuple[int, int], ...]:
    """How long each peer of a slow rank waits for it, as far as its waiting is not explained otherwise."""
    found = [(other, job.ranks[other].claims.take(WAITING, excess)) for other in peers if other != rank]
    return tuple((other, length) for other, length in found if length)


def _expert_excess(job: JobCase, rank: int, peers: Sequence[int]) -> float:
    """How much longer a rank's kernels of experts take than the median of its peers'."""

    def experts(number: int) -> int:
        case = job.ranks[number].case
        if case.kernels is None:
            return 0
        coded = column_codes(case.kernels.type)
        wanted = np.array([bool(_EXPERTS.search(text)) for text in coded.values], dtype=bool)
        rows = case.computing_rows[wanted[coded.codes[case.computing_rows]]]
        return int(case.kernels.duration_ns[rows].sum())

    return experts(rank) - median(experts(other) for other in peers if other != rank)


_EXPERTS = re.compile(r"grouped_?mat_?mul|moe|expert", re.IGNORECASE)


def _slow_links(job: JobCase) -> Iterator[Finding]:
    uses = {rank: facts.case.profile.links() for rank, facts in job.ranks.items()}
    links = link_totals(uses, {rank: facts.case.profile.groups for rank, facts in job.ranks.items()})
    slow = slower_links(links, threshold("slow_link_share"))
    for link, share in slow:
        usual = _usual_rate(link, links)
        excess = int(link.duration_ns - link.size / usual * 1e9) if usual else 0
        facts = job.ranks.get(link.source) or job.ranks.get(link.target)
        if facts is None or excess <= 0:
            continue
        worth = facts.worth(excess)
        yield Finding(
            kind="link.slow",
            title=Sentence(
                "The link from rank {} to {} runs at {}, {} of the mean over {}",
                (str(link.source), str(link.target), format_rate(link.bytes_per_second), format_share(share),
                 link.transport),
            ),
            rank=facts.case.rank,
            cost_ns=facts.claims.take(TRANSFER, excess) if worth else None,
            cost_bytes=None,
            bound="the median rate of the other links of its kind",
            formula="time of its transfers - their bytes / median rate",
            confidence=Confidence.MEASURED,
            waits_ns=_slowed_peers(job, facts.case.rank, excess) if worth else (),
            places=(Place((link.source, link.target)),),
            evidence=(
                Evidence("moved", link.size, "bytes"),
                Evidence("rate", link.bytes_per_second, "B/s"),
                Evidence("median of the others", usual, "B/s"),
            ),
        )  # fmt: skip


def _slowed_peers(job: JobCase, rank: int, excess: int) -> tuple[tuple[int, int], ...]:
    """How much longer transfers of the other ranks take for a slow link: a ring is as fast as its slowest link."""
    found = [(other, facts.claims.take(TRANSFER, excess)) for other, facts in job.ranks.items() if other != rank]
    return tuple((other, length) for other, length in found if length)


def _usual_rate(link: LinkTotal, links: Sequence[LinkTotal]) -> float:
    others = [one.bytes_per_second for one in links if one.transport == link.transport and one is not link]
    return median(others) if others else 0.0


def _late_ranks(job: JobCase) -> Iterator[Finding]:
    """
    Ranks that enter collectives later than their peers although they don't compute longer.

    A collective ends on all its ranks at once: ends align the clocks, what is left over is the residual.
    """
    groups: dict[tuple[int | None, str, str], dict[int, tuple[int, int]]] = {}
    for rank, facts in job.ranks.items():
        for one in facts.exposed:
            told = one.communication.told
            if told is not None and not told.peer_to_peer:
                key = (told.step, told.group, told.op)
                groups.setdefault(key, {})[rank] = (one.communication.start_ns, one.communication.end_ns)
    shared = {key: met for key, met in groups.items() if len(met) > 1}
    offsets = clock_offsets(list(shared.values()))
    residual = _residual(list(shared.values()), offsets)
    late: dict[int, list[int]] = {}
    for met in shared.values():
        starts = {rank: start - offsets[rank] for rank, (start, _) in met.items()}
        order = sorted(starts.values())
        last = max(starts, key=lambda rank: starts[rank])
        lag = starts[last] - (order[-2] if len(order) > 2 else order[0])
        if lag > residual:
            late.setdefault(last, []).append(lag)
    if not late:
        return
    worst = max(late, key=lambda rank: sum(late[rank]))
    waiting = {rank: facts for rank, facts in job.ranks.items() if rank != worst}
    victim = max(waiting, key=lambda rank: waiting[rank].claims.left(WAITING))
    facts = waiting[victim]
    # What computing hides of the others' waiting costs nothing.
    total = min(sum(late[worst]), facts.claims.left(WAITING))
    # Only where most collectives wait for the same rank is that rank the cause.
    if len(late[worst]) < 0.5 * len(shared) or not facts.worth(total):
        return
    share = total / max(facts.claims.left(WAITING), 1)
    if share < threshold("late_share"):
        return
    yield Finding(
        kind="rank.late",
        title=Sentence(
            "Rank {} comes {} late to collectives: the others wait for it", (str(worst), format_duration(total))
        ),
        rank=victim,
        cost_ns=facts.claims.take(WAITING, total),
        cost_bytes=None,
        bound="all ranks entering at once",
        formula="start of the last rank - start of the one before, clocks aligned by the ends of collectives",
        confidence=Confidence.DERIVED,
        places=(Place((worst,)),),
        evidence=(
            Evidence("collectives that waited for it", len(late[worst]), "count"),
            Evidence("collectives of several ranks", len(shared), "count"),
            Evidence("residual of the alignment", residual, "ns"),
        ),
    )


def clock_offsets(met: Sequence[dict[int, tuple[int, int]]]) -> dict[int, int]:
    """How much later each rank's clock shows the ends of collectives than the first rank's, ns; medians."""
    ranks = sorted({rank for one in met for rank in one})
    offsets = dict.fromkeys(ranks, 0)
    for rank in ranks:
        reference = min(ranks)
        gaps = [one[rank][1] - one[reference][1] for one in met if rank in one and reference in one]
        if gaps and rank != reference:
            offsets[rank] = round(median(gaps))
    return offsets


def _residual(met: Sequence[dict[int, tuple[int, int]]], offsets: dict[int, int]) -> int:
    """The median spread of aligned ends: what the alignment doesn't explain."""
    spreads = []
    for one in met:
        ends = [end - offsets[rank] for rank, (_, end) in one.items()]
        spreads.append(max(ends) - min(ends))
    return round(median(spreads)) if spreads else 0
