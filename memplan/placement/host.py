"""
Host placement: what leaves HBM when not everything fits, chosen so that the simulated step is shortest.

The linear program of the bound says how much of every tensor to move and when each step starts then. Rounding its
answer, and the orders that other planners use, give the candidates; a local search improves the best of them. The
simulated schedule scores everything, and the choice is a function of the arguments alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Bools
from memplan.placement.move_bound import MoveBound, move_bound
from memplan.placement.move_orders import MOVE_RULES, kept_first, rounded
from memplan.placement.move_problem import MoveProblem
from memplan.placement.residency import Gap

_SLACK = (0.0, 0.01, 0.03, 0.06, 0.1, 0.2)
"""Shares of the room left free for what is under way, tried one after the other."""
_THRESHOLDS = (0.01, 0.3, 0.5, 0.7, 0.99)
"""Shares of the linear program from which on a unit is moved as a whole."""
_MANY_UNITS = 20_000
"""With more units than that, fewer roundings are tried."""
_WHOLE = "linear program, large units whole"
_STARTS = 3
"""How many of the best candidates the local search begins with."""
_FEW_GAPS = 1_000
"""Up to so many gaps other rules' choices are searched as well."""
_SEARCH_WORK, _LEAST_WORK = 60_000_000, 3_000
"""Steps and gaps that one local search may run through, a few tens of milliseconds; what a schedule costs at least."""
_LEAST_PART = 20
"""Where the work is too little to try one in so many units, nothing is searched."""
_PATIENCE, _PATIENCE_PER_UNIT = 600, 4
"""Schedules in a row that the local search tries without finding a better one before it stops, and more a unit."""


@dataclass(frozen=True, slots=True)
class HostMoves:
    """The gaps during which storages are on the host, the step time with them and the bound on any choice."""

    gaps: tuple[Gap, ...]
    moved: Bools
    makespan_ns: int
    bound: MoveBound | None
    rule: str
    over: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    moved: Bools
    makespan_ns: int
    moved_bytes: int
    over: int
    host_over: int
    rule: str

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """What is better comes first: what fits, on the host first, then what is fast, then what moves little."""
        return self.host_over, self.over, self.makespan_ns, self.moved_bytes


def choose_moves(
    problem: MoveProblem,
    capacity: int,
    bound: MoveBound | None = None,
    near: Bools | None = None,
    *,
    searched: bool = True,
) -> HostMoves:
    """
    Gaps to spend on the host so that every step has at most `capacity` bytes in HBM, or as near as gaps allow.

    `bound` is that of a larger capacity, where one is known: it guides as well. With `near`, units that were chosen
    with more room, the choice is looked for in their neighbourhood; unless it is `searched`, it is the nearest.
    """
    compute = int(problem.durations.sum())
    if not problem.units or int(problem.live.max(initial=0)) <= capacity:
        return HostMoves((), np.zeros(problem.units, dtype=bool), compute, None, "nothing moves")
    bound = bound or move_bound(problem, capacity)
    scores = _Scores(problem, capacity)
    proposed = _candidates(scores, bound) if near is None else [_near(scores, bound, near)]
    found = [scores.of(moved, rule) for rule, moved in proposed]
    found.sort(key=lambda candidate: candidate.rank)
    # What doesn't fit is not made faster.
    starts = _starts(found, problem) if searched and found[0].over == found[0].host_over == 0 else []
    best = min(
        (scores.searched(start, bound) for start in starts),
        key=lambda candidate: candidate.rank,
        default=found[0],
    )
    return HostMoves(problem.gaps(best.moved), best.moved, best.makespan_ns, bound, best.rule, best.over)


def candidate_moves(problem: MoveProblem, capacity: int, bound: MoveBound | None) -> list[HostMoves]:
    """What the linear program's answer rounds to, and what each rule by itself would move, that fits: fastest first."""
    scores = _Scores(problem, capacity)
    found: dict[tuple[bool, int, int], _Candidate] = {}
    for rule, moved in _candidates(scores, bound):
        item = scores.of(moved, rule)
        if item.over == item.host_over == 0:
            found.setdefault((rule in MOVE_RULES, item.makespan_ns, item.moved_bytes), item)
    return [
        HostMoves(problem.gaps(item.moved), item.moved, item.makespan_ns, bound, item.rule)
        for item in sorted(found.values(), key=lambda item: item.rank)
    ]


