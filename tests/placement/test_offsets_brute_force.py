"""Offsets against brute force, on small problems with every kind of constraint."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from memplan.core.errors import InputError
from memplan.placement.offsets import Assignment, Problem, assign, validate
from tests.placement.offsets_brute import best, cost, problems

BUDGET = settings(max_examples=150, suppress_health_check=list(HealthCheck))
ROOM = 40


def solve(problem: Problem) -> Assignment | None:
    """The answer, or `None` for a problem that contradicts itself."""
    try:
        return assign(problem)
    except InputError:
        return None


@BUDGET
@given(problems())
def test_one_pool(problem: Problem) -> None:
    answer = solve(problem)
    top = answer.pools[0].peak if answer else 16
    found = best(problem, {0: top})
    if answer is None:
        assert found is None
        return
    assert validate(problem, answer) == ()
    assert found is not None
    assert answer.pools[0].lower_bound <= found[1] <= answer.pools[0].peak
    if answer.pools[0].proven_optimal:
        assert answer.pools[0].peak == found[1]


@BUDGET
@given(problems(pools=2, most=4))
def test_two_pools(problem: Problem) -> None:
    answer = solve(problem)
    if answer is None:
        return
    assert validate(problem, answer) == ()
    found = best(problem, {r.pool: max(r.peak, 8) for r in answer.pools})
    assert found is not None
    assert sum(r.lower_bound for r in answer.pools) <= found[1] <= sum(r.peak for r in answer.pools)


@BUDGET
@given(problems(penalties=True, most=4))
def test_reuse_penalties_within_a_capacity(problem: Problem) -> None:
    answer = solve(problem)
    if answer is None:
        return
    for capacity in (answer.pools[0].peak, answer.pools[0].peak + 2):
        limited = replace(problem, pools=tuple(replace(p, capacity=capacity) for p in problem.pools))
        tight = assign(limited)
        assert validate(limited, tight) == ()
        found = best(limited, {0: capacity})
        assert found is not None
        assert tight.reuse_cost == cost(limited, dict(tight.placed))
        assert tight.reuse_cost_bound <= found[0]
        if tight.within_capacity:
            assert tight.reuse_cost >= found[0]
