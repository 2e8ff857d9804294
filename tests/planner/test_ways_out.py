"""Where nothing fits, the ways out were planned, and the fastest come first."""

from __future__ import annotations

import re
from functools import partial

import pytest

import memplan
from memplan.core.units import parse_bytes
from memplan.deployment.ways_out import ways_out
from memplan.graph import Graph
from memplan.schema import Plan, Tier
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
    changes = {way.change.split(" (--hbm")[0] for way in found}
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
        written = re.search(r"\(--hbm (\S+)\)", way.change)
        assert written is not None
        assert parse_bytes(written[1]) == way.hbm
        again = plan_with(parse_bytes(written[1]), graph)
        assert again.fits
        assert again.step_ns == way.step_ns
    least = next(way for way in found if way.change.startswith("the least HBM "))
    assert least.hbm is not None
    assert least.hbm <= (size + plan.missing_bytes) * 1.1
    assert least.hbm == min(way.hbm or 0 for way in found)
    assert least.host > 0
    assert min(found, key=lambda way: way.step_ns).host == 0


def test_more_memory_than_the_chip_has_is_no_way_out() -> None:
    plan = plan_with(2 * MIB)
    free = ways_out(plan, plan_with, [])
    least = min(way.hbm or 0 for way in free)
    use = plan_with(2**60).tier(Tier.HBM)
    assert use is not None
    most = use.peak
    assert least < most
    between = ways_out(plan, plan_with, [], most - 1)
    assert len(between) == 3
    assert all(way.hbm is not None and way.hbm < most for way in between)
    assert max(between, key=lambda way: way.hbm or 0).change == "all HBM of the chip (no --hbm)"
    assert ways_out(plan, plan_with, [], 2 * MIB + plan.missing_bytes - 1) == ()