def _starts(found: Sequence[_Candidate], problem: MoveProblem) -> list[_Candidate]:
    """
    What the local search begins with: the best of `found` and those that would be the best without large units being
    whole, which may lead farther once searched; in small cases the best of each other rule as well.
    """
    best = list(found[:_STARTS])
    best += [item for item in [item for item in found if item.rule != _WHOLE][:_STARTS] if item not in best]
    for candidate in found if len(problem.unit) <= _FEW_GAPS else ():
        if candidate.over == candidate.host_over == 0 and all(candidate.rule != known.rule for known in best):
            best.append(candidate)
    return best


def _candidates(scores: _Scores, bound: MoveBound | None) -> Iterator[tuple[str, Bools]]:
    """Choices worth scoring, each once."""
    seen = set()
    for rule, moved in _proposed(scores.problem, scores.capacity, bound):
        if moved.tobytes() not in seen:
            seen.add(moved.tobytes())
            yield rule, scores.within_host(moved)


def _near(scores: _Scores, bound: MoveBound | None, moved: Bools) -> tuple[str, Bools]:
    share = np.ones(scores.problem.units) if bound is None else bound.share
    near = rounded(scores.problem, scores.capacity, np.where(moved, 2.0, share), 1.5)
    return "near another choice", scores.within_host(near)


def _proposed(problem: MoveProblem, capacity: int, bound: MoveBound | None) -> Iterator[tuple[str, Bools]]:
    for rule, choose in MOVE_RULES.items():
        yield rule, choose(problem, capacity)
    if bound is None:
        return
    elapsed = np.concatenate(([0], np.cumsum(problem.durations))).astype(np.float64)
    shares = [("linear program", bound.share), *((_WHOLE, share) for share in bound.whole)]
    for rule, share in shares:
        few = problem.units > _MANY_UNITS
        for slack in _SLACK[::2] if few else _SLACK:
            for threshold in _THRESHOLDS[1:4:2] if few else _THRESHOLDS:
                yield rule, rounded(problem, capacity, share, threshold, slack)
            for step_start in (bound.step_start_ns, elapsed):
                yield rule, kept_first(problem, capacity, share, step_start=step_start, slack=slack)


class _Scores:
    """Choices of units scored by the simulated schedule, and searched for better ones."""

    def __init__(self, problem: MoveProblem, capacity: int) -> None:
        self.problem, self.capacity = problem, capacity
        self._columns = problem.choice_columns()
        self._host_bytes = -1 if problem.host_bytes is None else problem.host_bytes

    def of(self, moved: Bools, rule: str) -> _Candidate:
        """The candidate that a choice is."""
        from memplan.placement.choice_kernels import score

        host_over, over, makespan, traffic = score(self._columns, moved, self._room, self._host_bytes)
        return _Candidate(moved, makespan, traffic, over, host_over, rule)

    def within_host(self, moved: Bools) -> Bools:
        """Those of the `moved` units that the host has room for, what is away longest first."""
        from memplan.placement.choice_kernels import host_peak

        problem = self.problem
        if problem.host_bytes is None or host_peak(self._columns, moved[problem.unit]) <= problem.host_bytes:
            return moved
        size, away = np.zeros(problem.units, dtype=np.int64), np.zeros(problem.units, dtype=np.int64)
        np.maximum.at(size, problem.unit, problem.columns.size)
        np.add.at(away, problem.unit, problem.columns.end - problem.columns.start)
        order = np.argsort(np.where(moved, -away, 1), kind="stable")[: int(moved.sum())]
        kept = np.zeros(problem.units, dtype=bool)
        kept[order[np.cumsum(size[order]) <= problem.host_bytes]] = True
        return kept

    def searched(self, best: _Candidate, bound: MoveBound | None) -> _Candidate:
        """`best` improved by keeping, moving and exchanging single units as long as work is left."""
        from memplan.placement.choice_kernels import search

        problem = self.problem
        each = _LEAST_WORK + 4 * problem.steps + 20 * len(problem.unit)
        tries, patience = -(-_SEARCH_WORK // each), _PATIENCE + _PATIENCE_PER_UNIT * problem.units
        if tries * _LEAST_PART < problem.units:
            return best
        drawn = np.random.default_rng(0).random((tries, 3))
        moved, goal = best.moved.copy(), 0 if bound is None else bound.makespan_ns
        host_over, over, makespan, traffic = search(
            self._columns, moved, self._room, self._host_bytes, goal, patience, drawn
        )
        return _Candidate(moved, makespan, traffic, over, host_over, best.rule)

    @property
    def _room(self) -> int:
        return min(self.capacity, 2**62)
