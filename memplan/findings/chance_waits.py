"""What ranks wait for each other because kernels scatter: whoever is last is so by chance, and there is no remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.findings.finding import threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.meetings import Meeting

_FEWEST_STEPS = 3
"""Of fewer, what comes once is not told from what comes again."""
_FEWEST_MEETINGS = 3
"""Of fewer in a step, a kernel that once took long is not told from a step with more to do."""


@dataclass(frozen=True, slots=True)
class _Series:
    """
    What one group runs together in every step, in its order.

    `members` are its ranks; `computed_ns[rank, step, place]` is what each computed since they were last together,
    `waited_ns` what nothing hides of its waiting; `step_rows` are the places of its steps among all of the job.
    """

    members: Sequence[int]
    step_rows: Sequence[int]
    computed_ns: Floats
    waited_ns: Floats


def chance_waits(job: JobCase) -> dict[int, int]:
    """
    What each rank waits for others because their kernels scatter independently, in all steps together, ns.

    Of what a rank computes before the m-th meeting of its group in a step, the median over steps is what it always
    has to do there, and the median over meetings, of three and more, of how much longer a step takes it is that step's
    load. What a rank has more of either is a cause that can be mended. The rest of all n ranks in all S steps, N = n S
    values x_(1) <= ... <= x_(N), is scatter; if it is nobody's in particular, n ranks wait for

        S (E max_n - mean),    E max_n = sum over i of C(i - 1, n - 1) / C(N, n) x_(i)

    each, the unbiased estimate of the greatest of n draws whatever their distribution (Downton 1966, Linear estimates
    with polynomial coefficients, Biometrika 53: probability-weighted moments). No rank has more of it than it waited
    there. Idle time is no part of what is computed: what a host lets others wait for is not chance. Nothing is by
    chance with fewer than three steps, nor where it would be `high_share` of the steps: then so many meetings are
    themselves what to mend.
    """
    ranks = list(job.ranks)
    found = dict.fromkeys(ranks, 0.0)
    series = _series(job)
    loads = _loads(job, series)
    for one in series:
        rest = one.computed_ns - _usual(one) * (1 + loads[np.ix_(one.members, one.step_rows)][:, :, None])
        count, steps, places = rest.shape
        pooled = np.sort(rest.reshape(count * steps, places), axis=0)
        expected = steps * (greatest_weights(count, count * steps) @ pooled - pooled.mean(axis=0))
        mine = np.minimum(one.waited_ns.sum(axis=1), np.maximum(expected, 0)).sum(axis=1)
        for row, length in zip(one.members, mine.tolist(), strict=True):
            found[ranks[row]] += length
    most = threshold("high_share")
    return {rank: round(length) for rank, length in found.items() if 0 < length < most * job.ranks[rank].length_ns}


def greatest_weights(draws: int, values: int) -> Floats:
    """The weights of `values` sorted values in the mean of the greatest of `draws` of them, drawn without return."""
    # From the largest down: C(i - 1, n - 1) / C(N, n) is n / N for i = N, and (i - n) / (i - 1) of the one above it.
    above = np.arange(values, 1, -1, dtype=np.float64)
    ratios = np.maximum(above - draws, 0) / (above - 1)
    return np.asarray(np.cumprod(np.append(draws / values, ratios))[::-1])


def _usual(one: _Series) -> Floats:
    return np.asarray(np.median(one.computed_ns, axis=1, keepdims=True))


def _loads(job: JobCase, series: Sequence[_Series]) -> Floats:
    """By row of rank and of step, how much longer than usual the rank's work took, as a share: the median of all."""
    steps = 1 + max((row for one in series for row in one.step_rows), default=-1)
    shares: dict[tuple[int, int], list[Floats]] = {}
    for one in series:
        usual = _usual(one)
        more = (one.computed_ns - usual) / np.where(usual > 0, usual, np.inf)
        for place, member in enumerate(one.members):
            works = usual[place, 0] > 0
            for column, row in enumerate(one.step_rows):
                shares.setdefault((member, row), []).append(more[place, column][works])
    found = np.zeros((len(job.ranks), steps))
    for (member, row), parts in shares.items():
        together = np.concatenate(parts)
        found[member, row] = np.median(together) if len(together) >= _FEWEST_MEETINGS else 0.0
    return found


def _series(job: JobCase) -> list[_Series]:
    """Groups that run the same number of collectives in every step, and what each rank computes between them."""
    rows = {rank: row for row, rank in enumerate(job.ranks)}
    met: dict[tuple[str, tuple[int, ...]], dict[int, list[Meeting]]] = {}
    for one in job.meetings.all:
        if one.step is not None and not one.peer_to_peer:
            met.setdefault((one.group, tuple(sorted(one.place))), {}).setdefault(one.step, []).append(one)
    numbers = sorted({step for by_step in met.values() for step in by_step})
    found = []
    for (_, members), by_step in met.items():
        counts = {len(beside) for beside in by_step.values()}
        if len(by_step) < _FEWEST_STEPS or len(counts) != 1:
            continue
        ordered = [
            one for step in sorted(by_step) for one in sorted(by_step[step], key=lambda one: one.start_ns[members[0]])
        ]
        shape = (len(by_step), counts.pop())
        alone = np.array([_alone(job, one) for one in ordered], dtype=bool)
        parts = [_of_rank(job.ranks[rank], [one.place[rank] for one in ordered], alone) for rank in members]
        found.append(
            _Series(
                [rows[rank] for rank in members],
                [numbers.index(step) for step in sorted(by_step)],
                np.stack([computed.reshape(shape) for computed, _ in parts]),
                np.stack([waited.reshape(shape) for _, waited in parts]),
            )
        )
    return found


def _alone(job: JobCase, one: Meeting) -> bool:
    """Whether no rank computed beside it, so that all go on from its end together."""
    for rank, place in one.place.items():
        ran = job.ranks[rank].exposed[place]
        if ran.exposed_ns < ran.communication.end_ns - ran.communication.start_ns:
            return False
    return True


def _of_rank(facts: RankFacts, places: Sequence[int], alone: Int64s) -> tuple[Floats, Floats]:
    """What a rank computed before each of its communications `places` since the last one that ran alone; its waits."""
    ran = [facts.exposed[place] for place in places]
    start = np.array([one.communication.start_ns for one in ran], dtype=np.int64)
    end = np.array([one.communication.end_ns for one in ran], dtype=np.int64)
    last = np.maximum.accumulate(np.where(alone, np.arange(len(ran)), -1))
    before = np.append(-1, last[:-1])
    since = np.where(before >= 0, end[before], facts.case.windows[0].start_ns if facts.case.windows else start[0])
    computed = _computed_until(facts, start) - _computed_until(facts, since)
    waited = np.array([0 if one.is_bubble else one.waiting_ns or 0 for one in ran], dtype=np.float64)
    return computed.astype(np.float64), waited


def _computed_until(facts: RankFacts, times: Int64s) -> Int64s:
    """What a rank has computed by each of `times`, ns."""
    starts, ends = facts.case.computing
    if not len(starts):
        return np.zeros(len(times), dtype=np.int64)
    done = np.append(0, np.cumsum(ends - starts))
    place = np.searchsorted(starts, times, side="right")
    # The interval under way has not run to its end.
    rest = np.maximum(ends[np.maximum(place - 1, 0)] - times, 0) * (place > 0)
    return np.asarray(done[place] - rest, dtype=np.int64)
