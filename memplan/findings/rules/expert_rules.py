"""Experts that are uneven layer by layer: another rank is the last in each, although all compute as much in a step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_share
from memplan.findings.claims import WAITING
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase
from memplan.findings.kernel_bounds import recurring_of_rank, rows_of_type
from memplan.findings.rules.rank_rules import stage_peers
from memplan.findings.stall_waits import claimed_waits

_FEWEST_STEPS = 3
"""Steps that tell what comes again."""
_OF_MEDIANS = 1.2533
"""The standard error of a median of normal values is this many times that of their mean: sqrt(pi / 2)."""
_PRODUCTS = re.compile(r"grouped_?mat_?mul", re.IGNORECASE)


def expert_findings(job: JobCase) -> Iterator[Finding]:
    """A finding for the ranks of a stage whose experts' products take turns in being slow."""
    for peers in stage_peers(job):
        rows = [_products(job, rank) for rank in peers]
        if not len(rows[0]) or len({len(found) for found in rows}) != 1:
            continue
        lengths = _of_equal_tokens(job, peers, np.vstack(rows))
        slowest, usual = lengths.max(axis=0), np.median(lengths, axis=0)
        uneven = (slowest > threshold("uneven_experts") * usual) | _again_and_again(
            lengths, len(job.ranks[peers[0]].steps)
        )
        # Spread evenly, the same tokens would take every rank the mean. What one rank has more of in all layers
        # together is said already.
        told = max(job.ranks[rank].claims.spread_ns for rank in peers)
        excess = max(int((slowest - lengths.mean(axis=0))[uneven].sum()) - told, 0)
        if not uneven.any():
            continue
        waits = {rank: min(excess, job.ranks[rank].claims.left(WAITING)) for rank in peers}
        victim = max(waits, key=lambda rank: waits[rank])
        facts = job.ranks[victim]
        if not facts.worth(waits[victim]):
            continue
        hottest = lengths.argmax(axis=0)[uneven]
        yield Finding(
            kind="rank.experts",
            title=Sentence(
                "Experts are uneven from layer to layer: rank {} waits {} ({}) for whichever rank has the most tokens",
                (str(victim), format_duration(waits[victim]), format_share(waits[victim] / facts.length_ns)),
            ),
            rank=victim,
            cost_ns=facts.claims.take(WAITING, waits.pop(victim)),
            cost_bytes=None,
            bound="tokens spread evenly over the ranks of every layer",
            formula=Sentence(
                "slowest rank's product - the mean, where the slowest is {} times the median of the ranks, or the same"
                " rank in most steps; at most its waiting",
                (f"{threshold('uneven_experts'):g}",),
            ),
            confidence=Confidence.DERIVED,
            waits_ns=claimed_waits(job, waits),
            places=(Place(tuple(peers)),),
            evidence=(
                Evidence("products of experts", int(lengths.shape[1]), "count"),
                Evidence("of them uneven", int(uneven.sum()), "count"),
                *(
                    Evidence(Sentence("rank {} is the slowest", (rank,)), int((hottest == place).sum()), "count")
                    for place, rank in enumerate(peers[:16])
                ),
            ),
        )


def _of_equal_tokens(job: JobCase, peers: Sequence[int], lengths: Int64s) -> Int64s:
    """
    Products as long as they were if each rank had as many tokens of its own in a step as the next.

    A rank whose other kernels take longer in a step has more tokens before any are routed. Nothing changes where the
    products don't divide among the steps alike.
    """
    steps = [job.ranks[rank].steps for rank in peers]
    if not steps[0] or lengths.shape[1] % len(steps[0]):
        return lengths
    by_step = lengths.reshape(len(peers), len(steps[0]), -1)
    computing = np.array([[step.computed_ns for step in own] for own in steps])
    others = np.maximum(computing - by_step.sum(axis=2), 1)
    load = others / others.mean(axis=0)
    return np.asarray((by_step / load[:, :, None]).reshape(lengths.shape), dtype=np.int64)


def _again_and_again(lengths: Int64s, steps: int) -> Bools:
    """
    Of products in order, by rank, those that one rank takes longest for in most steps, by more than others scatter.

    What lies between the steps of one rank is scatter; experts that are hot have more in each of them. Of N medians
    over S steps that are all alike the greatest lies about sqrt(2 ln N) standard errors above the rest by chance alone
    (Cramer 1946, Mathematical methods of statistics, 28.6), and N is ranks times products of a step.
    """
    if steps < _FEWEST_STEPS or lengths.shape[1] % steps:
        return np.zeros(lengths.shape[1], dtype=bool)
    by_step = lengths.reshape(len(lengths), steps, -1).astype(np.float64)
    usually = np.median(by_step, axis=1)
    hottest = usually.argmax(axis=0)
    longest = (by_step.argmax(axis=0) == hottest).mean(axis=0) > threshold("late_share")
    scatter = np.sqrt(by_step.var(axis=1, ddof=1).mean(axis=0))
    by_chance = _OF_MEDIANS * scatter * np.sqrt(2 * np.log(usually.size) / steps)
    more = usually.max(axis=0) - np.median(usually, axis=0)
    return np.tile(longest & (more > by_chance), steps)


def _products(job: JobCase, rank: int) -> Int64s:
    """What a rank's products of experts took in order, ns, up to the second longest of a kind: one alone is chance."""
    case = job.ranks[rank].case
    if case.kernels is None:
        return np.empty(0, dtype=np.int64)
    rows = rows_of_type(case.kernels.type, case.computing_rows, _PRODUCTS)
    again = recurring_of_rank(job, rank, case.kernels)
    return again[np.isin(case.computing_rows, rows)].astype(np.int64)
