"""More HBM makes no step longer, and computing anew makes none longer than moving alone."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import memplan
from memplan.graph import Graph
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.schema import Tier
from tests.planner.graphs import forward_and_back, graphs

BUDGETS = 20


def times(graph: Graph, recompute: RecomputePolicy, budgets: list[int]) -> list[int]:
    plans = [memplan.plan(graph, chip="910B3", hbm=budget, recompute=recompute) for budget in budgets]
    return [plan.makespan_ns for plan in plans if plan.fits]


def peak_of(graph: Graph) -> int:
    use = memplan.plan(graph, chip="910B3", hbm=2**50).tier(Tier.HBM)
    assert use is not None
    return use.peak


@pytest.mark.slow
@pytest.mark.parametrize("recompute", list(RecomputePolicy))
def test_twenty_budgets_of_a_training_step(recompute: RecomputePolicy) -> None:
    graph = forward_and_back(6, 1 << 20)
    peak = peak_of(graph)
    found = times(graph, recompute, [peak * number // BUDGETS for number in range(1, BUDGETS + 1)])
    assert len(found) > BUDGETS // 3
    assert found == sorted(found, reverse=True)
    assert len(set(found)) > 2


@pytest.mark.slow
@pytest.mark.parametrize("recompute", list(RecomputePolicy))
def test_twenty_budgets_of_a_graph_of_more_than_a_thousand_ops(recompute: RecomputePolicy) -> None:
    graph = forward_and_back(520, 1 << 20)
    assert len(graph.ops) > 1000
    peak = peak_of(graph)
    found = times(graph, recompute, [peak * number // BUDGETS for number in range(1, BUDGETS + 1)])
    assert len(found) > BUDGETS // 2
    assert found == sorted(found, reverse=True)


@pytest.mark.slow
@settings(max_examples=20)
@given(
    graph=graphs(largest=40_000, most_ops=14),
    shares=st.lists(st.floats(0.2, 1.0), min_size=5, max_size=5),
    recompute=st.sampled_from(RecomputePolicy),
)
def test_any_budgets_of_any_graph(graph: Graph, shares: list[float], recompute: RecomputePolicy) -> None:
    peak = peak_of(graph)
    assume(peak)
    found = times(graph, recompute, [max(1, int(peak * share)) for share in sorted(shares)])
    assert found == sorted(found, reverse=True)


def test_computing_anew_is_never_slower_than_moving_alone() -> None:
    graph = forward_and_back(6, 1 << 20)
    budgets = [peak_of(graph) * share // 100 for share in (85, 60)]
    moves, both = (times(graph, recompute, budgets) for recompute in (RecomputePolicy.NEVER, RecomputePolicy.AUTO))
    assert all(auto <= never for auto, never in zip(both, moves, strict=True))
