"""Where nothing fits, the ways out were planned, and the fastest come first."""

from __future__ import annotations

from functools import partial

import memplan
from memplan.deployment.ways_out import ways_out
from memplan.schema import Plan
from tests.planner.graphs import forward_and_back

MIB = 1 << 20
GRAPH = forward_and_back(3, MIB)


def plan_with(hbm: int) -> Plan:
    return memplan.plan(GRAPH, chip="910B3", hbm=hbm)


def test_more_memory_is_as_much_as_is_needed_and_changes_count_only_where_they_fit() -> None:
    plan = plan_with(2 * MIB)
    assert not plan.fits
    smaller = partial(memplan.plan, forward_and_back(3, MIB // 4), chip="910B3", hbm=2 * MIB)
    found = ways_out(
        plan, plan_with, [("a quarter of it", smaller), ("half of nothing", lambda: plan), ("no", lambda: None)]
    )
    assert {way.change for way in found} == {"a quarter of it", "more HBM"}
    assert [way.step_ns for way in found] == sorted(way.step_ns for way in found)
    more = next(way for way in found if way.change == "more HBM")
    assert more.hbm is not None
    assert plan_with(more.hbm).fits
    assert more.hbm <= (2 * MIB + plan.missing_bytes) * 1.1
