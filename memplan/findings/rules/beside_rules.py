"""Kernels that take longer beside communication than the same kernels do alone: both want the memory's bandwidth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.core.intervals import Intervals
from memplan.core.medians import median_of, medians_of_kinds, weighted_median
from memplan.core.sentence import Sentence
from memplan.core.units import format_change, format_duration
from memplan.findings.finding import Confidence, Evidence, Finding, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import longest_types, operands_told, rows_of_type, signatures, unlike_work
from memplan.traces.profile import Kernels

_BESIDE, _ALONE = 0.5, 0.1
"""Shares of a kernel's time that lie beside a communication: from which it runs beside one, up to which alone."""
_FEWEST, _ENOUGH, _MOST = 3, 8, 8


def beside_findings(job: JobCase) -> Iterator[Finding]:
    """A finding for each rank whose kernels take longer beside communication, in most of them and on the whole."""
    for facts in job.ranks.values():
        kernels = facts.case.kernels
        beside = sum(step.overlapped_ns for step in facts.steps)
        # What is slow by a rank or a clock is so beside communication and alone.
        if kernels is None or not facts.worth(beside) or facts.claims.spread_ns:
            continue
        yield from _slowed(job, facts, kernels)


def _slowed(job: JobCase, facts: RankFacts, kernels: Kernels) -> Iterator[Finding]:
    rows = facts.case.computing_rows
    place = facts.claims.unclaimed(np.flatnonzero(operands_told(kernels, rows)).astype(np.int64))
    if not len(place):
        return
    length = kernels.duration_ns[rows[place]].astype(np.float64)
    share = _share_within(facts.case.communicating, kernels.start_ns[rows[place]], length)
    _, alike = signatures(kernels, rows[place])
    lonely = np.flatnonzero(share <= _ALONE)
    unlike = np.isin(rows[place], rows_of_type(kernels.type, rows[place], unlike_work()))
    alone = np.where(unlike, np.nan, medians_of_kinds(alike, length, lonely, least=2)[alike])
    planned = job.planned.get(facts.case.rank)
    if planned is not None:
        alone = np.where(np.isnan(alone), _by_plan(length, planned.planned_ns[place], lonely), alone)
    mine = np.flatnonzero((share >= _BESIDE) & ~np.isnan(alone))
    # A few ops that happen to run there may be slow for a reason of their own.
    if len(set(alike[mine].tolist())) < _FEWEST:
        return
    ratio = length[mine] / alone[mine]
    most = min(weighted_median(ratio, length[mine]), median_of(ratio)) - 1
    excess = length[mine] - alone[mine]
    cost = int(excess.sum())
    if most < threshold("slow_rank_share") or not facts.worth(cost):
        return
    chosen = place[mine]
    worst = chosen[np.argsort(-excess, kind="stable")[:_MOST]]
    yield Finding(
        kind="kernel.contended",
        title=Sentence(
            "{} [kernel beside communication takes|kernels beside communication take] {} longer than the same kernels"
            " do alone ({})",
            (f"{len(mine):,}", format_duration(cost), format_change(cost / float(alone[mine].sum()))),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(chosen, cost),
        cost_bytes=None,
        bound="the same kernels on the same operands with no communication beside them",
        formula="duration - median of the same kernel where nothing is communicated, for kernels of which half and more"
        " lies beside communication",
        confidence=Confidence.DERIVED,
        places=tuple(job.kernel_place(facts.case.rank, kernel) for kernel in worst.tolist()),
        evidence=(
            Evidence("they take", int(length[mine].sum()), "ns"),
            Evidence("alone they would take", int(alone[mine].sum()), "ns"),
            *longest_types(kernels, rows[chosen], excess, _MOST),
        ),
    )


def _by_plan(length: Floats, planned_ns: Floats, lonely: Int64s) -> Floats:
    """What the plan has each kernel take, times what those that ran `lonely` take of theirs; NaN where unknown."""
    told = lonely[~np.isnan(planned_ns[lonely]) & (planned_ns[lonely] > 0)]
    if len(told) < _ENOUGH:
        return np.full(len(length), np.nan)
    return np.asarray(planned_ns * weighted_median(length[told] / planned_ns[told], length[told]), dtype=np.float64)


def _share_within(parts: Intervals, start: Int64s, length: Floats) -> Floats:
    """Which share of each span from `start` lies within `parts`, which are disjoint and in order."""
    begins, ends = parts
    whole = np.append(0, np.cumsum(ends - begins))

    def before(time: Int64s) -> Int64s:
        place = np.searchsorted(begins, time, side="right")
        last = np.maximum(place - 1, 0)
        beyond = np.where(place > 0, np.maximum(ends[last] - time, 0), 0) if len(begins) else np.zeros_like(time)
        return np.asarray(whole[place] - beyond, dtype=np.int64)

    end = start + length.astype(np.int64)
    return np.asarray((before(end) - before(start)) / np.maximum(length, 1), dtype=np.float64)
