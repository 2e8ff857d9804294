"""Where nothing fits, the ways out were planned, and the fastest come first."""

from __future__ import annotations

from functools import partial

import pytest

import memplan
from memplan.deployment.ways_out import ways_out
from memplan.graph import Graph
from memplan.schema import Plan
from tests.planner.graphs import forward_and_back

MIB = 1 << 20
GRAPH = forward_and_back(3, MIB)


def plan_with(hbm: int, graph: Graph = GRAPH) -> Plan:
    return memplan.plan(graph, chip="910B3", hbm=hbm)


def test_changes_count_only_where_they_fit_and_come_before_yet_more_memory() -> None:
    plan = plan_with(2 * MIB)
    assert not plan.fits
    smaller = partial(memplan.plan, forward_and_back(3, MIB // 4), chip="910B3", hbm=2 * MIB)
    found = ways_out(
        plan, plan_with, [("a quarter of it", smaller), ("half of nothing", lambda: plan), ("no", lambda: None)]
    )
    changes = {way.change for way in found}
    assert {"a quarter of it", "the least HBM"} < changes
    assert not {"half of nothing", "no"} & changes


@pytest.mark.parametrize(("layers", "size"), [(3, MIB), (6, MIB // 2 + 100), (9, 3 * MIB)])
def test_three_ways_with_more_memory_alone_all_fit_and_the_least_is_as_much_as_is_needed(
    layers: int, size: int
) -> None:
    graph = forward_and_back(layers, size)
    plan = plan_with(size, graph)
    assert not plan.fits
    found = ways_out(plan, partial(plan_with, graph=graph), [])
    assert len(found) == 3
    assert [way.step_ns for way in found] == sorted(way.step_ns for way in found)
    for way in found:
        assert way.hbm is not None
        again = plan_with(way.hbm, graph)
        assert again.fits
        assert again.step_ns == way.step_ns
    least = next(way for way in found if way.change == "the least HBM")
    assert least.hbm is not None
    assert least.hbm <= (size + plan.missing_bytes) * 1.1
    assert least.hbm == min(way.hbm or 0 for way in found)
    assert least.host > 0
    assert min(found, key=lambda way: way.step_ns).host == 0


def test_more_memory_than_the_chip_has_is_no_way_out() -> None:
    plan = plan_with(2 * MIB)
    free = ways_out(plan, plan_with, [])
    least = min(way.hbm or 0 for way in free)
    most = max(way.hbm or 0 for way in free)
    assert least < most
    between = ways_out(plan, plan_with, [], most - 1)
    assert between
    assert all(way.hbm is not None and way.hbm < most for way in between)
    assert ways_out(plan, plan_with, [], least - 1) == ()
