"""Clocks that dropped: what kernels take longer for it, and who waits for the rank whose clock it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.core.sentence import Sentence
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import KernelBounds, bounds_of_rank
from memplan.findings.rules.rank_rules import stage_peers
from memplan.findings.stall_waits import claimed_waits
from memplan.traces.profile import Kernels, TrackKind


@dataclass(frozen=True, slots=True)
class _Drop:
    """A clock that dropped: MHz on average over the steps, at most and at least, where, and what it costs in ns."""

    mean: float
    most: float
    least: float
    since_ns: int
    until_ns: int
    track: str
    cost_ns: int


def clock_findings(job: JobCase) -> Iterator[Finding]:
    """
    A finding for every rank whose clock is on average well below its highest.

    It goes before what is said of slow ranks: that a rank is slow for its clock is the more particular word.
    """
    drops: dict[int, _Drop] = {}
    for rank, facts in job.ranks.items():
        kernels = facts.case.kernels
        if kernels is not None and len(facts.case.computing_rows):
            found = _drop(facts, kernels, bounds_of_rank(job, rank, kernels))
            if found is not None:
                drops[rank] = found
    slower = _beyond_peers(job, {rank: drop.cost_ns for rank, drop in drops.items()})
    for rank, drop in drops.items():
        yield Finding(
            kind="device.clock",
            title=Sentence(
                "The clock drops: {} MHz on average of {} MHz", (f"{drop.mean:,.0f}", f"{drop.most:,.0f}")
            ),
            rank=rank,
            cost_ns=job.ranks[rank].claims.take_spread(drop.cost_ns),
            cost_bytes=None,
            bound="the highest clock of the profile all the time",
            formula="duration x (1 - clock then / highest clock) of kernels that memory doesn't bound",
            confidence=Confidence.DERIVED,
            waits_ns=claimed_waits(job, slower.get(rank, {})),
            places=(Place((rank,), span_ns=(drop.since_ns, drop.until_ns), tracks=(drop.track,)),),
            evidence=(
                Evidence("mean clock", drop.mean * 1e6, "Hz"), Evidence("highest clock", drop.most * 1e6, "Hz"),
                Evidence("lowest clock", drop.least * 1e6, "Hz"),
            ),
        )  # fmt: skip


def _beyond_peers(job: JobCase, costs: Mapping[int, int]) -> dict[int, dict[int, int]]:
    """By rank, how long each peer waits for its clock: what that costs beyond what clocks cost most of the ranks."""
    found: dict[int, dict[int, int]] = {}
    for peers in stage_peers(job) if len(costs) else ():
        slowest = max(peers, key=lambda rank: costs.get(rank, 0))
        others = [rank for rank in peers if rank != slowest]
        more = costs.get(slowest, 0) - round(median(costs.get(rank, 0) for rank in others))
        if more > 0:
            found[slowest] = dict.fromkeys(others, more)
    return found


def _drop(facts: RankFacts, kernels: Kernels, bounds: KernelBounds) -> _Drop | None:
    for track in facts.case.profile.tracks:
        if track.kind is not TrackKind.COUNTER or "freq" not in track.label.casefold():
            continue
        for series in facts.case.profile.counters(track.id):
            usable = series.values > 0
            times, values = series.time_ns[usable], series.values[usable]
            if len(values) < 2 or not facts.case.windows:
                continue
            end = max(facts.case.windows[-1].end_ns, int(times[-1]))
            start = facts.case.windows[0].start_ns
            edges = np.clip(np.append(times, end), start, None)
            weights = np.diff(edges).astype(np.float64)
            if weights.sum() <= 0:
                continue
            mean, most = float(np.average(values, weights=weights)), float(values.max())
            cost = _clocked_excess(facts, kernels, bounds, times, values)
            if 1 - mean / most >= threshold("clock_drop_share") and facts.worth(cost):
                low = int(values.argmin())
                return _Drop(mean, most, float(values.min()), int(times[low]), end, track.label, cost)
    return None


def _clocked_excess(facts: RankFacts, kernels: Kernels, bounds: KernelBounds, times: Int64s, values: Floats) -> int:
    """How much less kernels would take at the highest clock; memory has a clock of its own, and so its kernels keep."""
    rows = facts.case.computing_rows[bounds.limit != list(bounds.limits).index("memory")]
    place = np.maximum(np.searchsorted(times, kernels.start_ns[rows], side="right") - 1, 0)
    return round(float((kernels.duration_ns[rows] * (1 - values[place] / values.max())).sum()))
