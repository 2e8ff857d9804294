"""Ranks beside each other: who is slow among equals and which link is slow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean, median

import numpy as np

from memplan.core.arrays import Bools, Floats
from memplan.core.sentence import Sentence
from memplan.core.units import format_change, format_duration, format_rate, format_share
from memplan.findings.claims import TRANSFER, WAITING
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import column_codes, rows_of_type
from memplan.traces.link_totals import LinkTotal, link_totals, slower_links

_MOST_NAMED = 16
"""Ranks and steps that a finding names."""


def rank_findings(job: JobCase) -> Iterator[Finding]:
    """Findings that need several ranks; nothing where there is only one."""
    if len(job.ranks) > 1:
        yield from _slow_links(job)
        yield from _slow_ranks(job)


def stage_peers(job: JobCase) -> list[list[int]]:
    """
    Ranks with the same work: those of one pipeline stage that ran as many steps and about as many kernels.

    Ranks of unknown stage that meet others are no peers; nor is one whose profile holds part of its kernels only.
    """
    found: dict[tuple[int | None, int], list[int]] = {}
    for rank, facts in job.ranks.items():
        stage = facts.case.profile.groups.stage_of(rank)
        if stage is None and any(one.communication.peer_to_peer for one in facts.exposed):
            continue
        found.setdefault((stage, len(facts.steps)), []).append(rank)
    alike = [_alike(job, ranks) for ranks in found.values()]
    return [ranks for ranks in alike if len(ranks) > 1]


def peers_of_ranks(job: JobCase) -> dict[int, list[int]]:
    """For each rank that has peers those of its stage, itself among them."""
    return {rank: peers for peers in stage_peers(job) for rank in peers}


def _alike(job: JobCase, ranks: Sequence[int]) -> list[int]:
    """Those of `ranks` that ran about the same kernels as the middle one; where none are known all of them."""
    counts = {rank: _type_counts(job.ranks[rank]) for rank in ranks}
    known = sorted((rank for rank in ranks if counts[rank]), key=lambda rank: (counts[rank].total(), rank))
    if not known:
        return list(ranks)
    middle = counts[known[len(known) // 2]]
    least = 1 - threshold("alike_kernels_share")

    def same(mine: Counter[str]) -> bool:
        return (mine & middle).total() >= least * max(mine.total(), middle.total())

    return [rank for rank in ranks if not counts[rank] or same(counts[rank])]


def _type_counts(facts: RankFacts) -> Counter[str]:
    """Computing kernels by type."""
    kernels, rows = facts.case.kernels, facts.case.computing_rows
    if kernels is None:
        return Counter()
    coded = column_codes(kernels.type)
    counts = np.bincount(coded.codes[rows], minlength=len(coded.values))
    return Counter({coded.values[code]: int(counts[code]) for code in np.flatnonzero(counts).tolist()})


def computing_of(facts: RankFacts) -> int:
    """All that a rank computes in its steps, ns."""
    return sum(step.computed_ns for step in facts.steps)


def _slow_ranks(job: JobCase) -> Iterator[Finding]:
    for peers in stage_peers(job):
        times = {rank: computing_of(job.ranks[rank]) for rank in peers}
        clocks = {rank: job.ranks[rank].claims.spread_ns for rank in peers}
        for rank in peers:
            usual = median(time for other, time in times.items() if other != rank)
            # What is said of its clock already is not said again.
            clocked = clocks[rank] - median(clock for other, clock in clocks.items() if other != rank)
            excess = times[rank] - usual - max(clocked, 0)
            facts = job.ranks[rank]
            if usual <= 0 or excess < threshold("slow_rank_share") * usual or not facts.worth(int(excess)):
                continue
            if not _mostly_longest(job, rank, peers) or taking_turns(job, rank, peers):
                continue
            beyond, experts = _expert_excess(job, rank, peers)
            uneven = experts >= excess / 2
            # Tokens that one rank has less of, others have more of: spread evenly all would take the mean.
            excess = min(beyond, excess) if uneven else excess
            waits = waiting_peers(job, rank, peers, int(excess), int(times[rank] - usual))
            slow, longer, _ = slow_steps(job, rank, peers)
            met = any(one.exposed or any(step.exposed_ns for step in one.steps) for one in job.ranks.values())
            yield Finding(
                kind="rank.experts" if uneven else "rank.slow",
                title=Sentence(
                    "Rank {} computes {} longer for its experts than with tokens spread evenly ({}): the others wait"
                    if uneven
                    else "Rank {} computes {} longer than its peers ({}): the others wait for it"
                    if met
                    else "Rank {} computes {} longer than its peers ({})",
                    (str(rank), format_duration(excess), format_change(excess / usual)),
                ),
                rank=rank,
                cost_ns=facts.claims.take_spread(int(excess)),
                cost_bytes=None,
                bound="tokens spread evenly over the ranks of its pipeline stage"
                if uneven
                else "the median of the other ranks of its pipeline stage",
                formula="time of its experts' kernels - mean over the ranks"
                if uneven
                else "computing time - median of the peers' computing time, less what its clock explains",
                confidence=Confidence.MEASURED,
                waits_ns=waits,
                places=(Place((rank, *(other for other in peers if other != rank))), *slow_step_places(facts, slow)),
                evidence=(
                    *(
                        Evidence(Sentence("rank {} computes", (other,)), time, "ns")
                        for other, time in list(times.items())[:_MOST_NAMED]
                    ),
                    *steps_longer(facts, slow, longer),
                ),
            )


def slow_steps(job: JobCase, rank: int, peers: Sequence[int]) -> tuple[Bools, Floats, Floats]:
    """In which steps a rank computes longer than its `peers`, how much longer in each, and what they take, ns."""
    own = np.array([[step.computed_ns for step in job.ranks[other].steps] for other in peers], dtype=np.float64)
    place = list(peers).index(rank)
    usual = np.median(np.delete(own, place, axis=0), axis=0)
    longer = own[place] - usual
    return (longer >= threshold("slow_rank_share") * usual) & (longer > 0), longer, usual


def steps_longer(facts: RankFacts, slow: Bools, longer: Floats) -> tuple[Evidence, ...]:
    """How much longer each of the `slow` steps takes; nothing where all are."""
    return tuple(
        Evidence(Sentence("step {} takes longer by", (facts.steps[place].step,)), int(longer[place]), "ns")
        for place in _some(slow)
    )


def slow_step_places(facts: RankFacts, slow: Bools) -> tuple[Place, ...]:
    """The `slow` steps of a rank; none where all are."""
    windows = facts.case.windows
    return tuple(
        Place((facts.case.rank,), windows[place].number, (windows[place].start_ns, windows[place].busy_until_ns))
        for place in _some(slow)
        if len(windows) == len(slow)
    )


def _some(slow: Bools) -> list[int]:
    return [] if slow.all() else np.flatnonzero(slow)[:_MOST_NAMED].tolist()


def _mostly_longest(job: JobCase, rank: int, peers: Sequence[int]) -> bool:
    """Whether a rank computes longest in half of the steps and more: else it is slow in some steps, if at all."""
    steps = [[step.computed_ns for step in job.ranks[other].steps] for other in peers]
    longest = [peers[own.index(max(own))] for own in zip(*steps, strict=False)]
    return longest.count(rank) >= threshold("late_share") * len(longest)


def taking_turns(job: JobCase, rank: int, peers: Sequence[int]) -> bool:
    """
    Whether others have more to compute than `rank` in some steps as it has in others: then none of them is slow.

    What it has more than the next counts, against what another has more than it, as far as `rank` itself computes less
    there than in the steps where it is ahead: another may stand out once beside a rank that is slow all the time.
    """
    steps = {other: [step.computed_ns for step in job.ranks[other].steps] for other in peers}
    mine = steps.pop(rank)
    beside = list(zip(mine, (max(own) for own in zip(*steps.values(), strict=False)), strict=False))
    first = [(own, own - other) for own, other in beside if own > other]
    if not first:
        return False
    usual = median(own for own, _ in first)
    behind = sum(max(min(other, usual) - own, 0) for own, other in beside)
    return bool(behind > threshold("turns_share") * sum(ahead for _, ahead in first))


def waiting_peers(
    job: JobCase, rank: int, peers: Sequence[int], excess: int, longer: int
) -> tuple[tuple[int, int], ...]:
    """
    How long each peer of a slow rank waits for it, as far as its waiting is not explained otherwise.

    Up to what the rank computes `longer` the reason is known: what of that goes beyond `excess`, the peers would
    compute instead of waiting, so it is nobody's cost.
    """
    found = [(other, job.ranks[other].claims.take(WAITING, excess)) for other in peers if other != rank]
    for other, _ in found:
        job.ranks[other].claims.excuse(WAITING, longer - excess)
    return tuple((other, length) for other, length in found if length)


def _expert_excess(job: JobCase, rank: int, peers: Sequence[int]) -> tuple[float, float]:
    """
    How much longer a rank's kernels of experts take than the mean of all ranks, and than the median of the others.

    Of the latter what its other kernels take longer by as well is the rank's, whatever tokens its experts have.
    """

    def experts(number: int) -> int:
        case = job.ranks[number].case
        if case.kernels is None:
            return 0
        rows = rows_of_type(case.kernels.type, case.computing_rows, _EXPERTS)
        return int(case.kernels.duration_ns[rows].sum())

    times = {other: experts(other) for other in peers}
    usual = median(time for other, time in times.items() if other != rank)
    rest = {other: computing_of(job.ranks[other]) - times[other] for other in peers}
    least = median(length for other, length in rest.items() if other != rank)
    slower = max(rest[rank] / least, 1.0) if least > 0 else 1.0
    return times[rank] - fmean(times.values()), times[rank] - usual * slower


_EXPERTS = re.compile(r"grouped_?mat_?mul|moe|expert", re.IGNORECASE)


def _slow_links(job: JobCase) -> Iterator[Finding]:
    links = _links(job)
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


def _links(job: JobCase) -> list[LinkTotal]:
    """
    Links by what tells their rates; where all messages are too short for that, links that carry the same.

    Short messages measure latency, so that they tell a slow link only among links with as many bytes of them.
    """
    uses = {rank: facts.case.profile.links() for rank, facts in job.ranks.items()}
    groups = {rank: facts.case.profile.groups for rank, facts in job.ranks.items()}
    if links := link_totals(uses, groups):
        return links
    short = link_totals(uses, groups, smallest=1)
    sizes = [link.size for link in short]
    alike = sizes and max(sizes) - min(sizes) <= threshold("slow_link_share") * max(sizes)
    return short if alike else []


def _slowed_peers(job: JobCase, rank: int, excess: int) -> tuple[tuple[int, int], ...]:
    """How much longer transfers of the other ranks take for a slow link: a ring is as fast as its slowest link."""
    found = [(other, facts.claims.take(TRANSFER, excess)) for other, facts in job.ranks.items() if other != rank]
    return tuple((other, length) for other, length in found if length)


def _usual_rate(link: LinkTotal, links: Sequence[LinkTotal]) -> float:
    others = [one.bytes_per_second for one in links if one.transport == link.transport and one is not link]
    return median(others) if others else 0.0
