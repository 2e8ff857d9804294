"""Steps that compute longer than others: because everything in them is slow, or because more runs in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Bools, Floats, Int64s
from memplan.core.medians import medians_of_kinds
from memplan.core.sentence import Sentence
from memplan.core.units import format_change, format_duration
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import longest_types, operands_told, signatures
from memplan.findings.rules.rank_rules import peers_of_ranks, slow_steps
from memplan.findings.software import software_of
from memplan.findings.step_pace import step_pace
from memplan.traces.profile import Kernels

_FEWEST_STEPS, _FEWEST_KERNELS, _MOST = 3, 8, 8


def step_findings(job: JobCase) -> Iterator[Finding]:
    """
    A finding for each rank some of whose steps compute longer than its others, with nothing said of it yet.

    Steps in which its peers don't are those of a slow rank, or of unlike work.
    """
    peers = peers_of_ranks(job)
    for rank, facts in job.ranks.items():
        computed = [step.computed_ns for step in facts.steps]
        if len(computed) < _FEWEST_STEPS or facts.claims.spread_ns:
            continue
        if max(computed) < (1 + threshold("slow_rank_share")) * min(computed):
            continue
        kernels = _stepped(facts)
        if kernels is not None:
            together = _together(job, rank, peers.get(rank, ()))
            yield from _slow(facts, kernels, together)
            yield from _more(facts, kernels, together)


def _together(job: JobCase, rank: int, peers: Sequence[int]) -> Bools:
    """Steps in which `rank` computes no longer than its peers: else it is the rank, or its share of the work."""
    return ~slow_steps(job, rank, peers)[0] if peers else np.ones(len(job.ranks[rank].steps), dtype=bool)


@dataclass(frozen=True, slots=True)
class _Stepped:
    """
    The computing kernels of a rank's steps, which are `rows` of `table`: how long each took, the place of its step.

    `alike` numbers those of one type on the same operands; `told` says of which the operands are known.
    """

    table: Kernels
    rows: Int64s
    length_ns: Floats
    step: Int64s
    alike: Int64s
    told: Bools
    steps: int


def _stepped(facts: RankFacts) -> _Stepped | None:
    case = facts.case
    if case.kernels is None or not len(case.computing_rows) or len(case.windows) != len(facts.steps):
        return None
    kernels, rows = case.kernels, case.computing_rows
    return _Stepped(
        table=kernels,
        rows=rows,
        length_ns=kernels.duration_ns[rows].astype(np.float64),
        step=case.begun_at(kernels.start_ns[rows]),
        alike=signatures(kernels, rows)[1],
        told=operands_told(kernels, rows),
        steps=len(case.windows),
    )


def _table(kernels: _Stepped, kind: Int64s, weights: Floats | None) -> NDArray[np.float64]:
    """Kinds by steps: how many kernels, or the sum of their `weights`."""
    inside = kernels.step >= 0
    place = kind[inside] * kernels.steps + kernels.step[inside]
    size = (int(kind.max()) + 1) * kernels.steps
    chosen = None if weights is None else weights[inside]
    return np.bincount(place, weights=chosen, minlength=size).reshape(-1, kernels.steps).astype(np.float64)


def _slow(facts: RankFacts, kernels: _Stepped, together: Bools) -> Iterator[Finding]:
    """Steps in which most kernels take longer than the same kernels do in the others."""
    rows = np.flatnonzero(kernels.told & (kernels.step >= 0))
    if kernels.length_ns[rows].sum() < threshold("late_share") * kernels.length_ns.sum():
        return
    slower = _slower(kernels, rows)
    slow = slower >= threshold("slow_rank_share")
    if slow.all() or not (slow & together).any():
        return
    fast = rows[~slow[kernels.step[rows]]]
    slow &= together
    usual = medians_of_kinds(kernels.alike, kernels.length_ns, fast)[kernels.alike[rows]]
    longer = np.where(slow[kernels.step[rows]] & ~np.isnan(usual), kernels.length_ns[rows] - usual, 0.0)
    cost = int(longer.sum())
    if not facts.worth(cost):
        return
    per_step = np.bincount(kernels.step[rows], weights=longer, minlength=kernels.steps).astype(np.float64)
    places = np.flatnonzero(slow).astype(np.int64)
    windows = facts.case.windows
    yield Finding(
        kind="step.slow",
        title=Sentence(
            "Rank {} computes {} longer in {} of {} [step|steps]: all that runs there is slow ({})",
            (
                str(facts.case.rank),
                format_duration(cost),
                str(len(places)),
                str(len(slow)),
                format_change(float(slower[slow].mean())),
            ),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_spread(cost),
        cost_bytes=None,
        bound="the same kernels on the same operands in its other steps",
        formula="duration - median of the same kernel in the other steps, in steps in which most kernels take longer",
        confidence=Confidence.MEASURED,
        places=_whole_steps(facts, places, per_step),
        evidence=tuple(
            Evidence(Sentence("step {} takes longer by", (windows[place].number,)), int(per_step[place]), "ns")
            for place in places[:_MOST].tolist()
        ),
    )


def _slower(kernels: _Stepped, rows: Int64s) -> Floats:
    """
    By step, by which share most of the kernels in `rows` take longer than in the fastest step.

    Most of them in number as well as by time, and beyond what their scatter makes of so many: a few long ones are no
    slow step. Zero where a step has too few.
    """
    pace = step_pace(kernels.alike[rows], kernels.length_ns[rows], kernels.step[rows], kernels.steps)
    if (pace.kernels < _FEWEST_KERNELS).any():
        return np.zeros(kernels.steps)
    found = np.minimum(pace.by_time, pace.by_number)
    return np.asarray(np.where(found > 2 * pace.scatter.max(), found, 0.0), dtype=np.float64)


def _more(facts: RankFacts, kernels: _Stepped, together: Bools) -> Iterator[Finding]:
    """
    Steps that run kernels which most steps don't have: a prompt among tokens, an evaluation among training steps.

    Of steps that all run kernels of their own none is an exception. Where as many kernels run on larger operands only a
    served step is one: a batch of training samples is as long as its samples are.
    """
    count = _table(kernels, kernels.alike, None)
    time = _table(kernels, kernels.alike, kernels.length_ns)
    usual = np.median(count, axis=1, keepdims=True)
    whole = time.sum(axis=0)
    common = (time * (usual > 0)).sum(axis=0)
    if (common >= threshold("late_share") * whole).mean() <= threshold("late_share"):
        return
    extra = (time * np.maximum(count - usual, 0) / np.maximum(count, 1)).sum(axis=0)
    middle = float(np.median(whole))
    number = count.sum(axis=0)
    served = "serving" in software_of(facts.case)
    added = served | (number >= (1 + threshold("slow_rank_share")) * np.median(number))
    gain = np.where(added, np.minimum(extra, whole - middle), 0.0)
    gain = np.where(gain >= threshold("slow_rank_share") * middle, gain, 0.0)
    gain = np.where(together & (whole > middle), gain, 0.0)
    places, cost = np.flatnonzero(gain).astype(np.int64), int(gain.sum())
    if not len(places) or not facts.worth(cost):
        return
    chosen = _beyond_usual(kernels, count, usual[:, 0], places)
    yield Finding(
        kind="step.more",
        title=Sentence(
            "{} of {} [step runs|steps run] what the others don't: rank {} computes {} longer there ({})",
            (
                str(len(places)),
                str(kernels.steps),
                str(facts.case.rank),
                format_duration(cost),
                format_change(cost / (middle * len(places))),
            ),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(facts.claims.unclaimed(chosen), cost),
        cost_bytes=None,
        bound="the median of its steps",
        formula="time of kernels beyond how many of their kind most steps have; at most what the step computes beyond"
        " the median",
        confidence=Confidence.ASSUMED,
        places=_whole_steps(facts, places, gain),
        evidence=longest_types(kernels.table, kernels.rows[chosen], kernels.length_ns[chosen], _MOST),
    )


def _beyond_usual(kernels: _Stepped, count: Floats, usual: Floats, places: Int64s) -> Int64s:
    """The kernels of the steps at `places` of kinds that run more often there than in most steps."""
    inside = np.isin(kernels.step, places)
    more = count[kernels.alike, np.maximum(kernels.step, 0)] > usual[kernels.alike]
    return np.flatnonzero(inside & more).astype(np.int64)


def _whole_steps(facts: RankFacts, places: Int64s, cost: Floats) -> tuple[Place, ...]:
    """The steps at `places`, the dearest first."""
    windows = [facts.case.windows[place] for place in places[np.argsort(-cost[places], kind="stable")].tolist()]
    return tuple(
        Place((facts.case.rank,), window.number, (window.start_ns, window.busy_until_ns)) for window in windows[:_MOST]
    )
